// SPDX-License-Identifier: Apache-2.0
//! `proxywasm_host`: the callbacks through which the library speaks to a proxy.

use super::types::*;
use libc::c_void;

/// The callbacks of a proxy. Fill `struct_size` with `sizeof(proxywasm_host)`, leave what the proxy cannot do NULL.
///
/// Every member gets the `user_data` of `proxywasm_worker_new` first; most get the `stream_data` of the stream the plugin acts
/// on second, which is NULL when it acts on none (a tick, a queue). A NULL member means unsupported: the guest gets
/// UNIMPLEMENTED, or the library's own service where the member says so.
///
/// Callbacks run on the worker's thread, inside a call that the host made (`wake` excepted). They must not throw, longjmp or
/// call the library, with three exceptions: the completions (`proxywasm_http_call_complete` and `proxywasm_grpc_*`), which are
/// queued and delivered when the outer call returns; `proxywasm_last_error`; and constants such as `proxywasm_version`.
/// Everything else answers REENTRANT.
///
/// Slices that a callback gives back stay valid until it is called again or the next callback on that worker begins.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct proxywasm_host {
    /// `sizeof(proxywasm_host)` of the program.
    pub struct_size: usize,

    /// Takes a log record (`proxy_log`, stdout and stderr of the guest, failures of a VM). NULL: plugins are silent.
    pub log: Option<
        unsafe extern "C" fn(user_data: *mut c_void, stream_data: *mut c_void, record: *const proxywasm_log_record),
    >,
    /// The lowest level that is written (`proxy_get_log_level`). NULL: INFO.
    pub log_level: Option<unsafe extern "C" fn(user_data: *mut c_void) -> i32>,
    /// Nanoseconds since 1970 (`proxy_get_current_time_nanoseconds`). NULL: the system clock.
    pub now_realtime_ns: Option<unsafe extern "C" fn(user_data: *mut c_void) -> u64>,
    /// Nanoseconds of a clock that never goes back; ticks are measured by it. Must not
    /// be 0, which Go's runtime takes for a broken clock; the library passes 1 instead. NULL: the system's monotonic clock.
    pub now_monotonic_ns: Option<unsafe extern "C" fn(user_data: *mut c_void) -> u64>,

    /// First value of a header. `name` is lower case; the host compares without regard to case.
    /// Returns OK, NOT_FOUND (no such header), BAD_ARGUMENT (no such map now).
    pub get_header: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            map: i32,
            name: proxywasm_slice,
            out_value: *mut proxywasm_slice,
        ) -> i32,
    >,
    /// All headers, in order, repeated names repeated, pseudo headers first. Writes at most `capacity` pairs and always the
    /// true number to `out_count`; when that exceeds `capacity` the library calls again with room enough. With `capacity` 0
    /// `pairs` is NULL: only the count is asked. Returns OK, BAD_ARGUMENT (no such map now).
    pub get_headers: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            map: i32,
            pairs: *mut proxywasm_pair,
            capacity: usize,
            out_count: *mut usize,
        ) -> i32,
    >,
    /// Appends a header, beside others of that name. Adding to a trailer map while the last body chunk is offered creates the
    /// trailers. Returns OK, BAD_ARGUMENT (no such map now, or it cannot be changed any more).
    pub add_header: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            map: i32,
            name: proxywasm_slice,
            value: proxywasm_slice,
        ) -> i32,
    >,
    /// Makes `value` the only value of a header, adding it when there was none. Returns as `add_header`.
    pub replace_header: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            map: i32,
            name: proxywasm_slice,
            value: proxywasm_slice,
        ) -> i32,
    >,
    /// Removes all values of a header; OK also when there was none. Returns as `add_header`.
    pub remove_header: Option<
        unsafe extern "C" fn(user_data: *mut c_void, stream_data: *mut c_void, map: i32, name: proxywasm_slice) -> i32,
    >,
    /// Makes `pairs` the whole map. Returns as `add_header`. NULL: the library removes and adds one by one.
    pub set_headers: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            map: i32,
            pairs: *const proxywasm_pair,
            count: usize,
        ) -> i32,
    >,

    /// An attribute, such as `request.path`. `path` is its segments joined by NUL bytes, without a trailing one. The value is in
    /// Envoy's encoding: text and bytes as they are; integers, durations and timestamps 8 bytes little endian (nanoseconds);
    /// booleans one byte. Returns OK, NOT_FOUND. `plugin_name`, `plugin_root_id` and `plugin_vm_id` are never asked for.
    pub get_property: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            path: proxywasm_slice,
            out_value: *mut proxywasm_slice,
        ) -> i32,
    >,
    /// Sets an attribute of the proxy. Returns OK (the host keeps it), UNIMPLEMENTED (the library keeps it with the stream and
    /// serves it where `get_property` finds nothing), BAD_ARGUMENT (read only). NULL: the library keeps all of them.
    pub set_property: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            path: proxywasm_slice,
            value: proxywasm_slice,
        ) -> i32,
    >,

    /// Answers the client in place of the upstream. Called after the guest's callback has returned, also for a failed plugin
    /// (503) and a body over its limit (413, 500). Returns OK, or anything else: the library then calls `close_stream`.
    pub send_local_response: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            response: *const proxywasm_local_response,
        ) -> i32,
    >,
    /// A pause has ended: call `proxywasm_stream_resume(stream, direction, ...)` soon, from the event loop.
    pub resume_stream: Option<unsafe extern "C" fn(user_data: *mut c_void, stream_data: *mut c_void, direction: i32)>,
    /// Ends the stream; `stream_type` is a `proxywasm_stream_type`.
    pub close_stream: Option<unsafe extern "C" fn(user_data: *mut c_void, stream_data: *mut c_void, stream_type: i32)>,

    /// Starts an HTTP call. `stream_data` is the stream during whose callback it was started, or NULL; the call outlives it. When
    /// OK is returned, `proxywasm_http_call_complete` must follow exactly once, unless `cancel_call` comes first.
    /// Returns OK, BAD_ARGUMENT (unknown upstream), INTERNAL_FAILURE (cannot start it).
    pub http_call: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            token: proxywasm_token,
            request: *const proxywasm_http_request,
        ) -> i32,
    >,
    /// The library no longer wants the answer of an HTTP or gRPC call: its VM is gone, or the guest cancelled it. A completion that
    /// comes all the same is answered with NOT_FOUND and has no effect.
    pub cancel_call: Option<unsafe extern "C" fn(user_data: *mut c_void, token: proxywasm_token)>,
    /// Starts a unary gRPC call. Answer with `proxywasm_grpc_message` and `proxywasm_grpc_close`. Returns OK, PARSE_FAILURE (bad or
    /// unknown upstream), INTERNAL_FAILURE.
    pub grpc_call: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            token: proxywasm_token,
            request: *const proxywasm_grpc_request,
        ) -> i32,
    >,
    /// Opens a gRPC stream. Answer with any of `proxywasm_grpc_*`, `proxywasm_grpc_close` last. Returns as `grpc_call`.
    pub grpc_stream: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            token: proxywasm_token,
            request: *const proxywasm_grpc_request,
        ) -> i32,
    >,
    /// Sends a message on a gRPC stream, with `end_of_stream` the last. Returns OK, NOT_FOUND, BAD_ARGUMENT.
    pub grpc_send: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            token: proxywasm_token,
            message: proxywasm_slice,
            end_of_stream: bool,
        ) -> i32,
    >,
    /// Half-closes a gRPC stream from this side. The answer still comes. Returns OK, NOT_FOUND.
    pub grpc_close: Option<unsafe extern "C" fn(user_data: *mut c_void, token: proxywasm_token) -> i32>,

    /// Defines a metric. All four metric members or none; NULL: the library's registry. Ids are the host's, not 0.
    pub define_metric: Option<
        unsafe extern "C" fn(user_data: *mut c_void, metric_type: i32, name: proxywasm_slice, out_id: *mut u32) -> i32,
    >,
    /// Adds to a counter or a gauge. Returns OK, NOT_FOUND (no such id), BAD_ARGUMENT (a histogram, or a counter with `delta` <= 0).
    pub increment_metric: Option<unsafe extern "C" fn(user_data: *mut c_void, id: u32, delta: i64) -> i32>,
    /// Sets a gauge, records in a histogram, adds to a counter. Returns OK, NOT_FOUND.
    pub record_metric: Option<unsafe extern "C" fn(user_data: *mut c_void, id: u32, value: u64) -> i32>,
    /// Reads a counter or a gauge. Returns OK, NOT_FOUND, BAD_ARGUMENT (a histogram).
    pub get_metric: Option<unsafe extern "C" fn(user_data: *mut c_void, id: u32, out_value: *mut u64) -> i32>,

    /// Reads shared data. Both shared data members or none; NULL: the library's store, one for all workers of an engine.
    /// `out_cas` is never 0. Returns OK, NOT_FOUND.
    pub get_shared_data: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            vm_id: proxywasm_slice,
            key: proxywasm_slice,
            out_value: *mut proxywasm_slice,
            out_cas: *mut u32,
        ) -> i32,
    >,
    /// Writes shared data; `cas` 0 writes without condition. Returns OK, CAS_MISMATCH, INTERNAL_FAILURE (full).
    pub set_shared_data: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            vm_id: proxywasm_slice,
            key: proxywasm_slice,
            value: proxywasm_slice,
            cas: u32,
        ) -> i32,
    >,
    /// Finds or makes a shared queue and makes this worker the one to notify with `proxywasm_worker_queue_ready`. All four queue
    /// members or none; NULL: the library's queues, one set for all workers of an engine. Tokens are the host's, not 0.
    pub register_queue: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            vm_id: proxywasm_slice,
            name: proxywasm_slice,
            out_queue: *mut u32,
        ) -> i32,
    >,
    /// Finds a shared queue. Returns OK, NOT_FOUND.
    pub resolve_queue: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            vm_id: proxywasm_slice,
            name: proxywasm_slice,
            out_queue: *mut u32,
        ) -> i32,
    >,
    /// Appends to a shared queue. Returns OK, NOT_FOUND (no such queue), INTERNAL_FAILURE (full).
    pub enqueue: Option<unsafe extern "C" fn(user_data: *mut c_void, queue: u32, value: proxywasm_slice) -> i32>,
    /// Takes the oldest item. Returns OK, NOT_FOUND (no such queue), EMPTY.
    pub dequeue:
        Option<unsafe extern "C" fn(user_data: *mut c_void, queue: u32, out_value: *mut proxywasm_slice) -> i32>,

    /// Calls a function of the proxy (`proxy_call_foreign_function`) that the engine's registry does not have.
    /// Returns NOT_FOUND for an unknown name, otherwise what the function says; `out_result` counts in every case.
    pub call_foreign_function: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            stream_data: *mut c_void,
            name: proxywasm_slice,
            argument: proxywasm_slice,
            out_result: *mut proxywasm_slice,
        ) -> i32,
    >,

    /// A VM failed; `result` says how (GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT, PANIC). The record with the backtrace went to `log`.
    pub vm_failed: Option<unsafe extern "C" fn(user_data: *mut c_void, plugin: proxywasm_slice, result: i32)>,
    /// `proxywasm_worker_timeout_ns` has become nearer: arm the timer anew. NULL: the host asks after every call.
    pub timeout_changed: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
    /// There is work for this worker: call `proxywasm_worker_run_pending` soon, on its thread. Called from any thread, so it
    /// may only signal (an eventfd, a pipe, a posted event). Calls may be coalesced. It can come until `proxywasm_worker_free` returns.
    pub wake: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
}
