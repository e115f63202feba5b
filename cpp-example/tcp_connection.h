// SPDX-License-Identifier: Apache-2.0
// A TCP connection of a client and the one to the upstream behind it: how a proxy drives a stream of kind tcp.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "client_socket.h"
#include "stream_host.h"

class tcp_connection final : public client_socket, private plugin_stream {
 public:
  // Throws proxywasm::error when the worker can run no stream.
  tcp_connection(event_loop &loop, evutil_socket_t socket, const sockaddr *peer, std::uint64_t id);
  ~tcp_connection() override;

  void pump() override;
  // What the two ends have yet to say, nobody knows: they may go on for as long as the proxy waits.
  void stop() override {}

 private:
  // One of the two sockets.
  struct endpoint_state {
    bufferevent *socket = nullptr;  // null: there is none yet
    bool ended = false;             // it sends no more
    bool deaf = false;              // it takes no more: what is for it is dropped
    bool lost = false;              // both, or its connection has failed
    bool by_peer = false;           // it ended before this proxy ended it
    bool close_told = false;        // the plugins know
  };
  // What goes from one of them to the other.
  struct flow {
    std::uint64_t size = 0;   // bytes that have come
    bool shown_end = false;   // the plugins have seen the end
    bool paused = false;      // offer no more
    bool waiting = false;     // a plugin holds something back
    bool passed_end = false;  // the end has passed the plugins
    bool sent_end = false;    // and has been sent
    bool resume_noted = false;
    std::chrono::steady_clock::time_point waiting_since;
  };

  // What plugins see and ask for
  header_map *find_map(proxywasm::map) override { return nullptr; }
  bool find_property(std::string_view path, std::string &value) const override;
  proxywasm::status on_local_response(const proxywasm_local_response &) override;
  void on_resume(proxywasm::direction way) override;
  void on_close(proxywasm::stream_type which) override;

  void on_ended(short what) override;
  void on_timeout() override;
  static void on_upstream_data(bufferevent *, void *self);
  static void on_upstream_event(bufferevent *, short what, void *self);
  void note_end(proxywasm::direction from, short what);

  flow &flow_of(proxywasm::direction way) { return way == proxywasm::direction::request ? request_ : response_; }
  endpoint_state &source_of(proxywasm::direction way) {
    return way == proxywasm::direction::request ? client_ : upstream_;
  }
  endpoint_state &target_of(proxywasm::direction way) {
    return way == proxywasm::direction::request ? upstream_ : client_;
  }

  void connect();
  bool do_noted();
  bool feed(proxywasm::direction way);
  void apply(proxywasm::direction way, const proxywasm::outcome &outcome);
  void send_end(proxywasm::direction way);
  bool notice_loss();
  bool is_flushed() const;
  bool is_stuck(const flow &one) const;
  std::chrono::milliseconds patience() const;
  void tell_close(proxywasm::direction way);
  void end_plugins();
  void begin_linger();

  bufferevent_ptr upstream_socket_;
  endpoint_state client_;
  endpoint_state upstream_;
  flow request_;
  flow response_;
  std::uint64_t start_ns_;
  bool connected_ = false;
  bool close_noted_ = false;
  bool closing_ = false;    // nothing more is read; what has been written is sent
  bool lingering_ = false;  // it has been sent; the other side may not have read it yet
  bool over_ = false;
  std::optional<proxywasm::stream> stream_;
};
