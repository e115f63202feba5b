// SPDX-License-Identifier: Apache-2.0
// One gRPC call or stream of a plugin over a stream of Envoy's. What the plugin is told of it, and when, is as in Envoy's own host.

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "call.h"
#include "grpc_target.h"
#include "grpc_wire.h"

namespace proxywasm_envoy {

class grpc_callout final : public call {
 public:
  enum class kind { unary, stream };

  grpc_callout(worker &owner, proxywasm_token token, call_request request, kind kind)
      : call(owner, token, std::move(request)),
        kind_(kind),
        has_timeout_(request_.timeout_ms != 0),
        half_closed_(kind == kind::unary) {}

  // What the plugin sends on a stream.
  proxywasm::status send_message(std::string_view message, bool end_of_stream);
  proxywasm::status half_close();

  void on_headers(const fields &headers, bool end_of_stream) override;
  void on_data(std::string_view bytes, bool end_of_stream) override;
  void on_trailers(const fields &trailers) override;
  void on_complete() override;
  void on_reset(abi::stream_reset_reason reason) override;
  void on_refused() override;

 private:
  void tell_initial_metadata(const fields &headers);
  // False: that ended the call.
  bool on_message(std::string message);
  void finish(grpc_status status, std::string_view message, const fields &trailers = {}, bool reset = false);

  const kind kind_;
  const bool has_timeout_;
  grpc_deframer deframer_;
  std::optional<std::string> answer_;  // of a unary call, which the status decides on
  bool has_headers_ = false;
  bool half_closed_;
};

// The request of a gRPC call or stream to a target, with the message of a unary call; nothing when its fields cannot be sent.
std::optional<call_request> to_call_request(const grpc_target &target, const proxywasm_grpc_request &request,
                                            grpc_callout::kind kind);

}  // namespace proxywasm_envoy
