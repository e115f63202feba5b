/* SPDX-License-Identifier: Apache-2.0
 *
 * Sizes, offsets and numbers of the interface as programs were compiled with them: none of these may change
 * while the soname stays the same. New members are appended.
 */
#include "check.h"
#include <stdalign.h>

#if !defined(__LP64__)
#error "the layout is that of LP64 systems (x86-64, aarch64)"
#endif

#define SIZE(type, size) _Static_assert(sizeof(type) == (size), "size of " #type)
#define AT(type, member, offset) _Static_assert(offsetof(type, member) == (offset), #type "." #member)
#define IS(constant, number) _Static_assert(PROXYWASM_##constant == (number), #constant)

SIZE(proxywasm_slice, 16);
AT(proxywasm_slice, data, 0);
AT(proxywasm_slice, len, 8);

SIZE(proxywasm_pair, 32);
AT(proxywasm_pair, name, 0);
AT(proxywasm_pair, value, 16);

SIZE(proxywasm_token, 8);

SIZE(proxywasm_metric, 48);
AT(proxywasm_metric, struct_size, 0);
AT(proxywasm_metric, metric_type, 8);
AT(proxywasm_metric, name, 16);
AT(proxywasm_metric, value, 32);
AT(proxywasm_metric, sum, 40);

SIZE(proxywasm_module_info, 56);
AT(proxywasm_module_info, struct_size, 0);
AT(proxywasm_module_info, abi_version, 8);
AT(proxywasm_module_info, initial_memory, 16);
AT(proxywasm_module_info, digest, 24);

SIZE(proxywasm_limits, 48);
AT(proxywasm_limits, struct_size, 0);
AT(proxywasm_limits, deadline_ns, 8);
AT(proxywasm_limits, start_deadline_ns, 16);
AT(proxywasm_limits, max_memory, 24);
AT(proxywasm_limits, max_body_buffer, 32);
AT(proxywasm_limits, max_callouts, 40);

SIZE(proxywasm_log_record, 80);
AT(proxywasm_log_record, struct_size, 0);
AT(proxywasm_log_record, level, 8);
AT(proxywasm_log_record, context_id, 12);
AT(proxywasm_log_record, plugin, 16);
AT(proxywasm_log_record, root_id, 32);
AT(proxywasm_log_record, vm_id, 48);
AT(proxywasm_log_record, message, 64);

SIZE(proxywasm_local_response, 64);
AT(proxywasm_local_response, struct_size, 0);
AT(proxywasm_local_response, status, 8);
AT(proxywasm_local_response, grpc_status, 12);
AT(proxywasm_local_response, details, 16);
AT(proxywasm_local_response, body, 32);
AT(proxywasm_local_response, headers, 48);
AT(proxywasm_local_response, header_count, 56);

SIZE(proxywasm_http_request, 80);
AT(proxywasm_http_request, struct_size, 0);
AT(proxywasm_http_request, upstream, 8);
AT(proxywasm_http_request, headers, 24);
AT(proxywasm_http_request, header_count, 32);
AT(proxywasm_http_request, body, 40);
AT(proxywasm_http_request, trailers, 56);
AT(proxywasm_http_request, trailer_count, 64);
AT(proxywasm_http_request, timeout_ms, 72);

SIZE(proxywasm_grpc_request, 96);
AT(proxywasm_grpc_request, struct_size, 0);
AT(proxywasm_grpc_request, upstream, 8);
AT(proxywasm_grpc_request, service, 24);
AT(proxywasm_grpc_request, method, 40);
AT(proxywasm_grpc_request, metadata, 56);
AT(proxywasm_grpc_request, metadata_count, 64);
AT(proxywasm_grpc_request, message, 72);
AT(proxywasm_grpc_request, timeout_ms, 88);

SIZE(proxywasm_worker_stats, 64);
AT(proxywasm_worker_stats, struct_size, 0);
AT(proxywasm_worker_stats, vms, 8);
AT(proxywasm_worker_stats, vms_created, 16);
AT(proxywasm_worker_stats, vms_failed, 24);
AT(proxywasm_worker_stats, streams, 32);
AT(proxywasm_worker_stats, streams_created, 40);
AT(proxywasm_worker_stats, callouts, 48);
AT(proxywasm_worker_stats, memory, 56);

SIZE(proxywasm_outcome, 40);
AT(proxywasm_outcome, struct_size, 0);
AT(proxywasm_outcome, action, 8);
AT(proxywasm_outcome, ready, 12);
AT(proxywasm_outcome, body, 16);
AT(proxywasm_outcome, body_count, 24);
AT(proxywasm_outcome, body_len, 32);

SIZE(proxywasm_chunk, 32);
AT(proxywasm_chunk, data, 0);
AT(proxywasm_chunk, len, 8);
AT(proxywasm_chunk, release, 16);
AT(proxywasm_chunk, release_ctx, 24);

SIZE(proxywasm_http_response, 64);
AT(proxywasm_http_response, struct_size, 0);
AT(proxywasm_http_response, headers, 8);
AT(proxywasm_http_response, header_count, 16);
AT(proxywasm_http_response, body, 24);
AT(proxywasm_http_response, body_count, 32);
AT(proxywasm_http_response, trailers, 40);
AT(proxywasm_http_response, trailer_count, 48);
AT(proxywasm_http_response, failed, 56);

/* One pointer for each callback, in this order. */
enum {
    MEMBER_struct_size,
#define MEMBER(name) MEMBER_##name
    MEMBER(log),
    MEMBER(log_level),
    MEMBER(now_realtime_ns),
    MEMBER(now_monotonic_ns),
    MEMBER(get_header),
    MEMBER(get_headers),
    MEMBER(add_header),
    MEMBER(replace_header),
    MEMBER(remove_header),
    MEMBER(set_headers),
    MEMBER(get_property),
    MEMBER(set_property),
    MEMBER(send_local_response),
    MEMBER(resume_stream),
    MEMBER(close_stream),
    MEMBER(http_call),
    MEMBER(cancel_call),
    MEMBER(grpc_call),
    MEMBER(grpc_stream),
    MEMBER(grpc_send),
    MEMBER(grpc_close),
    MEMBER(define_metric),
    MEMBER(increment_metric),
    MEMBER(record_metric),
    MEMBER(get_metric),
    MEMBER(get_shared_data),
    MEMBER(set_shared_data),
    MEMBER(register_queue),
    MEMBER(resolve_queue),
    MEMBER(enqueue),
    MEMBER(dequeue),
    MEMBER(call_foreign_function),
    MEMBER(vm_failed),
    MEMBER(timeout_changed),
    MEMBER(wake),
    MEMBERS,
#undef MEMBER
};
SIZE(proxywasm_host, 8 * MEMBERS);
#define MEMBER(name) AT(proxywasm_host, name, 8 * MEMBER_##name)
MEMBER(struct_size);
MEMBER(log);
MEMBER(log_level);
MEMBER(now_realtime_ns);
MEMBER(now_monotonic_ns);
MEMBER(get_header);
MEMBER(get_headers);
MEMBER(add_header);
MEMBER(replace_header);
MEMBER(remove_header);
MEMBER(set_headers);
MEMBER(get_property);
MEMBER(set_property);
MEMBER(send_local_response);
MEMBER(resume_stream);
MEMBER(close_stream);
MEMBER(http_call);
MEMBER(cancel_call);
MEMBER(grpc_call);
MEMBER(grpc_stream);
MEMBER(grpc_send);
MEMBER(grpc_close);
MEMBER(define_metric);
MEMBER(increment_metric);
MEMBER(record_metric);
MEMBER(get_metric);
MEMBER(get_shared_data);
MEMBER(set_shared_data);
MEMBER(register_queue);
MEMBER(resolve_queue);
MEMBER(enqueue);
MEMBER(dequeue);
MEMBER(call_foreign_function);
MEMBER(vm_failed);
MEMBER(timeout_changed);
MEMBER(wake);

IS(RESULT_OK, 0);
IS(RESULT_INVALID_ARGUMENT, -1);
IS(RESULT_NOT_FOUND, -2);
IS(RESULT_WRONG_THREAD, -3);
IS(RESULT_REENTRANT, -4);
IS(RESULT_BUSY, -5);
IS(RESULT_UNSUPPORTED, -6);
IS(RESULT_ABI_MISMATCH, -7);
IS(RESULT_BAD_MODULE, -100);
IS(RESULT_UNKNOWN_ABI, -101);
IS(RESULT_MISSING_EXPORT, -102);
IS(RESULT_DENIED_IMPORT, -103);
IS(RESULT_GUEST_TRAP, -200);
IS(RESULT_GUEST_TIMEOUT, -201);
IS(RESULT_GUEST_LIMIT, -202);
IS(RESULT_GUEST_REJECTED, -203);
IS(RESULT_GUEST_UNAVAILABLE, -204);
IS(RESULT_PANIC, -300);
IS(RESULT_POISONED, -301);
IS(RESULT_INTERNAL, -302);
IS(RESULT_NO_MEMORY, -303);

IS(STATUS_OK, 0);
IS(STATUS_NOT_FOUND, 1);
IS(STATUS_BAD_ARGUMENT, 2);
IS(STATUS_SERIALIZATION_FAILURE, 3);
IS(STATUS_PARSE_FAILURE, 4);
IS(STATUS_BAD_EXPRESSION, 5);
IS(STATUS_INVALID_MEMORY_ACCESS, 6);
IS(STATUS_EMPTY, 7);
IS(STATUS_CAS_MISMATCH, 8);
IS(STATUS_RESULT_MISMATCH, 9);
IS(STATUS_INTERNAL_FAILURE, 10);
IS(STATUS_BROKEN_CONNECTION, 11);
IS(STATUS_UNIMPLEMENTED, 12);

IS(ACTION_CONTINUE, 0);
IS(ACTION_PAUSE, 1);
IS(ACTION_PAUSE_AND_BUFFER, 2);
IS(ACTION_LOCAL_RESPONSE, 3);
IS(ACTION_CLOSE, 4);

IS(READY_HEADERS, 1);
IS(READY_BODY, 2);
IS(READY_TRAILERS, 4);
IS(READY_END_OF_STREAM, 8);

IS(MAP_REQUEST_HEADERS, 0);
IS(MAP_REQUEST_TRAILERS, 1);
IS(MAP_RESPONSE_HEADERS, 2);
IS(MAP_RESPONSE_TRAILERS, 3);

IS(DIRECTION_REQUEST, 0);
IS(DIRECTION_RESPONSE, 1);

IS(STREAM_KIND_HTTP, 0);
IS(STREAM_KIND_TCP, 1);

IS(STREAM_TYPE_HTTP_REQUEST, 0);
IS(STREAM_TYPE_HTTP_RESPONSE, 1);
IS(STREAM_TYPE_DOWNSTREAM, 2);
IS(STREAM_TYPE_UPSTREAM, 3);

IS(PEER_UNKNOWN, 0);
IS(PEER_LOCAL, 1);
IS(PEER_REMOTE, 2);

IS(LOG_LEVEL_TRACE, 0);
IS(LOG_LEVEL_DEBUG, 1);
IS(LOG_LEVEL_INFO, 2);
IS(LOG_LEVEL_WARN, 3);
IS(LOG_LEVEL_ERROR, 4);
IS(LOG_LEVEL_CRITICAL, 5);

IS(METRIC_TYPE_COUNTER, 0);
IS(METRIC_TYPE_GAUGE, 1);
IS(METRIC_TYPE_HISTOGRAM, 2);

IS(FAILURE_POLICY_RELOAD, 0);
IS(FAILURE_POLICY_CLOSED, 1);
IS(FAILURE_POLICY_OPEN, 2);

IS(ISOLATION_SHARED, 0);
IS(ISOLATION_STREAM, 1);
IS(ISOLATION_PLUGIN, 2);

IS(PHASE_REQUEST_HEADERS, 1);
IS(PHASE_REQUEST_BODY, 2);
IS(PHASE_REQUEST_TRAILERS, 4);
IS(PHASE_RESPONSE_HEADERS, 8);
IS(PHASE_RESPONSE_BODY, 16);
IS(PHASE_RESPONSE_TRAILERS, 32);
IS(PHASE_NEW_CONNECTION, 64);
IS(PHASE_DOWNSTREAM_DATA, 128);
IS(PHASE_UPSTREAM_DATA, 256);
IS(PHASE_CONNECTION_CLOSE, 512);
IS(PHASE_METADATA, 1024);
IS(PHASE_LOG, 2048);

SIZE(proxywasm_result, 4);
SIZE(proxywasm_status, 4);
SIZE(proxywasm_action, 4);
SIZE(proxywasm_ready, 4);

/* The library that is loaded is the one of the header. */
int main(void)
{
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", PROXYWASM_VERSION_MAJOR, PROXYWASM_VERSION_MINOR,
             PROXYWASM_VERSION_PATCH);
    CHECK_TEXT(proxywasm_version(), version);
    CHECK_INT(proxywasm_abi_version(), PROXYWASM_ABI_VERSION);
    CHECK_INT(PROXYWASM_VERSION_NUMBER,
              10000 * PROXYWASM_VERSION_MAJOR + 100 * PROXYWASM_VERSION_MINOR + PROXYWASM_VERSION_PATCH);

    static const struct {
        int32_t result;
        const char *name;
    } names[] = {
#define NAME(name) {PROXYWASM_RESULT_##name, #name}
        NAME(OK),
        NAME(INVALID_ARGUMENT),
        NAME(NOT_FOUND),
        NAME(WRONG_THREAD),
        NAME(REENTRANT),
        NAME(BUSY),
        NAME(UNSUPPORTED),
        NAME(ABI_MISMATCH),
        NAME(BAD_MODULE),
        NAME(UNKNOWN_ABI),
        NAME(MISSING_EXPORT),
        NAME(DENIED_IMPORT),
        NAME(GUEST_TRAP),
        NAME(GUEST_TIMEOUT),
        NAME(GUEST_LIMIT),
        NAME(GUEST_REJECTED),
        NAME(GUEST_UNAVAILABLE),
        NAME(PANIC),
        NAME(POISONED),
        NAME(INTERNAL),
        NAME(NO_MEMORY),
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        CHECK_TEXT(proxywasm_result_name(names[i].result), names[i].name);
    }
    CHECK_TEXT(proxywasm_result_name(1), "UNKNOWN");
    CHECK_TEXT(proxywasm_result_name(-8), "UNKNOWN");
    CHECK_TEXT(proxywasm_result_name(INT32_MIN), "UNKNOWN");
    return check_summary("layout");
}
