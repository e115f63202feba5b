// SPDX-License-Identifier: Apache-2.0
// What plugins of the proxy can do beside reaching their streams: log, call clusters, be woken.

#pragma once

#include "stream_host.h"

class event_loop;

class proxy_host final : public stream_host {
 public:
  // Clocks, metrics, shared data and queues are the library's own.
  explicit proxy_host(event_loop &loop)
      : stream_host({proxywasm::service::set_headers, proxywasm::service::timeout_changed, proxywasm::service::wake,
                     proxywasm::service::grpc}),
        loop_(loop) {}

  void log(void *stream, const proxywasm_log_record &record) override;
  proxywasm::log_level minimum_log_level() override;
  proxywasm::status http_call(void *stream, proxywasm_token token, const proxywasm_http_request &request) override;
  proxywasm::status grpc_call(void *stream, proxywasm_token token, const proxywasm_grpc_request &request) override;
  proxywasm::status grpc_stream(void *stream, proxywasm_token token, const proxywasm_grpc_request &request) override;
  proxywasm::status grpc_send(proxywasm_token token, std::string_view message, bool end_of_stream) override;
  proxywasm::status grpc_close(proxywasm_token token) override;
  void cancel_call(proxywasm_token token) override;
  proxywasm::status call_foreign_function(void *stream, std::string_view name, std::string_view argument,
                                          std::string_view &result) override;
  void timeout_changed() override;
  void wake() override;

 private:
  event_loop &loop_;
};
