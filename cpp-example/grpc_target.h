// SPDX-License-Identifier: Apache-2.0
// Whom a plugin means by the first argument of `proxy_grpc_call` and `proxy_grpc_stream`.

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "header_map.h"

struct grpc_target {
  std::string cluster;
  std::string authority;  // empty: the cluster's name, as in Envoy
  header_map metadata;    // sent with every call
};

// Decodes an `envoy.config.core.v3.GrpcService`. Nothing when it is none, or names no cluster of the proxy: its other kind of
// target, `google_grpc`, is an address of the plugin's own choice.
std::optional<grpc_target> parse_grpc_service(std::string_view message);
