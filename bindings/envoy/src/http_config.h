// SPDX-License-Identifier: Apache-2.0
// The configuration of one HTTP filter, and that of a route, whose plugins are made where the first stream needs them.

#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <proxywasm.hpp>

#include "config.h"
#include "module_config.h"

namespace proxywasm_envoy {

// What get_most_specific_route_config gives.
class http_route {
 public:
  explicit http_route(route_config config);
  ~http_route();
  const route_config &config() const noexcept { return config_; }
  // Whether there is any in the process: where not, none need be looked for.
  static bool exists() noexcept { return count_.load(std::memory_order_relaxed) != 0; }
  // Tells routes apart, also when one is where another was.
  std::uint64_t serial() const noexcept { return serial_; }

 private:
  const route_config config_;
  const std::uint64_t serial_;
  // A stream sees the one that it is to find: Envoy hands routes to its workers with a lock.
  static std::atomic<std::size_t> count_;
};

class http_config final : public module_config {
 public:
  // `envoy` is Envoy's configuration. Throws when the plugin does not start.
  http_config(void *envoy, filter_config config);
  ~http_config() override;

  void commit(std::uint64_t event) noexcept override;
  void *caller() const noexcept override { return envoy_; }

  // The chain of a stream, inside its worker; null: no plugin there, by the route's word or by the policy of one that does not start.
  // Throws when a plugin does not start and its policy is not to pass it by.
  const proxywasm::chain *chain(worker &where, const http_route *route);

 private:
  void *const envoy_;
  void *const scheduler_;
};

}  // namespace proxywasm_envoy
