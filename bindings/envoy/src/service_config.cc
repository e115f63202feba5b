// SPDX-License-Identifier: Apache-2.0
#include "service_config.h"

#include "envoy_abi.h"

namespace proxywasm_envoy {

service_config::service_config(void *envoy, filter_config config)
    : module_config(std::move(config), service_metrics, envoy),
      scheduler_(abi::envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_new(envoy)) {
  try {
    place_plugins();
  } catch (...) {
    abi::envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_delete(scheduler_);
    throw;
  }
}

service_config::~service_config() {
  remove_plugins();
  abi::envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_delete(scheduler_);
}

void service_config::commit(std::uint64_t event) noexcept {
  abi::envoy_dynamic_module_callback_bootstrap_extension_config_scheduler_commit(scheduler_, event);
}

}  // namespace proxywasm_envoy
