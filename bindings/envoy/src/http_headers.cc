// SPDX-License-Identifier: Apache-2.0
// Header maps and properties of an HTTP stream: hostcalls of plugins on Envoy's own maps.

#include "foreign.h"
#include "http_stream.h"
#include "properties.h"

namespace proxywasm_envoy {

using proxywasm::direction;
using proxywasm::status;

namespace {

abi::header_type to_type(proxywasm::map which) { return static_cast<abi::header_type>(which); }
static_assert(PROXYWASM_MAP_REQUEST_HEADERS == static_cast<int>(abi::header_type::request_headers));
static_assert(PROXYWASM_MAP_REQUEST_TRAILERS == static_cast<int>(abi::header_type::request_trailers));
static_assert(PROXYWASM_MAP_RESPONSE_HEADERS == static_cast<int>(abi::header_type::response_headers));
static_assert(PROXYWASM_MAP_RESPONSE_TRAILERS == static_cast<int>(abi::header_type::response_trailers));

// In requests `host` is another name of `:authority`, as in Envoy.
std::string_view name_in(proxywasm::map which, std::string_view name) {
  return which == proxywasm::map::request_headers && equal_ignoring_case(name, "host") ? ":authority" : name;
}

// What a message must have right: the parts of its first line, and the length of its body.
bool is_required(std::string_view name) {
  return (!name.empty() && name.front() == ':') || equal_ignoring_case(name, "content-length");
}

}  // namespace

bool http_stream::has_map(proxywasm::map which) const {
  if (filter_ == nullptr) {
    return false;
  }
  switch (which) {
    case proxywasm::map::request_headers:
      return true;
    case proxywasm::map::request_trailers:
      return of(direction::request).has_trailers;
    case proxywasm::map::response_headers:
      return of(direction::response).shown;
    case proxywasm::map::response_trailers:
      return of(direction::response).has_trailers;
  }
  return false;
}

// What went on, Envoy may be sending: it is not changed any more.
bool http_stream::can_change(proxywasm::map which) const {
  if (!has_map(which)) {
    return false;
  }
  switch (which) {
    case proxywasm::map::request_headers:
      return !of(direction::request).headers.gone && !of(direction::response).shown;
    case proxywasm::map::request_trailers:
      return !of(direction::request).trailers.gone;
    case proxywasm::map::response_headers:
      return reply_ || (!of(direction::response).headers.gone && !sent_);
    case proxywasm::map::response_trailers:
      return !of(direction::response).trailers.gone && !sent_;
  }
  return false;
}

http_stream::part &http_stream::part_of(proxywasm::map which) {
  const bool is_request = which == proxywasm::map::request_headers || which == proxywasm::map::request_trailers;
  const bool are_headers = which == proxywasm::map::request_headers || which == proxywasm::map::response_headers;
  side &one = of(is_request ? direction::request : direction::response);
  return are_headers ? one.headers : one.trailers;
}

// A plugin has written a pair, or removed it.
void http_stream::note_change(proxywasm::map which, std::string_view name, std::string_view value) {
  part &one = part_of(which);
  one.changed = true;
  one.suspect = one.suspect || is_required(name) || !is_valid_field(name, value);
  snapshot_.forget();
  if (which == proxywasm::map::request_headers) {
    // The route was chosen by what they were.
    abi::envoy_dynamic_module_callback_http_clear_route_cache(filter_);
  }
}

status http_stream::get_header(proxywasm::map which, std::string_view name, std::string_view &value) {
  if (!has_map(which)) {
    return status::bad_argument;
  }
  if (is_reply_map(which)) {
    const std::string *found = reply_->headers.find(to_lower(name));
    if (found == nullptr) {
      return status::not_found;
    }
    value = *found;
    return status::ok;
  }
  // Outside of the stream's hooks nobody says when Envoy changes the map.
  const auto found = depth_ == 0 ? find_header(filter_, to_type(which), name)
                                 : snapshot_.find(filter_, to_type(which), name_in(which, name));
  if (!found) {
    return status::not_found;
  }
  value = *found;
  return status::ok;
}

status http_stream::get_headers(proxywasm::map which, proxywasm_pair *pairs, std::size_t capacity, std::size_t &count) {
  if (!has_map(which)) {
    return status::bad_argument;
  }
  if (is_reply_map(which)) {
    proxywasm::pair_sink sink(pairs, capacity);
    for (const header_field &field : reply_->headers) {
      sink.add(field.name, field.value);
    }
    count = sink.count();
    return status::ok;
  }
  count = abi::envoy_dynamic_module_callback_http_get_headers_size(filter_, to_type(which));
  if (count != 0 && count <= capacity) {
    // Of one layout: see worker.cc.
    (void)abi::envoy_dynamic_module_callback_http_get_headers(filter_, to_type(which),
                                                              reinterpret_cast<abi::header *>(pairs));
  }
  return status::ok;
}

status http_stream::add_header(proxywasm::map which, std::string_view name, std::string_view value) {
  if (!can_change(which)) {
    return status::bad_argument;
  }
  if (is_reply_map(which)) {
    reply_->headers.add(name, value);
    return status::ok;
  }
  const std::string_view own_name = name_in(which, name);
  // There can be one only.
  if (own_name == ":authority") {
    return replace_header(which, own_name, value);
  }
  // False for a value that is empty, which Envoy does not take from modules.
  (void)abi::envoy_dynamic_module_callback_http_add_header(filter_, to_type(which), abi::to_buffer(own_name),
                                                           value.empty() ? abi::to_buffer("") : abi::to_buffer(value));
  note_change(which, own_name, value);
  return status::ok;
}

status http_stream::replace_header(proxywasm::map which, std::string_view name, std::string_view value) {
  if (!can_change(which)) {
    return status::bad_argument;
  }
  if (is_reply_map(which)) {
    reply_->headers.replace(name, value);
    return status::ok;
  }
  const std::string_view own_name = name_in(which, name);
  (void)abi::envoy_dynamic_module_callback_http_set_header(filter_, to_type(which), abi::to_buffer(own_name),
                                                           value.empty() ? abi::to_buffer("") : abi::to_buffer(value));
  note_change(which, own_name, value);
  return status::ok;
}

status http_stream::remove_header(proxywasm::map which, std::string_view name) {
  if (!can_change(which)) {
    return status::bad_argument;
  }
  if (is_reply_map(which)) {
    reply_->headers.remove(name);
    return status::ok;
  }
  const std::string_view own_name = name_in(which, name);
  (void)abi::envoy_dynamic_module_callback_http_set_header(filter_, to_type(which), abi::to_buffer(own_name), {});
  note_change(which, own_name, {});
  return status::ok;
}

status http_stream::get_property(std::string_view path, std::string &room, std::string_view &value) {
  return filter_ == nullptr ? status::not_found : get_http_property(filter_, *this, path, room, value);
}

status http_stream::set_property(std::string_view path, std::string_view value) {
  return filter_ == nullptr ? status::bad_argument : set_http_property(filter_, path, value);
}

status http_stream::call_foreign_function(std::string_view name, std::string_view argument) {
  return call_http_function(filter_, name, argument);
}

}  // namespace proxywasm_envoy
