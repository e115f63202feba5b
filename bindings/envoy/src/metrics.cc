// SPDX-License-Identifier: Apache-2.0
#include "metrics.h"

#include <algorithm>

#include "envoy_abi.h"
#include "log.h"

namespace proxywasm_envoy {

using proxywasm::metric_type;

namespace {

constexpr std::array<const char *, 3> late_names = {"late_counter", "late_gauge", "late_histogram"};

std::optional<std::size_t> define_in(void *config, metric_type type, std::string_view name, const abi::buffer *labels,
                                     std::size_t count) {
  std::size_t id = 0;
  abi::metrics_result result{};
  switch (type) {
    case metric_type::counter:
      result = abi::envoy_dynamic_module_callback_http_filter_config_define_counter(config, abi::to_buffer(name),
                                                                                    labels, count, &id);
      break;
    case metric_type::gauge:
      result = abi::envoy_dynamic_module_callback_http_filter_config_define_gauge(config, abi::to_buffer(name), labels,
                                                                                  count, &id);
      break;
    case metric_type::histogram:
      result = abi::envoy_dynamic_module_callback_http_filter_config_define_histogram(config, abi::to_buffer(name),
                                                                                      labels, count, &id);
      break;
  }
  if (result != abi::metrics_result::success) {
    return std::nullopt;
  }
  return id;
}

}  // namespace

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

void metric_ids::define_late() {
  const abi::buffer label = abi::to_buffer("name");
  for (std::size_t type = 0; type < late_.size(); ++type) {
    late_[type] = define_in(config_, static_cast<metric_type>(type), late_names[type], &label, 1);
  }
}

void metric_ids::define(const metric &one) {
  if (config_ == nullptr || frozen_) {
    return;
  }
  if (ids_.size() <= one.index) {
    ids_.resize(one.index + 1);
  }
  if (!ids_[one.index]) {
    ids_[one.index] = define_in(config_, one.type, one.name, nullptr, 0);
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
  if (one.type == metric_type::counter) {
    (void)abi::envoy_dynamic_module_callback_http_filter_config_increment_counter(config_, to->id, &to->label,
                                                                                  to->labels, amount);
  } else if (delta < 0) {
    (void)abi::envoy_dynamic_module_callback_http_filter_config_decrement_gauge(config_, to->id, &to->label, to->labels,
                                                                                amount);
  } else {
    (void)abi::envoy_dynamic_module_callback_http_filter_config_increment_gauge(config_, to->id, &to->label, to->labels,
                                                                                amount);
  }
}

void metric_ids::record(const metric &one, std::uint64_t value) const {
  const std::optional<target> to = find(one);
  if (!to) {
    return;
  }
  switch (one.type) {
    case metric_type::counter:
      (void)abi::envoy_dynamic_module_callback_http_filter_config_increment_counter(config_, to->id, &to->label,
                                                                                    to->labels, value);
      break;
    case metric_type::gauge:
      (void)abi::envoy_dynamic_module_callback_http_filter_config_set_gauge(config_, to->id, &to->label, to->labels,
                                                                            value);
      break;
    case metric_type::histogram:
      (void)abi::envoy_dynamic_module_callback_http_filter_config_record_histogram_value(config_, to->id, &to->label,
                                                                                         to->labels, value);
      break;
  }
}

}  // namespace proxywasm_envoy
