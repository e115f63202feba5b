// SPDX-License-Identifier: Apache-2.0
// The library's worker for one of Envoy's worker threads.
//
// Its guests run on two threads in turn, under its lock: Envoy's worker thread, and Envoy's main thread, which configures plugins,
// and works on ticks, notices and answers while no stream of the worker lives.

#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <proxywasm.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "alarm_clock.h"
#include "envoy_abi.h"
#include "grpc_callout.h"
#include "metrics.h"
#include "plugin_stream.h"

namespace proxywasm_envoy {

class module_config;
class process;

class worker final : private proxywasm::host, private alarm_clock::sleeper {
 public:
  worker(process &owner, const proxywasm::engine &engine, unsigned index);

  // Being inside: the lock is held, and the library takes this thread for the worker's. Entries on one thread may nest.
  class entry {
   public:
    // `acting`: the configuration over which plugins count, whose life includes the entry's.
    explicit entry(worker &owner, module_config *acting);
    entry(const entry &) = delete;
    entry &operator=(const entry &) = delete;
    ~entry() { owner_.leave(before_); }

   private:
    worker &owner_;
    module_config *before_;
  };

  unsigned index() const noexcept { return index_; }
  // Inside a hostcall: the library takes nothing but the answers of calls.
  bool is_busy() const noexcept { return busy_; }

  // ---- Inside ----
  proxywasm_worker *get() const noexcept { return library_.get(); }
  proxywasm::instance add_plugin(const proxywasm::plugin &plugin);
  proxywasm::chain make_chain(const proxywasm::instance &instance, proxywasm::isolation isolation);
  void began(plugin_stream &stream) noexcept;
  void ended(plugin_stream &stream) noexcept;
  // Does what is due: on the driver's event, or on the main thread while no stream lives.
  void drive() noexcept;
  call *find_call(proxywasm_token token) noexcept;
  // Gives it away: it is over.
  std::unique_ptr<call> take_call(proxywasm_token token) noexcept;
  // Sends more of a call's request, if it has been started.
  bool send(call &one, std::string_view bytes, bool end_of_stream);
  // Ends a call of which nothing more is wanted.
  void abandon(call &one);
  // Room for one phase, kept so that none is allocated.
  std::vector<abi::buffer> &buffers() noexcept { return buffers_; }
  std::vector<proxywasm_chunk> &chunks() noexcept { return chunks_; }

  // ---- Any thread ----
  // Leaves something to be done inside.
  void later(std::function<void()> what);
  // What a configuration that ends has asked of the main thread may be lost: ask again.
  void remind() noexcept;

  // ---- The main thread ----
  void on_main_event(module_config &acting) noexcept;
  // Does something inside now if nobody else is, otherwise soon.
  void now_or_later(std::function<void()> what);

 private:
  friend class entry;
  // In a hostcall that calls Envoy, which may call hooks in there.
  class busy_while {
   public:
    explicit busy_while(worker &owner) : owner_(owner), before_(owner.busy_) { owner_.busy_ = true; }
    busy_while(const busy_while &) = delete;
    busy_while &operator=(const busy_while &) = delete;
    ~busy_while() { owner_.busy_ = before_; }

   private:
    worker &owner_;
    const bool before_;
  };
  module_config *enter(module_config *acting);
  void leave(module_config *before) noexcept;
  void set_alarm() noexcept;
  void elect() noexcept;
  void signal() noexcept;
  void on_alarm() noexcept override;
  void start_calls() noexcept;
  proxywasm::status new_call(void *stream, std::unique_ptr<call> made, proxywasm::status unknown_cluster);
  proxywasm::status new_grpc_call(void *stream, proxywasm_token token, const proxywasm_grpc_request &request,
                                  grpc_callout::kind kind);
  metric *find_metric(std::uint32_t id) noexcept;
  // Whether this is the thread of the streams.
  bool is_home() const noexcept { return pthread_equal(pthread_self(), home_) != 0; }
  // The stream that a plugin acts on, where it may be touched: on its own thread. On the main one, where plugins are configured,
  // a plugin may name streams of others in its VM.
  plugin_stream *reach(void *stream) const noexcept;
  static std::int32_t list_headers(void *user, void *stream, std::int32_t which, proxywasm_pair *pairs,
                                   std::size_t capacity, std::size_t *count) noexcept;

  // ---- What plugins ask for ----
  void log(void *stream, const proxywasm_log_record &record) override;
  proxywasm::log_level minimum_log_level() override;
  proxywasm::status get_header(void *stream, proxywasm::map which, std::string_view name,
                               std::string_view &value) override;
  proxywasm::status add_header(void *stream, proxywasm::map which, std::string_view name,
                               std::string_view value) override;
  proxywasm::status replace_header(void *stream, proxywasm::map which, std::string_view name,
                                   std::string_view value) override;
  proxywasm::status remove_header(void *stream, proxywasm::map which, std::string_view name) override;
  proxywasm::status get_property(void *stream, std::string_view path, std::string_view &value) override;
  proxywasm::status set_property(void *stream, std::string_view path, std::string_view value) override;
  proxywasm::status send_local_response(void *stream, const proxywasm_local_response &response) override;
  void resume_stream(void *stream, proxywasm::direction way) override;
  void close_stream(void *stream, proxywasm::stream_type which) override;
  proxywasm::status http_call(void *stream, proxywasm_token token, const proxywasm_http_request &request) override;
  void cancel_call(proxywasm_token token) override;
  proxywasm::status grpc_call(void *stream, proxywasm_token token, const proxywasm_grpc_request &request) override;
  proxywasm::status grpc_stream(void *stream, proxywasm_token token, const proxywasm_grpc_request &request) override;
  proxywasm::status grpc_send(proxywasm_token token, std::string_view message, bool end_of_stream) override;
  proxywasm::status grpc_close(proxywasm_token token) override;
  proxywasm::status define_metric(proxywasm::metric_type type, std::string_view name, std::uint32_t &id) override;
  proxywasm::status increment_metric(std::uint32_t id, std::int64_t delta) override;
  proxywasm::status record_metric(std::uint32_t id, std::uint64_t value) override;
  proxywasm::status get_metric(std::uint32_t id, std::uint64_t &value) override;
  proxywasm::status call_foreign_function(void *stream, std::string_view name, std::string_view argument,
                                          std::string_view &result) override;
  void timeout_changed() override { timeout_changed_ = true; }
  void wake() override;

  process &owner_;
  const unsigned index_;

  std::recursive_mutex lock_;
  // ---- Under the lock ----
  unsigned depth_ = 0;
  // The last one inside, which the library takes for the worker's.
  pthread_t thread_{};
  bool timeout_changed_ = false;
  bool has_timeout_ = false;
  module_config *acting_ = nullptr;
  plugin_stream *first_ = nullptr;
  // The thread of the streams, once there has been one.
  pthread_t home_{};
  std::unordered_map<proxywasm_token, std::unique_ptr<call>> calls_;
  std::vector<proxywasm_token> unstarted_;
  bool busy_ = false;
  std::vector<abi::buffer> buffers_;
  std::vector<proxywasm_chunk> chunks_;
  std::string text_;
  std::string property_;
  // Metrics that plugins of this worker have defined, by id.
  std::vector<metric *> metrics_;
  proxywasm::detail::owner<proxywasm_worker, proxywasm_worker_free> library_;

  // ---- Under `signal_lock_`, which is taken last ----
  std::mutex signal_lock_;
  // The live stream that wakes the worker's thread; none: the main thread is asked.
  plugin_stream *driver_ = nullptr;
  bool due_ = false;
  std::vector<std::function<void()>> inbox_;

  // Somebody has woken the worker once, so it may be woken again while its streams wait.
  std::atomic<bool> woken_{false};
};

}  // namespace proxywasm_envoy
