// SPDX-License-Identifier: Apache-2.0
#include "metrics.h"

#include <algorithm>

#include "envoy_abi.h"
#include "log.h"

namespace proxywasm_envoy {

using proxywasm::metric_type;

namespace {

constexpr std::array<const char *, 3> late_names = {"late_counter", "late_gauge", "late_histogram"};

template <abi::metrics_result (*Define)(void *, abi::buffer, const abi::buffer *, std::size_t, std::size_t *)>
abi::metrics_result define(void *config, std::string_view name, const abi::buffer *labels, std::size_t count,
                           std::size_t *id) {
  return Define(config, abi::to_buffer(name), labels, count, id);
}

}  // namespace

const metric_api http_metrics = {
    {define<abi::envoy_dynamic_module_callback_http_filter_config_define_counter>,
     define<abi::envoy_dynamic_module_callback_http_filter_config_define_gauge>,
     define<abi::envoy_dynamic_module_callback_http_filter_config_define_histogram>},
    abi::envoy_dynamic_module_callback_http_filter_config_increment_counter,
    abi::envoy_dynamic_module_callback_http_filter_config_increment_gauge,
    abi::envoy_dynamic_module_callback_http_filter_config_decrement_gauge,
    abi::envoy_dynamic_module_callback_http_filter_config_set_gauge,
    abi::envoy_dynamic_module_callback_http_filter_config_record_histogram_value,
    true,
};

const metric_api service_metrics = {
    {define<abi::envoy_dynamic_module_callback_bootstrap_extension_config_define_counter>,
     define<abi::envoy_dynamic_module_callback_bootstrap_extension_config_define_gauge>,
     define<abi::envoy_dynamic_module_callback_bootstrap_extension_config_define_histogram>},
    abi::envoy_dynamic_module_callback_bootstrap_extension_config_increment_counter,
    abi::envoy_dynamic_module_callback_bootstrap_extension_config_increment_gauge,
    abi::envoy_dynamic_module_callback_bootstrap_extension_config_decrement_gauge,
    abi::envoy_dynamic_module_callback_bootstrap_extension_config_set_gauge,
    abi::envoy_dynamic_module_callback_bootstrap_extension_config_record_histogram_value,
    true,
};

metric &metric_table::find(metric_type type, std::string_view name) {
  const std::lock_guard<std::mutex> hold(lock_);
  for (metric &one : metrics_) {
    if (one.type == type && one.name == name) {
      return one;
    }
  }
  metric &made = metrics_.emplace_back();
  made.type = type;
  made.name = name;
  made.index = static_cast<std::uint32_t>(metrics_.size() - 1);
  return made;
}

// Where a number goes in Envoy, and with which label.
struct metric_ids::target {
  std::size_t id;
  abi::buffer label;
  std::size_t labels;
};

std::optional<std::size_t> metric_ids::define_in(metric_type type, std::string_view name, const abi::buffer *labels,
                                                 std::size_t count) const {
  if (envoy_.increment_counter == nullptr) {
    return std::nullopt;  // Envoy 1.38 counts for streams only
  }
  std::size_t id = 0;
  const metric_api::define define = envoy_.definitions[static_cast<std::size_t>(type)];
  return define(config_, name, labels, count, &id) == abi::metrics_result::success ? std::optional(id) : std::nullopt;
}

void metric_ids::define_late() {
  if (!envoy_.has_labels) {
    return;
  }
  const abi::buffer label = abi::to_buffer("name");
  for (std::size_t type = 0; type < late_.size(); ++type) {
    late_[type] = define_in(static_cast<metric_type>(type), late_names[type], &label, 1);
  }
}

void metric_ids::define(const metric &one) {
  if (frozen_) {
    return;
  }
  if (ids_.size() <= one.index) {
    ids_.resize(one.index + 1);
  }
  if (!ids_[one.index]) {
    ids_[one.index] = define_in(one.type, one.name, nullptr, 0);
  }
}

std::optional<metric_ids::target> metric_ids::find(const metric &one) const {
  if (one.index < ids_.size() && ids_[one.index]) {
    return target{*ids_[one.index], {}, 0};
  }
  const auto &late = late_[static_cast<std::size_t>(one.type)];
  if (!late) {
    return std::nullopt;
  }
  return target{*late, abi::to_buffer(one.name), 1};
}

void metric_ids::add(const metric &one, std::int64_t delta) const {
  const std::optional<target> to = find(one);
  if (!to) {
    return;
  }
  const auto amount = delta < 0 ? 0 - static_cast<std::uint64_t>(delta) : static_cast<std::uint64_t>(delta);
  const metric_api::change change = one.type == metric_type::counter ? envoy_.increment_counter
                                    : delta < 0                      ? envoy_.decrement_gauge
                                                                     : envoy_.increment_gauge;
  (void)change(config_, to->id, &to->label, to->labels, amount);
}

void metric_ids::record(const metric &one, std::uint64_t value) const {
  const std::optional<target> to = find(one);
  if (!to) {
    return;
  }
  const metric_api::change change = one.type == metric_type::counter ? envoy_.increment_counter
                                    : one.type == metric_type::gauge ? envoy_.set_gauge
                                                                     : envoy_.record_histogram;
  (void)change(config_, to->id, &to->label, to->labels, value);
}

}  // namespace proxywasm_envoy
