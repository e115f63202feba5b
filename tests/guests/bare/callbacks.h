/* SPDX-License-Identifier: Apache-2.0
 *
 * The callbacks that the guest exports, of all versions of the ABI.
 */
#ifndef CALLBACKS_H
#define CALLBACKS_H

#include <stdint.h>

/* X(result, name, what it answers unless told else, parameters, the same without types). The first is the
 * context. */
#define HEADER_CALLBACKS_0_1(X)                                                                              \
    X(uint32_t, request_headers, 0, (uint32_t c, uint32_t count), c, count)                                  \
    X(uint32_t, response_headers, 0, (uint32_t c, uint32_t count), c, count)

#define HEADER_CALLBACKS_0_2(X)                                                                              \
    X(uint32_t, request_headers, 0, (uint32_t c, uint32_t count, uint32_t end), c, count, end)               \
    X(uint32_t, response_headers, 0, (uint32_t c, uint32_t count, uint32_t end), c, count, end)

#if BARE_ABI == 100
#define HEADER_CALLBACKS HEADER_CALLBACKS_0_1
#else
#define HEADER_CALLBACKS HEADER_CALLBACKS_0_2
#endif

#define CALLBACKS(X)                                                                                         \
    X(void, context_create, 0, (uint32_t c, uint32_t parent), c, parent)                                     \
    X(uint32_t, vm_start, 1, (uint32_t c, uint32_t size), c, size)                                           \
    X(uint32_t, configure, 1, (uint32_t c, uint32_t size), c, size)                                          \
    X(void, tick, 0, (uint32_t c), c)                                                                        \
    X(void, queue_ready, 0, (uint32_t c, uint32_t queue), c, queue)                                          \
    X(uint32_t, new_connection, 0, (uint32_t c), c)                                                          \
    X(uint32_t, downstream_data, 0, (uint32_t c, uint32_t size, uint32_t end), c, size, end)                 \
    X(uint32_t, upstream_data, 0, (uint32_t c, uint32_t size, uint32_t end), c, size, end)                   \
    X(void, downstream_connection_close, 0, (uint32_t c, uint32_t peer), c, peer)                            \
    X(void, upstream_connection_close, 0, (uint32_t c, uint32_t peer), c, peer)                              \
    HEADER_CALLBACKS(X)                                                                                      \
    X(uint32_t, request_body, 0, (uint32_t c, uint32_t size, uint32_t end), c, size, end)                    \
    X(uint32_t, response_body, 0, (uint32_t c, uint32_t size, uint32_t end), c, size, end)                   \
    X(uint32_t, request_trailers, 0, (uint32_t c, uint32_t count), c, count)                                 \
    X(uint32_t, response_trailers, 0, (uint32_t c, uint32_t count), c, count)                                \
    X(uint32_t, request_metadata, 0, (uint32_t c, uint32_t count), c, count)                                 \
    X(uint32_t, response_metadata, 0, (uint32_t c, uint32_t count), c, count)                                \
    X(void, http_call_response, 0,                                                                           \
      (uint32_t c, uint32_t token, uint32_t headers, uint32_t body, uint32_t trailers), c, token, headers,   \
      body, trailers)                                                                                        \
    X(void, grpc_receive_initial_metadata, 0, (uint32_t c, uint32_t token, uint32_t count), c, token, count) \
    X(void, grpc_receive, 0, (uint32_t c, uint32_t token, uint32_t size), c, token, size)                    \
    X(void, grpc_receive_trailing_metadata, 0, (uint32_t c, uint32_t token, uint32_t count), c, token,       \
      count)                                                                                                 \
    X(void, grpc_close, 0, (uint32_t c, uint32_t token, uint32_t status), c, token, status)                  \
    X(void, foreign_function, 0, (uint32_t c, uint32_t function, uint32_t size), c, function, size)          \
    X(uint32_t, done, 1, (uint32_t c), c)                                                                    \
    X(void, log, 0, (uint32_t c), c)                                                                         \
    X(void, delete, 0, (uint32_t c), c)

enum callback {
#define X(result, name, ...) CALLBACK_##name,
    CALLBACKS(X)
#undef X
    /* No callback, but the host does call it: the allocator. */
    CALLBACK_allocate,
    CALLBACK_COUNT
};

#endif
