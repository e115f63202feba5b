// SPDX-License-Identifier: Apache-2.0
// Properties ("attributes") in Envoy's names and encoding.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "header_map.h"
#include "property_encoding.h"

// Envoy's bits of `response.flags`.
enum response_flag : std::uint64_t {
  upstream_request_timeout = 0x4,
  upstream_connection_failure = 0x20,
  upstream_connection_termination = 0x40,
};

// What properties of a stream are made of; a TCP connection has no headers.
struct stream_facts {
  const header_map *request_headers = nullptr;
  const header_map *response_headers = nullptr;  // null as long as there is no response
  const header_map *response_trailers = nullptr;
  std::string_view protocol;        // "HTTP/1.1"
  std::string_view source_address;  // "192.0.2.1:4711"
  std::string_view destination_address;
  std::string_view upstream_address;        // empty before an upstream was chosen
  std::string_view upstream_local_address;  // empty before there was a connection to it
  std::string_view scheme = "http";
  std::uint64_t start_ns = 0;      // since 1970
  std::uint64_t duration_ns = 0;   // so far
  std::uint64_t request_size = 0;  // bytes of body so far
  std::uint64_t response_size = 0;
  std::string_view code_details;         // where the response comes from; empty before it is known
  std::uint64_t response_flags = 0;      // what went wrong, see response_flag
  std::uint64_t backend_latency_ns = 0;  // how long the upstream took; 0: there is none
  std::uint64_t connection_id = 0;
};

// Looks up a path whose segments are joined by NUL, such as "request\0headers\0host". False when there is none.
bool find_property(const stream_facts &facts, std::string_view path, std::string &value);

// The system clock: nanoseconds since 1970.
std::uint64_t now_realtime_ns();
