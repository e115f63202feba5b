// SPDX-License-Identifier: Apache-2.0
// The header fields of a gRPC request, as Envoy sends them for a plugin.

#pragma once

#include <optional>
#include <proxywasm.hpp>

#include "grpc_target.h"
#include "header_map.h"

// Nothing when the names of service and method, or the authority, cannot be sent.
std::optional<header_map> to_grpc_fields(const grpc_target &target, const proxywasm_grpc_request &request);
