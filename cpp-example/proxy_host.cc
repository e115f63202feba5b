// SPDX-License-Identifier: Apache-2.0
#include "proxy_host.h"

#include "event_loop.h"

void proxy_host::log(void *, const proxywasm_log_record &record) {
  loop_.log(static_cast<proxywasm::log_level>(record.level), proxywasm::view(record.plugin),
            proxywasm::view(record.message));
}

proxywasm::log_level proxy_host::minimum_log_level() { return loop_.options().log_level; }

proxywasm::status proxy_host::http_call(void *, proxywasm_token token, const proxywasm_http_request &request) {
  return loop_.calls().start(token, request);
}

proxywasm::status proxy_host::grpc_call(void *, proxywasm_token token, const proxywasm_grpc_request &request) {
  return loop_.grpc().start(::grpc_call::kind::unary, token, request);
}

proxywasm::status proxy_host::grpc_stream(void *, proxywasm_token token, const proxywasm_grpc_request &request) {
  return loop_.grpc().start(::grpc_call::kind::stream, token, request);
}

proxywasm::status proxy_host::grpc_send(proxywasm_token token, std::string_view message, bool end_of_stream) {
  return loop_.grpc().send(token, message, end_of_stream);
}

proxywasm::status proxy_host::grpc_close(proxywasm_token token) { return loop_.grpc().close(token); }

void proxy_host::cancel_call(proxywasm_token token) {
  // Tokens are of one row, so only one of them has it.
  loop_.calls().cancel(token);
  loop_.grpc().cancel(token);
}

proxywasm::status proxy_host::call_foreign_function(void *, std::string_view name, std::string_view,
                                                    std::string_view &) {
  // Requests take one route here, so there is nothing to forget; plugins that have changed one ask for it all the same.
  return name == "clear_route_cache" ? proxywasm::status::ok : proxywasm::status::not_found;
}

void proxy_host::timeout_changed() { loop_.rearm_timer(); }

void proxy_host::wake() { loop_.wake(); }
