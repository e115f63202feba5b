// SPDX-License-Identifier: Apache-2.0
// A client's connection: its exchanges one after the other.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "exchange.h"
#include "http1.h"
#include "http_client.h"

class connection {
 public:
  connection(event_loop &loop, evutil_socket_t socket, const sockaddr *peer, std::uint64_t id);

  // Does everything that can be done now. May destroy the connection, so callers return at once.
  void pump();
  // Makes `pump` run soon, when the current call of the library has returned.
  void schedule();
  // The proxy stops: ends when no exchange is under way.
  void stop();

  message_reader &reader() { return reader_; }
  message_reader::event read_request() { return reader_.next(bufferevent_get_input(socket_.get()), false); }
  evbuffer *output() const { return bufferevent_get_output(socket_.get()); }
  bool has_room() const { return evbuffer_get_length(output()) < write_mark; }
  const std::string &peer_address() const { return peer_; }
  const std::string &local_address() const { return local_; }
  std::uint64_t id() const { return id_; }

 private:
  static void on_data(bufferevent *, void *self);
  static void on_event(bufferevent *, short what, void *self);
  static void on_scheduled(evutil_socket_t, short, void *self);
  static void on_timer(evutil_socket_t, short, void *self);

  void begin_exchange();
  void end_exchange();
  void answer(unsigned status, std::string_view type, std::string_view body);
  void close_softly();
  void arm_timer();

  event_loop &loop_;
  bufferevent_ptr socket_;
  event_ptr scheduled_;
  event_ptr timer_;
  message_reader reader_{HTTP_REQUEST};
  std::unique_ptr<exchange> exchange_;
  std::string peer_;
  std::string local_;
  std::uint64_t id_;
  bool closing_ = false;    // the last response has been written to the buffer
  bool lingering_ = false;  // it has been sent; the client may not have read it yet
  bool closed_ = false;
};
