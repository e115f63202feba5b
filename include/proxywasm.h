#ifndef PROXYWASM_H
#define PROXYWASM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Proxy-Wasm host as a C library. SPDX-License-Identifier: Apache-2.0
 *
 * Generated from src/ffi by `make header`; do not edit.
 *
 * Results     Functions that can fail return int32_t: a `proxywasm_result`, 0 for success. Text: `proxywasm_last_error`.
 * Ownership   A handle made by a `_new` or `_compile` function belongs to the caller, who ends it with its `_free` function;
 *             `_free(NULL)` does nothing. Out parameters come last and are written on success only, `proxywasm_outcome` always.
 * Threads     Engine, module, plugin and their configs may be used on any thread, a config on one at a time. A worker and its
 *             instances, chains and streams belong to the thread that made the worker, or to which it was moved; elsewhere they answer
 *             WRONG_THREAD.
 * Processes   Before fork: make engine, modules, plugins. In the child: `proxywasm_engine_fork_child`, then workers.
 * Errors      No argument makes these functions abort: NULL handles and bad numbers answer INVALID_ARGUMENT.
 */

/** Version of this header. */
#define PROXYWASM_VERSION_MAJOR 0
#define PROXYWASM_VERSION_MINOR 1
#define PROXYWASM_VERSION_PATCH 0
/** 10000 * major + 100 * minor + patch. */
#define PROXYWASM_VERSION_NUMBER 100
/** Number of the binary interface: the number in the soname. Before 1.0 it is the minor version. */
#define PROXYWASM_ABI_VERSION 1


/**
 * Results of the library's functions. 0 is success; the numbers are never reused.
 *
 * -1 to -99: the caller's fault. -100 to -199: the module or its configuration could not be loaded. -200 to -299: the
 * guest failed. -300 to -399: the library failed.
 */
enum proxywasm_result
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Done.
   */
  PROXYWASM_RESULT_OK = 0,
  /**
   * A NULL handle or out pointer, a number outside its enumeration, a length that cannot be.
   */
  PROXYWASM_RESULT_INVALID_ARGUMENT = -1,
  /**
   * The token, queue or name is unknown or has ended.
   */
  PROXYWASM_RESULT_NOT_FOUND = -2,
  /**
   * A worker, chain, stream or instance was used on a thread other than the one that made it.
   */
  PROXYWASM_RESULT_WRONG_THREAD = -3,
  /**
   * The call is not allowed inside a host callback of the same worker.
   */
  PROXYWASM_RESULT_REENTRANT = -4,
  /**
   * Not now: the stream holds as much as it may. Nothing was taken; offer the same again after a resume.
   */
  PROXYWASM_RESULT_BUSY = -5,
  /**
   * The library was built without this, or the stream's kind has no such phase.
   */
  PROXYWASM_RESULT_UNSUPPORTED = -6,
  /**
   * A struct is larger than this library knows and its unknown tail is not zero: the program is newer than the library.
   */
  PROXYWASM_RESULT_ABI_MISMATCH = -7,
  /**
   * Not a WebAssembly module that can run here (malformed, truncated, a component, not Proxy-Wasm).
   */
  PROXYWASM_RESULT_BAD_MODULE = -100,
  /**
   * No `proxy_abi_version_*` marker that this library knows.
   */
  PROXYWASM_RESULT_UNKNOWN_ABI = -101,
  /**
   * A function that the ABI demands is missing, or an exported callback has the wrong type.
   */
  PROXYWASM_RESULT_MISSING_EXPORT = -102,
  /**
   * The module imports something that no Proxy-Wasm host offers.
   */
  PROXYWASM_RESULT_DENIED_IMPORT = -103,
  /**
   * The guest trapped: `unreachable`, out of bounds, stack overflow, `proc_exit`, a hostcall where none is allowed.
   */
  PROXYWASM_RESULT_GUEST_TRAP = -200,
  /**
   * The guest ran longer than its deadline.
   */
  PROXYWASM_RESULT_GUEST_TIMEOUT = -201,
  /**
   * The guest asked for more memory than it may have, and failed for it.
   */
  PROXYWASM_RESULT_GUEST_LIMIT = -202,
  /**
   * The guest refused: `proxy_on_vm_start` or `proxy_on_configure` returned false.
   */
  PROXYWASM_RESULT_GUEST_REJECTED = -203,
  /**
   * The plugin has no working VM at present: it failed, and its policy or its back-off says to wait.
   */
  PROXYWASM_RESULT_GUEST_UNAVAILABLE = -204,
  /**
   * A fault inside the library was caught at its boundary. The worker involved answers POISONED from now on.
   */
  PROXYWASM_RESULT_PANIC = -300,
  /**
   * The worker met a fault earlier and runs no guest any more. Free it and make a new one.
   */
  PROXYWASM_RESULT_POISONED = -301,
  /**
   * Something the library relies on failed. The error text says what.
   */
  PROXYWASM_RESULT_INTERNAL = -302,
  /**
   * The system gave no memory or no address space.
   */
  PROXYWASM_RESULT_NO_MEMORY = -303,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_result proxywasm_result;
#else
typedef int32_t proxywasm_result;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The status numbers of Proxy-Wasm, which a host callback returns and the guest sees.
 *
 * A number outside this list reaches the guest as INTERNAL_FAILURE. SDKs treat a status that the specification does not
 * list for a call as fatal (the Rust SDK panics), so return those that each callback names.
 */
enum proxywasm_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Done.
   */
  PROXYWASM_STATUS_OK = 0,
  /**
   * No such header, property, key, queue, metric or function.
   */
  PROXYWASM_STATUS_NOT_FOUND = 1,
  /**
   * An argument is wrong, or the object cannot be changed now.
   */
  PROXYWASM_STATUS_BAD_ARGUMENT = 2,
  /**
   * The value could not be serialized.
   */
  PROXYWASM_STATUS_SERIALIZATION_FAILURE = 3,
  /**
   * The argument could not be parsed.
   */
  PROXYWASM_STATUS_PARSE_FAILURE = 4,
  /**
   * A bad expression.
   */
  PROXYWASM_STATUS_BAD_EXPRESSION = 5,
  /**
   * A guest pointer is outside the guest's memory.
   */
  PROXYWASM_STATUS_INVALID_MEMORY_ACCESS = 6,
  /**
   * The queue is empty.
   */
  PROXYWASM_STATUS_EMPTY = 7,
  /**
   * The value was changed by someone else in between.
   */
  PROXYWASM_STATUS_CAS_MISMATCH = 8,
  /**
   * The result has another type than expected.
   */
  PROXYWASM_STATUS_RESULT_MISMATCH = 9,
  /**
   * The host failed.
   */
  PROXYWASM_STATUS_INTERNAL_FAILURE = 10,
  /**
   * The connection is gone.
   */
  PROXYWASM_STATUS_BROKEN_CONNECTION = 11,
  /**
   * The host has no such function.
   */
  PROXYWASM_STATUS_UNIMPLEMENTED = 12,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_status proxywasm_status;
#else
typedef int32_t proxywasm_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What the host does next with one direction of a stream.
 */
enum proxywasm_action
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Forward what `proxywasm_outcome.ready` names and go on.
   */
  PROXYWASM_ACTION_CONTINUE = 0,
  /**
   * A plugin paused this direction. Forward what `ready` names, then stop reading if the proxy can; what is offered all
   * the same is held up to the plugin's body limit, then refused with BUSY. `host.resume_stream` ends the pause.
   */
  PROXYWASM_ACTION_PAUSE = 1,
  /**
   * A plugin paused this direction but goes on seeing the body: keep offering it, forward only what `ready` names.
   */
  PROXYWASM_ACTION_PAUSE_AND_BUFFER = 2,
  /**
   * A local response was handed to `host.send_local_response`. Stop this direction; the response phases may be run on it.
   */
  PROXYWASM_ACTION_LOCAL_RESPONSE = 3,
  /**
   * The stream was ended by `host.close_stream`. Run no more phases but log, done and free.
   */
  PROXYWASM_ACTION_CLOSE = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_action proxywasm_action;
#else
typedef int32_t proxywasm_action;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Bits of `proxywasm_outcome.ready`.
 */
enum proxywasm_ready
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The headers have passed every plugin: forward them, as the host's maps have them now. For TCP: connect upstream.
   */
  PROXYWASM_READY_HEADERS = 1,
  /**
   * `body` holds bytes to forward.
   */
  PROXYWASM_READY_BODY = 2,
  /**
   * The trailers have passed every plugin: forward them.
   */
  PROXYWASM_READY_TRAILERS = 4,
  /**
   * This direction is complete with what is forwarded now.
   */
  PROXYWASM_READY_END_OF_STREAM = 8,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_ready proxywasm_ready;
#else
typedef uint32_t proxywasm_ready;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Header maps, numbered as in the Proxy-Wasm ABI (`proxy_map_type_t`). The maps of callouts (4 to 7) are the library's own.
 */
enum proxywasm_map
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Request headers, pseudo headers first.
   */
  PROXYWASM_MAP_REQUEST_HEADERS = 0,
  /**
   * Request trailers.
   */
  PROXYWASM_MAP_REQUEST_TRAILERS = 1,
  /**
   * Response headers, `:status` first.
   */
  PROXYWASM_MAP_RESPONSE_HEADERS = 2,
  /**
   * Response trailers.
   */
  PROXYWASM_MAP_RESPONSE_TRAILERS = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_map proxywasm_map;
#else
typedef int32_t proxywasm_map;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The two directions of a stream.
 */
enum proxywasm_direction
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * From the client: an HTTP request, or downstream data of a TCP stream.
   */
  PROXYWASM_DIRECTION_REQUEST = 0,
  /**
   * To the client: an HTTP response, or upstream data of a TCP stream.
   */
  PROXYWASM_DIRECTION_RESPONSE = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_direction proxywasm_direction;
#else
typedef int32_t proxywasm_direction;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a stream carries.
 */
enum proxywasm_stream_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * One HTTP request and its response.
   */
  PROXYWASM_STREAM_KIND_HTTP = 0,
  /**
   * One TCP connection.
   */
  PROXYWASM_STREAM_KIND_TCP = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_stream_kind proxywasm_stream_kind;
#else
typedef int32_t proxywasm_stream_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The end of a connection that `host.close_stream` is asked to close, numbered as `proxy_stream_type_t`.
 */
enum proxywasm_stream_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The HTTP request: reset the stream.
   */
  PROXYWASM_STREAM_TYPE_HTTP_REQUEST = 0,
  /**
   * The HTTP response: reset the stream.
   */
  PROXYWASM_STREAM_TYPE_HTTP_RESPONSE = 1,
  /**
   * The TCP connection to the client: write what is pending, then close.
   */
  PROXYWASM_STREAM_TYPE_DOWNSTREAM = 2,
  /**
   * The TCP connection to the upstream.
   */
  PROXYWASM_STREAM_TYPE_UPSTREAM = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_stream_type proxywasm_stream_type;
#else
typedef int32_t proxywasm_stream_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Who closed a TCP connection (`proxy_peer_type_t`).
 */
enum proxywasm_peer
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Not known.
   */
  PROXYWASM_PEER_UNKNOWN = 0,
  /**
   * The proxy.
   */
  PROXYWASM_PEER_LOCAL = 1,
  /**
   * The other side.
   */
  PROXYWASM_PEER_REMOTE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_peer proxywasm_peer;
#else
typedef int32_t proxywasm_peer;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Log levels (`proxy_log_level_t`).
 */
enum proxywasm_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Trace.
   */
  PROXYWASM_LOG_LEVEL_TRACE = 0,
  /**
   * Debug.
   */
  PROXYWASM_LOG_LEVEL_DEBUG = 1,
  /**
   * Info.
   */
  PROXYWASM_LOG_LEVEL_INFO = 2,
  /**
   * Warning.
   */
  PROXYWASM_LOG_LEVEL_WARN = 3,
  /**
   * Error.
   */
  PROXYWASM_LOG_LEVEL_ERROR = 4,
  /**
   * Critical.
   */
  PROXYWASM_LOG_LEVEL_CRITICAL = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_log_level proxywasm_log_level;
#else
typedef int32_t proxywasm_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Kinds of metric (`proxy_metric_type_t`).
 */
enum proxywasm_metric_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Only grows.
   */
  PROXYWASM_METRIC_TYPE_COUNTER = 0,
  /**
   * Goes up and down.
   */
  PROXYWASM_METRIC_TYPE_GAUGE = 1,
  /**
   * A distribution.
   */
  PROXYWASM_METRIC_TYPE_HISTOGRAM = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_metric_type proxywasm_metric_type;
#else
typedef int32_t proxywasm_metric_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What becomes of streams when their plugin's VM has failed, and of the VM (Envoy: `FailurePolicy`).
 */
enum proxywasm_failure_policy
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Live streams end with 503 or a close; the next stream gets a new VM. The default.
   */
  PROXYWASM_FAILURE_POLICY_RELOAD = 0,
  /**
   * Live streams and all later ones end with 503 or a close.
   */
  PROXYWASM_FAILURE_POLICY_CLOSED = 1,
  /**
   * Live streams and all later ones pass as if the plugin were not there.
   */
  PROXYWASM_FAILURE_POLICY_OPEN = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_failure_policy proxywasm_failure_policy;
#else
typedef int32_t proxywasm_failure_policy;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Which VMs the streams of a chain use. See `proxywasm_chain_set_isolation`.
 */
enum proxywasm_isolation
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Those of the worker, as in Envoy.
   */
  PROXYWASM_ISOLATION_SHARED = 0,
  /**
   * VMs of their own: in one stream, plugins that share a VM in the worker share one.
   */
  PROXYWASM_ISOLATION_STREAM = 1,
  /**
   * A VM of its own for each plugin of each stream.
   */
  PROXYWASM_ISOLATION_PLUGIN = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_isolation proxywasm_isolation;
#else
typedef int32_t proxywasm_isolation;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Phases of a stream, as bits. Phases in which no plugin of a chain takes part need not be run.
 */
enum proxywasm_phase
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * `proxywasm_stream_on_request_headers`.
   */
  PROXYWASM_PHASE_REQUEST_HEADERS = 1,
  /**
   * `proxywasm_stream_on_request_body`.
   */
  PROXYWASM_PHASE_REQUEST_BODY = 2,
  /**
   * `proxywasm_stream_on_request_trailers`.
   */
  PROXYWASM_PHASE_REQUEST_TRAILERS = 4,
  /**
   * `proxywasm_stream_on_response_headers`.
   */
  PROXYWASM_PHASE_RESPONSE_HEADERS = 8,
  /**
   * `proxywasm_stream_on_response_body`.
   */
  PROXYWASM_PHASE_RESPONSE_BODY = 16,
  /**
   * `proxywasm_stream_on_response_trailers`.
   */
  PROXYWASM_PHASE_RESPONSE_TRAILERS = 32,
  /**
   * `proxywasm_stream_on_new_connection`.
   */
  PROXYWASM_PHASE_NEW_CONNECTION = 64,
  /**
   * `proxywasm_stream_on_downstream_data`.
   */
  PROXYWASM_PHASE_DOWNSTREAM_DATA = 128,
  /**
   * `proxywasm_stream_on_upstream_data`.
   */
  PROXYWASM_PHASE_UPSTREAM_DATA = 256,
  /**
   * `proxywasm_stream_on_close`.
   */
  PROXYWASM_PHASE_CONNECTION_CLOSE = 512,
  /**
   * `proxywasm_stream_on_metadata`.
   */
  PROXYWASM_PHASE_METADATA = 1024,
  /**
   * `proxywasm_stream_log`.
   */
  PROXYWASM_PHASE_LOG = 2048,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum proxywasm_phase proxywasm_phase;
#else
typedef uint32_t proxywasm_phase;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Plugins in the order in which requests pass them; responses pass them backward. Owned, the worker's thread.
 */
typedef struct proxywasm_chain proxywasm_chain;

/**
 * What all workers of a process share: the compiler, shared data, queues, metrics. Counted, any thread.
 */
typedef struct proxywasm_engine proxywasm_engine;

/**
 * How an engine is made. One thread at a time.
 */
typedef struct proxywasm_engine_config proxywasm_engine_config;

/**
 * A plugin in a worker. Owned, the worker's thread.
 */
typedef struct proxywasm_instance proxywasm_instance;

/**
 * A compiled module. Counted, any thread.
 */
typedef struct proxywasm_module proxywasm_module;

/**
 * A module with a configuration, immutable. Counted, any thread.
 */
typedef struct proxywasm_plugin proxywasm_plugin;

/**
 * The configuration of a plugin. One thread at a time.
 */
typedef struct proxywasm_plugin_config proxywasm_plugin_config;

/**
 * One HTTP exchange or TCP connection on a chain. Owned, the worker's thread.
 */
typedef struct proxywasm_stream proxywasm_stream;

/**
 * One event loop's plugins. Owned, the thread that made it or to which it was moved.
 */
typedef struct proxywasm_worker proxywasm_worker;

/**
 * Borrowed bytes. `data` may be NULL when `len` is 0.
 *
 * Lifetime: a slice given to the library is read before the call returns. A slice that a host callback gives back is
 * copied before the library calls the host again. A slice that the library gives is valid for as long as the function
 * or callback that gives it says.
 */
typedef struct proxywasm_slice {
  /**
   * First byte.
   */
  const uint8_t *data;
  /**
   * Number of bytes.
   */
  size_t len;
} proxywasm_slice;

/**
 * Takes the library's own diagnostics. `level` is a `proxywasm_log_level`; `message` is valid during the call. Called on whichever
 * thread the thing happened; must not call the library.
 */
typedef void (*proxywasm_log_fn)(void *user_data, int32_t level, struct proxywasm_slice message);

/**
 * A function that plugins call by name. `result` points to an empty slice: what it is set to is copied at once, also when the
 * function fails. Returns a `proxywasm_status`. Called on the thread of the worker whose plugin calls; must not call the library.
 */
typedef int32_t (*proxywasm_foreign_fn)(void *user_data,
                                        struct proxywasm_slice argument,
                                        struct proxywasm_slice *result);

/**
 * One metric, as `proxywasm_engine_visit_metrics` shows it. Valid during the callback only.
 */
typedef struct proxywasm_metric {
  /**
   * `sizeof(proxywasm_metric)` of the library.
   */
  size_t struct_size;
  /**
   * A `proxywasm_metric_type`.
   */
  int32_t metric_type;
  /**
   * Name as the plugin gave it.
   */
  struct proxywasm_slice name;
  /**
   * Value of a counter; value of a gauge, which may be negative, as its two's complement; number of records of a histogram.
   */
  uint64_t value;
  /**
   * Sum of the records of a histogram, otherwise 0.
   */
  uint64_t sum;
} proxywasm_metric;

/**
 * Shows one metric; `metric` is valid during the call.
 */
typedef void (*proxywasm_metric_fn)(void *user_data, const struct proxywasm_metric *metric);

/**
 * Takes a piece of text or bytes, in order; valid during the call.
 */
typedef void (*proxywasm_sink_fn)(void *user_data, struct proxywasm_slice bytes);

/**
 * What a module is.
 */
typedef struct proxywasm_module_info {
  /**
   * `sizeof(proxywasm_module_info)` of the caller.
   */
  size_t struct_size;
  /**
   * ABI version as 10000 * major + 100 * minor + patch: 100, 200 or 201.
   */
  uint32_t abi_version;
  /**
   * Memory that an instance starts with, in bytes.
   */
  uint64_t initial_memory;
  /**
   * SHA-256 of the module's bytes.
   */
  uint8_t digest[32];
} proxywasm_module_info;

/**
 * Limits of one plugin. The caller sets `struct_size`; a member that is 0 keeps its default.
 */
typedef struct proxywasm_limits {
  /**
   * `sizeof(proxywasm_limits)` of the caller.
   */
  size_t struct_size;
  /**
   * Longest run of one callback, in nanoseconds. Default 1 s. Needs a ticking engine: `proxywasm_engine_start_ticker` or
   * `proxywasm_engine_tick`. The precision is one tick. `UINT64_MAX` means no limit.
   */
  uint64_t deadline_ns;
  /**
   * The same for the start of a VM (`_initialize`, `proxy_on_vm_start`, `proxy_on_configure`). Default 10 s.
   */
  uint64_t start_deadline_ns;
  /**
   * Most memory of one VM, in bytes. Default 256 MiB. Growth beyond is refused: the guest sees -1.
   */
  uint64_t max_memory;
  /**
   * Most bytes of body held for one plugin in one direction of one stream. Default 1 MiB. A plugin that buffers more ends
   * the stream with 413 (request) or 500 (response), as Envoy's `per_connection_buffer_limit_bytes` does.
   */
  uint64_t max_body_buffer;
  /**
   * Most callouts in flight for one VM. Default 1024. One more is refused with INTERNAL_FAILURE.
   */
  uint64_t max_callouts;
} proxywasm_limits;

/**
 * Where a log record comes from. All members are valid during the callback only.
 */
typedef struct proxywasm_log_record {
  /**
   * `sizeof(proxywasm_log_record)` of the library.
   */
  size_t struct_size;
  /**
   * A `proxywasm_log_level`.
   */
  int32_t level;
  /**
   * Context id inside the plugin's VM; 0 when the record comes from no context.
   */
  uint32_t context_id;
  /**
   * Name of the plugin.
   */
  struct proxywasm_slice plugin;
  /**
   * Root id of the plugin.
   */
  struct proxywasm_slice root_id;
  /**
   * VM id of the plugin.
   */
  struct proxywasm_slice vm_id;
  /**
   * The text, without a trailing newline. Plugins may log any bytes.
   */
  struct proxywasm_slice message;
} proxywasm_log_record;

/**
 * One header field: a name and a value, both bytes, neither terminated by NUL.
 */
typedef struct proxywasm_pair {
  /**
   * Field name, lower case, `:method` and the like for pseudo headers.
   */
  struct proxywasm_slice name;
  /**
   * Field value.
   */
  struct proxywasm_slice value;
} proxywasm_pair;

/**
 * A response that a plugin sends in place of the upstream (`proxy_send_local_response`). Valid during the callback only.
 */
typedef struct proxywasm_local_response {
  /**
   * `sizeof(proxywasm_local_response)` of the library.
   */
  size_t struct_size;
  /**
   * HTTP status.
   */
  uint32_t status;
  /**
   * gRPC status, 0 to 16, or -1 for none. For a gRPC request Envoy answers with a trailers-only response.
   */
  int32_t grpc_status;
  /**
   * Reason for logs, spaces replaced by `_`, as in Envoy's `RESPONSE_CODE_DETAILS`.
   */
  struct proxywasm_slice details;
  /**
   * Body.
   */
  struct proxywasm_slice body;
  /**
   * Headers to append.
   */
  const struct proxywasm_pair *headers;
  /**
   * Number of headers.
   */
  size_t header_count;
} proxywasm_local_response;

/**
 * Names an asynchronous call that a plugin started. Issued by the library, echoed by the host. 0 names none.
 */
typedef uint64_t proxywasm_token;

/**
 * An HTTP call that a plugin starts (`proxy_http_call`). Valid during the callback only.
 */
typedef struct proxywasm_http_request {
  /**
   * `sizeof(proxywasm_http_request)` of the library.
   */
  size_t struct_size;
  /**
   * Name of the cluster or upstream, as the plugin gave it.
   */
  struct proxywasm_slice upstream;
  /**
   * Headers; `:method`, `:path` and `:authority` are there, the library has checked.
   */
  const struct proxywasm_pair *headers;
  /**
   * Number of headers.
   */
  size_t header_count;
  /**
   * Body; the host sets content-length from it.
   */
  struct proxywasm_slice body;
  /**
   * Trailers.
   */
  const struct proxywasm_pair *trailers;
  /**
   * Number of trailers.
   */
  size_t trailer_count;
  /**
   * Timeout in milliseconds; 0 means none.
   */
  uint32_t timeout_ms;
} proxywasm_http_request;

/**
 * A gRPC call or stream that a plugin starts (`proxy_grpc_call`, `proxy_grpc_stream`). Valid during the callback only.
 */
typedef struct proxywasm_grpc_request {
  /**
   * `sizeof(proxywasm_grpc_request)` of the library.
   */
  size_t struct_size;
  /**
   * A serialized `envoy.config.core.v3.GrpcService`, or the plain name of a cluster.
   */
  struct proxywasm_slice upstream;
  /**
   * Service name, `package.Service`.
   */
  struct proxywasm_slice service;
  /**
   * Method name.
   */
  struct proxywasm_slice method;
  /**
   * Initial metadata.
   */
  const struct proxywasm_pair *metadata;
  /**
   * Number of initial metadata.
   */
  size_t metadata_count;
  /**
   * The message of a unary call; empty for a stream.
   */
  struct proxywasm_slice message;
  /**
   * Timeout in milliseconds of a unary call; 0 means none.
   */
  uint32_t timeout_ms;
} proxywasm_grpc_request;

/**
 * The callbacks of a proxy. Fill `struct_size` with `sizeof(proxywasm_host)`, leave what the proxy cannot do NULL.
 *
 * Every member gets the `user_data` of `proxywasm_worker_new` first; most get the `stream_data` of the stream the plugin acts
 * on second, which is NULL when it acts on none (a tick, a queue). A NULL member means unsupported: the guest gets
 * UNIMPLEMENTED, or the library's own service where the member says so.
 *
 * Callbacks run on the worker's thread, inside a call that the host made (`wake` excepted). They must not throw, longjmp or
 * call the library, with three exceptions: the completions (`proxywasm_http_call_complete` and `proxywasm_grpc_*`), which are
 * queued and delivered when the outer call returns; `proxywasm_last_error`; and constants such as `proxywasm_version`.
 * Everything else answers REENTRANT.
 *
 * Slices that a callback gives back stay valid until it is called again or the next callback on that worker begins.
 */
typedef struct proxywasm_host {
  /**
   * `sizeof(proxywasm_host)` of the program.
   */
  size_t struct_size;
  /**
   * Takes a log record (`proxy_log`, stdout and stderr of the guest, failures of a VM). NULL: plugins are silent.
   */
  void (*log)(void *user_data, void *stream_data, const struct proxywasm_log_record *record);
  /**
   * The lowest level that is written (`proxy_get_log_level`). NULL: INFO.
   */
  int32_t (*log_level)(void *user_data);
  /**
   * Nanoseconds since 1970 (`proxy_get_current_time_nanoseconds`). NULL: the system clock.
   */
  uint64_t (*now_realtime_ns)(void *user_data);
  /**
   * Nanoseconds of a clock that never goes back; ticks are measured by it. Must not
   * be 0, which Go's runtime takes for a broken clock; the library passes 1 instead. NULL: the system's monotonic clock.
   */
  uint64_t (*now_monotonic_ns)(void *user_data);
  /**
   * First value of a header. `name` is lower case; the host compares without regard to case.
   * Returns OK, NOT_FOUND (no such header), BAD_ARGUMENT (no such map now).
   */
  int32_t (*get_header)(void *user_data,
                        void *stream_data,
                        int32_t map,
                        struct proxywasm_slice name,
                        struct proxywasm_slice *out_value);
  /**
   * All headers, in order, repeated names repeated, pseudo headers first. Writes at most `capacity` pairs and always the
   * true number to `out_count`; when that exceeds `capacity` the library calls again with room enough. With `capacity` 0
   * `pairs` is NULL: only the count is asked. Returns OK, BAD_ARGUMENT (no such map now).
   */
  int32_t (*get_headers)(void *user_data,
                         void *stream_data,
                         int32_t map,
                         struct proxywasm_pair *pairs,
                         size_t capacity,
                         size_t *out_count);
  /**
   * Appends a header, beside others of that name. Adding to a trailer map while the last body chunk is offered creates the
   * trailers. Returns OK, BAD_ARGUMENT (no such map now, or it cannot be changed any more).
   */
  int32_t (*add_header)(void *user_data,
                        void *stream_data,
                        int32_t map,
                        struct proxywasm_slice name,
                        struct proxywasm_slice value);
  /**
   * Makes `value` the only value of a header, adding it when there was none. Returns as `add_header`.
   */
  int32_t (*replace_header)(void *user_data,
                            void *stream_data,
                            int32_t map,
                            struct proxywasm_slice name,
                            struct proxywasm_slice value);
  /**
   * Removes all values of a header; OK also when there was none. Returns as `add_header`.
   */
  int32_t (*remove_header)(void *user_data, void *stream_data, int32_t map, struct proxywasm_slice name);
  /**
   * Makes `pairs` the whole map. Returns as `add_header`. NULL: the library removes and adds one by one.
   */
  int32_t (*set_headers)(void *user_data,
                         void *stream_data,
                         int32_t map,
                         const struct proxywasm_pair *pairs,
                         size_t count);
  /**
   * An attribute, such as `request.path`. `path` is its segments joined by NUL bytes, without a trailing one. The value is in
   * Envoy's encoding: text and bytes as they are; integers, durations and timestamps 8 bytes little endian (nanoseconds);
   * booleans one byte. Returns OK, NOT_FOUND. `plugin_name`, `plugin_root_id` and `plugin_vm_id` are never asked for.
   */
  int32_t (*get_property)(void *user_data,
                          void *stream_data,
                          struct proxywasm_slice path,
                          struct proxywasm_slice *out_value);
  /**
   * Sets an attribute of the proxy. Returns OK (the host keeps it), UNIMPLEMENTED (the library keeps it with the stream and
   * serves it where `get_property` finds nothing), BAD_ARGUMENT (read only). NULL: the library keeps all of them.
   */
  int32_t (*set_property)(void *user_data,
                          void *stream_data,
                          struct proxywasm_slice path,
                          struct proxywasm_slice value);
  /**
   * Answers the client in place of the upstream. Called after the guest's callback has returned, also for a failed plugin
   * (503) and a body over its limit (413, 500). Returns OK, or anything else: the library then calls `close_stream`.
   */
  int32_t (*send_local_response)(void *user_data,
                                 void *stream_data,
                                 const struct proxywasm_local_response *response);
  /**
   * A pause has ended: call `proxywasm_stream_resume(stream, direction, ...)` soon, from the event loop.
   */
  void (*resume_stream)(void *user_data, void *stream_data, int32_t direction);
  /**
   * Ends the stream; `stream_type` is a `proxywasm_stream_type`.
   */
  void (*close_stream)(void *user_data, void *stream_data, int32_t stream_type);
  /**
   * Starts an HTTP call. `stream_data` is the stream during whose callback it was started, or NULL; the call outlives it. When
   * OK is returned, `proxywasm_http_call_complete` must follow exactly once, unless `cancel_call` comes first.
   * Returns OK, BAD_ARGUMENT (unknown upstream), INTERNAL_FAILURE (cannot start it).
   */
  int32_t (*http_call)(void *user_data,
                       void *stream_data,
                       proxywasm_token token,
                       const struct proxywasm_http_request *request);
  /**
   * The library no longer wants the answer of an HTTP or gRPC call: its VM is gone, or the guest cancelled it. A completion that
   * comes all the same is answered with NOT_FOUND and has no effect.
   */
  void (*cancel_call)(void *user_data, proxywasm_token token);
  /**
   * Starts a unary gRPC call. Answer with `proxywasm_grpc_message` and `proxywasm_grpc_close`. Returns OK, PARSE_FAILURE (bad or
   * unknown upstream), INTERNAL_FAILURE.
   */
  int32_t (*grpc_call)(void *user_data,
                       void *stream_data,
                       proxywasm_token token,
                       const struct proxywasm_grpc_request *request);
  /**
   * Opens a gRPC stream. Answer with any of `proxywasm_grpc_*`, `proxywasm_grpc_close` last. Returns as `grpc_call`.
   */
  int32_t (*grpc_stream)(void *user_data,
                         void *stream_data,
                         proxywasm_token token,
                         const struct proxywasm_grpc_request *request);
  /**
   * Sends a message on a gRPC stream, with `end_of_stream` the last. Returns OK, NOT_FOUND, BAD_ARGUMENT.
   */
  int32_t (*grpc_send)(void *user_data,
                       proxywasm_token token,
                       struct proxywasm_slice message,
                       bool end_of_stream);
  /**
   * Half-closes a gRPC stream from this side. The answer still comes. Returns OK, NOT_FOUND.
   */
  int32_t (*grpc_close)(void *user_data, proxywasm_token token);
  /**
   * Defines a metric. All four metric members or none; NULL: the library's registry. Ids are the host's, not 0.
   */
  int32_t (*define_metric)(void *user_data, int32_t metric_type, struct proxywasm_slice name, uint32_t *out_id);
  /**
   * Adds to a counter or a gauge. Returns OK, NOT_FOUND (no such id), BAD_ARGUMENT (a histogram, or a counter with `delta` <= 0).
   */
  int32_t (*increment_metric)(void *user_data, uint32_t id, int64_t delta);
  /**
   * Sets a gauge, records in a histogram, adds to a counter. Returns OK, NOT_FOUND.
   */
  int32_t (*record_metric)(void *user_data, uint32_t id, uint64_t value);
  /**
   * Reads a counter or a gauge. Returns OK, NOT_FOUND, BAD_ARGUMENT (a histogram).
   */
  int32_t (*get_metric)(void *user_data, uint32_t id, uint64_t *out_value);
  /**
   * Reads shared data. Both shared data members or none; NULL: the library's store, one for all workers of an engine.
   * `out_cas` is never 0. Returns OK, NOT_FOUND.
   */
  int32_t (*get_shared_data)(void *user_data,
                             struct proxywasm_slice vm_id,
                             struct proxywasm_slice key,
                             struct proxywasm_slice *out_value,
                             uint32_t *out_cas);
  /**
   * Writes shared data; `cas` 0 writes without condition. Returns OK, CAS_MISMATCH, INTERNAL_FAILURE (full).
   */
  int32_t (*set_shared_data)(void *user_data,
                             struct proxywasm_slice vm_id,
                             struct proxywasm_slice key,
                             struct proxywasm_slice value,
                             uint32_t cas);
  /**
   * Finds or makes a shared queue and makes this worker the one to notify with `proxywasm_worker_queue_ready`. All four queue
   * members or none; NULL: the library's queues, one set for all workers of an engine. Tokens are the host's, not 0.
   */
  int32_t (*register_queue)(void *user_data,
                            struct proxywasm_slice vm_id,
                            struct proxywasm_slice name,
                            uint32_t *out_queue);
  /**
   * Finds a shared queue. Returns OK, NOT_FOUND.
   */
  int32_t (*resolve_queue)(void *user_data,
                           struct proxywasm_slice vm_id,
                           struct proxywasm_slice name,
                           uint32_t *out_queue);
  /**
   * Appends to a shared queue. Returns OK, NOT_FOUND (no such queue), INTERNAL_FAILURE (full).
   */
  int32_t (*enqueue)(void *user_data, uint32_t queue, struct proxywasm_slice value);
  /**
   * Takes the oldest item. Returns OK, NOT_FOUND (no such queue), EMPTY.
   */
  int32_t (*dequeue)(void *user_data, uint32_t queue, struct proxywasm_slice *out_value);
  /**
   * Calls a function of the proxy (`proxy_call_foreign_function`) that the engine's registry does not have.
   * Returns NOT_FOUND for an unknown name, otherwise what the function says; `out_result` counts in every case.
   */
  int32_t (*call_foreign_function)(void *user_data,
                                   void *stream_data,
                                   struct proxywasm_slice name,
                                   struct proxywasm_slice argument,
                                   struct proxywasm_slice *out_result);
  /**
   * A VM failed; `result` says how (GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT, PANIC). The record with the backtrace went to `log`.
   */
  void (*vm_failed)(void *user_data, struct proxywasm_slice plugin, int32_t result);
  /**
   * `proxywasm_worker_timeout_ns` has become nearer: arm the timer anew. NULL: the host asks after every call.
   */
  void (*timeout_changed)(void *user_data);
  /**
   * There is work for this worker: call `proxywasm_worker_run_pending` soon, on its thread. Called from any thread, so it
   * may only signal (an eventfd, a pipe, a posted event). Calls may be coalesced. It can come until `proxywasm_worker_free` returns.
   */
  void (*wake)(void *user_data);
} proxywasm_host;

/**
 * Counts of one worker.
 */
typedef struct proxywasm_worker_stats {
  /**
   * `sizeof(proxywasm_worker_stats)` of the caller.
   */
  size_t struct_size;
  /**
   * VMs alive.
   */
  uint64_t vms;
  /**
   * VMs made since the worker began.
   */
  uint64_t vms_created;
  /**
   * VMs that failed.
   */
  uint64_t vms_failed;
  /**
   * Streams alive.
   */
  uint64_t streams;
  /**
   * Streams made since the worker began.
   */
  uint64_t streams_created;
  /**
   * Callouts in flight.
   */
  uint64_t callouts;
  /**
   * Linear memory of all VMs, in bytes.
   */
  uint64_t memory;
} proxywasm_worker_stats;

/**
 * The result of a phase.
 *
 * The caller sets `struct_size`. `action` is always written, also when the function fails: then it is what the failure
 * policy of the plugin says, so that a caller who ignores the result code still does what was configured.
 */
typedef struct proxywasm_outcome {
  /**
   * `sizeof(proxywasm_outcome)` of the caller.
   */
  size_t struct_size;
  /**
   * A `proxywasm_action`.
   */
  int32_t action;
  /**
   * `proxywasm_ready` bits: what may be forwarded now, in the order headers, body, trailers.
   */
  uint32_t ready;
  /**
   * Slices to forward, in order. Valid until the next call on the same stream; they may point into the caller's chunks.
   */
  const struct proxywasm_slice *body;
  /**
   * Number of slices.
   */
  size_t body_count;
  /**
   * Sum of their lengths in bytes.
   */
  size_t body_len;
} proxywasm_outcome;

/**
 * A piece of a body that the host offers.
 *
 * With `release` NULL the bytes are borrowed for the call: what a plugin holds back is copied once. With `release` set
 * the library may keep the pointer instead, and calls `release(release_ctx)` exactly once, on the worker's thread, when
 * it needs the bytes no longer (inside the call, or inside a later call on the same worker, or in `proxywasm_stream_free`).
 * The callback must not call the library.
 */
typedef struct proxywasm_chunk {
  /**
   * First byte; may be NULL when `len` is 0.
   */
  const uint8_t *data;
  /**
   * Number of bytes.
   */
  size_t len;
  /**
   * NULL, or called once when the bytes are needed no longer.
   */
  void (*release)(void *release_ctx);
  /**
   * Passed to `release`.
   */
  void *release_ctx;
} proxywasm_chunk;

/**
 * The answer to an HTTP call. Read before `proxywasm_http_call_complete` returns.
 */
typedef struct proxywasm_http_response {
  /**
   * `sizeof(proxywasm_http_response)` of the caller.
   */
  size_t struct_size;
  /**
   * Headers, `:status` first.
   */
  const struct proxywasm_pair *headers;
  /**
   * Number of headers.
   */
  size_t header_count;
  /**
   * Slices of the body, in order.
   */
  const struct proxywasm_slice *body;
  /**
   * Number of slices.
   */
  size_t body_count;
  /**
   * Trailers.
   */
  const struct proxywasm_pair *trailers;
  /**
   * Number of trailers.
   */
  size_t trailer_count;
  /**
   * Not 0: the call failed. The plugin is told of an empty answer, as with a NULL response, and finds a header that is given
   * here if it asks for it by name: why the call failed. Body and trailers do not count.
   */
  uint32_t failed;
} proxywasm_http_response;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Version of the library at run time, such as "0.1.0". Static; any thread; allowed inside callbacks.
 */
const char *proxywasm_version(void);

/**
 * Number of the binary interface of the library at run time. A program compares it with `PROXYWASM_ABI_VERSION`.
 * Any thread; allowed inside callbacks.
 */
uint32_t proxywasm_abi_version(void);

/**
 * Name of a result, such as "GUEST_TRAP"; "UNKNOWN" for a number that is none. Static; any thread; allowed inside callbacks.
 */
const char *proxywasm_result_name(int32_t result);

/**
 * Copies the text of the last failure on this thread into `buffer`, cut to `capacity` bytes including the NUL that is always
 * written when `capacity` is not 0. The text is empty when the last fallible call succeeded.
 *
 * Returns the length of the whole text in bytes, without the NUL. Any thread; allowed inside callbacks.
 */
size_t proxywasm_last_error(char *buffer,
                            size_t capacity);

/**
 * Makes a config with the defaults: one thread compiles, traps by signal, deadlines on, ticks of 10 ms, no pooling, no log.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_config_new(struct proxywasm_engine_config **out_config);

/**
 * Frees a config. Engines made with it are not affected.
 */
void proxywasm_engine_config_free(struct proxywasm_engine_config *config);

/**
 * Sends the library's own diagnostics (odd imports, back-off after failures) from `level` on to a function. NULL: nowhere, the default.
 * What plugins log goes to `proxywasm_host.log` instead. `user_data` must outlive the engine.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_config_set_log(struct proxywasm_engine_config *config,
                                        int32_t level,
                                        proxywasm_log_fn function,
                                        void *user_data);

/**
 * Compiles with several threads. Default off; not for a process that forks afterwards, where a child that compiles would hang.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_config_set_parallel_compilation(struct proxywasm_engine_config *config,
                                                         bool on);

/**
 * Whether the code of guests is optimized. Default on. Off: a fifth less CPU time to compile a module, a twentieth more to run it, since
 * toolchains optimize modules themselves.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_config_set_optimization(struct proxywasm_engine_config *config,
                                                 bool on);

/**
 * Whether memory faults of guests are caught by handlers of SIGSEGV, SIGBUS, SIGILL and SIGFPE, installed for the process when the
 * first engine is made and passing on what is not theirs. Default on. Off: by checks in the compiled code, which are slower.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_config_set_signal_traps(struct proxywasm_engine_config *config,
                                                 bool on);

/**
 * Whether guests can be interrupted. Default on. Off: guest code runs some tenth faster, and deadlines have no effect.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_config_set_interruption(struct proxywasm_engine_config *config,
                                                 bool on);

/**
 * Time between two ticks in nanoseconds: the precision of deadlines, and the period of the ticker thread. Default 10 ms, at most 10 s.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_config_set_tick_period(struct proxywasm_engine_config *config,
                                                uint64_t period_ns);

/**
 * Reserves address space (not memory) for `max_vms` VMs at once, which makes each VM cheaper to make: for streams with VMs of their
 * own. Up to 256 KiB of each of the 100 VMs that ended last stay for the next. 0, the default: none. More VMs than that then fail with
 * NO_MEMORY.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_config_set_pooling(struct proxywasm_engine_config *config,
                                            uint32_t max_vms);

/**
 * Adds a function that plugins call by `name` with `proxy_call_foreign_function`, in place of one of that name. `user_data` must
 * outlive the engine.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_config_add_foreign_function(struct proxywasm_engine_config *config,
                                                     struct proxywasm_slice name,
                                                     proxywasm_foreign_fn function,
                                                     void *user_data);

/**
 * Makes an engine. `config` may be NULL for the defaults; it stays the caller's. Starts no thread.
 *
 * Errors: INVALID_ARGUMENT, NO_MEMORY (no address space, or a setting this machine lacks).
 */
int32_t proxywasm_engine_new(const struct proxywasm_engine_config *config,
                             struct proxywasm_engine **out_engine);

/**
 * Lets go of an engine; it lives until its modules, plugins and workers are gone too.
 */
void proxywasm_engine_free(struct proxywasm_engine *engine);

/**
 * Advances the deadlines of all guests by one tick, for hosts that have a timer of their own. Any thread, also in a signal handler;
 * allowed inside callbacks. NULL does nothing.
 */
void proxywasm_engine_tick(const struct proxywasm_engine *engine);

/**
 * Starts the one thread that the library ever makes, which ticks; nothing when it runs. Only after the last fork of the process.
 *
 * Errors: INVALID_ARGUMENT, INTERNAL (no thread to be had).
 */
int32_t proxywasm_engine_start_ticker(const struct proxywasm_engine *engine);

/**
 * Stops the ticker thread; it ends within one tick. Deadlines have no effect from then on.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_stop_ticker(const struct proxywasm_engine *engine);

/**
 * Must be the first call on an engine in a process made by fork, and made there only. Modules and plugins made before the fork can
 * be used then, their code is shared copy-on-write; workers must be made after it.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_fork_child(const struct proxywasm_engine *engine);

/**
 * Shows all metrics of the library's registry, ordered by name. Any thread.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_visit_metrics(const struct proxywasm_engine *engine,
                                       proxywasm_metric_fn visit,
                                       void *user_data);

/**
 * Renders all metrics of the library's registry in Prometheus text exposition format (version 0.0.4). Any thread.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_engine_render_metrics(const struct proxywasm_engine *engine,
                                        proxywasm_sink_fn sink,
                                        void *user_data);

/**
 * Compiles a module from its binary form; `code` is not needed afterwards. Takes as long as a compiler takes (some 100 ms for a
 * megabyte of code), unless the engine has one of equal bytes that was not freed yet: that is shared. Its exports and imports are checked: those of ABI 0.1.0, 0.2.0 and 0.2.1, each module choosing by its marker.
 *
 * Errors: INVALID_ARGUMENT, BAD_MODULE, UNKNOWN_ABI, MISSING_EXPORT, DENIED_IMPORT.
 */
int32_t proxywasm_module_compile(const struct proxywasm_engine *engine,
                                 struct proxywasm_slice code,
                                 struct proxywasm_module **out_module);

/**
 * Tells what a module is. The caller sets `out_info->struct_size`.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_module_get_info(const struct proxywasm_module *module,
                                  struct proxywasm_module_info *out_info);

/**
 * Lets go of a module; it lives until its plugins are gone too.
 */
void proxywasm_module_free(struct proxywasm_module *module);

/**
 * Makes a configuration. `name` is UTF-8, for logs and the property `plugin_name`. Everything else is empty or has its default.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_plugin_config_new(struct proxywasm_slice name,
                                    struct proxywasm_plugin_config **out_config);

/**
 * Frees a configuration. Plugins made with it are not affected.
 */
void proxywasm_plugin_config_free(struct proxywasm_plugin_config *config);

/**
 * Which root context of the module is meant (Envoy's `root_id`), UTF-8.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_plugin_config_set_root_id(struct proxywasm_plugin_config *config,
                                            struct proxywasm_slice root_id);

/**
 * Names the VM (Envoy's `vm_id`), UTF-8: plugins of a worker with equal VM id, VM configuration and code share one, and plugins
 * with equal VM id share data and queues.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_plugin_config_set_vm_id(struct proxywasm_plugin_config *config,
                                          struct proxywasm_slice vm_id);

/**
 * What `proxy_on_vm_start` reads, any bytes.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_plugin_config_set_vm_configuration(struct proxywasm_plugin_config *config,
                                                     struct proxywasm_slice configuration);

/**
 * What `proxy_on_configure` reads, any bytes.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_plugin_config_set_configuration(struct proxywasm_plugin_config *config,
                                                  struct proxywasm_slice configuration);

/**
 * Adds an environment variable, UTF-8. The guest sees these and no others.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_plugin_config_add_environment(struct proxywasm_plugin_config *config,
                                                struct proxywasm_slice name,
                                                struct proxywasm_slice value);

/**
 * Sets limits. The caller sets `limits->struct_size`; members that are 0 keep their defaults.
 *
 * Errors: INVALID_ARGUMENT, ABI_MISMATCH.
 */
int32_t proxywasm_plugin_config_set_limits(struct proxywasm_plugin_config *config,
                                           const struct proxywasm_limits *limits);

/**
 * Sets the failure policy, a `proxywasm_failure_policy`. Default RELOAD.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_plugin_config_set_failure_policy(struct proxywasm_plugin_config *config, int32_t policy);

/**
 * Sets when the policy RELOAD makes a new VM. The first is made at once; when a VM fails before it has finished a single stream, the next
 * waits `base_ns`, twice that, and so on up to `max_ns` (defaults 1 s, 60 s), and after `limit` such failures in a row (default 16,
 * 0 means no limit) the plugin stays down.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_plugin_config_set_reload(struct proxywasm_plugin_config *config,
                                           uint64_t base_ns,
                                           uint64_t max_ns,
                                           uint32_t limit);

/**
 * Allows one hostcall, WASI function or callback by its name (`proxy_http_call`, `fd_write`, `proxy_on_tick`). With the first call
 * everything that is not allowed is denied (Envoy's `capability_restriction_config`): a denied hostcall answers INTERNAL_FAILURE, a
 * denied WASI function 76, a denied callback is not called.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_plugin_config_allow(struct proxywasm_plugin_config *config,
                                      struct proxywasm_slice capability);

/**
 * Whether a pause in a header callback lets the body callbacks of the plugin run (Envoy's `allow_on_headers_stop_iteration`). Default
 * false: nothing more is shown to the plugin until it resumes.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_plugin_config_set_allow_on_headers_stop_iteration(struct proxywasm_plugin_config *config,
                                                                    bool allow);

/**
 * Restricts the plugin to some of the phases that its module exports: `proxywasm_phase` bits. SDKs export all callbacks, so this is
 * how a proxy keeps sendfile for bodies that the plugin would ignore. Default: all.
 *
 * Errors: INVALID_ARGUMENT.
 */
int32_t proxywasm_plugin_config_set_phases(struct proxywasm_plugin_config *config,
                                           uint32_t phases);

/**
 * Joins a module and a configuration. Both stay the caller's. Runs no guest code.
 *
 * Errors: INVALID_ARGUMENT, GUEST_LIMIT (the module starts with more memory than it may have).
 */
int32_t proxywasm_plugin_new(const struct proxywasm_module *module,
                             const struct proxywasm_plugin_config *config,
                             struct proxywasm_plugin **out_plugin);

/**
 * The phases in which a plugin takes part, as `proxywasm_phase` bits: those that its module exports and its configuration allows. 0 for NULL.
 */
uint32_t proxywasm_plugin_phases(const struct proxywasm_plugin *plugin);

/**
 * Starts and configures a plugin in a VM that is thrown away, to find out whether it would start: for a configuration check, also before
 * fork. Of `host`, which may be NULL, only `log`, `log_level`, `get_property` and those of shared queues are called, with `user_data`;
 * a host without the latter gets no trace of queues.
 *
 * Errors: INVALID_ARGUMENT, ABI_MISMATCH, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT, GUEST_REJECTED (what the plugin logged says why).
 */
int32_t proxywasm_plugin_validate(const struct proxywasm_plugin *plugin,
                                  const struct proxywasm_host *host,
                                  void *user_data);

/**
 * Lets go of a plugin; it lives until the instances made of it are gone too.
 */
void proxywasm_plugin_free(struct proxywasm_plugin *plugin);

/**
 * Makes a worker on this thread. `host` is copied and need not outlive the call; `user_data` is passed to its callbacks.
 *
 * Errors: INVALID_ARGUMENT (also: the process was forked and `proxywasm_engine_fork_child` was not called), ABI_MISMATCH.
 */
int32_t proxywasm_worker_new(const struct proxywasm_engine *engine,
                             const struct proxywasm_host *host,
                             void *user_data,
                             struct proxywasm_worker **out_worker);

/**
 * Makes the calling thread the one that the worker, its instances, chains and streams belong to. For a proxy that has a lock for each
 * worker and lets several threads into it: the caller sees to it that no other thread is inside a call on the worker or anything of it,
 * and that what the last one did is visible here, as a mutex does both. Costs next to nothing when the thread is the same.
 *
 * Errors: INVALID_ARGUMENT, REENTRANT (inside a host callback of the worker), POISONED (it has been moved, and can be freed here).
 */
int32_t proxywasm_worker_move(const struct proxywasm_worker *worker);

/**
 * Adds a plugin: makes its VM or joins one with equal VM id, VM configuration and code, then runs `proxy_on_context_create`,
 * `proxy_on_vm_start` and `proxy_on_configure` for its root context.
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT, GUEST_REJECTED, NO_MEMORY.
 */
int32_t proxywasm_worker_add_plugin(const struct proxywasm_worker *worker,
                                    const struct proxywasm_plugin *plugin,
                                    struct proxywasm_instance **out_instance);

/**
 * Takes a plugin out of its worker and frees the handle, also on failure. Chains that have it go on working, and
 * keep its VM until they are freed. When the last stream with it has
 * ended, `proxy_on_done` of its root context runs; a guest that answers false is kept until it calls `proxy_done`. NULL does nothing.
 *
 * Errors: WRONG_THREAD, REENTRANT (the handle stays good with these two), POISONED.
 */
int32_t proxywasm_instance_remove(struct proxywasm_instance *instance);

/**
 * Calls `proxy_on_foreign_function` of a plugin's root context, which reads `argument` as buffer 8 (call data).
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT, GUEST_UNAVAILABLE.
 */
int32_t proxywasm_instance_on_foreign_function(const struct proxywasm_instance *instance,
                                               uint32_t function_id,
                                               struct proxywasm_slice argument);

/**
 * Nanoseconds until `proxywasm_worker_on_timeout` wants to be called, 0 when it is due, UINT64_MAX when nothing waits. Ask after
 * every call on the worker, or when `proxywasm_host.timeout_changed` says so.
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, POISONED.
 */
int32_t proxywasm_worker_timeout_ns(const struct proxywasm_worker *worker,
                                    uint64_t *out_timeout_ns);

/**
 * Runs what is due: `proxy_on_tick`, and new VMs for plugins that failed. Harmless when nothing is.
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED.
 */
int32_t proxywasm_worker_on_timeout(const struct proxywasm_worker *worker);

/**
 * Does what other threads left for this worker, after `proxywasm_host.wake`: notices of shared queues. Harmless when there is nothing.
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED.
 */
int32_t proxywasm_worker_run_pending(const struct proxywasm_worker *worker);

/**
 * Tells that a queue of the host's own (`proxywasm_host.register_queue`), registered by a plugin of this worker, has an item.
 *
 * Errors: INVALID_ARGUMENT, NOT_FOUND, WRONG_THREAD, REENTRANT, POISONED.
 */
int32_t proxywasm_worker_queue_ready(const struct proxywasm_worker *worker,
                                     uint32_t queue);

/**
 * Whether no stream lives and no removed plugin waits for `proxy_done`: the worker can be freed without loss.
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, POISONED.
 */
int32_t proxywasm_worker_is_idle(const struct proxywasm_worker *worker, bool *out_idle);

/**
 * Counts of a worker. The caller sets `out_stats->struct_size`.
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, POISONED.
 */
int32_t proxywasm_worker_get_stats(const struct proxywasm_worker *worker,
                                   struct proxywasm_worker_stats *out_stats);

/**
 * Frees a worker. Calls in flight are cancelled; guests run no more, also not their `proxy_on_done`: remove the plugins first where that
 * matters. Streams, chains and instances that are left answer INVALID_ARGUMENT from then on, and must still be freed. Inside a
 * callback of the worker, or on another thread, nothing happens. NULL does nothing.
 */
void proxywasm_worker_free(struct proxywasm_worker *worker);

/**
 * Joins instances of one worker to a chain. The array is not needed afterwards. 0 instances make a chain through which everything passes.
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, POISONED.
 */
int32_t proxywasm_chain_new(const struct proxywasm_worker *worker,
                            const struct proxywasm_instance *const *instances,
                            size_t count,
                            struct proxywasm_chain **out_chain);

/**
 * Which VMs the streams of a chain use that begin from now on: a `proxywasm_isolation`. SHARED is the default.
 *
 * A VM of a stream's own is made when the stream first needs a plugin in it, and is started as the worker's was: `proxy_on_context_create`,
 * `proxy_on_vm_start` and `proxy_on_configure` run again. It ends with the stream: its calls in flight are cancelled, its ticks cease,
 * `proxy_on_done` of its root contexts does not run. Limits hold for each VM. When it fails, or does not start, that stream ends or goes on
 * by the plugin's failure policy; no other stream notices, also with CLOSED. Queues that it registers go on being announced in the worker's
 * VM, which ticks and listens besides.
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, POISONED.
 */
int32_t proxywasm_chain_set_isolation(const struct proxywasm_chain *chain,
                                      int32_t isolation);

/**
 * The phases in which any plugin of a chain takes part, as `proxywasm_phase` bits; the others need not be run, so that a proxy keeps its
 * fast paths. Request headers and new connections are always among them: contexts begin there. 0 for NULL and an empty chain.
 */
uint32_t proxywasm_chain_phases(const struct proxywasm_chain *chain);

/**
 * Number of plugins of a chain. 0 for NULL.
 */
size_t proxywasm_chain_length(const struct proxywasm_chain *chain);

/**
 * Frees a chain. Streams on it go on.
 */
void proxywasm_chain_free(struct proxywasm_chain *chain);

/**
 * Begins a stream on a chain; `kind` is a `proxywasm_stream_kind`, `stream_data` is passed to the host's callbacks. No guest runs yet:
 * contexts are made when the request headers or the connection come, as in Envoy.
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED.
 */
int32_t proxywasm_stream_new(const struct proxywasm_chain *chain,
                             int32_t kind,
                             void *stream_data,
                             struct proxywasm_stream **out_stream);

/**
 * The request headers have come (`proxy_on_request_headers`, request order). `count` is their number, pseudo headers included;
 * `end_of_stream` says that neither body nor trailers follow.
 *
 * Errors: INVALID_ARGUMENT (also: a second time), UNSUPPORTED (a TCP stream), WRONG_THREAD, REENTRANT, POISONED, PANIC, GUEST_TRAP,
 * GUEST_TIMEOUT, GUEST_LIMIT, GUEST_UNAVAILABLE. With the last four the plugin's failure policy has been carried out: go by the action.
 */
int32_t proxywasm_stream_on_request_headers(const struct proxywasm_stream *stream,
                                            uint32_t count,
                                            bool end_of_stream,
                                            struct proxywasm_outcome *out_outcome);

/**
 * A part of the request body has come (`proxy_on_request_body`, request order), or with `end_of_stream` its end; `count` chunks, which
 * may be none. Each plugin sees the new bytes, or, after it answered StopIterationAndBuffer, everything since. What may be
 * forwarded is in the outcome.
 *
 * Errors: as for the headers, and BUSY. With BUSY, REENTRANT, INVALID_ARGUMENT, UNSUPPORTED and WRONG_THREAD no chunk was taken.
 */
int32_t proxywasm_stream_on_request_body(const struct proxywasm_stream *stream,
                                         const struct proxywasm_chunk *chunks,
                                         size_t count,
                                         bool end_of_stream,
                                         struct proxywasm_outcome *out_outcome);

/**
 * The request trailers have come (`proxy_on_request_trailers`, request order); they end the request. `count` is their number.
 *
 * Errors: as for the headers.
 */
int32_t proxywasm_stream_on_request_trailers(const struct proxywasm_stream *stream,
                                             uint32_t count,
                                             struct proxywasm_outcome *out_outcome);

/**
 * The response headers have come (`proxy_on_response_headers`, reverse order), those of the upstream or of a local response. Plugins that
 * did not see the request are passed by, as in Envoy.
 *
 * Errors: as for the request headers.
 */
int32_t proxywasm_stream_on_response_headers(const struct proxywasm_stream *stream,
                                             uint32_t count,
                                             bool end_of_stream,
                                             struct proxywasm_outcome *out_outcome);

/**
 * A part of the response body has come (`proxy_on_response_body`, reverse order). As for the request body.
 *
 * Errors: as for the request body.
 */
int32_t proxywasm_stream_on_response_body(const struct proxywasm_stream *stream,
                                          const struct proxywasm_chunk *chunks,
                                          size_t count,
                                          bool end_of_stream,
                                          struct proxywasm_outcome *out_outcome);

/**
 * The response trailers have come (`proxy_on_response_trailers`, reverse order); they end the response. `count` is their number.
 *
 * Errors: as for the request headers.
 */
int32_t proxywasm_stream_on_response_trailers(const struct proxywasm_stream *stream,
                                              uint32_t count,
                                              struct proxywasm_outcome *out_outcome);

/**
 * HTTP/2 METADATA has come in a direction (`proxy_on_request_metadata`, `proxy_on_response_metadata`). Plugins are told and cannot stop it.
 *
 * Errors: as for the request headers.
 */
int32_t proxywasm_stream_on_metadata(const struct proxywasm_stream *stream,
                                     int32_t way,
                                     uint32_t count,
                                     struct proxywasm_outcome *out_outcome);

/**
 * A TCP connection has been accepted (`proxy_on_new_connection`). HEADERS in `ready` means: connect upstream.
 *
 * Errors: as for the request headers; UNSUPPORTED for an HTTP stream.
 */
int32_t proxywasm_stream_on_new_connection(const struct proxywasm_stream *stream,
                                           struct proxywasm_outcome *out_outcome);

/**
 * Bytes have come from the client of a TCP connection (`proxy_on_downstream_data`), or with `end_of_stream` their end. A plugin that
 * pauses sees them again together with what follows.
 *
 * Errors: as for the request body.
 */
int32_t proxywasm_stream_on_downstream_data(const struct proxywasm_stream *stream,
                                            const struct proxywasm_chunk *chunks,
                                            size_t count,
                                            bool end_of_stream,
                                            struct proxywasm_outcome *out_outcome);

/**
 * Bytes have come from the upstream of a TCP connection (`proxy_on_upstream_data`, reverse order). As for downstream data.
 *
 * Errors: as for the request body.
 */
int32_t proxywasm_stream_on_upstream_data(const struct proxywasm_stream *stream,
                                          const struct proxywasm_chunk *chunks,
                                          size_t count,
                                          bool end_of_stream,
                                          struct proxywasm_outcome *out_outcome);

/**
 * One end of a TCP connection was closed: REQUEST the client's (`proxy_on_downstream_connection_close`), RESPONSE the upstream's
 * (`proxy_on_upstream_connection_close`). `peer` is a `proxywasm_peer`.
 *
 * Errors: INVALID_ARGUMENT, UNSUPPORTED, WRONG_THREAD, REENTRANT, POISONED, PANIC, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT.
 */
int32_t proxywasm_stream_on_close(const struct proxywasm_stream *stream,
                                  int32_t way,
                                  int32_t peer);

/**
 * Goes on with a direction after `proxywasm_host.resume_stream`, from the plugin that had paused. The outcome may hold headers, body and
 * trailers at once. Without a plugin that resumed, nothing is ready and the action is what it was.
 *
 * Errors: as for the request headers.
 */
int32_t proxywasm_stream_resume(const struct proxywasm_stream *stream,
                                int32_t way,
                                struct proxywasm_outcome *out_outcome);

/**
 * The stream is complete: plugins log (`proxy_on_log`). Header maps can still be read. Envoy's order is log, done, free for HTTP and done,
 * log, free for TCP.
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED, PANIC, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT, GUEST_UNAVAILABLE.
 */
int32_t proxywasm_stream_log(const struct proxywasm_stream *stream);

/**
 * Nothing more will come (`proxy_on_done`). A plugin's answer does not count for streams, as in Envoy. A second call does nothing.
 *
 * Errors: INVALID_ARGUMENT, WRONG_THREAD, REENTRANT, POISONED, PANIC, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT.
 */
int32_t proxywasm_stream_done(const struct proxywasm_stream *stream);

/**
 * Ends and frees a stream: done, if that was not called, then `proxy_on_delete`. Its callouts go on: they belong to the root context; those
 * of VMs of its own are cancelled. Inside a callback of the worker, or on another thread, nothing happens and the handle stays good. NULL
 * does nothing.
 */
void proxywasm_stream_free(struct proxywasm_stream *stream);

/**
 * `proxywasm_stream_log` and `proxywasm_stream_free` in one call, which costs less than the two: for a proxy that ends a stream when it has
 * logged. What a plugin asks of the stream while it logs (to close it, say) is past doing. TCP streams get done before they log, as in
 * Envoy.
 *
 * Inside a callback of the worker, or on another thread, nothing happens and the handle stays good. NULL does nothing.
 */
void proxywasm_stream_complete(struct proxywasm_stream *stream);

/**
 * Delivers the answer to an HTTP call (`proxy_on_http_call_response`). `response` NULL means that the call failed: refused, reset, timed
 * out. Read before this returns. Allowed inside callbacks, also in `http_call` itself: then the guest is called when the outer call returns.
 *
 * Errors: INVALID_ARGUMENT, ABI_MISMATCH, NOT_FOUND (a stale token), WRONG_THREAD, POISONED, PANIC, GUEST_TRAP, GUEST_TIMEOUT, GUEST_LIMIT.
 */
int32_t proxywasm_http_call_complete(const struct proxywasm_worker *worker,
                                     proxywasm_token token,
                                     const struct proxywasm_http_response *response);

/**
 * Delivers the initial metadata of a gRPC stream (`proxy_on_grpc_receive_initial_metadata`). Allowed inside callbacks.
 *
 * Errors: as for `proxywasm_http_call_complete`.
 */
int32_t proxywasm_grpc_initial_metadata(const struct proxywasm_worker *worker,
                                        proxywasm_token token,
                                        const struct proxywasm_pair *metadata,
                                        size_t count);

/**
 * Delivers a message of a gRPC stream, or the answer of a unary call, which ends it (`proxy_on_grpc_receive`). `slices` are the message's
 * parts in order. Allowed inside callbacks.
 *
 * Errors: as for `proxywasm_http_call_complete`.
 */
int32_t proxywasm_grpc_message(const struct proxywasm_worker *worker,
                               proxywasm_token token,
                               const struct proxywasm_slice *slices,
                               size_t count);

/**
 * Delivers the trailing metadata of a gRPC stream (`proxy_on_grpc_receive_trailing_metadata`). Allowed inside callbacks.
 *
 * Errors: as for `proxywasm_http_call_complete`.
 */
int32_t proxywasm_grpc_trailing_metadata(const struct proxywasm_worker *worker,
                                         proxywasm_token token,
                                         const struct proxywasm_pair *metadata,
                                         size_t count);

/**
 * Ends a gRPC stream, or a unary call that failed (`proxy_on_grpc_close`). `status` is the gRPC status, `message` its text, which
 * `proxy_get_status` gives to the plugin. Allowed inside callbacks.
 *
 * Errors: as for `proxywasm_http_call_complete`.
 */
int32_t proxywasm_grpc_close(const struct proxywasm_worker *worker,
                             proxywasm_token token,
                             uint32_t status,
                             struct proxywasm_slice message);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PROXYWASM_H */
