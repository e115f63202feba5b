// SPDX-License-Identifier: Apache-2.0
//
// Proxy-Wasm host for C++17: owning handles, exceptions and a base class for the callbacks, over <proxywasm.h>.
// Header only. What a function does, and which results it can have, is said in <proxywasm.h>; here is only what C++ adds.
//
// Handles     Move-only owners; destroyed, they end the C object. `get()` lends it. A moved-from handle is empty and may only
//             be assigned or destroyed. Plugins outlive nothing they need: engine, module and plugin are counted inside.
//             A worker must outlive its instances, chains and streams, a host must outlive its worker.
// Threads     As in C: engine, module and plugin anywhere; worker, instance, chain and stream on the thread of the worker.
// Errors      What sets something up throws `proxywasm::error`. What runs per stream never throws: a phase returns an
//             `outcome`, the rest returns the `proxywasm_result`.

#ifndef PROXYWASM_HPP
#define PROXYWASM_HPP

#include <proxywasm.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace proxywasm {

// ---- Numbers --------------------------------------------------------------------------------------------------------

/// What a host callback answers; see `proxywasm_status`.
enum class status : std::int32_t {
  ok = PROXYWASM_STATUS_OK,
  not_found = PROXYWASM_STATUS_NOT_FOUND,
  bad_argument = PROXYWASM_STATUS_BAD_ARGUMENT,
  serialization_failure = PROXYWASM_STATUS_SERIALIZATION_FAILURE,
  parse_failure = PROXYWASM_STATUS_PARSE_FAILURE,
  bad_expression = PROXYWASM_STATUS_BAD_EXPRESSION,
  invalid_memory_access = PROXYWASM_STATUS_INVALID_MEMORY_ACCESS,
  empty = PROXYWASM_STATUS_EMPTY,
  cas_mismatch = PROXYWASM_STATUS_CAS_MISMATCH,
  result_mismatch = PROXYWASM_STATUS_RESULT_MISMATCH,
  internal_failure = PROXYWASM_STATUS_INTERNAL_FAILURE,
  broken_connection = PROXYWASM_STATUS_BROKEN_CONNECTION,
  unimplemented = PROXYWASM_STATUS_UNIMPLEMENTED,
};

/// What the host does next with a direction; see `proxywasm_action`.
enum class action : std::int32_t {
  proceed = PROXYWASM_ACTION_CONTINUE,
  pause = PROXYWASM_ACTION_PAUSE,
  pause_and_buffer = PROXYWASM_ACTION_PAUSE_AND_BUFFER,
  local_response = PROXYWASM_ACTION_LOCAL_RESPONSE,
  close = PROXYWASM_ACTION_CLOSE,
};

/// Header maps of a stream.
enum class map : std::int32_t {
  request_headers = PROXYWASM_MAP_REQUEST_HEADERS,
  request_trailers = PROXYWASM_MAP_REQUEST_TRAILERS,
  response_headers = PROXYWASM_MAP_RESPONSE_HEADERS,
  response_trailers = PROXYWASM_MAP_RESPONSE_TRAILERS,
};

/// Directions of a stream.
enum class direction : std::int32_t {
  request = PROXYWASM_DIRECTION_REQUEST,
  response = PROXYWASM_DIRECTION_RESPONSE,
};

/// What a stream carries.
enum class stream_kind : std::int32_t {
  http = PROXYWASM_STREAM_KIND_HTTP,
  tcp = PROXYWASM_STREAM_KIND_TCP,
};

/// What `host::close_stream` is asked to close.
enum class stream_type : std::int32_t {
  http_request = PROXYWASM_STREAM_TYPE_HTTP_REQUEST,
  http_response = PROXYWASM_STREAM_TYPE_HTTP_RESPONSE,
  downstream = PROXYWASM_STREAM_TYPE_DOWNSTREAM,
  upstream = PROXYWASM_STREAM_TYPE_UPSTREAM,
};

/// Who closed a TCP connection.
enum class peer : std::int32_t {
  unknown = PROXYWASM_PEER_UNKNOWN,
  local = PROXYWASM_PEER_LOCAL,
  remote = PROXYWASM_PEER_REMOTE,
};

/// Log levels.
enum class log_level : std::int32_t {
  trace = PROXYWASM_LOG_LEVEL_TRACE,
  debug = PROXYWASM_LOG_LEVEL_DEBUG,
  info = PROXYWASM_LOG_LEVEL_INFO,
  warn = PROXYWASM_LOG_LEVEL_WARN,
  error = PROXYWASM_LOG_LEVEL_ERROR,
  critical = PROXYWASM_LOG_LEVEL_CRITICAL,
};

/// Kinds of metric.
enum class metric_type : std::int32_t {
  counter = PROXYWASM_METRIC_TYPE_COUNTER,
  gauge = PROXYWASM_METRIC_TYPE_GAUGE,
  histogram = PROXYWASM_METRIC_TYPE_HISTOGRAM,
};

/// What becomes of streams whose plugin has failed.
enum class failure_policy : std::int32_t {
  reload = PROXYWASM_FAILURE_POLICY_RELOAD,
  closed = PROXYWASM_FAILURE_POLICY_CLOSED,
  open = PROXYWASM_FAILURE_POLICY_OPEN,
};

/// Which VMs the streams of a chain use.
enum class isolation : std::int32_t {
  shared = PROXYWASM_ISOLATION_SHARED,
  stream = PROXYWASM_ISOLATION_STREAM,
  plugin = PROXYWASM_ISOLATION_PLUGIN,
};

// ---- Bytes ----------------------------------------------------------------------------------------------------------

/// Lends bytes to the library. They must live as long as the slice is used.
inline proxywasm_slice to_slice(std::string_view bytes) noexcept {
  return {reinterpret_cast<const std::uint8_t *>(bytes.data()), bytes.size()};
}

/// Looks at bytes that the library lends, for as long as it lends them.
inline std::string_view view(const proxywasm_slice &slice) noexcept {
  return {reinterpret_cast<const char *>(slice.data), slice.len};
}

/// An array that someone else owns, for range-based `for`.
template <typename T>
class array_view {
 public:
  array_view() noexcept = default;
  array_view(const T *data, std::size_t size) noexcept : data_(data), size_(size) {}
  const T *data() const noexcept { return data_; }
  const T *begin() const noexcept { return data_; }
  const T *end() const noexcept { return size_ == 0 ? data_ : data_ + size_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  const T &operator[](std::size_t index) const noexcept { return data_[index]; }

 private:
  const T *data_ = nullptr;
  std::size_t size_ = 0;
};

/// Makes a header field of bytes that must live as long as the pair is used.
inline proxywasm_pair to_pair(std::string_view name, std::string_view value) noexcept {
  return {to_slice(name), to_slice(value)};
}

/// Makes a piece of body that is borrowed for one call.
inline proxywasm_chunk to_chunk(std::string_view bytes) noexcept {
  return {reinterpret_cast<const std::uint8_t *>(bytes.data()), bytes.size(), nullptr, nullptr};
}

// ---- Errors ---------------------------------------------------------------------------------------------------------

/// A failed set-up call: its `proxywasm_result` and the text of `proxywasm_last_error`.
class error : public std::runtime_error {
 public:
  error(std::int32_t result, const std::string &text) : std::runtime_error(text), result_(result) {}
  /// The `proxywasm_result`.
  std::int32_t result() const noexcept { return result_; }
  /// Its name, such as "GUEST_REJECTED". Static.
  const char *name() const noexcept { return proxywasm_result_name(result_); }

 private:
  std::int32_t result_;
};

/// Text of the last failure on this thread; empty after a success.
inline std::string last_error() {
  std::string text(proxywasm_last_error(nullptr, 0), '\0');
  if (!text.empty()) {
    proxywasm_last_error(&text[0], text.size() + 1);
  }
  return text;
}

/// Throws `error` unless `result` is OK.
inline void check(std::int32_t result) {
  if (result != PROXYWASM_RESULT_OK) {
    std::string text = last_error();
    throw error(result, text.empty() ? proxywasm_result_name(result) : text);
  }
}

/// Throws `error` when the library that was loaded has another binary interface than this header.
inline void check_abi() {
  if (proxywasm_abi_version() != PROXYWASM_ABI_VERSION) {
    throw error(PROXYWASM_RESULT_ABI_MISMATCH, "the library has binary interface " +
                                                   std::to_string(proxywasm_abi_version()) + ", this program needs " +
                                                   std::to_string(PROXYWASM_ABI_VERSION));
  }
}

namespace detail {

template <typename T, void (*Free)(T *)>
struct free_with {
  void operator()(T *object) const noexcept { Free(object); }
};

template <typename T, void (*Free)(T *)>
using owner = std::unique_ptr<T, free_with<T, Free>>;

inline void remove_instance(proxywasm_instance *instance) noexcept { (void)proxywasm_instance_remove(instance); }

}  // namespace detail

// ---- Engine ---------------------------------------------------------------------------------------------------------

/// How an engine is made. Setters throw `error` and can be chained.
class engine_config {
 public:
  engine_config() {
    proxywasm_engine_config *made = nullptr;
    check(proxywasm_engine_config_new(&made));
    config_.reset(made);
  }
  /// `user_data` must outlive the engine; `function` is called on any thread and must not throw.
  engine_config &log(log_level level, proxywasm_log_fn function, void *user_data) {
    check(proxywasm_engine_config_set_log(get(), static_cast<std::int32_t>(level), function, user_data));
    return *this;
  }
  engine_config &parallel_compilation(bool on) {
    check(proxywasm_engine_config_set_parallel_compilation(get(), on));
    return *this;
  }
  engine_config &optimization(bool on) {
    check(proxywasm_engine_config_set_optimization(get(), on));
    return *this;
  }
  engine_config &signal_traps(bool on) {
    check(proxywasm_engine_config_set_signal_traps(get(), on));
    return *this;
  }
  engine_config &interruption(bool on) {
    check(proxywasm_engine_config_set_interruption(get(), on));
    return *this;
  }
  engine_config &tick_period(std::uint64_t period_ns) {
    check(proxywasm_engine_config_set_tick_period(get(), period_ns));
    return *this;
  }
  engine_config &pooling(std::uint32_t max_vms) {
    check(proxywasm_engine_config_set_pooling(get(), max_vms));
    return *this;
  }
  /// `user_data` must outlive the engine; `function` is called on the worker's thread and must not throw.
  engine_config &foreign_function(std::string_view name, proxywasm_foreign_fn function, void *user_data) {
    check(proxywasm_engine_config_add_foreign_function(get(), to_slice(name), function, user_data));
    return *this;
  }
  proxywasm_engine_config *get() const noexcept { return config_.get(); }

 private:
  detail::owner<proxywasm_engine_config, proxywasm_engine_config_free> config_;
};

/// What the workers of a process share. Any thread.
class engine {
 public:
  engine() { make(nullptr); }
  explicit engine(const engine_config &config) { make(config.get()); }
  /// Advances all deadlines by one tick. Safe in a signal handler.
  void tick() const noexcept { proxywasm_engine_tick(get()); }
  /// Starts the thread that ticks; only after the last fork.
  void start_ticker() const { check(proxywasm_engine_start_ticker(get())); }
  void stop_ticker() const { check(proxywasm_engine_stop_ticker(get())); }
  /// First call in a child made by fork.
  void fork_child() const { check(proxywasm_engine_fork_child(get())); }
  /// All metrics of the library's registry in Prometheus text format.
  std::string render_metrics() const {
    std::string text;
    visit_guard<std::string> guard{&text, false};
    check(proxywasm_engine_render_metrics(
        get(),
        [](void *data, proxywasm_slice bytes) noexcept {
          auto &state = *static_cast<visit_guard<std::string> *>(data);
          state.run([&](std::string &out) { out.append(view(bytes)); });
        },
        &guard));
    guard.finish();
    return text;
  }
  /// Calls `visit(const proxywasm_metric &)` for each metric, ordered by name. What it throws is thrown on as
  /// `std::runtime_error`, after the visit.
  template <typename Visit>
  void visit_metrics(Visit visit) const {
    visit_guard<Visit> guard{&visit, false};
    check(proxywasm_engine_visit_metrics(
        get(),
        [](void *data, const proxywasm_metric *metric) noexcept {
          static_cast<visit_guard<Visit> *>(data)->run([&](Visit &call) { call(*metric); });
        },
        &guard));
    guard.finish();
  }
  proxywasm_engine *get() const noexcept { return engine_.get(); }

 private:
  /// Keeps exceptions from crossing the library.
  template <typename T>
  struct visit_guard {
    T *target;
    bool failed;
    template <typename Run>
    void run(Run call) noexcept {
      if (failed) {
        return;
      }
      try {
        call(*target);
      } catch (...) {
        failed = true;
      }
    }
    void finish() const {
      if (failed) {
        throw std::runtime_error("a visitor of metrics failed");
      }
    }
  };

  void make(const proxywasm_engine_config *config) {
    check_abi();
    proxywasm_engine *made = nullptr;
    check(proxywasm_engine_new(config, &made));
    engine_.reset(made);
  }

  detail::owner<proxywasm_engine, proxywasm_engine_free> engine_;
};

// ---- Module and plugin ----------------------------------------------------------------------------------------------

/// A compiled module. Any thread.
class module {
 public:
  /// Compiles `code`, which is not needed afterwards.
  module(const engine &engine, std::string_view code) {
    proxywasm_module *made = nullptr;
    check(proxywasm_module_compile(engine.get(), to_slice(code), &made));
    module_.reset(made);
  }
  proxywasm_module_info info() const {
    proxywasm_module_info info{};
    info.struct_size = sizeof info;
    check(proxywasm_module_get_info(get(), &info));
    return info;
  }
  proxywasm_module *get() const noexcept { return module_.get(); }

 private:
  detail::owner<proxywasm_module, proxywasm_module_free> module_;
};

/// The configuration of a plugin. Setters throw `error` and can be chained; what they are given is copied.
class plugin_config {
 public:
  explicit plugin_config(std::string_view name) {
    proxywasm_plugin_config *made = nullptr;
    check(proxywasm_plugin_config_new(to_slice(name), &made));
    config_.reset(made);
  }
  plugin_config &root_id(std::string_view id) {
    check(proxywasm_plugin_config_set_root_id(get(), to_slice(id)));
    return *this;
  }
  plugin_config &vm_id(std::string_view id) {
    check(proxywasm_plugin_config_set_vm_id(get(), to_slice(id)));
    return *this;
  }
  plugin_config &vm_configuration(std::string_view bytes) {
    check(proxywasm_plugin_config_set_vm_configuration(get(), to_slice(bytes)));
    return *this;
  }
  plugin_config &configuration(std::string_view bytes) {
    check(proxywasm_plugin_config_set_configuration(get(), to_slice(bytes)));
    return *this;
  }
  plugin_config &environment(std::string_view name, std::string_view value) {
    check(proxywasm_plugin_config_add_environment(get(), to_slice(name), to_slice(value)));
    return *this;
  }
  /// Members that are 0 keep their defaults; `struct_size` is set here.
  plugin_config &limits(proxywasm_limits limits) {
    limits.struct_size = sizeof limits;
    check(proxywasm_plugin_config_set_limits(get(), &limits));
    return *this;
  }
  plugin_config &policy(failure_policy policy) {
    check(proxywasm_plugin_config_set_failure_policy(get(), static_cast<std::int32_t>(policy)));
    return *this;
  }
  plugin_config &reload(std::uint64_t base_ns, std::uint64_t max_ns, std::uint32_t limit) {
    check(proxywasm_plugin_config_set_reload(get(), base_ns, max_ns, limit));
    return *this;
  }
  plugin_config &allow(std::string_view capability) {
    check(proxywasm_plugin_config_allow(get(), to_slice(capability)));
    return *this;
  }
  plugin_config &allow_on_headers_stop_iteration(bool allow) {
    check(proxywasm_plugin_config_set_allow_on_headers_stop_iteration(get(), allow));
    return *this;
  }
  /// `proxywasm_phase` bits.
  plugin_config &phases(std::uint32_t bits) {
    check(proxywasm_plugin_config_set_phases(get(), bits));
    return *this;
  }
  proxywasm_plugin_config *get() const noexcept { return config_.get(); }

 private:
  detail::owner<proxywasm_plugin_config, proxywasm_plugin_config_free> config_;
};

class host;

/// A module with a configuration. Any thread.
class plugin {
 public:
  plugin(const module &module, const plugin_config &config) {
    proxywasm_plugin *made = nullptr;
    check(proxywasm_plugin_new(module.get(), config.get(), &made));
    plugin_.reset(made);
  }
  /// `proxywasm_phase` bits.
  std::uint32_t phases() const noexcept { return proxywasm_plugin_phases(get()); }
  /// Starts it in a VM that is thrown away; throws when it does not start.
  void validate() const { check(proxywasm_plugin_validate(get(), nullptr, nullptr)); }
  /// The same; of `host` only `log`, `minimum_log_level` and `get_property` are called.
  void validate(host &host) const;
  proxywasm_plugin *get() const noexcept { return plugin_.get(); }

 private:
  detail::owner<proxywasm_plugin, proxywasm_plugin_free> plugin_;
};

// ---- Host -----------------------------------------------------------------------------------------------------------

/// Takes the headers that `host::get_headers` lists. More than the library asked for are counted only.
class pair_sink {
 public:
  pair_sink(proxywasm_pair *pairs, std::size_t capacity) noexcept : pairs_(pairs), capacity_(capacity) {}
  /// The bytes must stay valid until the next callback on the worker begins.
  void add(std::string_view name, std::string_view value) noexcept {
    if (count_ < capacity_) {
      pairs_[count_] = to_pair(name, value);
    }
    ++count_;
  }
  std::size_t count() const noexcept { return count_; }

 private:
  proxywasm_pair *pairs_;
  std::size_t capacity_;
  std::size_t count_ = 0;
};

/// Parts of `host` for which the library has a service of its own. A host names in its constructor those that it overrides;
/// the library serves the others, and their methods are never called.
enum class service : std::uint32_t {
  /// `now_realtime_ns`. Otherwise: the system clock.
  realtime_clock = 1U << 0,
  /// `now_monotonic_ns`. Otherwise: the system's monotonic clock.
  monotonic_clock = 1U << 1,
  /// `set_headers`. Otherwise: headers are removed and added one by one.
  set_headers = 1U << 2,
  /// `set_property`. Otherwise: the library keeps what plugins set.
  set_property = 1U << 3,
  /// `define_metric`, `increment_metric`, `record_metric`, `get_metric`. Otherwise: the registry of the engine.
  metrics = 1U << 4,
  /// `get_shared_data`, `set_shared_data`. Otherwise: the store of the engine.
  shared_data = 1U << 5,
  /// `register_queue`, `resolve_queue`, `enqueue`, `dequeue`. Otherwise: the queues of the engine.
  queues = 1U << 6,
  /// `timeout_changed`. Otherwise: the program asks `worker::timeout_ns` after every call.
  timeout_changed = 1U << 7,
  /// `wake`. Otherwise: the program calls `worker::run_pending` from time to time.
  wake = 1U << 8,
  /// `grpc_call`, `grpc_stream`, `grpc_send`, `grpc_close`. Otherwise: plugins get UNIMPLEMENTED.
  grpc = 1U << 9,
};

/// A proxy, as plugins see it. Derive, override what the proxy can do, name the `service`s among it, and hand it to a worker.
///
/// Everything is called on the worker's thread, inside a call that the program made, except `wake`. `stream` is what the
/// program gave to the stream's constructor, or null when the plugin acts on none. Nothing may call the library except
/// `worker::http_call_complete` and `worker::grpc_*`. What is thrown does not cross the library: the plugin gets
/// INTERNAL_FAILURE. Bytes that a method gives back must stay valid until the next callback on the worker begins.
/// Which statuses a method may return is said at the members of `proxywasm_host`.
class host {
 public:
  explicit host(std::initializer_list<service> services = {}) noexcept {
    for (service one : services) {
      services_ |= static_cast<std::uint32_t>(one);
    }
  }
  virtual ~host() = default;
  host(const host &) = delete;
  host &operator=(const host &) = delete;

  /// Takes a log record, valid during the call. Default: dropped.
  virtual void log(void *stream, const proxywasm_log_record &record) { (void)stream, (void)record; }
  /// The lowest level that is written.
  virtual log_level minimum_log_level() { return log_level::info; }
  virtual std::uint64_t now_realtime_ns() { return 0; }
  virtual std::uint64_t now_monotonic_ns() { return 0; }

  virtual status get_header(void *stream, map which, std::string_view name, std::string_view &value) {
    (void)stream, (void)which, (void)name, (void)value;
    return status::unimplemented;
  }
  virtual status get_headers(void *stream, map which, pair_sink &headers) {
    (void)stream, (void)which, (void)headers;
    return status::unimplemented;
  }
  virtual status add_header(void *stream, map which, std::string_view name, std::string_view value) {
    (void)stream, (void)which, (void)name, (void)value;
    return status::unimplemented;
  }
  virtual status replace_header(void *stream, map which, std::string_view name, std::string_view value) {
    (void)stream, (void)which, (void)name, (void)value;
    return status::unimplemented;
  }
  virtual status remove_header(void *stream, map which, std::string_view name) {
    (void)stream, (void)which, (void)name;
    return status::unimplemented;
  }
  virtual status set_headers(void *stream, map which, array_view<proxywasm_pair> headers) {
    (void)stream, (void)which, (void)headers;
    return status::unimplemented;
  }

  /// `path` is its segments joined by NUL; the value is in Envoy's encoding.
  virtual status get_property(void *stream, std::string_view path, std::string_view &value) {
    (void)stream, (void)path, (void)value;
    return status::not_found;
  }
  virtual status set_property(void *stream, std::string_view path, std::string_view value) {
    (void)stream, (void)path, (void)value;
    return status::unimplemented;
  }

  /// `response` is valid during the call. Anything but OK makes the library call `close_stream`.
  virtual status send_local_response(void *stream, const proxywasm_local_response &response) {
    (void)stream, (void)response;
    return status::unimplemented;
  }
  /// Call `stream::resume` soon, from the event loop.
  virtual void resume_stream(void *stream, direction way) { (void)stream, (void)way; }
  virtual void close_stream(void *stream, stream_type which) { (void)stream, (void)which; }

  /// `request` is valid during the call. After OK exactly one `worker::http_call_complete` follows, unless cancelled.
  virtual status http_call(void *stream, proxywasm_token token, const proxywasm_http_request &request) {
    (void)stream, (void)token, (void)request;
    return status::unimplemented;
  }
  /// The answer to an HTTP or gRPC call is wanted no more.
  virtual void cancel_call(proxywasm_token token) { (void)token; }
  virtual status grpc_call(void *stream, proxywasm_token token, const proxywasm_grpc_request &request) {
    (void)stream, (void)token, (void)request;
    return status::unimplemented;
  }
  virtual status grpc_stream(void *stream, proxywasm_token token, const proxywasm_grpc_request &request) {
    (void)stream, (void)token, (void)request;
    return status::unimplemented;
  }
  virtual status grpc_send(proxywasm_token token, std::string_view message, bool end_of_stream) {
    (void)token, (void)message, (void)end_of_stream;
    return status::unimplemented;
  }
  virtual status grpc_close(proxywasm_token token) {
    (void)token;
    return status::unimplemented;
  }

  virtual status define_metric(metric_type type, std::string_view name, std::uint32_t &id) {
    (void)type, (void)name, (void)id;
    return status::unimplemented;
  }
  virtual status increment_metric(std::uint32_t id, std::int64_t delta) {
    (void)id, (void)delta;
    return status::unimplemented;
  }
  virtual status record_metric(std::uint32_t id, std::uint64_t value) {
    (void)id, (void)value;
    return status::unimplemented;
  }
  virtual status get_metric(std::uint32_t id, std::uint64_t &value) {
    (void)id, (void)value;
    return status::unimplemented;
  }

  virtual status get_shared_data(std::string_view vm_id, std::string_view key, std::string_view &value,
                                 std::uint32_t &cas) {
    (void)vm_id, (void)key, (void)value, (void)cas;
    return status::unimplemented;
  }
  virtual status set_shared_data(std::string_view vm_id, std::string_view key, std::string_view value,
                                 std::uint32_t cas) {
    (void)vm_id, (void)key, (void)value, (void)cas;
    return status::unimplemented;
  }

  virtual status register_queue(std::string_view vm_id, std::string_view name, std::uint32_t &queue) {
    (void)vm_id, (void)name, (void)queue;
    return status::unimplemented;
  }
  virtual status resolve_queue(std::string_view vm_id, std::string_view name, std::uint32_t &queue) {
    (void)vm_id, (void)name, (void)queue;
    return status::unimplemented;
  }
  virtual status enqueue(std::uint32_t queue, std::string_view value) {
    (void)queue, (void)value;
    return status::unimplemented;
  }
  virtual status dequeue(std::uint32_t queue, std::string_view &value) {
    (void)queue, (void)value;
    return status::unimplemented;
  }

  virtual status call_foreign_function(void *stream, std::string_view name, std::string_view argument,
                                       std::string_view &result) {
    (void)stream, (void)name, (void)argument, (void)result;
    return status::not_found;
  }

  /// A VM failed; `result` is a `proxywasm_result`. Its log record went to `log`.
  virtual void vm_failed(std::string_view plugin, std::int32_t result) { (void)plugin, (void)result; }
  /// `worker::timeout_ns` has become nearer: arm the timer anew, after the current call.
  virtual void timeout_changed() {}
  /// Called on any thread: make the worker's thread call `worker::run_pending` soon.
  virtual void wake() {}

  /// The callbacks for C, to be used with this object as `user_data`.
  proxywasm_host vtable() const noexcept {
    proxywasm_host c{};
    c.struct_size = sizeof c;
    c.log = c_log;
    c.log_level = c_log_level;
    c.get_header = c_get_header;
    c.get_headers = c_get_headers;
    c.add_header = c_add_header;
    c.replace_header = c_replace_header;
    c.remove_header = c_remove_header;
    c.get_property = c_get_property;
    c.send_local_response = c_send_local_response;
    c.resume_stream = c_resume_stream;
    c.close_stream = c_close_stream;
    c.http_call = c_http_call;
    c.cancel_call = c_cancel_call;
    c.call_foreign_function = c_call_foreign_function;
    c.vm_failed = c_vm_failed;
    if (has(service::realtime_clock)) c.now_realtime_ns = c_now_realtime_ns;
    if (has(service::monotonic_clock)) c.now_monotonic_ns = c_now_monotonic_ns;
    if (has(service::set_headers)) c.set_headers = c_set_headers;
    if (has(service::set_property)) c.set_property = c_set_property;
    if (has(service::timeout_changed)) c.timeout_changed = c_timeout_changed;
    if (has(service::wake)) c.wake = c_wake;
    if (has(service::metrics)) {
      c.define_metric = c_define_metric;
      c.increment_metric = c_increment_metric;
      c.record_metric = c_record_metric;
      c.get_metric = c_get_metric;
    }
    if (has(service::shared_data)) {
      c.get_shared_data = c_get_shared_data;
      c.set_shared_data = c_set_shared_data;
    }
    if (has(service::queues)) {
      c.register_queue = c_register_queue;
      c.resolve_queue = c_resolve_queue;
      c.enqueue = c_enqueue;
      c.dequeue = c_dequeue;
    }
    if (has(service::grpc)) {
      c.grpc_call = c_grpc_call;
      c.grpc_stream = c_grpc_stream;
      c.grpc_send = c_grpc_send;
      c.grpc_close = c_grpc_close;
    }
    return c;
  }

 private:
  bool has(service one) const noexcept { return (services_ & static_cast<std::uint32_t>(one)) != 0; }

  static host &self(void *user_data) noexcept { return *static_cast<host *>(user_data); }

  /// Runs a method that answers; what it throws becomes INTERNAL_FAILURE.
  template <typename Run>
  static std::int32_t answer(Run run) noexcept {
    try {
      return static_cast<std::int32_t>(run());
    } catch (...) {
      return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }
  }

  /// Runs a method that only tells; what it throws is dropped.
  template <typename Run>
  static void tell(Run run) noexcept {
    try {
      run();
    } catch (...) {
    }
  }

  /// Runs a method that gives bytes back.
  template <typename Run>
  static std::int32_t answer_bytes(proxywasm_slice *out, Run run) noexcept {
    return answer([&] {
      std::string_view value;
      status result = run(value);
      *out = to_slice(value);
      return result;
    });
  }

  static void c_log(void *user, void *stream, const proxywasm_log_record *record) noexcept {
    tell([&] { self(user).log(stream, *record); });
  }
  static std::int32_t c_log_level(void *user) noexcept {
    try {
      return static_cast<std::int32_t>(self(user).minimum_log_level());
    } catch (...) {
      return PROXYWASM_LOG_LEVEL_INFO;
    }
  }
  static std::uint64_t c_now_realtime_ns(void *user) noexcept {
    std::uint64_t now = 0;
    tell([&] { now = self(user).now_realtime_ns(); });
    return now;
  }
  static std::uint64_t c_now_monotonic_ns(void *user) noexcept {
    std::uint64_t now = 0;
    tell([&] { now = self(user).now_monotonic_ns(); });
    return now;
  }
  static std::int32_t c_get_header(void *user, void *stream, std::int32_t which, proxywasm_slice name,
                                   proxywasm_slice *out) noexcept {
    return answer_bytes(out, [&](std::string_view &value) {
      return self(user).get_header(stream, static_cast<map>(which), view(name), value);
    });
  }
  static std::int32_t c_get_headers(void *user, void *stream, std::int32_t which, proxywasm_pair *pairs,
                                    std::size_t capacity, std::size_t *out_count) noexcept {
    return answer([&] {
      pair_sink sink(pairs, capacity);
      status result = self(user).get_headers(stream, static_cast<map>(which), sink);
      *out_count = sink.count();
      return result;
    });
  }
  static std::int32_t c_add_header(void *user, void *stream, std::int32_t which, proxywasm_slice name,
                                   proxywasm_slice value) noexcept {
    return answer([&] { return self(user).add_header(stream, static_cast<map>(which), view(name), view(value)); });
  }
  static std::int32_t c_replace_header(void *user, void *stream, std::int32_t which, proxywasm_slice name,
                                       proxywasm_slice value) noexcept {
    return answer([&] { return self(user).replace_header(stream, static_cast<map>(which), view(name), view(value)); });
  }
  static std::int32_t c_remove_header(void *user, void *stream, std::int32_t which, proxywasm_slice name) noexcept {
    return answer([&] { return self(user).remove_header(stream, static_cast<map>(which), view(name)); });
  }
  static std::int32_t c_set_headers(void *user, void *stream, std::int32_t which, const proxywasm_pair *pairs,
                                    std::size_t count) noexcept {
    return answer([&] { return self(user).set_headers(stream, static_cast<map>(which), {pairs, count}); });
  }
  static std::int32_t c_get_property(void *user, void *stream, proxywasm_slice path, proxywasm_slice *out) noexcept {
    return answer_bytes(out,
                        [&](std::string_view &value) { return self(user).get_property(stream, view(path), value); });
  }
  static std::int32_t c_set_property(void *user, void *stream, proxywasm_slice path, proxywasm_slice value) noexcept {
    return answer([&] { return self(user).set_property(stream, view(path), view(value)); });
  }
  static std::int32_t c_send_local_response(void *user, void *stream,
                                            const proxywasm_local_response *response) noexcept {
    return answer([&] { return self(user).send_local_response(stream, *response); });
  }
  static void c_resume_stream(void *user, void *stream, std::int32_t way) noexcept {
    tell([&] { self(user).resume_stream(stream, static_cast<direction>(way)); });
  }
  static void c_close_stream(void *user, void *stream, std::int32_t which) noexcept {
    tell([&] { self(user).close_stream(stream, static_cast<stream_type>(which)); });
  }
  static std::int32_t c_http_call(void *user, void *stream, proxywasm_token token,
                                  const proxywasm_http_request *request) noexcept {
    return answer([&] { return self(user).http_call(stream, token, *request); });
  }
  static void c_cancel_call(void *user, proxywasm_token token) noexcept {
    tell([&] { self(user).cancel_call(token); });
  }
  static std::int32_t c_grpc_call(void *user, void *stream, proxywasm_token token,
                                  const proxywasm_grpc_request *request) noexcept {
    return answer([&] { return self(user).grpc_call(stream, token, *request); });
  }
  static std::int32_t c_grpc_stream(void *user, void *stream, proxywasm_token token,
                                    const proxywasm_grpc_request *request) noexcept {
    return answer([&] { return self(user).grpc_stream(stream, token, *request); });
  }
  static std::int32_t c_grpc_send(void *user, proxywasm_token token, proxywasm_slice message, bool end) noexcept {
    return answer([&] { return self(user).grpc_send(token, view(message), end); });
  }
  static std::int32_t c_grpc_close(void *user, proxywasm_token token) noexcept {
    return answer([&] { return self(user).grpc_close(token); });
  }
  static std::int32_t c_define_metric(void *user, std::int32_t type, proxywasm_slice name, std::uint32_t *id) noexcept {
    return answer([&] { return self(user).define_metric(static_cast<metric_type>(type), view(name), *id); });
  }
  static std::int32_t c_increment_metric(void *user, std::uint32_t id, std::int64_t delta) noexcept {
    return answer([&] { return self(user).increment_metric(id, delta); });
  }
  static std::int32_t c_record_metric(void *user, std::uint32_t id, std::uint64_t value) noexcept {
    return answer([&] { return self(user).record_metric(id, value); });
  }
  static std::int32_t c_get_metric(void *user, std::uint32_t id, std::uint64_t *value) noexcept {
    return answer([&] { return self(user).get_metric(id, *value); });
  }
  static std::int32_t c_get_shared_data(void *user, proxywasm_slice vm_id, proxywasm_slice key, proxywasm_slice *out,
                                        std::uint32_t *cas) noexcept {
    return answer_bytes(
        out, [&](std::string_view &value) { return self(user).get_shared_data(view(vm_id), view(key), value, *cas); });
  }
  static std::int32_t c_set_shared_data(void *user, proxywasm_slice vm_id, proxywasm_slice key, proxywasm_slice value,
                                        std::uint32_t cas) noexcept {
    return answer([&] { return self(user).set_shared_data(view(vm_id), view(key), view(value), cas); });
  }
  static std::int32_t c_register_queue(void *user, proxywasm_slice vm_id, proxywasm_slice name,
                                       std::uint32_t *queue) noexcept {
    return answer([&] { return self(user).register_queue(view(vm_id), view(name), *queue); });
  }
  static std::int32_t c_resolve_queue(void *user, proxywasm_slice vm_id, proxywasm_slice name,
                                      std::uint32_t *queue) noexcept {
    return answer([&] { return self(user).resolve_queue(view(vm_id), view(name), *queue); });
  }
  static std::int32_t c_enqueue(void *user, std::uint32_t queue, proxywasm_slice value) noexcept {
    return answer([&] { return self(user).enqueue(queue, view(value)); });
  }
  static std::int32_t c_dequeue(void *user, std::uint32_t queue, proxywasm_slice *out) noexcept {
    return answer_bytes(out, [&](std::string_view &value) { return self(user).dequeue(queue, value); });
  }
  static std::int32_t c_call_foreign_function(void *user, void *stream, proxywasm_slice name, proxywasm_slice argument,
                                              proxywasm_slice *out) noexcept {
    return answer_bytes(out, [&](std::string_view &value) {
      return self(user).call_foreign_function(stream, view(name), view(argument), value);
    });
  }
  static void c_vm_failed(void *user, proxywasm_slice plugin, std::int32_t result) noexcept {
    tell([&] { self(user).vm_failed(view(plugin), result); });
  }
  static void c_timeout_changed(void *user) noexcept {
    tell([&] { self(user).timeout_changed(); });
  }
  static void c_wake(void *user) noexcept {
    tell([&] { self(user).wake(); });
  }

  std::uint32_t services_ = 0;
};

inline void plugin::validate(host &host) const {
  proxywasm_host callbacks = host.vtable();
  check(proxywasm_plugin_validate(get(), &callbacks, &host));
}

// ---- Worker, instance, chain ----------------------------------------------------------------------------------------

/// A plugin in a worker. The worker's thread. Destroyed, it is removed from its worker; not inside a host callback.
class instance {
 public:
  /// Takes ownership.
  explicit instance(proxywasm_instance *owned) noexcept : instance_(owned) {}
  /// Removes it now. With WRONG_THREAD and REENTRANT it stays.
  std::int32_t remove() noexcept {
    std::int32_t result = proxywasm_instance_remove(instance_.get());
    if (result != PROXYWASM_RESULT_WRONG_THREAD && result != PROXYWASM_RESULT_REENTRANT) {
      (void)instance_.release();
    }
    return result;
  }
  std::int32_t on_foreign_function(std::uint32_t function_id, std::string_view argument) const noexcept {
    return proxywasm_instance_on_foreign_function(get(), function_id, to_slice(argument));
  }
  proxywasm_instance *get() const noexcept { return instance_.get(); }

 private:
  detail::owner<proxywasm_instance, detail::remove_instance> instance_;
};

/// Plugins in order. The worker's thread. Streams on it go on when it is destroyed.
class chain {
 public:
  /// Takes ownership.
  explicit chain(proxywasm_chain *owned) noexcept : chain_(owned) {}
  /// `proxywasm_phase` bits.
  std::uint32_t phases() const noexcept { return proxywasm_chain_phases(get()); }
  std::size_t length() const noexcept { return proxywasm_chain_length(get()); }
  /// Which VMs streams use that begin from now on.
  void set_isolation(isolation isolation) const {
    check(proxywasm_chain_set_isolation(get(), static_cast<std::int32_t>(isolation)));
  }
  proxywasm_chain *get() const noexcept { return chain_.get(); }

 private:
  detail::owner<proxywasm_chain, proxywasm_chain_free> chain_;
};

/// One event loop's plugins. Belongs to the thread that makes it, or moves it.
class worker {
 public:
  /// `host` must outlive the worker.
  worker(const engine &engine, host &host) {
    proxywasm_host callbacks = host.vtable();
    proxywasm_worker *made = nullptr;
    check(proxywasm_worker_new(engine.get(), &callbacks, &host, &made));
    worker_.reset(made);
  }
  /// Makes the calling thread the worker's; the caller holds a lock that keeps other threads out of it.
  std::int32_t move_here() const noexcept { return proxywasm_worker_move(get()); }
  /// Starts and configures a plugin; throws when it does not start.
  instance add_plugin(const plugin &plugin) const {
    proxywasm_instance *made = nullptr;
    check(proxywasm_worker_add_plugin(get(), plugin.get(), &made));
    return instance(made);
  }
  /// Joins instances, which need not stay in their vector.
  chain make_chain(const std::vector<instance> &instances) const {
    std::vector<const proxywasm_instance *> list;
    list.reserve(instances.size());
    for (const instance &one : instances) {
      list.push_back(one.get());
    }
    proxywasm_chain *made = nullptr;
    check(proxywasm_chain_new(get(), list.data(), list.size(), &made));
    return chain(made);
  }
  /// Nanoseconds until `on_timeout`; UINT64_MAX: nothing waits, or the call failed.
  std::uint64_t timeout_ns() const noexcept {
    std::uint64_t timeout = UINT64_MAX;
    return proxywasm_worker_timeout_ns(get(), &timeout) == PROXYWASM_RESULT_OK ? timeout : UINT64_MAX;
  }
  std::int32_t on_timeout() const noexcept { return proxywasm_worker_on_timeout(get()); }
  std::int32_t run_pending() const noexcept { return proxywasm_worker_run_pending(get()); }
  std::int32_t queue_ready(std::uint32_t queue) const noexcept { return proxywasm_worker_queue_ready(get(), queue); }
  /// Whether nothing is lost when the worker is destroyed; true also when the worker can run no more.
  bool is_idle() const noexcept {
    bool idle = true;
    return proxywasm_worker_is_idle(get(), &idle) != PROXYWASM_RESULT_OK || idle;
  }
  proxywasm_worker_stats stats() const {
    proxywasm_worker_stats stats{};
    stats.struct_size = sizeof stats;
    check(proxywasm_worker_get_stats(get(), &stats));
    return stats;
  }

  /// Answers an HTTP call; `struct_size` is set here. Allowed inside callbacks.
  std::int32_t http_call_complete(proxywasm_token token, proxywasm_http_response response) const noexcept {
    response.struct_size = sizeof response;
    return proxywasm_http_call_complete(get(), token, &response);
  }
  /// Tells that an HTTP call failed. Allowed inside callbacks.
  std::int32_t http_call_failed(proxywasm_token token) const noexcept {
    return proxywasm_http_call_complete(get(), token, nullptr);
  }
  std::int32_t grpc_initial_metadata(proxywasm_token token, array_view<proxywasm_pair> metadata) const noexcept {
    return proxywasm_grpc_initial_metadata(get(), token, metadata.data(), metadata.size());
  }
  std::int32_t grpc_message(proxywasm_token token, array_view<proxywasm_slice> slices) const noexcept {
    return proxywasm_grpc_message(get(), token, slices.data(), slices.size());
  }
  std::int32_t grpc_trailing_metadata(proxywasm_token token, array_view<proxywasm_pair> metadata) const noexcept {
    return proxywasm_grpc_trailing_metadata(get(), token, metadata.data(), metadata.size());
  }
  std::int32_t grpc_close(proxywasm_token token, std::uint32_t grpc_status, std::string_view message) const noexcept {
    return proxywasm_grpc_close(get(), token, grpc_status, to_slice(message));
  }
  proxywasm_worker *get() const noexcept { return worker_.get(); }

 private:
  detail::owner<proxywasm_worker, proxywasm_worker_free> worker_;
};

// ---- Stream ---------------------------------------------------------------------------------------------------------

/// What a phase came to. The action counts also when the call failed.
class outcome {
 public:
  outcome() noexcept { value_.struct_size = sizeof value_; }
  /// The `proxywasm_result` of the call.
  std::int32_t result() const noexcept { return result_; }
  bool ok() const noexcept { return result_ == PROXYWASM_RESULT_OK; }
  proxywasm::action action() const noexcept { return static_cast<proxywasm::action>(value_.action); }
  /// The headers may be forwarded now. For TCP: connect upstream.
  bool headers_ready() const noexcept { return has(PROXYWASM_READY_HEADERS); }
  bool body_ready() const noexcept { return has(PROXYWASM_READY_BODY); }
  bool trailers_ready() const noexcept { return has(PROXYWASM_READY_TRAILERS); }
  /// The direction is complete with what is forwarded now.
  bool end_of_stream() const noexcept { return has(PROXYWASM_READY_END_OF_STREAM); }
  /// `proxywasm_ready` bits.
  std::uint32_t ready() const noexcept { return value_.ready; }
  /// Slices to forward, valid until the next call on the stream.
  array_view<proxywasm_slice> body() const noexcept { return {value_.body, value_.body_count}; }
  /// Sum of their lengths.
  std::size_t body_size() const noexcept { return value_.body_len; }

 private:
  friend class stream;
  bool has(std::uint32_t bit) const noexcept { return (value_.ready & bit) != 0; }

  proxywasm_outcome value_{};
  std::int32_t result_ = PROXYWASM_RESULT_OK;
};

/// One HTTP exchange or TCP connection on a chain. The worker's thread. Destroyed, it runs what is left of done and delete;
/// not inside a host callback, where it would stay for good.
class stream {
 public:
  /// `stream_data` is passed to the host's methods.
  stream(const chain &chain, stream_kind kind, void *stream_data) {
    proxywasm_stream *made = nullptr;
    check(proxywasm_stream_new(chain.get(), static_cast<std::int32_t>(kind), stream_data, &made));
    stream_.reset(made);
  }

  /// Request or response headers have come.
  outcome on_headers(direction way, std::size_t count, bool end_of_stream) const noexcept {
    const auto number = static_cast<std::uint32_t>(count);
    return run([&](proxywasm_outcome *out) {
      return way == direction::request ? proxywasm_stream_on_request_headers(get(), number, end_of_stream, out)
                                       : proxywasm_stream_on_response_headers(get(), number, end_of_stream, out);
    });
  }
  /// A part of a body has come, or its end.
  outcome on_body(direction way, array_view<proxywasm_chunk> chunks, bool end_of_stream) const noexcept {
    return run([&](proxywasm_outcome *out) {
      return way == direction::request
                 ? proxywasm_stream_on_request_body(get(), chunks.data(), chunks.size(), end_of_stream, out)
                 : proxywasm_stream_on_response_body(get(), chunks.data(), chunks.size(), end_of_stream, out);
    });
  }
  /// The same for bytes in one piece.
  outcome on_body(direction way, std::string_view bytes, bool end_of_stream) const noexcept {
    proxywasm_chunk chunk = to_chunk(bytes);
    return on_body(way, array_view<proxywasm_chunk>(&chunk, bytes.empty() ? 0 : 1), end_of_stream);
  }
  /// Trailers have come, which end the direction.
  outcome on_trailers(direction way, std::size_t count) const noexcept {
    const auto number = static_cast<std::uint32_t>(count);
    return run([&](proxywasm_outcome *out) {
      return way == direction::request ? proxywasm_stream_on_request_trailers(get(), number, out)
                                       : proxywasm_stream_on_response_trailers(get(), number, out);
    });
  }
  /// HTTP/2 METADATA has come.
  outcome on_metadata(direction way, std::size_t count) const noexcept {
    return run([&](proxywasm_outcome *out) {
      return proxywasm_stream_on_metadata(get(), static_cast<std::int32_t>(way), static_cast<std::uint32_t>(count),
                                          out);
    });
  }

  /// A TCP connection has been accepted.
  outcome on_new_connection() const noexcept {
    return run([&](proxywasm_outcome *out) { return proxywasm_stream_on_new_connection(get(), out); });
  }
  /// Bytes of a TCP connection have come, from the client (`request`) or the upstream (`response`).
  outcome on_data(direction way, array_view<proxywasm_chunk> chunks, bool end_of_stream) const noexcept {
    return run([&](proxywasm_outcome *out) {
      return way == direction::request
                 ? proxywasm_stream_on_downstream_data(get(), chunks.data(), chunks.size(), end_of_stream, out)
                 : proxywasm_stream_on_upstream_data(get(), chunks.data(), chunks.size(), end_of_stream, out);
    });
  }
  /// The same for bytes in one piece.
  outcome on_data(direction way, std::string_view bytes, bool end_of_stream) const noexcept {
    proxywasm_chunk chunk = to_chunk(bytes);
    return on_data(way, array_view<proxywasm_chunk>(&chunk, bytes.empty() ? 0 : 1), end_of_stream);
  }
  /// One end of a TCP connection was closed: the client's (`request`) or the upstream's (`response`).
  std::int32_t on_close(direction way, peer who) const noexcept {
    return proxywasm_stream_on_close(get(), static_cast<std::int32_t>(way), static_cast<std::int32_t>(who));
  }

  /// Goes on after `host::resume_stream`.
  outcome resume(direction way) const noexcept {
    return run(
        [&](proxywasm_outcome *out) { return proxywasm_stream_resume(get(), static_cast<std::int32_t>(way), out); });
  }
  std::int32_t log() const noexcept { return proxywasm_stream_log(get()); }
  std::int32_t done() const noexcept { return proxywasm_stream_done(get()); }
  /// Logs, and ends the stream at once: cheaper than `log` and the destructor. Empty afterwards.
  void complete() noexcept { proxywasm_stream_complete(stream_.release()); }
  proxywasm_stream *get() const noexcept { return stream_.get(); }

 private:
  template <typename Call>
  static outcome run(Call call) noexcept {
    outcome result;
    result.result_ = call(&result.value_);
    return result;
  }

  detail::owner<proxywasm_stream, proxywasm_stream_free> stream_;
};

}  // namespace proxywasm

#endif  // PROXYWASM_HPP
