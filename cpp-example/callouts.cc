// SPDX-License-Identifier: Apache-2.0
#include "callouts.h"

#include <string>
#include <vector>

#include "event_loop.h"

using proxywasm::status;
using proxywasm::view;

namespace {

// An answer is collected as a whole before the plugin sees it.
constexpr std::size_t max_answer = 4 * 1024 * 1024;
constexpr std::uint32_t default_timeout_ms = 60'000;

header_map to_headers(const proxywasm_pair *pairs, std::size_t count) {
  header_map headers;
  for (const proxywasm_pair &pair : proxywasm::array_view<proxywasm_pair>(pairs, count)) {
    if (is_valid_field(view(pair.name), view(pair.value))) {
      headers.add(view(pair.name), view(pair.value));
    }
  }
  return headers;
}

std::vector<proxywasm_pair> to_pairs(const header_map &headers) {
  std::vector<proxywasm_pair> pairs;
  for (const header_field &field : headers) {
    pairs.push_back(proxywasm::to_pair(field.name, field.value));
  }
  return pairs;
}

}  // namespace

class callouts::call final : private http_client::listener {
 public:
  call(callouts &owner, proxywasm_token token, const endpoint &upstream, const proxywasm_http_request &request)
      : owner_(owner), token_(token), client_(owner.loop_.base(), upstream, *this) {
    const header_map headers = to_headers(request.headers, request.header_count);
    const header_map trailers = to_headers(request.trailers, request.trailer_count);
    const std::string *method = headers.find(":method");
    const std::string *path = headers.find(":path");
    const std::string *authority = headers.find(":authority");
    if (method == nullptr || path == nullptr || authority == nullptr) {
      return;  // one of them could not be put on the wire
    }
    valid_ = true;
    header_map fields;
    fields.add("host", *authority);
    for (const header_field &field : headers) {
      if (field.name != "host" && field.name != "content-length") {
        fields.add(field.name, field.value);
      }
    }
    if (*method == "HEAD") {
      client_.reader().expect_no_body();
    }
    const bool bare = request.body.len == 0 && (*method == "GET" || *method == "HEAD");
    const framing body = !trailers.empty() ? framing::chunked : bare ? framing::none : framing::length;
    message_writer writer;
    writer.head(client_.output(), *method + " " + *path + " HTTP/1.1", fields, body, request.body.len, true);
    (void)writer.body(client_.output(), view(request.body));
    (void)writer.end(client_.output(), &trailers);

    const std::uint32_t timeout_ms = request.timeout_ms == 0 ? default_timeout_ms : request.timeout_ms;
    const timeval time = {static_cast<time_t>(timeout_ms / 1000), static_cast<suseconds_t>(timeout_ms % 1000 * 1000)};
    timer_.reset(event_new(owner.loop_.base(), -1, 0, on_timer, this));
    event_add(timer_.get(), &time);
  }

  bool valid() const { return valid_; }

  void complete(const proxywasm::worker &worker) {
    const std::vector<proxywasm_pair> headers = to_pairs(headers_);
    const std::vector<proxywasm_pair> trailers = to_pairs(client_.reader().trailers());
    const proxywasm_slice body = proxywasm::to_slice(body_);
    proxywasm_http_response response{};
    response.headers = headers.data();
    response.header_count = headers.size();
    response.body = &body;
    response.body_count = body_.empty() ? 0 : 1;
    response.trailers = trailers.data();
    response.trailer_count = trailers.size();
    (void)worker.http_call_complete(token_, response);
  }

 private:
  void on_client_event() override {
    for (;;) {
      switch (client_.next()) {
        case message_reader::event::starved:
          return;
        case message_reader::event::failed:
          return owner_.finish(token_, false);  // destroys this call, also below
        case message_reader::event::head:
          headers_.clear();
          headers_.add(":status", std::to_string(client_.reader().head().status));
          for (const header_field &field : client_.reader().head().fields) {
            headers_.add(field.name, field.value);
          }
          break;
        case message_reader::event::data:
          for (const proxywasm_chunk &chunk : client_.reader().chunks()) {
            body_.append(reinterpret_cast<const char *>(chunk.data), chunk.len);
          }
          if (body_.size() > max_answer) {
            return owner_.finish(token_, false);
          }
          if (client_.reader().ended()) {
            if (client_.reader().head().status >= 200) {
              return owner_.finish(token_, true);
            }
            client_.reader().begin_next();  // 100 and its like
          }
          break;
      }
    }
  }

  static void on_timer(evutil_socket_t, short, void *self) {
    auto *one = static_cast<call *>(self);
    one->owner_.finish(one->token_, false);
  }

  callouts &owner_;
  proxywasm_token token_;
  http_client client_;
  event_ptr timer_;
  header_map headers_;
  std::string body_;
  bool valid_ = false;
};

callouts::callouts(event_loop &loop) : loop_(loop) {}

callouts::~callouts() = default;

status callouts::start(proxywasm_token token, const proxywasm_http_request &request) {
  const auto &clusters = loop_.options().clusters;
  const auto cluster = clusters.find(view(request.upstream));
  if (cluster == clusters.end()) {
    return status::bad_argument;
  }
  auto one = std::make_unique<call>(*this, token, cluster->second, request);
  if (!one->valid()) {
    return status::bad_argument;
  }
  calls_.emplace(token, std::move(one));
  return status::ok;
}

void callouts::cancel(proxywasm_token token) { calls_.erase(token); }

void callouts::finish(proxywasm_token token, bool answered) {
  const auto found = calls_.find(token);
  if (found == calls_.end()) {
    return;
  }
  // Out of the map first: the plugin may make its next call while it reads this answer.
  const std::unique_ptr<call> one = std::move(found->second);
  calls_.erase(found);
  if (answered) {
    one->complete(loop_.worker());
  } else {
    (void)loop_.worker().http_call_failed(token);
  }
}
