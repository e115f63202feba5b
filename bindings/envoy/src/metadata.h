// SPDX-License-Identifier: Apache-2.0
// Metadata of a stream, its route, cluster and host, as properties.

#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace proxywasm_envoy {

// What is at `metadata.filter_metadata.<namespace>[.<key>]`, or below `xds.route_metadata` and the like, in the encoding that
// plugins read: text as it is, numbers as 8 bytes of IEEE 754, truths as one byte, lists and whole namespaces as pairs.
// Envoy's interface reaches no deeper: nothing for what has objects in it.
std::optional<std::string> find_metadata(void *filter, std::string_view path);
// The dynamic metadata of a connection: single values only.
std::optional<std::string> find_network_metadata(void *filter, std::string_view path);

}  // namespace proxywasm_envoy
