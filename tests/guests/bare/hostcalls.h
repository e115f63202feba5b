/* SPDX-License-Identifier: Apache-2.0
 *
 * What the guest imports, as one list for each group: X(shape of the parameters, name). The shapes are in
 * hostcalls.c; a number stands for that many i32.
 *
 * BARE_ABI is the version of the ABI, 100, 200 or 201. A module imports what hosts offer to that version, or,
 * with BARE_UNION, everything.
 */
#ifndef HOSTCALLS_H
#define HOSTCALLS_H

#include "text.h"

#define HOSTCALLS_OF_ALL(X)                                                                                  \
    X(3, proxy_log)                                                                                          \
    X(1, proxy_get_current_time_nanoseconds)                                                                 \
    X(1, proxy_set_tick_period_milliseconds)                                                                 \
    X(4, proxy_get_property)                                                                                 \
    X(4, proxy_set_property)                                                                                 \
    X(5, proxy_get_buffer_bytes)                                                                             \
    X(3, proxy_get_buffer_status)                                                                            \
    X(5, proxy_set_buffer_bytes)                                                                             \
    X(3, proxy_get_header_map_pairs)                                                                         \
    X(3, proxy_set_header_map_pairs)                                                                         \
    X(5, proxy_get_header_map_value)                                                                         \
    X(5, proxy_add_header_map_value)                                                                         \
    X(5, proxy_replace_header_map_value)                                                                     \
    X(3, proxy_remove_header_map_value)                                                                      \
    X(2, proxy_get_header_map_size)                                                                          \
    X(8, proxy_send_local_response)                                                                          \
    X(10, proxy_http_call)                                                                                   \
    X(12, proxy_grpc_call)                                                                                   \
    X(9, proxy_grpc_stream)                                                                                  \
    X(4, proxy_grpc_send)                                                                                    \
    X(1, proxy_grpc_cancel)                                                                                  \
    X(1, proxy_grpc_close)                                                                                   \
    X(3, proxy_get_status)                                                                                   \
    X(5, proxy_get_shared_data)                                                                              \
    X(5, proxy_set_shared_data)                                                                              \
    X(3, proxy_register_shared_queue)                                                                        \
    X(5, proxy_resolve_shared_queue)                                                                         \
    X(3, proxy_dequeue_shared_queue)                                                                         \
    X(3, proxy_enqueue_shared_queue)                                                                         \
    X(4, proxy_define_metric)                                                                                \
    X(iI, proxy_increment_metric)                                                                            \
    X(iI, proxy_record_metric)                                                                               \
    X(2, proxy_get_metric)                                                                                   \
    X(1, proxy_set_effective_context)                                                                        \
    X(0, proxy_done)                                                                                         \
    X(6, proxy_call_foreign_function)                                                                        \
    X(2, pthread_equal)                                                                                      \
    X(1_void, emscripten_notify_memory_growth)

#define HOSTCALLS_OF_0_1(X)                                                                                  \
    X(2, proxy_get_configuration)                                                                            \
    X(0, proxy_continue_request)                                                                             \
    X(0, proxy_continue_response)                                                                            \
    X(0, proxy_clear_route_cache)

#define HOSTCALLS_OF_0_2(X)                                                                                  \
    X(1, proxy_continue_stream)                                                                              \
    X(1, proxy_close_stream)

#define HOSTCALLS_OF_0_2_1(X) X(1, proxy_get_log_level)

#if BARE_ABI == 100 || defined(BARE_UNION)
#define HOSTCALLS_IF_0_1 HOSTCALLS_OF_0_1
#else
#define HOSTCALLS_IF_0_1(X)
#endif
#if BARE_ABI >= 200
#define HOSTCALLS_IF_0_2 HOSTCALLS_OF_0_2
#else
#define HOSTCALLS_IF_0_2(X)
#endif
#if BARE_ABI >= 201
#define HOSTCALLS_IF_0_2_1 HOSTCALLS_OF_0_2_1
#else
#define HOSTCALLS_IF_0_2_1(X)
#endif

/* Of the module `env`. */
#define HOSTCALLS(X)                                                                                         \
    HOSTCALLS_OF_ALL(X)                                                                                      \
    HOSTCALLS_IF_0_1(X)                                                                                      \
    HOSTCALLS_IF_0_2(X)                                                                                      \
    HOSTCALLS_IF_0_2_1(X)

/* WASI preview 1, as far as Envoy 1.40 has it. */
#define WASI_OF_ENVOY(X)                                                                                     \
    X(2, args_get)                                                                                           \
    X(2, args_sizes_get)                                                                                     \
    X(2, environ_get)                                                                                        \
    X(2, environ_sizes_get)                                                                                  \
    X(iIi, clock_time_get)                                                                                   \
    X(4, fd_write)                                                                                           \
    X(4, fd_read)                                                                                            \
    X(iIii, fd_seek)                                                                                         \
    X(1, fd_close)                                                                                           \
    X(2, fd_fdstat_get)                                                                                      \
    X(2, random_get)                                                                                         \
    X(1_void, proc_exit)                                                                                     \
    X(2, clock_res_get)                                                                                      \
    X(iIIi, fd_advise)                                                                                       \
    X(iII, fd_allocate)                                                                                      \
    X(1, fd_datasync)                                                                                        \
    X(2, fd_fdstat_set_flags)                                                                                \
    X(iII, fd_fdstat_set_rights)                                                                             \
    X(2, fd_filestat_get)                                                                                    \
    X(iI, fd_filestat_set_size)                                                                              \
    X(iIIi, fd_filestat_set_times)                                                                           \
    X(iiiIi, fd_pread)                                                                                       \
    X(3, fd_prestat_dir_name)                                                                                \
    X(2, fd_prestat_get)                                                                                     \
    X(iiiIi, fd_pwrite)                                                                                      \
    X(iiiIi, fd_readdir)                                                                                     \
    X(2, fd_renumber)                                                                                        \
    X(1, fd_sync)                                                                                            \
    X(2, fd_tell)                                                                                            \
    X(3, path_create_directory)                                                                              \
    X(5, path_filestat_get)                                                                                  \
    X(iiiiIIi, path_filestat_set_times)                                                                      \
    X(iiiiiIIii, path_open)                                                                                  \
    X(6, path_readlink)                                                                                      \
    X(3, path_remove_directory)                                                                              \
    X(6, path_rename)                                                                                        \
    X(3, path_unlink_file)                                                                                   \
    X(4, poll_oneoff)                                                                                        \
    X(0, sched_yield)                                                                                        \
    X(3, sock_accept)                                                                                        \
    X(6, sock_recv)                                                                                          \
    X(5, sock_send)                                                                                          \
    X(2, sock_shutdown)

/* Envoy has no proc_raise, and the other two with a parameter less than they have. */
#define WASI_OF_OTHERS(X)                                                                                    \
    X(7, path_link)                                                                                          \
    X(5, path_symlink)                                                                                       \
    X(1, proc_raise)

#ifdef BARE_UNION
#define WASI(X)                                                                                              \
    WASI_OF_ENVOY(X)                                                                                         \
    WASI_OF_OTHERS(X)
#else
#define WASI WASI_OF_ENVOY
#endif

/* What the guest itself calls. */
uint32_t proxy_log(uint32_t level, uint32_t text, uint32_t size);
uint32_t proxy_get_current_time_nanoseconds(uint32_t out_time);
uint32_t proxy_get_buffer_bytes(uint32_t buffer, uint32_t start, uint32_t max, uint32_t out_bytes,
                                uint32_t out_size);
uint32_t proxy_get_header_map_value(uint32_t map, uint32_t name, uint32_t name_size, uint32_t out_value,
                                    uint32_t out_size);

struct hostcall;

/* NULL if this module does not import it. */
const struct hostcall *hostcall_find(struct span name);

/* One character for each parameter: i for i32, I for i64. */
const char *hostcall_types(const struct hostcall *hostcall);

/* Calls it with as many values as it has parameters. */
uint32_t hostcall_call(const struct hostcall *hostcall, const uint64_t *values);
bool hostcall_has_result(const struct hostcall *hostcall);

#endif
