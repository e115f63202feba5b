// SPDX-License-Identifier: Apache-2.0
#include "network_config.h"

#include "envoy_abi.h"
#include "worker.h"

namespace proxywasm_envoy {

namespace {

// Envoy's metrics of TCP filters have no labels.
template <abi::metrics_result (*Define)(void *, abi::buffer, std::size_t *)>
abi::metrics_result define(void *config, std::string_view name, const abi::buffer *, std::size_t, std::size_t *id) {
  return Define(config, abi::to_buffer(name), id);
}

template <abi::metrics_result (*Change)(void *, std::size_t, std::uint64_t)>
abi::metrics_result change(void *config, std::size_t id, const abi::buffer *, std::size_t, std::uint64_t value) {
  return Change(config, id, value);
}

// None, where this Envoy has none.
template <abi::metrics_result (*Change)(void *, std::size_t, std::uint64_t)>
metric_api::change change_if_any() {
  return Change == nullptr ? nullptr : change<Change>;
}

const metric_api network_metrics = {
    {define<abi::envoy_dynamic_module_callback_network_filter_config_define_counter>,
     define<abi::envoy_dynamic_module_callback_network_filter_config_define_gauge>,
     define<abi::envoy_dynamic_module_callback_network_filter_config_define_histogram>},
    change_if_any<abi::envoy_dynamic_module_callback_network_filter_config_increment_counter>(),
    change_if_any<abi::envoy_dynamic_module_callback_network_filter_config_increment_gauge>(),
    change_if_any<abi::envoy_dynamic_module_callback_network_filter_config_decrement_gauge>(),
    change_if_any<abi::envoy_dynamic_module_callback_network_filter_config_set_gauge>(),
    change_if_any<abi::envoy_dynamic_module_callback_network_filter_config_record_histogram_value>(),
    false,
};

}  // namespace

network_config::network_config(void *envoy, filter_config config)
    : module_config(std::move(config), network_metrics, envoy),
      scheduler_(abi::envoy_dynamic_module_callback_network_filter_config_scheduler_new(envoy)) {
  try {
    place_plugins();
  } catch (...) {
    abi::envoy_dynamic_module_callback_network_filter_config_scheduler_delete(scheduler_);
    throw;
  }
}

network_config::~network_config() {
  remove_plugins();
  abi::envoy_dynamic_module_callback_network_filter_config_scheduler_delete(scheduler_);
}

void network_config::commit(std::uint64_t event) noexcept {
  abi::envoy_dynamic_module_callback_network_filter_config_scheduler_commit(scheduler_, event);
}

const proxywasm::chain &network_config::chain(const worker &where) const {
  return places()[where.index()]->own->chain();
}

}  // namespace proxywasm_envoy
