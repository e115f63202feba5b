// SPDX-License-Identifier: Apache-2.0
#include "metadata.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "envoy_abi.h"
#include "property_encoding.h"

namespace proxywasm_envoy {

namespace {

using abi::metadata_source;
using namespace std::string_view_literals;

struct root {
  std::string_view path;
  metadata_source source;
};

constexpr root roots[] = {
    {"metadata\0filter_metadata\0"sv, metadata_source::dynamic},
    {"xds\0route_metadata\0filter_metadata\0"sv, metadata_source::route},
    {"xds\0cluster_metadata\0filter_metadata\0"sv, metadata_source::cluster},
    {"xds\0upstream_host_metadata\0filter_metadata\0"sv, metadata_source::host},
};

struct field {
  std::string name;
  std::string value;
};

std::string encode(double number) {
  static_assert(sizeof(double) == sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &number, sizeof bits);
  return encode_integer(bits);
}

std::string encode(bool truth) { return std::string(1, truth ? '\1' : '\0'); }

std::optional<std::string> find_item(void *filter, metadata_source source, abi::buffer space, abi::buffer key,
                                     std::size_t index) {
  abi::buffer text{};
  if (abi::envoy_dynamic_module_callback_http_get_metadata_list_string(filter, source, space, key, index, &text)) {
    return std::string(abi::view(text));
  }
  double number = 0;
  if (abi::envoy_dynamic_module_callback_http_get_metadata_list_number(filter, source, space, key, index, &number)) {
    return encode(number);
  }
  bool truth = false;
  if (abi::envoy_dynamic_module_callback_http_get_metadata_list_bool(filter, source, space, key, index, &truth)) {
    return encode(truth);
  }
  return std::nullopt;
}

std::optional<std::string> find_value(void *filter, metadata_source source, abi::buffer space, abi::buffer key) {
  abi::buffer text{};
  if (abi::envoy_dynamic_module_callback_http_get_metadata_string(filter, source, space, key, &text)) {
    return std::string(abi::view(text));
  }
  double number = 0;
  if (abi::envoy_dynamic_module_callback_http_get_metadata_number(filter, source, space, key, &number)) {
    return encode(number);
  }
  bool truth = false;
  if (abi::envoy_dynamic_module_callback_http_get_metadata_bool(filter, source, space, key, &truth)) {
    return encode(truth);
  }
  std::size_t size = 0;
  if (!abi::envoy_dynamic_module_callback_http_get_metadata_list_size(filter, source, space, key, &size)) {
    return std::nullopt;
  }
  std::vector<field> items;
  for (std::size_t index = 0; index < size; ++index) {
    std::optional<std::string> item = find_item(filter, source, space, key, index);
    if (!item) {
      return std::nullopt;
    }
    items.push_back({std::move(*item), {}});
  }
  return encode_map(items);
}

std::optional<std::string> find_space(void *filter, metadata_source source, abi::buffer space) {
  std::vector<abi::buffer> keys(abi::envoy_dynamic_module_callback_http_get_metadata_keys_count(filter, source, space));
  if (keys.empty() || !abi::envoy_dynamic_module_callback_http_get_metadata_keys(filter, source, space, keys.data())) {
    return std::nullopt;
  }
  std::vector<field> fields;
  for (const abi::buffer &key : keys) {
    std::optional<std::string> value = find_value(filter, source, space, key);
    if (!value) {
      return std::nullopt;
    }
    fields.push_back({std::string(abi::view(key)), std::move(*value)});
  }
  return encode_map(fields);
}

}  // namespace

std::optional<std::string> find_metadata(void *filter, std::string_view path) {
  for (const root &one : roots) {
    if (path.substr(0, one.path.size()) != one.path) {
      continue;
    }
    path.remove_prefix(one.path.size());
    const std::size_t end = path.find('\0');
    const abi::buffer space = abi::to_buffer(path.substr(0, end));
    if (end == std::string_view::npos) {
      return find_space(filter, one.source, space);
    }
    const std::string_view key = path.substr(end + 1);
    return key.find('\0') == std::string_view::npos ? find_value(filter, one.source, space, abi::to_buffer(key))
                                                    : std::nullopt;
  }
  return std::nullopt;
}

std::optional<std::string> find_network_metadata(void *filter, std::string_view path) {
  const std::string_view prefix = roots[0].path;
  if (path.substr(0, prefix.size()) != prefix) {
    return std::nullopt;
  }
  path.remove_prefix(prefix.size());
  const std::size_t end = path.find('\0');
  if (end == std::string_view::npos) {
    return std::nullopt;
  }
  const abi::buffer space = abi::to_buffer(path.substr(0, end)), key = abi::to_buffer(path.substr(end + 1));
  abi::buffer text{};
  if (abi::envoy_dynamic_module_callback_network_get_dynamic_metadata_string(filter, space, key, &text)) {
    return std::string(abi::view(text));
  }
  double number = 0;
  if (abi::envoy_dynamic_module_callback_network_get_dynamic_metadata_number(filter, space, key, &number)) {
    return encode(number);
  }
  bool truth = false;
  if (abi::envoy_dynamic_module_callback_network_get_dynamic_metadata_bool(filter, space, key, &truth)) {
    return encode(truth);
  }
  return std::nullopt;
}

}  // namespace proxywasm_envoy
