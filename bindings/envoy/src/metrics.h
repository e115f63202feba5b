// SPDX-License-Identifier: Apache-2.0
// Plugins' metrics in Envoy's registry, and their values, which Envoy does not give back.
//
// Envoy takes definitions only while a configuration is made. What plugins define then gets its own name; each later
// configuration defines it again for itself, since numbers of metrics hold within one. What is defined after that is told as one
// of `late_counter`, `late_gauge` and `late_histogram`, with the name as label `name`. Envoy 1.38 is told nothing.

#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <proxywasm.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "envoy_abi.h"

namespace proxywasm_envoy {

struct metric {
  proxywasm::metric_type type;
  std::string name;
  std::uint32_t index;
  std::atomic<std::uint64_t> value{0};
};

// All metrics of the process. Any thread.
class metric_table {
 public:
  // Finds or makes one. Addresses stay.
  metric &find(proxywasm::metric_type type, std::string_view name);
  // Calls `visit(metric &)` for each.
  template <typename Visit>
  void each(Visit visit) {
    const std::lock_guard<std::mutex> hold(lock_);
    for (metric &one : metrics_) {
      visit(one);
    }
  }

 private:
  std::mutex lock_;
  std::deque<metric> metrics_;
};

// How the configurations of one kind of filter tell Envoy of metrics.
struct metric_api {
  using define = abi::metrics_result (*)(void *config, std::string_view name, const abi::buffer *labels,
                                         std::size_t count, std::size_t *id);
  using change = abi::metrics_result (*)(void *config, std::size_t id, const abi::buffer *labels, std::size_t count,
                                         std::uint64_t value);
  // By type.
  std::array<define, 3> definitions;
  // Null where Envoy does not have them.
  change increment_counter, increment_gauge, decrement_gauge, set_gauge, record_histogram;
  bool has_labels;
};
extern const metric_api http_metrics;
extern const metric_api service_metrics;

// What a configuration knows of them: Envoy's numbers. Definitions on the main thread, before anything is counted.
class metric_ids {
 public:
  // `config` is Envoy's.
  metric_ids(const metric_api &envoy, void *config) : envoy_(envoy), config_(config) {}

  void define_late();
  void define(const metric &one);
  // Nothing more can be defined.
  void freeze() { frozen_ = true; }
  bool is_frozen() const { return frozen_; }

  // Any of Envoy's threads while the configuration lives.
  void add(const metric &one, std::int64_t delta) const;
  void record(const metric &one, std::uint64_t value) const;

 private:
  struct target;
  std::optional<target> find(const metric &one) const;

  std::optional<std::size_t> define_in(proxywasm::metric_type type, std::string_view name, const abi::buffer *labels,
                                       std::size_t count) const;

  const metric_api &envoy_;
  void *config_;
  bool frozen_ = false;
  // By index of the metric.
  std::vector<std::optional<std::size_t>> ids_;
  std::array<std::optional<std::size_t>, 3> late_;
};

}  // namespace proxywasm_envoy
