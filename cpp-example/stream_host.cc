// SPDX-License-Identifier: Apache-2.0
#include "stream_host.h"

#include <algorithm>
#include <array>
#include <iterator>

using proxywasm::status;
using proxywasm::view;

namespace {

// A plugin that acts on no stream (in a tick, say) has no header maps.
header_map *map_of(plugin_stream *stream, proxywasm::map which) {
  return stream == nullptr ? nullptr : stream->find_map(which);
}

header_map *changeable_map_of(plugin_stream *stream, proxywasm::map which) {
  return stream == nullptr || !stream->can_change(which) ? nullptr : stream->find_map(which);
}

// In requests `host` is another name of `:authority`, as in Envoy.
std::string_view name_in(proxywasm::map which, std::string_view name) {
  return which == proxywasm::map::request_headers && equal_ignoring_case(name, "host") ? ":authority" : name;
}

void add_to(header_map &headers, proxywasm::map which, std::string_view name, std::string_view value) {
  const std::string_view own_name = name_in(which, name);
  if (own_name == ":authority") {
    headers.replace(own_name, value);  // there can be one only
  } else {
    headers.add(own_name, value);
  }
}

constexpr std::array<const char *, 6> level_names = {"trace", "debug", "info", "warn", "error", "critical"};

}  // namespace

status stream_host::get_header(void *stream, proxywasm::map which, std::string_view name, std::string_view &value) {
  const header_map *headers = map_of(to_stream(stream), which);
  if (headers == nullptr) {
    return status::bad_argument;
  }
  const std::string *found = headers->find(name_in(which, name));
  if (found == nullptr) {
    return status::not_found;
  }
  value = *found;
  return status::ok;
}

status stream_host::get_headers(void *stream, proxywasm::map which, proxywasm::pair_sink &sink) {
  const header_map *headers = map_of(to_stream(stream), which);
  if (headers == nullptr) {
    return status::bad_argument;
  }
  for (const header_field &field : *headers) {
    sink.add(field.name, field.value);
  }
  return status::ok;
}

// What no proxy may send is taken all the same, and refused with the message when its headers go on: SDKs take a status of
// failure here for the end of the plugin, and with it of all its streams.
status stream_host::add_header(void *stream, proxywasm::map which, std::string_view name, std::string_view value) {
  header_map *headers = changeable_map_of(to_stream(stream), which);
  if (headers == nullptr) {
    return status::bad_argument;
  }
  add_to(*headers, which, name, value);
  return status::ok;
}

status stream_host::replace_header(void *stream, proxywasm::map which, std::string_view name, std::string_view value) {
  header_map *headers = changeable_map_of(to_stream(stream), which);
  if (headers == nullptr) {
    return status::bad_argument;
  }
  headers->replace(name_in(which, name), value);
  return status::ok;
}

status stream_host::remove_header(void *stream, proxywasm::map which, std::string_view name) {
  header_map *headers = changeable_map_of(to_stream(stream), which);
  if (headers == nullptr) {
    return status::bad_argument;
  }
  headers->remove(name_in(which, name));
  return status::ok;
}

status stream_host::set_headers(void *stream, proxywasm::map which, proxywasm::array_view<proxywasm_pair> pairs) {
  header_map *headers = changeable_map_of(to_stream(stream), which);
  if (headers == nullptr) {
    return status::bad_argument;
  }
  headers->clear();
  for (const proxywasm_pair &pair : pairs) {
    add_to(*headers, which, view(pair.name), view(pair.value));
  }
  return status::ok;
}

status stream_host::get_property(void *stream, std::string_view path, std::string_view &value) {
  property_.clear();
  if (stream == nullptr || !to_stream(stream)->find_property(path, property_)) {
    return status::not_found;
  }
  value = property_;
  return status::ok;
}

status stream_host::send_local_response(void *stream, const proxywasm_local_response &response) {
  return stream == nullptr ? status::bad_argument : to_stream(stream)->on_local_response(response);
}

void stream_host::resume_stream(void *stream, proxywasm::direction way) {
  if (stream != nullptr) {
    to_stream(stream)->on_resume(way);
  }
}

void stream_host::close_stream(void *stream, proxywasm::stream_type which) {
  if (stream != nullptr) {
    to_stream(stream)->on_close(which);
  }
}

const char *level_name(std::int32_t level) {
  return level >= 0 && level < static_cast<std::int32_t>(level_names.size())
             ? level_names[static_cast<std::size_t>(level)]
             : "unknown";
}

bool parse_level(std::string_view name, proxywasm::log_level &level) {
  const auto *found = std::find(level_names.begin(), level_names.end(), name);
  if (found == level_names.end()) {
    return false;
  }
  level = static_cast<proxywasm::log_level>(std::distance(level_names.begin(), found));
  return true;
}
