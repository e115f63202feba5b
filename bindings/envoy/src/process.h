// SPDX-License-Identifier: Apache-2.0
// What the whole Envoy process shares: the engine, compiled modules, a worker for each of Envoy's worker threads, and the way to
// Envoy's main thread. Made with the first configuration, and there until the process ends.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <proxywasm.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "alarm_clock.h"
#include "main_calls.h"
#include "metrics.h"

namespace proxywasm_envoy {

class module_config;
class worker;

class process {
 public:
  static process &get();

  alarm_clock &clock() noexcept { return clock_; }
  metric_table &metrics() noexcept { return metrics_; }
  main_calls &calls() noexcept { return calls_; }

  // ---- The main thread; these throw proxywasm::error ----
  const proxywasm::engine &engine();
  // Envoy's workers, by index.
  std::vector<std::unique_ptr<worker>> &workers();

  // ---- Any thread ----
  // Null when there is no such worker.
  worker *worker_at(unsigned index) noexcept;
  void add_config(module_config &config);
  // Also for those that were never added.
  void remove_config(module_config &config);
  // The end of a route: of the plugins that configurations have for it.
  void forget_route(std::uint64_t serial);
  // Clusters that calls have been started to.
  bool knows_cluster(const std::string &name);
  void learn_cluster(const std::string &name);
  void forget_cluster(const std::string &name);
  // Calls a worker's on_main_event on the main thread, or `what` with one of Envoy's configurations. False where no configuration
  // lives.
  bool ask_main(const worker &one) noexcept;
  bool post(std::function<void(void *config)> what);

  // The event of a configuration's scheduler; the main thread.
  void on_main_event(module_config &config, std::uint64_t event);

 private:
  process() : calls_(*this) {}
  bool commit(std::uint64_t event);
  void ask_again();
  // Under the lock.
  module_config *caller() const;

  alarm_clock clock_;
  metric_table metrics_;
  main_calls calls_;
  std::optional<proxywasm::engine> engine_;
  std::vector<std::unique_ptr<worker>> workers_;

  std::mutex lock_;
  // ---- Under the lock ----
  std::vector<module_config *> configs_;
  std::set<std::string> clusters_;
  std::vector<std::function<void(void *)>> tasks_;
};

}  // namespace proxywasm_envoy
