// SPDX-License-Identifier: Apache-2.0
#include "grpc_calls.h"

#include <optional>

#include "event_loop.h"
#include "grpc_fields.h"

using proxywasm::status;
using proxywasm::view;

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
  const std::optional<header_map> fields = to_grpc_fields(*target, request);
  if (!fields) {
    return status::internal_failure;
  }
  grpc_call::owner &owner = *this;
  const auto call = std::make_shared<grpc_call>(loop_, owner, token, kind);
  calls_.emplace(token, call);
  call->start(connection_to(target->cluster, cluster->second), *fields, request.timeout_ms);
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
