// SPDX-License-Identifier: Apache-2.0
#include "call.h"

#include <algorithm>

#include "header_map.h"

#include "plugin_stream.h"
#include "worker.h"

namespace proxywasm_envoy {

using proxywasm::view;

std::vector<abi::header> to_headers(const fields &list) {
  std::vector<abi::header> headers;
  headers.reserve(list.size());
  for (const auto &[name, value] : list) {
    headers.push_back(abi::to_header(name, value));
  }
  return headers;
}

void carried_calls::add(call &one, plugin_stream &carrier) {
  list_.push_back(&one);
  one.carrier = &carrier;
  one.started = true;
}

void carried_calls::drop(call &one) noexcept {
  list_.erase(std::remove(list_.begin(), list_.end(), &one), list_.end());
  one.carrier = nullptr;
}

call *carried_calls::find(std::uint64_t id) const {
  const auto found = std::find_if(list_.begin(), list_.end(), [id](const call *one) { return one->id == id; });
  return found == list_.end() ? nullptr : *found;
}

void carried_calls::reset_all() {
  while (!list_.empty()) {
    call *one = list_.back();
    drop(*one);
    one->on_reset(abi::stream_reset_reason::local_reset);
  }
}

std::vector<proxywasm_pair> to_pairs(const fields &list) {
  std::vector<proxywasm_pair> pairs;
  pairs.reserve(list.size());
  for (const auto &[name, value] : list) {
    pairs.push_back(proxywasm::to_pair(name, value));
  }
  return pairs;
}

call_request to_call_request(const proxywasm_http_request &request) {
  call_request made;
  made.cluster = view(request.upstream);
  for (const proxywasm_pair &pair : proxywasm::array_view<proxywasm_pair>(request.headers, request.header_count)) {
    made.headers.emplace_back(view(pair.name), view(pair.value));
  }
  made.body = view(request.body);
  for (const proxywasm_pair &pair : proxywasm::array_view<proxywasm_pair>(request.trailers, request.trailer_count)) {
    made.trailers.emplace_back(view(pair.name), view(pair.value));
  }
  // HTTP/1 sends trailers after chunks only.
  if (!made.body.empty() || !made.trailers.empty()) {
    made.headers.erase(
        std::remove_if(made.headers.begin(), made.headers.end(),
                       [](const auto &field) { return equal_ignoring_case(field.first, "content-length"); }),
        made.headers.end());
  }
  if (made.trailers.empty() && !made.body.empty()) {
    made.headers.emplace_back("content-length", std::to_string(made.body.size()));
  }
  made.timeout_ms = request.timeout_ms;
  return made;
}

call::~call() {
  if (carrier != nullptr) {
    carrier->dropped(*this);
  }
}

std::unique_ptr<call> call::take() { return owner_.take_call(token_); }

void http_callout::on_headers(const fields &headers, bool) { headers_ = headers; }

void http_callout::on_data(std::string_view bytes, bool) { body_.append(bytes); }

void http_callout::on_trailers(const fields &trailers) { trailers_ = trailers; }

void http_callout::on_complete() {
  const std::unique_ptr<call> self = take();
  const std::vector<proxywasm_pair> headers = to_pairs(headers_), trailers = to_pairs(trailers_);
  const proxywasm_slice body = proxywasm::to_slice(body_);
  proxywasm_http_response response{};
  response.struct_size = sizeof response;
  response.headers = headers.data();
  response.header_count = headers.size();
  response.body = &body;
  response.body_count = body_.empty() ? 0 : 1;
  response.trailers = trailers.data();
  response.trailer_count = trailers.size();
  (void)proxywasm_http_call_complete(owner_.get(), token_, &response);
}

void http_callout::on_reset(abi::stream_reset_reason) { fail(); }

void http_callout::on_refused() { fail(); }

void http_callout::fail() {
  const std::unique_ptr<call> self = take();
  (void)proxywasm_http_call_complete(owner_.get(), token_, nullptr);
}

}  // namespace proxywasm_envoy
