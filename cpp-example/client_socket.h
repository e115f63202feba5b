// SPDX-License-Identifier: Apache-2.0
// A client's connection, as far as it is the same for HTTP and TCP: its socket, its addresses, its timer, its end.

#pragma once

#include <cstdint>
#include <string>

#include "sockets.h"

class event_loop;

class client_socket {
 public:
  virtual ~client_socket() = default;
  client_socket(const client_socket &) = delete;
  client_socket &operator=(const client_socket &) = delete;

  // Does everything that can be done now. May destroy the connection, so callers return at once.
  virtual void pump() = 0;
  // The proxy stops: the connection ends as soon as it may.
  virtual void stop() = 0;
  // Makes `pump` run soon, when the current call of the library has returned.
  void schedule() { event_active(scheduled_.get(), 0, 0); }

  evbuffer *input() const { return bufferevent_get_input(socket_.get()); }
  evbuffer *output() const { return bufferevent_get_output(socket_.get()); }
  bool has_room() const { return ::has_room(output()); }
  const std::string &peer_address() const { return peer_; }
  const std::string &local_address() const { return local_; }
  std::uint64_t id() const { return id_; }

 protected:
  // `socket` has been accepted, and is owned from now on.
  client_socket(event_loop &loop, evutil_socket_t socket, const sockaddr *peer, std::uint64_t id);

  // The client has closed, or its connection has failed; `what` as libevent says it. `pump` follows.
  virtual void on_ended(short what) = 0;
  // Nothing has happened for as long as `arm_timer` said. `pump` follows.
  virtual void on_timeout() = 0;

  void arm_timer(std::chrono::milliseconds wait);
  // Closing with unread bytes would reset the connection and could take what was sent away from the client. So only our side is
  // closed, and the client has some time to close its own, during which what it sends is to be dropped.
  void close_softly();
  // Makes the end a reset, which tells the client that what it has is not all of it.
  void close_hard();

  bufferevent *socket() const { return socket_.get(); }

  event_loop &loop_;

 private:
  static void on_data(bufferevent *, void *self);
  static void on_event(bufferevent *, short what, void *self);
  static void on_scheduled(evutil_socket_t, short, void *self);
  static void on_timer(evutil_socket_t, short, void *self);

  bufferevent_ptr socket_;
  event_ptr scheduled_;
  event_ptr timer_;
  std::string peer_;
  std::string local_;
  std::uint64_t id_;
};
