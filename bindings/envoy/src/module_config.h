// SPDX-License-Identifier: Apache-2.0
// The configuration of one filter, with its plugin in every worker: what filters of HTTP and of TCP have in common.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <proxywasm.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "config.h"
#include "metrics.h"

namespace proxywasm_envoy {

class worker;

// A plugin in a worker, and the chain of it alone that streams run on. Inside the worker only.
class placed_plugin {
 public:
  placed_plugin(worker &where, const proxywasm::plugin &plugin, proxywasm::isolation isolation);
  const proxywasm::chain &chain() const noexcept { return chain_; }

 private:
  proxywasm::instance instance_;
  proxywasm::chain chain_;
};

class module_config {
 public:
  virtual ~module_config() = default;
  module_config(const module_config &) = delete;
  module_config &operator=(const module_config &) = delete;

  // Starts the plugin once, in a VM that is thrown away; throws when it does not start.
  static void validate(const filter_config &config);

  const std::string &name() const noexcept { return name_; }
  metric_ids &metrics() noexcept { return metrics_; }

  // Asks for process::on_main_event on Envoy's main thread. From any thread.
  virtual void commit(std::uint64_t event) noexcept = 0;
  // Envoy's configuration, where calls can be started on it; null: not on this one.
  virtual void *caller() const noexcept { return nullptr; }

  // A route's plugin in a worker, or when to try again to start it.
  struct route_place {
    std::unique_ptr<placed_plugin> plugin;
    std::chrono::steady_clock::time_point retry_at;
  };
  // Its plugins in one worker: used and ended under that worker's lock.
  struct place {
    std::unique_ptr<placed_plugin> own;
    std::unordered_map<std::uint64_t, route_place> routes;
  };
  // By index of the worker.
  const std::vector<std::shared_ptr<place>> &places() const noexcept { return places_; }

 protected:
  module_config(filter_config config, const metric_api &metrics, void *envoy);

  // For the end of a constructor, and the beginning of the destructor: the process asks it to commit from then to then.
  // Puts the plugin into every worker; throws when it does not start.
  void place_plugins();
  // Takes it out of them.
  void remove_plugins() noexcept;
  // The plugin with other settings, in one worker and inside it.
  std::unique_ptr<placed_plugin> place_other(worker &where, const plugin_settings &settings) const;

  const filter_config config_;

 private:
  std::string name_;
  metric_ids metrics_;
  std::optional<proxywasm::module> module_;
  std::vector<std::shared_ptr<place>> places_;
};

}  // namespace proxywasm_envoy
