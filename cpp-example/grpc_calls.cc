// SPDX-License-Identifier: Apache-2.0
#include "grpc_calls.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "base64.h"
#include "event_loop.h"

using proxywasm::status;
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

header_map to_fields(const grpc_target &target, const std::string &path, const proxywasm_grpc_request &request) {
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

}  // namespace

grpc_calls::grpc_calls(event_loop &loop) : loop_(loop) {}

grpc_calls::~grpc_calls() = default;

status grpc_calls::start(grpc_call::kind kind, proxywasm_token token, const proxywasm_grpc_request &request) {
  const auto &clusters = loop_.options().clusters;
  std::optional<grpc_target> target;
  if (clusters.find(view(request.upstream)) != clusters.end()) {
    target = grpc_target{std::string(view(request.upstream)), "", {}};
  } else {
    target = parse_grpc_service(view(request.upstream));
  }
  const auto cluster = target ? clusters.find(target->cluster) : clusters.end();
  if (cluster == clusters.end()) {
    return status::parse_failure;
  }
  const std::string path = "/" + std::string(view(request.service)) + "/" + std::string(view(request.method));
  if (!is_valid_field(":path", path) || !is_valid_field(":authority", target->authority)) {
    return status::internal_failure;
  }
  grpc_call::owner &owner = *this;
  const auto call = std::make_shared<grpc_call>(loop_, owner, token, kind);
  calls_.emplace(token, call);
  call->start(connection_to(target->cluster, cluster->second), to_fields(*target, path, request), request.timeout_ms);
  if (kind == grpc_call::kind::unary) {
    call->send(view(request.message));
    call->end();
  }
  return status::ok;
}

status grpc_calls::send(proxywasm_token token, std::string_view message, bool end_of_stream) {
  const auto found = calls_.find(token);
  if (found == calls_.end()) {
    return status::not_found;
  }
  const std::shared_ptr<grpc_call> call = found->second;
  if (call->half_closed()) {
    return status::bad_argument;
  }
  call->send(message);
  if (end_of_stream) {
    call->end();
  }
  return status::ok;
}

status grpc_calls::close(proxywasm_token token) {
  const auto found = calls_.find(token);
  if (found == calls_.end()) {
    return status::not_found;
  }
  found->second->end();
  return status::ok;
}

void grpc_calls::cancel(proxywasm_token token) {
  const auto found = calls_.find(token);
  if (found != calls_.end()) {
    found->second->cancel();
    calls_.erase(found);
  }
}

void grpc_calls::on_call_ended(proxywasm_token token) { calls_.erase(token); }

void grpc_calls::on_connection_ended(http2_client &client) {
  connections_.remove_if([&client](const connection &one) { return one.client.get() == &client; });
}

http2_client &grpc_calls::connection_to(const std::string &cluster, const endpoint &address) {
  for (const connection &one : connections_) {
    if (one.cluster == cluster && one.client->usable()) {
      return *one.client;
    }
  }
  http2_client::owner &owner = *this;
  connections_.push_front({cluster, std::make_unique<http2_client>(loop_.base(), address, owner)});
  return *connections_.front().client;
}
