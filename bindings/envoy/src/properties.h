// SPDX-License-Identifier: Apache-2.0
// Properties of streams, in the names and encodings that Envoy's own host has.

#pragma once

#include <proxywasm.hpp>
#include <string>
#include <string_view>

#include "envoy_abi.h"
#include "header_reader.h"

namespace proxywasm_envoy {

// How one kind of filter answers for its attributes.
struct attribute_source {
  bool (*text)(void *filter, abi::attribute id, abi::buffer *value);
  bool (*number)(void *filter, abi::attribute id, std::uint64_t *value);
  bool (*boolean)(void *filter, abi::attribute id, bool *value);
};

// One of Envoy's attributes by its path, whose segments are joined by NUL. `room` may hold a value that is made for the answer.
proxywasm::status get_attribute(const attribute_source &source, void *filter, std::string_view path, std::string &room,
                                std::string_view &value);

// `headers` has the stream's header maps as its plugins see them; the rest comes from `filter`. Statuses as at `proxywasm_host`.
proxywasm::status get_http_property(void *filter, header_reader &headers, std::string_view path, std::string &room,
                                    std::string_view &value);
// Keeps it as filter state of the name `wasm.<path>`.
proxywasm::status set_http_property(void *filter, std::string_view path, std::string_view value);
// The same for connections.
proxywasm::status get_network_property(void *filter, std::string_view path, std::string &room, std::string_view &value);
proxywasm::status set_network_property(void *filter, std::string_view path, std::string_view value);

}  // namespace proxywasm_envoy
