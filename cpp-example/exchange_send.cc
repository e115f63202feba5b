// SPDX-License-Identifier: Apache-2.0
// The second half of an exchange: forwarding what the plugins let go.

#include <algorithm>

#include "connection.h"
#include "event_loop.h"
#include "exchange.h"

using proxywasm::direction;
using proxywasm::view;

namespace {

// Plugins may have written anything.
bool are_valid(const header_map &fields) {
  return std::all_of(fields.begin(), fields.end(),
                     [](const header_field &field) { return is_valid_field(field.name, field.value); });
}

}  // namespace

void exchange::apply(direction way, const proxywasm::outcome &outcome) {
  if (!outcome.ok()) {
    // The action below is what the plugin's policy says; the log has the reason already when it was the guest's.
    loop_.log(proxywasm::log_level::debug, "proxy",
              std::string("phase: ") + proxywasm_result_name(outcome.result()) + ": " + proxywasm::last_error());
  }
  side &one = side_of(way);
  switch (outcome.action()) {
    case proxywasm::action::local_response:
      // Usually noted by now, or answered before. Not so when the library itself could not call us.
      if (!local_ && !answered_) {
        fail(503, "plugin failure");
      }
      return;
    case proxywasm::action::close:
      close_noted_ = true;
      return;
    case proxywasm::action::proceed:
      one.paused = one.waiting = false;
      break;
    case proxywasm::action::pause:
    case proxywasm::action::pause_and_buffer:
      one.paused = outcome.action() == proxywasm::action::pause;
      one.waiting = true;
      one.waiting_since = std::chrono::steady_clock::now();
      break;
  }
  forward(way, outcome);
}

void exchange::forward(direction way, const proxywasm::outcome &outcome) {
  if (outcome.ready() == 0) {
    return;
  }
  if (way == direction::request) {
    if (!discarding_ && (!outcome.headers_ready() || send_request_head(outcome)) && upstream_) {
      send_rest(way, upstream_->output(), outcome);
    }
  } else if (!outcome.headers_ready() || send_response_head(outcome)) {
    send_rest(way, client_.output(), outcome);
  }
}

void exchange::send_rest(direction way, evbuffer *out, const proxywasm::outcome &outcome) {
  side &one = side_of(way);
  const auto slices = outcome.body();
  bool fits = std::all_of(slices.begin(), slices.end(),
                          [&](const proxywasm_slice &slice) { return one.writer.body(out, view(slice)); });
  const char *wrong = "the body does not match its content-length";
  if (fits && outcome.trailers_ready() && !are_valid(one.trailers)) {
    fits = false;
    wrong = "a plugin wrote an invalid trailer";
  }
  if (fits && outcome.end_of_stream()) {
    fits = one.writer.end(out, outcome.trailers_ready() ? &one.trailers : nullptr);
    one.end_sent = fits;
  }
  if (fits) {
    return;
  }
  // A plugin changed the body but kept a content-length that promised another one. Better no message than a wrong one.
  loop_.log(proxywasm::log_level::error, "proxy", wrong);
  if (way == direction::request) {
    upstream_.reset();
  }
  if (response_.head_sent) {
    abort(wrong);
  } else {
    fail(502, wrong);
  }
}

framing exchange::choose_framing(const side &from, const proxywasm::outcome &outcome, bool may_chunk,
                                 std::uint64_t &length) const {
  const std::string *given = from.headers.find("content-length");
  if (outcome.end_of_stream() && !(outcome.trailers_ready() && may_chunk)) {
    length = outcome.body_size();  // all of it is here
    return framing::length;
  }
  if (!outcome.end_of_stream() && given != nullptr && from.headers.count("content-length") == 1 &&
      parse_length(*given, length)) {
    return framing::length;
  }
  return may_chunk ? framing::chunked : framing::until_close;
}

bool exchange::send_request_head(const proxywasm::outcome &outcome) {
  const std::string *method = request_.headers.find(":method");
  const std::string *path = request_.headers.find(":path");
  const std::string *authority = request_.headers.find(":authority");
  if (method == nullptr || method->empty() || path == nullptr || path->empty() || authority == nullptr) {
    fail(503, "a plugin removed a required request header");
    return false;
  }
  if (!are_valid(request_.headers)) {
    fail(503, "a plugin wrote an invalid request header");
    return false;
  }
  std::uint64_t length = 0;
  framing body = choose_framing(request_, outcome, true, length);
  header_map fields;
  fields.add("host", *authority);
  for (const header_field &field : request_.headers) {
    if (field.name != "host") {
      fields.add(field.name, field.value);
    }
  }
  const bool usually_has_body = *method == "POST" || *method == "PUT" || *method == "PATCH";
  if (body == framing::length && length == 0 && outcome.end_of_stream() && !usually_has_body &&
      request_.headers.count("content-length") == 0) {
    body = framing::none;
  }
  upstream_ = std::make_unique<http_client>(loop_.base(), loop_.options().http->upstream, *this);
  if (*method == "HEAD") {
    upstream_->reader().expect_no_body();
  }
  request_.writer.head(upstream_->output(), *method + " " + *path + " HTTP/1.1", fields, body, length, true);
  request_.head_sent = true;
  asked_at_ = std::chrono::steady_clock::now();
  return true;
}

bool exchange::send_response_head(const proxywasm::outcome &outcome) {
  const std::string *text = response_.headers.find(":status");
  std::uint64_t status = 0;
  if (text == nullptr || !parse_length(*text, status) || status < 200 || status > 999) {
    fail(502, "a plugin removed or spoiled the response status");
    return false;
  }
  if (!are_valid(response_.headers)) {
    fail(502, "a plugin wrote an invalid response header");
    return false;
  }
  if (discarding_) {
    discard_request();  // what has come of the request may be all of it
  }
  std::uint64_t length = 0;
  framing body = choose_framing(response_, outcome, !http10_, length);
  header_map fields = response_.headers;
  if (is_head_ || status == 204 || status == 304) {
    body = framing::none;
    if (status == 204) {
      fields.remove("content-length");
    }
  }
  keep_alive_ = keep_alive_ && body != framing::until_close && !loop_.stopping() && (request_.received || !discarding_);
  // HTTP/1.0 clients would take silence for close.
  const std::string start = "HTTP/1.1 " + status_line_text(static_cast<unsigned>(status)) +
                            (http10_ && keep_alive_ ? "\r\nconnection: keep-alive" : "");
  response_.writer.head(client_.output(), start, fields, body, length, !keep_alive_);
  response_.head_sent = true;
  return true;
}
