// SPDX-License-Identifier: Apache-2.0
#include "http_config.h"

#include <atomic>

#include "envoy_abi.h"
#include "process.h"
#include "worker.h"

namespace proxywasm_envoy {

namespace {

std::atomic<std::uint64_t> last_serial{0};

}  // namespace

http_route::http_route(route_config config) : config_(std::move(config)), serial_(++last_serial) {}

http_route::~http_route() { process::get().forget_route(serial_); }

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
  std::unique_ptr<placed_plugin> &placed = here.routes[route->serial()];
  if (!placed) {
    placed = place_other(where, with_route(config_.plugin, route->config().plugin));
  }
  return &placed->chain();
}

}  // namespace proxywasm_envoy
