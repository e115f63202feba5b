// SPDX-License-Identifier: Apache-2.0
#include "http_config.h"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

#include "envoy_abi.h"
#include "log.h"
#include "process.h"
#include "worker.h"

namespace proxywasm_envoy {

namespace {

std::atomic<std::uint64_t> last_serial{0};

}  // namespace

std::atomic<std::size_t> http_route::count_{0};

http_route::http_route(route_config config) : config_(std::move(config)), serial_(++last_serial) { ++count_; }

http_route::~http_route() {
  process::get().forget_route(serial_);
  --count_;
}

http_config::http_config(void *envoy, filter_config config)
    : module_config(std::move(config), http_metrics, envoy),
      envoy_(envoy),
      scheduler_(abi::envoy_dynamic_module_callback_http_filter_config_scheduler_new(envoy)) {
  try {
    place_plugins();
  } catch (...) {
    abi::envoy_dynamic_module_callback_http_filter_config_scheduler_delete(scheduler_);
    throw;
  }
}

http_config::~http_config() {
  remove_plugins();
  abi::envoy_dynamic_module_callback_http_filter_config_scheduler_delete(scheduler_);
}

void http_config::commit(std::uint64_t event) noexcept {
  abi::envoy_dynamic_module_callback_http_filter_config_scheduler_commit(scheduler_, event);
}

const proxywasm::chain *http_config::chain(worker &where, const http_route *route) {
  place &here = *places()[where.index()];
  if (route == nullptr) {
    return &here.own->chain();
  }
  if (route->config().disabled) {
    return nullptr;
  }
  route_place &placed = here.routes[route->serial()];
  if (placed.plugin) {
    return &placed.plugin->chain();
  }
  const plugin_settings settings = with_route(config_.plugin, route->config().plugin);
  const auto now = std::chrono::steady_clock::now();
  try {
    if (now < placed.retry_at) {
      throw std::runtime_error("it did not start a moment ago");
    }
    placed.plugin = place_other(where, settings);
    return &placed.plugin->chain();
  } catch (const proxywasm::error &error) {
    constexpr std::chrono::seconds pause(1);
    placed.retry_at = now + pause;
    log_line(proxywasm::log_level::error, "proxywasm: plugin \"" + settings.name.value_or(std::string()) +
                                              "\" of a route did not start: " + error.what());
    if (settings.failure_policy != proxywasm::failure_policy::open) {
      throw;
    }
  } catch (const std::runtime_error &) {
    if (settings.failure_policy != proxywasm::failure_policy::open) {
      throw;
    }
  }
  return nullptr;
}

}  // namespace proxywasm_envoy
