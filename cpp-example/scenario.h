// SPDX-License-Identifier: Apache-2.0
// A scenario as its file says it; docs/scenario.md is the reference.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "header_map.h"
#include "options.h"

struct property_value {
  std::string path;   // segments joined by NUL
  std::string value;  // in Envoy's encoding
};

struct message_script {
  header_map headers;
  std::vector<std::string> body;  // chunks
  header_map trailers;
};

// Bytes, or the end, of one side of a TCP connection.
struct data_script {
  proxywasm::direction from = proxywasm::direction::request;
  std::string bytes;
  bool end = false;
};

struct stream_script {
  std::string name;
  proxywasm::stream_kind kind = proxywasm::stream_kind::http;
  std::uint64_t wait_ms = 0;  // before it begins
  std::vector<property_value> properties;
  message_script request;
  message_script response;
  std::vector<data_script> data;
};

// The answer to callouts that match.
struct callout_script {
  std::string cluster;
  std::optional<std::string> method;
  std::optional<std::string> path;
  std::uint64_t delay_ms = 0;
  std::optional<std::uint64_t> times;      // how many callouts it answers; all without
  bool refused = false;                    // `http_call` itself fails
  std::optional<message_script> response;  // none: the call fails
};

struct scenario {
  proxywasm::log_level log_level = proxywasm::log_level::info;
  std::uint64_t start_time_ns = 0;
  std::uint64_t pause_limit_ms = 0;
  std::uint64_t wait_ms = 0;  // after the last stream
  std::vector<plugin_options> plugins;
  std::vector<property_value> properties;
  std::vector<callout_script> callouts;
  std::vector<stream_script> streams;
};

// Files that it names are looked for beside it. Throws usage_error.
scenario read_scenario(const std::string &path);
