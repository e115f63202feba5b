// SPDX-License-Identifier: Apache-2.0
// gRPC calls and streams that plugins start (`proxy_grpc_call`, `proxy_grpc_stream`), and the connections they share: one to
// each cluster, opened when it is needed.

#pragma once

#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "grpc_call.h"
#include "grpc_target.h"

class grpc_calls final : private grpc_call::owner, private http2_client::owner {
 public:
  explicit grpc_calls(event_loop &loop);
  ~grpc_calls();

  // Inside a callback of the library: begin what is asked for and return.
  proxywasm::status start(grpc_call::kind kind, proxywasm_token token, const proxywasm_grpc_request &request);
  proxywasm::status send(proxywasm_token token, std::string_view message, bool end_of_stream);
  proxywasm::status close(proxywasm_token token);
  void cancel(proxywasm_token token);

 private:
  // One that has had GOAWAY stays for its last streams, beside its successor.
  struct connection {
    std::string cluster;
    std::unique_ptr<http2_client> client;
  };

  void on_call_ended(proxywasm_token token) override;
  void on_connection_ended(http2_client &client) override;

  http2_client &connection_to(const std::string &cluster, const endpoint &address);

  event_loop &loop_;
  std::list<connection> connections_;
  std::map<proxywasm_token, std::shared_ptr<grpc_call>> calls_;
};
