// SPDX-License-Identifier: Apache-2.0
//! The plain data that crosses the C boundary: structs, and the numbers of every enumeration.

use libc::c_void;

/// Borrowed bytes. `data` may be NULL when `len` is 0.
///
/// Lifetime: a slice given to the library is read before the call returns. A slice that a host callback gives back is
/// copied before the library calls the host again. A slice that the library gives is valid for as long as the function
/// or callback that gives it says.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct proxywasm_slice {
    /// First byte.
    pub data: *const u8,
    /// Number of bytes.
    pub len: usize,
}

/// One header field: a name and a value, both bytes, neither terminated by NUL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct proxywasm_pair {
    /// Field name, lower case, `:method` and the like for pseudo headers.
    pub name: proxywasm_slice,
    /// Field value.
    pub value: proxywasm_slice,
}

/// A piece of a body that the host offers.
///
/// With `release` NULL the bytes are borrowed for the call: what a plugin holds back is copied once. With `release` set
/// the library may keep the pointer instead, and calls `release(release_ctx)` exactly once, on the worker's thread, when
/// it needs the bytes no longer (inside the call, or inside a later call on the same worker, or in `proxywasm_stream_free`).
/// The callback must not call the library.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct proxywasm_chunk {
    /// First byte; may be NULL when `len` is 0.
    pub data: *const u8,
    /// Number of bytes.
    pub len: usize,
    /// NULL, or called once when the bytes are needed no longer.
    pub release: Option<unsafe extern "C" fn(release_ctx: *mut c_void)>,
    /// Passed to `release`.
    pub release_ctx: *mut c_void,
}

/// Names an asynchronous call that a plugin started. Issued by the library, echoed by the host. 0 names none.
pub type proxywasm_token = u64;

/// Results of the library's functions. 0 is success; the numbers are never reused.
///
/// -1 to -99: the caller's fault. -100 to -199: the module or its configuration could not be loaded. -200 to -299: the
/// guest failed. -300 to -399: the library failed.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_result {
    /// Done.
    OK = 0,
    /// A NULL handle or out pointer, a number outside its enumeration, a length that cannot be.
    INVALID_ARGUMENT = -1,
    /// The token, queue or name is unknown or has ended.
    NOT_FOUND = -2,
    /// A worker, chain, stream or instance was used on a thread other than the one that made it.
    WRONG_THREAD = -3,
    /// The call is not allowed inside a host callback of the same worker.
    REENTRANT = -4,
    /// Not now: the stream holds as much as it may. Nothing was taken; offer the same again after a resume.
    BUSY = -5,
    /// The library was built without this, or the stream's kind has no such phase.
    UNSUPPORTED = -6,
    /// A struct is larger than this library knows and its unknown tail is not zero: the program is newer than the library.
    ABI_MISMATCH = -7,
    /// Not a WebAssembly module that can run here (malformed, truncated, a component, not Proxy-Wasm).
    BAD_MODULE = -100,
    /// No `proxy_abi_version_*` marker that this library knows.
    UNKNOWN_ABI = -101,
    /// A function that the ABI demands is missing, or an exported callback has the wrong type.
    MISSING_EXPORT = -102,
    /// The module imports something that no Proxy-Wasm host offers.
    DENIED_IMPORT = -103,
    /// The guest trapped: `unreachable`, out of bounds, stack overflow, `proc_exit`, a hostcall where none is allowed.
    GUEST_TRAP = -200,
    /// The guest ran longer than its deadline.
    GUEST_TIMEOUT = -201,
    /// The guest asked for more memory than it may have, and failed for it.
    GUEST_LIMIT = -202,
    /// The guest refused: `proxy_on_vm_start` or `proxy_on_configure` returned false.
    GUEST_REJECTED = -203,
    /// The plugin has no working VM at present: it failed, and its policy or its back-off says to wait.
    GUEST_UNAVAILABLE = -204,
    /// A fault inside the library was caught at its boundary. The worker involved answers POISONED from now on.
    PANIC = -300,
    /// The worker met a fault earlier and runs no guest any more. Free it and make a new one.
    POISONED = -301,
    /// Something the library relies on failed. The error text says what.
    INTERNAL = -302,
    /// The system gave no memory or no address space.
    NO_MEMORY = -303,
}

/// The status numbers of Proxy-Wasm, which a host callback returns and the guest sees.
///
/// A number outside this list reaches the guest as INTERNAL_FAILURE. SDKs treat a status that the specification does not
/// list for a call as fatal (the Rust SDK panics), so return those that each callback names.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_status {
    /// Done.
    OK = 0,
    /// No such header, property, key, queue, metric or function.
    NOT_FOUND = 1,
    /// An argument is wrong, or the object cannot be changed now.
    BAD_ARGUMENT = 2,
    /// The value could not be serialized.
    SERIALIZATION_FAILURE = 3,
    /// The argument could not be parsed.
    PARSE_FAILURE = 4,
    /// A bad expression.
    BAD_EXPRESSION = 5,
    /// A guest pointer is outside the guest's memory.
    INVALID_MEMORY_ACCESS = 6,
    /// The queue is empty.
    EMPTY = 7,
    /// The value was changed by someone else in between.
    CAS_MISMATCH = 8,
    /// The result has another type than expected.
    RESULT_MISMATCH = 9,
    /// The host failed.
    INTERNAL_FAILURE = 10,
    /// The connection is gone.
    BROKEN_CONNECTION = 11,
    /// The host has no such function.
    UNIMPLEMENTED = 12,
}

/// What the host does next with one direction of a stream.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_action {
    /// Forward what `proxywasm_outcome.ready` names and go on.
    CONTINUE = 0,
    /// A plugin paused this direction. Forward what `ready` names, then stop reading if the proxy can; what is offered all
    /// the same is held up to the plugin's body limit, then refused with BUSY. `host.resume_stream` ends the pause.
    PAUSE = 1,
    /// A plugin paused this direction but goes on seeing the body: keep offering it, forward only what `ready` names.
    PAUSE_AND_BUFFER = 2,
    /// A local response was handed to `host.send_local_response`. Stop this direction; the response phases may be run on it.
    LOCAL_RESPONSE = 3,
    /// The stream was ended by `host.close_stream`. Run no more phases but log, done and free.
    CLOSE = 4,
}

/// Bits of `proxywasm_outcome.ready`.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_ready {
    /// The headers have passed every plugin: forward them, as the host's maps have them now. For TCP: connect upstream.
    HEADERS = 1,
    /// `body` holds bytes to forward.
    BODY = 2,
    /// The trailers have passed every plugin: forward them.
    TRAILERS = 4,
    /// This direction is complete with what is forwarded now.
    END_OF_STREAM = 8,
}

/// The result of a phase.
///
/// The caller sets `struct_size`. `action` is always written, also when the function fails: then it is what the failure
/// policy of the plugin says, so that a caller who ignores the result code still does what was configured.
#[repr(C)]
pub struct proxywasm_outcome {
    /// `sizeof(proxywasm_outcome)` of the caller.
    pub struct_size: usize,
    /// A `proxywasm_action`.
    pub action: i32,
    /// `proxywasm_ready` bits: what may be forwarded now, in the order headers, body, trailers.
    pub ready: u32,
    /// Slices to forward, in order. Valid until the next call on the same stream; they may point into the caller's chunks.
    pub body: *const proxywasm_slice,
    /// Number of slices.
    pub body_count: usize,
    /// Sum of their lengths in bytes.
    pub body_len: usize,
}

/// Header maps, numbered as in the Proxy-Wasm ABI (`proxy_map_type_t`). The maps of callouts (4 to 7) are the library's own.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_map {
    /// Request headers, pseudo headers first.
    REQUEST_HEADERS = 0,
    /// Request trailers.
    REQUEST_TRAILERS = 1,
    /// Response headers, `:status` first.
    RESPONSE_HEADERS = 2,
    /// Response trailers.
    RESPONSE_TRAILERS = 3,
}

/// The two directions of a stream.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_direction {
    /// From the client: an HTTP request, or downstream data of a TCP stream.
    REQUEST = 0,
    /// To the client: an HTTP response, or upstream data of a TCP stream.
    RESPONSE = 1,
}

/// What a stream carries.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_stream_kind {
    /// One HTTP request and its response.
    HTTP = 0,
    /// One TCP connection.
    TCP = 1,
}

/// The end of a connection that `host.close_stream` is asked to close, numbered as `proxy_stream_type_t`.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_stream_type {
    /// The HTTP request: reset the stream.
    HTTP_REQUEST = 0,
    /// The HTTP response: reset the stream.
    HTTP_RESPONSE = 1,
    /// The TCP connection to the client: write what is pending, then close.
    DOWNSTREAM = 2,
    /// The TCP connection to the upstream.
    UPSTREAM = 3,
}

/// Who closed a TCP connection (`proxy_peer_type_t`).
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_peer {
    /// Not known.
    UNKNOWN = 0,
    /// The proxy.
    LOCAL = 1,
    /// The other side.
    REMOTE = 2,
}

/// Log levels (`proxy_log_level_t`).
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_log_level {
    /// Trace.
    TRACE = 0,
    /// Debug.
    DEBUG = 1,
    /// Info.
    INFO = 2,
    /// Warning.
    WARN = 3,
    /// Error.
    ERROR = 4,
    /// Critical.
    CRITICAL = 5,
}

/// Kinds of metric (`proxy_metric_type_t`).
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_metric_type {
    /// Only grows.
    COUNTER = 0,
    /// Goes up and down.
    GAUGE = 1,
    /// A distribution.
    HISTOGRAM = 2,
}

/// What becomes of streams when their plugin's VM has failed, and of the VM (Envoy: `FailurePolicy`).
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_failure_policy {
    /// Live streams end with 503 or a close; the next stream gets a new VM. The default.
    RELOAD = 0,
    /// Live streams and all later ones end with 503 or a close.
    CLOSED = 1,
    /// Live streams and all later ones pass as if the plugin were not there.
    OPEN = 2,
}

/// Which VMs the streams of a chain use. See `proxywasm_chain_set_isolation`.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_isolation {
    /// Those of the worker, as in Envoy.
    SHARED = 0,
    /// VMs of their own: in one stream, plugins that share a VM in the worker share one.
    STREAM = 1,
    /// A VM of its own for each plugin of each stream.
    PLUGIN = 2,
}

/// Phases of a stream, as bits. Phases in which no plugin of a chain takes part need not be run.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum proxywasm_phase {
    /// `proxywasm_stream_on_request_headers`.
    REQUEST_HEADERS = 0x1,
    /// `proxywasm_stream_on_request_body`.
    REQUEST_BODY = 0x2,
    /// `proxywasm_stream_on_request_trailers`.
    REQUEST_TRAILERS = 0x4,
    /// `proxywasm_stream_on_response_headers`.
    RESPONSE_HEADERS = 0x8,
    /// `proxywasm_stream_on_response_body`.
    RESPONSE_BODY = 0x10,
    /// `proxywasm_stream_on_response_trailers`.
    RESPONSE_TRAILERS = 0x20,
    /// `proxywasm_stream_on_new_connection`.
    NEW_CONNECTION = 0x40,
    /// `proxywasm_stream_on_downstream_data`.
    DOWNSTREAM_DATA = 0x80,
    /// `proxywasm_stream_on_upstream_data`.
    UPSTREAM_DATA = 0x100,
    /// `proxywasm_stream_on_close`.
    CONNECTION_CLOSE = 0x200,
    /// `proxywasm_stream_on_metadata`.
    METADATA = 0x400,
    /// `proxywasm_stream_log`.
    LOG = 0x800,
}

/// Limits of one plugin. The caller sets `struct_size`; a member that is 0 keeps its default.
#[repr(C)]
pub struct proxywasm_limits {
    /// `sizeof(proxywasm_limits)` of the caller.
    pub struct_size: usize,
    /// Longest run of one callback, in nanoseconds. Default 1 s. Needs a ticking engine: `proxywasm_engine_start_ticker` or
    /// `proxywasm_engine_tick`. The precision is one tick. `UINT64_MAX` means no limit.
    pub deadline_ns: u64,
    /// The same for the start of a VM (`_initialize`, `proxy_on_vm_start`, `proxy_on_configure`). Default 10 s.
    pub start_deadline_ns: u64,
    /// Most memory of one VM, in bytes. Default 256 MiB. Growth beyond is refused: the guest sees -1.
    pub max_memory: u64,
    /// Most bytes of body held for one plugin in one direction of one stream. Default 1 MiB. A plugin that buffers more ends
    /// the stream with 413 (request) or 500 (response), as Envoy's `per_connection_buffer_limit_bytes` does.
    pub max_body_buffer: u64,
    /// Most callouts in flight for one VM. Default 1024. One more is refused with INTERNAL_FAILURE.
    pub max_callouts: u64,
}

/// Where a log record comes from. All members are valid during the callback only.
#[repr(C)]
pub struct proxywasm_log_record {
    /// `sizeof(proxywasm_log_record)` of the library.
    pub struct_size: usize,
    /// A `proxywasm_log_level`.
    pub level: i32,
    /// Context id inside the plugin's VM; 0 when the record comes from no context.
    pub context_id: u32,
    /// Name of the plugin.
    pub plugin: proxywasm_slice,
    /// Root id of the plugin.
    pub root_id: proxywasm_slice,
    /// VM id of the plugin.
    pub vm_id: proxywasm_slice,
    /// The text, without a trailing newline. Plugins may log any bytes.
    pub message: proxywasm_slice,
}

/// A response that a plugin sends in place of the upstream (`proxy_send_local_response`). Valid during the callback only.
#[repr(C)]
pub struct proxywasm_local_response {
    /// `sizeof(proxywasm_local_response)` of the library.
    pub struct_size: usize,
    /// HTTP status.
    pub status: u32,
    /// gRPC status, 0 to 16, or -1 for none. For a gRPC request Envoy answers with a trailers-only response.
    pub grpc_status: i32,
    /// Reason for logs, spaces replaced by `_`, as in Envoy's `RESPONSE_CODE_DETAILS`.
    pub details: proxywasm_slice,
    /// Body.
    pub body: proxywasm_slice,
    /// Headers to append.
    pub headers: *const proxywasm_pair,
    /// Number of headers.
    pub header_count: usize,
}

/// An HTTP call that a plugin starts (`proxy_http_call`). Valid during the callback only.
#[repr(C)]
pub struct proxywasm_http_request {
    /// `sizeof(proxywasm_http_request)` of the library.
    pub struct_size: usize,
    /// Name of the cluster or upstream, as the plugin gave it.
    pub upstream: proxywasm_slice,
    /// Headers; `:method`, `:path` and `:authority` are there, the library has checked.
    pub headers: *const proxywasm_pair,
    /// Number of headers.
    pub header_count: usize,
    /// Body; the host sets content-length from it.
    pub body: proxywasm_slice,
    /// Trailers.
    pub trailers: *const proxywasm_pair,
    /// Number of trailers.
    pub trailer_count: usize,
    /// Timeout in milliseconds; 0 means none.
    pub timeout_ms: u32,
}

/// The answer to an HTTP call. Read before `proxywasm_http_call_complete` returns.
#[repr(C)]
pub struct proxywasm_http_response {
    /// `sizeof(proxywasm_http_response)` of the caller.
    pub struct_size: usize,
    /// Headers, `:status` first.
    pub headers: *const proxywasm_pair,
    /// Number of headers.
    pub header_count: usize,
    /// Slices of the body, in order.
    pub body: *const proxywasm_slice,
    /// Number of slices.
    pub body_count: usize,
    /// Trailers.
    pub trailers: *const proxywasm_pair,
    /// Number of trailers.
    pub trailer_count: usize,
    /// Not 0: the call failed. The plugin is told of an empty answer, as with a NULL response, and finds a header that is given
    /// here if it asks for it by name: why the call failed. Body and trailers do not count.
    pub failed: u32,
}

/// A gRPC call or stream that a plugin starts (`proxy_grpc_call`, `proxy_grpc_stream`). Valid during the callback only.
#[repr(C)]
pub struct proxywasm_grpc_request {
    /// `sizeof(proxywasm_grpc_request)` of the library.
    pub struct_size: usize,
    /// A serialized `envoy.config.core.v3.GrpcService`, or the plain name of a cluster.
    pub upstream: proxywasm_slice,
    /// Service name, `package.Service`.
    pub service: proxywasm_slice,
    /// Method name.
    pub method: proxywasm_slice,
    /// Initial metadata.
    pub metadata: *const proxywasm_pair,
    /// Number of initial metadata.
    pub metadata_count: usize,
    /// The message of a unary call; empty for a stream.
    pub message: proxywasm_slice,
    /// Timeout in milliseconds of a unary call; 0 means none.
    pub timeout_ms: u32,
}

/// What a module is.
#[repr(C)]
pub struct proxywasm_module_info {
    /// `sizeof(proxywasm_module_info)` of the caller.
    pub struct_size: usize,
    /// ABI version as 10000 * major + 100 * minor + patch: 100, 200 or 201.
    pub abi_version: u32,
    /// Memory that an instance starts with, in bytes.
    pub initial_memory: u64,
    /// SHA-256 of the module's bytes.
    pub digest: [u8; 32],
}

/// Counts of one worker.
#[repr(C)]
pub struct proxywasm_worker_stats {
    /// `sizeof(proxywasm_worker_stats)` of the caller.
    pub struct_size: usize,
    /// VMs alive.
    pub vms: u64,
    /// VMs made since the worker began.
    pub vms_created: u64,
    /// VMs that failed.
    pub vms_failed: u64,
    /// Streams alive.
    pub streams: u64,
    /// Streams made since the worker began.
    pub streams_created: u64,
    /// Callouts in flight.
    pub callouts: u64,
    /// Linear memory of all VMs, in bytes.
    pub memory: u64,
}

/// One metric, as `proxywasm_engine_visit_metrics` shows it. Valid during the callback only.
#[repr(C)]
pub struct proxywasm_metric {
    /// `sizeof(proxywasm_metric)` of the library.
    pub struct_size: usize,
    /// A `proxywasm_metric_type`.
    pub metric_type: i32,
    /// Name as the plugin gave it.
    pub name: proxywasm_slice,
    /// Value of a counter; value of a gauge, which may be negative, as its two's complement; number of records of a histogram.
    pub value: u64,
    /// Sum of the records of a histogram, otherwise 0.
    pub sum: u64,
}
