// SPDX-License-Identifier: Apache-2.0
// Local responses. Envoy does not show a filter the response that it sends itself, so it passes the plugin's response phases in
// here before it is sent.

#include <charconv>

#include "grpc_wire.h"
#include "http_stream.h"

namespace proxywasm_envoy {

using proxywasm::direction;
using proxywasm::status;
using proxywasm::view;

namespace {

constexpr std::string_view status_name = ":status";
constexpr std::string_view length_name = "content-length";

bool is_grpc_request(void *filter) {
  const auto type = find_header(filter, abi::header_type::request_headers, "content-type");
  return type && is_grpc_content(*type);
}

}  // namespace

status http_stream::send_local_response(const proxywasm_local_response &response) {
  if (gone_ || sent_ || closed_) {
    return status::bad_argument;
  }
  note_reply(response);
  if (depth_ == 0) {
    schedule();
  }
  return status::ok;
}

void http_stream::note_reply(const proxywasm_local_response &response) {
  auto made = std::make_unique<reply>();
  made->details = view(response.details);
  const std::string_view body = view(response.body);
  header_map &headers = made->headers;
  headers.add(status_name, std::to_string(response.status));
  const bool is_grpc = is_grpc_request(filter_);
  for (const proxywasm_pair &pair : proxywasm::array_view<proxywasm_pair>(response.headers, response.header_count)) {
    const std::string_view name = view(pair.name), value = view(pair.value);
    if (!name.empty() && name.front() != ':' && !equal_ignoring_case(name, length_name) &&
        is_valid_field(name, value)) {
      headers.add(name, value);
    }
  }
  if (is_grpc) {
    // As gRPC's clients understand it: a response without a body whose trailers are among its headers.
    headers.replace(status_name, "200");
    headers.replace("content-type", "application/grpc");
    if (headers.count("grpc-status") == 0) {
      const auto code = response.grpc_status >= 0 ? static_cast<grpc_status>(response.grpc_status)
                                                  : from_http_status(std::to_string(response.status));
      headers.add("grpc-status", std::to_string(static_cast<std::uint32_t>(code)));
    }
    if (!body.empty() && headers.count("grpc-message") == 0) {
      headers.add("grpc-message", encode_grpc_message(body));
    }
  } else if (!body.empty()) {
    made->body = body;
    headers.add(length_name, std::to_string(body.size()));
    if (headers.count("content-type") == 0) {
      headers.add("content-type", "text/plain");
    }
  }
  noted_reply_ = std::move(made);
}

void http_stream::answer() {
  if (!noted_reply_ || gone_ || sent_) {
    noted_reply_.reset();
    return;
  }
  reply_ = std::move(noted_reply_);
  side &one = of(direction::response);
  of(direction::request).waiting = false;
  constexpr std::uint32_t phases = PROXYWASM_PHASE_RESPONSE_HEADERS | PROXYWASM_PHASE_RESPONSE_BODY;
  // Plugins that have seen the upstream's response do not see the one that replaces it, as in Envoy.
  if (!stream_ || one.shown || !takes_part(phases)) {
    one.shown = true;
    send_reply();
    return;
  }
  one.shown = true;
  reply_->left.swap(reply_->body);
  const bool empty = reply_->left.empty();
  reply_->has_left = !empty;
  if (!advance_reply(stream_->on_headers(direction::response, reply_->headers.size(), empty)) && !empty) {
    offer_reply_body();
  }
}

void http_stream::offer_reply_body() {
  const std::string body = std::move(reply_->left);
  const proxywasm::outcome outcome = stream_->on_body(direction::response, body, true);
  if (outcome.result() == PROXYWASM_RESULT_BUSY) {
    reply_->left = body;
    return;
  }
  reply_->has_left = false;
  (void)advance_reply(outcome);
}

bool http_stream::advance_reply(const proxywasm::outcome &outcome) {
  snapshot_.forget();
  switch (outcome.action()) {
    case proxywasm::action::local_response:
      if (noted_reply_) {
        answer();
      } else if (reply_) {
        send_reply();
      }
      return true;
    case proxywasm::action::close:
      close_noted_ = true;
      do_noted();
      return true;
    default:
      break;
  }
  for (const proxywasm_slice &slice : outcome.body()) {
    reply_->body.append(view(slice));
  }
  of(direction::response).waiting = outcome.action() != proxywasm::action::proceed;
  if (outcome.end_of_stream()) {
    send_reply();
    return true;
  }
  return false;
}

void http_stream::send_reply() {
  const std::unique_ptr<reply> last = std::move(reply_);
  if (!may_send(*last)) {
    return;
  }
  sent_ = true;
  of(direction::response).waiting = false;
  std::uint32_t code = 500;
  std::vector<abi::header> headers;
  for (const header_field &field : last->headers) {
    if (field.name == status_name) {
      (void)std::from_chars(field.value.data(), field.value.data() + field.value.size(), code);
    } else if (field.name != length_name) {
      headers.push_back(abi::to_header(field.name, field.value));
    }
  }
  abi::envoy_dynamic_module_callback_http_send_response(filter_, code, headers.data(), headers.size(),
                                                        abi::to_buffer(last->body), abi::to_buffer(last->details));
}

}  // namespace proxywasm_envoy
