// SPDX-License-Identifier: Apache-2.0
#include "fake_envoy.h"

#include <algorithm>
#include <cstring>

namespace proxywasm_envoy {

namespace {

fake_filter &self(void *filter) { return *static_cast<fake_filter *>(filter); }

template <typename Map, typename Key, typename Out, typename Convert>
bool give(const Map &map, const Key &key, Out *out, Convert convert) {
  const auto found = map.find(key);
  if (found == map.end()) {
    return false;
  }
  *out = convert(found->second);
  return true;
}

template <typename Map, typename Key, typename Out>
bool give(const Map &map, const Key &key, Out *out) {
  return give(map, key, out, [](const auto &value) { return value; });
}

abi::buffer lend(const std::string &text) { return abi::to_buffer(text); }

std::string text(const abi::buffer &bytes) { return std::string(abi::view(bytes)); }

bool contains(const std::vector<std::string> &list, const std::string &what) {
  return std::find(list.begin(), list.end(), what) != list.end();
}

const std::map<std::string, fake_value> *space_of(void *filter, abi::metadata_source source, const abi::buffer &space) {
  const auto found = self(filter).metadata.find({source, text(space)});
  return found == self(filter).metadata.end() ? nullptr : &found->second;
}

template <typename T>
const T *value_of(void *filter, abi::metadata_source source, const abi::buffer &space, const abi::buffer &key) {
  const auto *fields = space_of(filter, source, space);
  if (fields == nullptr || fields->count(text(key)) == 0) {
    return nullptr;
  }
  return std::get_if<T>(&fields->at(text(key)));
}

template <typename T>
const T *item_of(void *filter, abi::metadata_source source, const abi::buffer &space, const abi::buffer &key,
                 std::size_t index) {
  const auto *list = value_of<std::vector<fake_leaf>>(filter, source, space, key);
  return list == nullptr || index >= list->size() ? nullptr : std::get_if<T>(&(*list)[index]);
}

template <typename T>
bool copy(const T *from, T *to) {
  if (from != nullptr) {
    *to = *from;
  }
  return from != nullptr;
}

bool copy(const std::string *from, abi::buffer *to) {
  if (from != nullptr) {
    *to = lend(*from);
  }
  return from != nullptr;
}

}  // namespace

namespace abi {

extern "C" {

bool envoy_dynamic_module_callback_http_filter_get_attribute_string(void *filter, attribute id, buffer *value) {
  return give(self(filter).texts, id, value, lend);
}
bool envoy_dynamic_module_callback_http_filter_get_attribute_int(void *filter, attribute id, std::uint64_t *value) {
  return give(self(filter).numbers, id, value);
}
bool envoy_dynamic_module_callback_http_filter_get_attribute_bool(void *filter, attribute id, bool *value) {
  return give(self(filter).truths, id, value);
}

void envoy_dynamic_module_callback_http_get_timing_info(void *filter, void *info) {
  const auto &timing = self(filter).timing;
  std::memcpy(info, timing.data(), timing.size() * sizeof timing[0]);
}

bool envoy_dynamic_module_callback_http_set_filter_state_bytes(void *filter, buffer key, buffer value) {
  if (contains(self(filter).locked, text(key))) {
    return false;
  }
  self(filter).state[text(key)] = text(value);
  return true;
}
bool envoy_dynamic_module_callback_http_get_filter_state_bytes(void *filter, buffer key, buffer *value) {
  return give(self(filter).state, text(key), value, lend);
}
bool envoy_dynamic_module_callback_http_set_filter_state_typed(void *filter, buffer key, buffer value) {
  if (!contains(self(filter).factories, text(key))) {
    return false;
  }
  self(filter).typed[text(key)] = text(value);
  return true;
}
bool envoy_dynamic_module_callback_http_get_filter_state_typed(void *filter, buffer key, buffer *value) {
  return give(self(filter).typed, text(key), value, lend);
}

bool envoy_dynamic_module_callback_http_get_metadata_string(void *filter, metadata_source source, buffer space,
                                                            buffer key, buffer *value) {
  return copy(value_of<std::string>(filter, source, space, key), value);
}
bool envoy_dynamic_module_callback_http_get_metadata_number(void *filter, metadata_source source, buffer space,
                                                            buffer key, double *value) {
  return copy(value_of<double>(filter, source, space, key), value);
}
bool envoy_dynamic_module_callback_http_get_metadata_bool(void *filter, metadata_source source, buffer space,
                                                          buffer key, bool *value) {
  return copy(value_of<bool>(filter, source, space, key), value);
}
std::size_t envoy_dynamic_module_callback_http_get_metadata_keys_count(void *filter, metadata_source source,
                                                                       buffer space) {
  const auto *fields = space_of(filter, source, space);
  return fields == nullptr ? 0 : fields->size();
}
bool envoy_dynamic_module_callback_http_get_metadata_keys(void *filter, metadata_source source, buffer space,
                                                          buffer *keys) {
  const auto *fields = space_of(filter, source, space);
  if (fields == nullptr) {
    return false;
  }
  for (const auto &field : *fields) {
    *keys++ = lend(field.first);
  }
  return true;
}
bool envoy_dynamic_module_callback_http_get_metadata_list_size(void *filter, metadata_source source, buffer space,
                                                               buffer key, std::size_t *size) {
  const auto *list = value_of<std::vector<fake_leaf>>(filter, source, space, key);
  if (list != nullptr) {
    *size = list->size();
  }
  return list != nullptr;
}
bool envoy_dynamic_module_callback_http_get_metadata_list_string(void *filter, metadata_source source, buffer space,
                                                                 buffer key, std::size_t index, buffer *value) {
  return copy(item_of<std::string>(filter, source, space, key, index), value);
}
bool envoy_dynamic_module_callback_http_get_metadata_list_number(void *filter, metadata_source source, buffer space,
                                                                 buffer key, std::size_t index, double *value) {
  return copy(item_of<double>(filter, source, space, key, index), value);
}
bool envoy_dynamic_module_callback_http_get_metadata_list_bool(void *filter, metadata_source source, buffer space,
                                                               buffer key, std::size_t index, bool *value) {
  return copy(item_of<bool>(filter, source, space, key, index), value);
}

void envoy_dynamic_module_callback_http_clear_route_cache(void *filter) { ++self(filter).cleared_routes; }

// ---- Connections: the same answers ----

bool envoy_dynamic_module_callback_network_filter_get_attribute_string(void *filter, attribute id, buffer *value) {
  return envoy_dynamic_module_callback_http_filter_get_attribute_string(filter, id, value);
}
bool envoy_dynamic_module_callback_network_filter_get_attribute_int(void *filter, attribute id, std::uint64_t *value) {
  return envoy_dynamic_module_callback_http_filter_get_attribute_int(filter, id, value);
}
bool envoy_dynamic_module_callback_network_filter_get_attribute_bool(void *filter, attribute id, bool *value) {
  return envoy_dynamic_module_callback_http_filter_get_attribute_bool(filter, id, value);
}
bool envoy_dynamic_module_callback_network_set_filter_state_bytes(void *filter, buffer key, buffer value) {
  return envoy_dynamic_module_callback_http_set_filter_state_bytes(filter, key, value);
}
bool envoy_dynamic_module_callback_network_get_filter_state_bytes(void *filter, buffer key, buffer *value) {
  return envoy_dynamic_module_callback_http_get_filter_state_bytes(filter, key, value);
}
bool envoy_dynamic_module_callback_network_set_filter_state_typed(void *filter, buffer key, buffer value) {
  return envoy_dynamic_module_callback_http_set_filter_state_typed(filter, key, value);
}
bool envoy_dynamic_module_callback_network_get_filter_state_typed(void *filter, buffer key, buffer *value) {
  return envoy_dynamic_module_callback_http_get_filter_state_typed(filter, key, value);
}
bool envoy_dynamic_module_callback_network_get_dynamic_metadata_string(void *filter, buffer space, buffer key,
                                                                       buffer *value) {
  return envoy_dynamic_module_callback_http_get_metadata_string(filter, metadata_source::dynamic, space, key, value);
}
bool envoy_dynamic_module_callback_network_get_dynamic_metadata_number(void *filter, buffer space, buffer key,
                                                                       double *value) {
  return envoy_dynamic_module_callback_http_get_metadata_number(filter, metadata_source::dynamic, space, key, value);
}
bool envoy_dynamic_module_callback_network_get_dynamic_metadata_bool(void *filter, buffer space, buffer key,
                                                                     bool *value) {
  return envoy_dynamic_module_callback_http_get_metadata_bool(filter, metadata_source::dynamic, space, key, value);
}

}  // extern "C"

}  // namespace abi

}  // namespace proxywasm_envoy
