// SPDX-License-Identifier: Apache-2.0
// The configuration of one HTTP filter, with its plugin in every worker; and that of a route, whose plugins are made where the
// first stream needs them.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <proxywasm.hpp>
#include <string>
#include <string_view>
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

// What get_most_specific_route_config gives.
class http_route {
 public:
  explicit http_route(route_config config);
  ~http_route();
  const route_config &config() const noexcept { return config_; }
  // Tells routes apart, also when one is where another was.
  std::uint64_t serial() const noexcept { return serial_; }

 private:
  const route_config config_;
  const std::uint64_t serial_;
};

class http_config {
 public:
  // Starts the plugin in every worker; throws when it does not start. `envoy` is Envoy's configuration.
  http_config(void *envoy, filter_config config);
  // Takes it out of them.
  ~http_config();
  http_config(const http_config &) = delete;
  http_config &operator=(const http_config &) = delete;

  // Starts the plugin once, in a VM that is thrown away; throws when it does not start.
  static void validate(const filter_config &config);

  void *envoy() const noexcept { return envoy_; }
  void *scheduler() const noexcept { return scheduler_; }
  const std::string &name() const noexcept { return name_; }
  metric_ids &metrics() noexcept { return metrics_; }
  const metric_ids &metrics() const noexcept { return metrics_; }

  // The chain of a stream, inside its worker; null: no plugin there, by the route's word. Throws when the route's plugin does not start.
  const proxywasm::chain *chain(worker &where, const http_route *route);

  // Its plugins in one worker: used and ended under that worker's lock.
  struct place {
    std::unique_ptr<placed_plugin> own;
    std::unordered_map<std::uint64_t, std::unique_ptr<placed_plugin>> routes;
  };
  // By index of the worker.
  const std::vector<std::shared_ptr<place>> &places() const noexcept { return places_; }

 private:
  void remove_plugins() noexcept;

  void *const envoy_;
  void *scheduler_ = nullptr;
  const filter_config config_;
  std::string name_;
  metric_ids metrics_;
  std::shared_ptr<const proxywasm::module> module_;
  std::vector<std::shared_ptr<place>> places_;
};

}  // namespace proxywasm_envoy
