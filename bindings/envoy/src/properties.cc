// SPDX-License-Identifier: Apache-2.0
#include "properties.h"

#include <array>
#include <optional>
#include <vector>

#include "metadata.h"
#include "property_encoding.h"

namespace proxywasm_envoy {

using proxywasm::map;
using proxywasm::status;

namespace {

constexpr attribute_source http_attributes = {
    abi::envoy_dynamic_module_callback_http_filter_get_attribute_string,
    abi::envoy_dynamic_module_callback_http_filter_get_attribute_int,
    abi::envoy_dynamic_module_callback_http_filter_get_attribute_bool,
};

constexpr attribute_source network_attributes = {
    abi::envoy_dynamic_module_callback_network_filter_get_attribute_string,
    abi::envoy_dynamic_module_callback_network_filter_get_attribute_int,
    abi::envoy_dynamic_module_callback_network_filter_get_attribute_bool,
};

// The first segment of a path, which loses it.
std::string_view take_segment(std::string_view &path) {
  const std::size_t end = path.find('\0');
  const std::string_view segment = path.substr(0, end);
  path = end == std::string_view::npos ? std::string_view() : path.substr(end + 1);
  return segment;
}

status give(std::string &room, std::string_view &value, std::string bytes) {
  room = std::move(bytes);
  value = room;
  return status::ok;
}

// ---- Header maps ----

struct field {
  std::string_view name;
  std::string value;
};

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) {
    return false;
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) {
      return false;
    }
  }
  return true;
}

// Each name once, values of repeated ones joined by commas, as in Envoy; of one name only, if one is given.
std::vector<field> joined_headers(header_reader &headers, map which, std::string_view name) {
  std::vector<proxywasm_pair> pairs;
  std::size_t count = 0;
  if (headers.get_headers(which, nullptr, 0, count) != status::ok) {
    return {};
  }
  pairs.resize(count);
  if (headers.get_headers(which, pairs.data(), pairs.size(), count) != status::ok) {
    return {};
  }
  std::vector<field> list;
  for (std::size_t i = 0; i < pairs.size() && i < count; ++i) {
    const std::string_view key = proxywasm::view(pairs[i].name), text = proxywasm::view(pairs[i].value);
    if (!name.empty() && !equal_ignoring_case(key, name)) {
      continue;
    }
    field *known = nullptr;
    for (field &one : list) {
      known = equal_ignoring_case(one.name, key) ? &one : known;
    }
    if (known != nullptr) {
      known->value.append(",").append(text);
    } else {
      list.push_back({key, std::string(text)});
    }
  }
  return list;
}

status get_headers_property(header_reader &headers, map which, std::string_view name, std::string &room,
                            std::string_view &value) {
  const std::vector<field> list = joined_headers(headers, which, name);
  if (list.empty()) {
    return status::not_found;
  }
  return give(room, value, name.empty() ? encode_map(list) : list.front().value);
}

// Names and values, without what the wire puts around them.
status get_headers_bytes(header_reader &headers, map which, std::string &room, std::string_view &value) {
  std::uint64_t bytes = 0;
  const std::vector<field> list = joined_headers(headers, which, {});
  for (const field &one : list) {
    bytes += one.name.size() + one.value.size();
  }
  return list.empty() ? status::not_found : give(room, value, encode_integer(bytes));
}

// ---- Times ----

// What `get_timing_info` of Envoy 1.40 writes: the start in nanoseconds since 1970, then nanoseconds since the start, -1 for what
// has not been yet. Older ones write less, so that the rest stays -1.
using timing = std::array<std::int64_t, 64>;
constexpr std::size_t start = 0, first_byte_to_upstream = 9, last_byte_from_upstream = 13, request_complete = 17;

timing read_timing(void *filter) {
  timing info;
  info.fill(-1);
  abi::envoy_dynamic_module_callback_http_get_timing_info(filter, info.data());
  return info;
}

std::optional<std::int64_t> find_time(void *filter, std::string_view path) {
  using namespace std::string_view_literals;
  if (abi::envoy_dynamic_module_callback_http_get_timing_info == nullptr) {
    return std::nullopt;
  }
  if (path == "request\0time"sv) {
    return read_timing(filter)[start];
  }
  if (path == "request\0duration"sv) {
    return read_timing(filter)[request_complete];
  }
  if (path == "response\0backend_latency"sv) {
    const timing info = read_timing(filter);
    const std::int64_t first = info[first_byte_to_upstream], last = info[last_byte_from_upstream];
    return first < 0 || last < 0 ? -1 : last - first;
  }
  return std::nullopt;
}

// ---- Filter state ----

using read_state = bool (*)(void *filter, abi::buffer key, abi::buffer *value);

template <read_state Bytes, read_state Typed>
status get_state(void *filter, std::string_view key, std::string_view &value) {
  abi::buffer bytes{};
  if (Bytes(filter, abi::to_buffer(key), &bytes) || Typed(filter, abi::to_buffer(key), &bytes)) {
    value = abi::view(bytes);
    return status::ok;
  }
  return status::not_found;
}

constexpr auto get_filter_state = get_state<abi::envoy_dynamic_module_callback_http_get_filter_state_bytes,
                                            abi::envoy_dynamic_module_callback_http_get_filter_state_typed>;
constexpr auto get_network_state = get_state<abi::envoy_dynamic_module_callback_network_get_filter_state_bytes,
                                             abi::envoy_dynamic_module_callback_network_get_filter_state_typed>;

// What plugins have set is filter state of this name.
std::string own_key(std::string_view path) { return std::string("wasm.").append(path); }

}  // namespace

status get_http_property(void *filter, header_reader &headers, std::string_view path, std::string &room,
                         std::string_view &value) {
  if (get_attribute(http_attributes, filter, path, room, value) == status::ok) {
    return status::ok;
  }
  if (const std::optional<std::int64_t> time = find_time(filter, path)) {
    return *time < 0 ? status::not_found : give(room, value, encode_integer(static_cast<std::uint64_t>(*time)));
  }
  std::string_view rest = path;
  const std::string_view root = take_segment(rest);
  if (root == "request" || root == "response") {
    const std::string_view part = take_segment(rest);
    const bool of_request = root == "request";
    const map fields = of_request ? map::request_headers : map::response_headers;
    if (part == "headers") {
      return get_headers_property(headers, fields, rest, room, value);
    }
    if (part == "query" && of_request && rest.empty()) {
      // Envoy answers for a query that there is; an empty one is no less of a request.
      value = {};
      return headers.get_header(fields, ":path", value) == status::ok ? give(room, value, std::string())
                                                                      : status::not_found;
    }
    if (part == "headers_bytes" && rest.empty()) {
      return get_headers_bytes(headers, fields, room, value);
    }
    if (part == "trailers" && !of_request) {
      return get_headers_property(headers, map::response_trailers, rest, room, value);
    }
  } else if (root == "filter_state" && !rest.empty()) {
    return get_filter_state(filter, rest, value);
  } else if (const std::optional<std::string> bytes = find_metadata(filter, path)) {
    return give(room, value, *bytes);
  }
  return get_filter_state(filter, own_key(path), value);
}

status set_http_property(void *filter, std::string_view path, std::string_view value) {
  // Where Envoy takes it not, because another filter has something else of that name, the library keeps it.
  return abi::envoy_dynamic_module_callback_http_set_filter_state_bytes(filter, abi::to_buffer(own_key(path)),
                                                                        abi::to_buffer(value))
             ? status::ok
             : status::unimplemented;
}

status get_network_property(void *filter, std::string_view path, std::string &room, std::string_view &value) {
  if (get_attribute(network_attributes, filter, path, room, value) == status::ok) {
    return status::ok;
  }
  std::string_view rest = path;
  const std::string_view root = take_segment(rest);
  if (root == "filter_state" && !rest.empty()) {
    return get_network_state(filter, rest, value);
  }
  if (const std::optional<std::string> bytes = find_network_metadata(filter, path)) {
    return give(room, value, *bytes);
  }
  return get_network_state(filter, own_key(path), value);
}

status set_network_property(void *filter, std::string_view path, std::string_view value) {
  return abi::envoy_dynamic_module_callback_network_set_filter_state_bytes(filter, abi::to_buffer(own_key(path)),
                                                                           abi::to_buffer(value))
             ? status::ok
             : status::unimplemented;
}

}  // namespace proxywasm_envoy
