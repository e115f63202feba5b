// SPDX-License-Identifier: Apache-2.0
// What a filter's `filter_config` says: Envoy's envoy.extensions.wasm.v3.PluginConfig as a google.protobuf.Struct, which
// reaches a module as JSON, and fields of our own (`limits`, `isolation`).

#pragma once

#include <cstdint>
#include <optional>
#include <proxywasm.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace proxywasm_envoy {

// `reload_config.backoff`, in nanoseconds.
struct reload_backoff {
  std::uint64_t base_ns = 0;
  std::uint64_t max_ns = 0;
};

// Members that are 0 keep the library's defaults; durations of UINT64_MAX are none.
struct plugin_limits {
  std::uint64_t deadline_ns = 0;
  std::uint64_t start_deadline_ns = 0;
  std::uint64_t max_memory = 0;
  std::uint64_t max_body_buffer = 0;
  std::uint64_t max_callouts = 0;
};

// What can be said for a filter and for a route. What is not there keeps its default, or what the filter says.
struct plugin_settings {
  std::optional<std::string> name;
  std::optional<std::string> root_id;
  // The bytes that proxy_on_configure gets.
  std::optional<std::string> configuration;
  std::optional<proxywasm::failure_policy> failure_policy;
  std::optional<reload_backoff> reload;
  // Names of what the plugin may call and is called for; empty: everything.
  std::optional<std::vector<std::string>> capabilities;
  std::optional<bool> allow_on_headers_stop_iteration;
  plugin_limits limits;
  std::optional<proxywasm::isolation> isolation;
};

// `vm_config.code.local`: one of the two.
struct plugin_code {
  std::string filename;
  std::string bytes;
};

struct vm_settings {
  std::string vm_id;
  plugin_code code;
  // The bytes that proxy_on_vm_start gets.
  std::string configuration;
  // What it names of the process's own environment is in there.
  std::vector<std::pair<std::string, std::string>> environment;
};

struct filter_config {
  plugin_settings plugin;
  vm_settings vm;
};

// What a route says: fields of a filter's configuration except `vm_config`, or `disabled`.
struct route_config {
  bool disabled = false;
  plugin_settings plugin;
};

// Both give nothing when the text is wrong, and then `error` is one sentence with the field's path, what was found and what is
// wanted. They take any bytes and throw nothing.
std::optional<filter_config> parse_filter_config(std::string_view text, std::string &error) noexcept;
std::optional<route_config> parse_route_config(std::string_view text, std::string &error) noexcept;

// The filter's settings with those of a route above them.
plugin_settings with_route(const plugin_settings &filter, const plugin_settings &route);

}  // namespace proxywasm_envoy
