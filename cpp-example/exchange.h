// SPDX-License-Identifier: Apache-2.0
// One request and its response on their way through the plugins: how a proxy drives a stream of the library.

#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "http_client.h"
#include "properties.h"
#include "stream_host.h"

class connection;
class event_loop;

// A response that comes from a plugin or from this proxy instead of the upstream.
struct local_response {
  unsigned status = 0;
  header_map headers;
  std::string body;
  std::string details;
  int grpc_status = -1;  // what a gRPC client is told; -1: what goes with `status`
};

class exchange final : public plugin_stream, public http_client::listener {
 public:
  // `client` has read the head of the request.
  exchange(event_loop &loop, connection &client);
  ~exchange() override;

  // Does everything that can be done now. To be called again when something has come, gone out or been noted.
  void advance();
  // Nothing more is to come; `reusable` says whether the client's connection can carry a further exchange.
  bool over() const { return aborted_ || response_.end_sent; }
  bool aborted() const { return aborted_; }
  // The upstream failed in the middle of a response, and the framing tells the client so: what came of it may go out.
  bool cut_short() const { return cut_short_; }
  bool reusable() const { return !aborted_ && keep_alive_ && request_.received; }

  // The client has closed its connection.
  void client_gone() { aborted_ = true; }
  // How long to wait for something to happen, and what to do when nothing has.
  std::chrono::milliseconds patience() const;
  void on_impatience();

  // What plugins see and ask for
  header_map *find_map(proxywasm::map which) override;
  bool can_change(proxywasm::map which) const override;
  bool find_property(std::string_view path, std::string &value) const override;
  proxywasm::status on_local_response(const proxywasm_local_response &response) override;
  void on_resume(proxywasm::direction way) override;
  void on_close(proxywasm::stream_type which) override;

 private:
  struct side {
    header_map headers;
    header_map trailers;
    message_writer writer;
    std::uint64_t size = 0;  // bytes of body that have come
    bool shown = false;      // the plugins were shown the headers
    bool shown_end = false;  // and the end
    bool received = false;   // the whole message has been read
    bool paused = false;     // do not read on
    bool waiting = false;    // a plugin holds something back
    bool head_sent = false;
    bool end_sent = false;
    bool resume_noted = false;
    std::chrono::steady_clock::time_point waiting_since;
  };

  void on_client_event() override;
  side &side_of(proxywasm::direction way) { return way == proxywasm::direction::request ? request_ : response_; }

  bool do_noted();
  bool feed_request();
  bool feed_response();
  bool discard_request();
  void feed_message(proxywasm::direction way, message_reader &reader);
  void take_response_head();
  void upstream_failed();
  void answer_locally(local_response response);

  void apply(proxywasm::direction way, const proxywasm::outcome &outcome);
  void forward(proxywasm::direction way, const proxywasm::outcome &outcome);
  bool send_request_head(const proxywasm::outcome &outcome);
  bool send_response_head(const proxywasm::outcome &outcome);
  void send_rest(proxywasm::direction way, evbuffer *out, const proxywasm::outcome &outcome);
  framing choose_framing(const side &from, const proxywasm::outcome &outcome, bool may_chunk,
                         std::uint64_t &length) const;
  // Ends the exchange with an answer of the proxy, which passes the response phases like any other.
  void fail(unsigned status, std::string details);
  // Ends it without one, when it is too late for that.
  void abort(const char *why);

  event_loop &loop_;
  connection &client_;
  std::unique_ptr<http_client> upstream_;
  side request_;
  side response_;
  std::optional<local_response> local_;  // noted, not yet answered
  std::string protocol_;
  // What is known of the upstream, also after its connection has ended.
  std::string upstream_local_;
  std::chrono::steady_clock::time_point asked_at_, answered_at_;
  std::string details_;
  std::uint64_t flags_ = 0;
  std::uint64_t start_ns_;
  bool http10_ = false;
  bool is_head_ = false;
  bool is_grpc_ = false;
  bool keep_alive_ = false;
  bool expect_continue_ = false;
  bool discarding_ = false;  // nobody wants the rest of the request
  bool answered_ = false;    // by a local response
  bool close_noted_ = false;
  bool aborted_ = false;
  bool cut_short_ = false;
  // Last: what it refers to must be there until the plugins have ended.
  std::optional<proxywasm::stream> stream_;
};
