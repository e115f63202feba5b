// SPDX-License-Identifier: Apache-2.0
#include "grpc_fields.h"

#include <algorithm>
#include <iterator>

#include "base64.h"
#include "grpc_wire.h"

using proxywasm::view;

namespace {

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// What the proxy itself says, or HTTP/2 does not allow.
bool is_reserved(std::string_view name) {
  constexpr std::string_view names[] = {"te",         "content-type",  "content-length",      "host",
                                        "connection", "keep-alive",    "proxy-connection",    "transfer-encoding",
                                        "upgrade",    "grpc-encoding", "grpc-accept-encoding"};
  return name.empty() || name.front() == ':' || std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// Binary values are encoded here, and not decoded when they come, as in Envoy.
void add_metadata(header_map &fields, std::string_view name, std::string_view value) {
  const std::string key = to_lower(name);
  const std::string text = ends_with(key, "-bin") ? to_base64(value) : std::string(value);
  if (!is_reserved(key) && is_valid_field(key, text)) {
    fields.add(key, text);
  }
}

}  // namespace

std::optional<header_map> to_grpc_fields(const grpc_target &target, const proxywasm_grpc_request &request) {
  const std::string path = "/" + std::string(view(request.service)) + "/" + std::string(view(request.method));
  if (!is_valid_field(":path", path) || !is_valid_field(":authority", target.authority)) {
    return std::nullopt;
  }
  header_map fields;
  fields.add(":method", "POST");
  fields.add(":scheme", "http");
  fields.add(":path", path);
  fields.add(":authority", target.authority.empty() ? target.cluster : target.authority);
  fields.add("te", "trailers");
  fields.add("content-type", "application/grpc");
  fields.add("grpc-accept-encoding", "identity");
  for (const proxywasm_pair &pair : proxywasm::array_view<proxywasm_pair>(request.metadata, request.metadata_count)) {
    add_metadata(fields, view(pair.name), view(pair.value));
  }
  for (const header_field &field : target.metadata) {
    add_metadata(fields, field.name, field.value);
  }
  if (request.timeout_ms != 0) {
    fields.replace("grpc-timeout", to_grpc_timeout(request.timeout_ms));
  }
  return fields;
}
