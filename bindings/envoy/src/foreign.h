// SPDX-License-Identifier: Apache-2.0
// Foreign functions of Envoy's own host, with its names, arguments and results.

#pragma once

#include <optional>
#include <proxywasm.hpp>
#include <string>
#include <string_view>

namespace proxywasm_envoy {

// Those that act on no stream: `compress` and `uncompress`. Nothing: the name is none of theirs. They need the system's zlib
// (libz.so.1); where there is none, nobody has them.
std::optional<proxywasm::status> call_pure_function(std::string_view name, std::string_view argument,
                                                    std::string &result);

// Those that act on a stream: `clear_route_cache` and `set_envoy_filter_state`. A null filter is no stream, as in a root
// context. They have no result.
proxywasm::status call_http_function(void *filter, std::string_view name, std::string_view argument);
// The same for connections, which have no route.
proxywasm::status call_network_function(void *filter, std::string_view name, std::string_view argument);

}  // namespace proxywasm_envoy
