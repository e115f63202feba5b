// SPDX-License-Identifier: Apache-2.0
#include "client_socket.h"

#include <new>

#include "event_loop.h"

namespace {

// How long a client may take to read the last that was sent.
constexpr std::chrono::milliseconds linger_time{2000};

}  // namespace

client_socket::client_socket(event_loop &loop, evutil_socket_t socket, const sockaddr *peer, std::uint64_t id)
    : loop_(loop),
      socket_(make_socket(loop.base(), socket, on_data, on_event, this)),
      scheduled_(event_new(loop.base(), -1, 0, on_scheduled, this)),
      timer_(event_new(loop.base(), -1, 0, on_timer, this)),
      peer_(to_text(peer)),
      local_(::local_address(socket)),
      id_(id) {
  if (!scheduled_ || !timer_) {
    throw std::bad_alloc();
  }
  set_no_delay(socket_.get());
  arm_timer(loop.options().idle_timeout);
}

void client_socket::arm_timer(std::chrono::milliseconds wait) {
  const timeval time = to_timeval(wait);
  event_add(timer_.get(), &time);
}

void client_socket::close_softly() {
  end_writing(socket_.get());
  arm_timer(linger_time);
}

void client_socket::close_hard() {
  const linger at_once = {1, 0};
  (void)setsockopt(bufferevent_getfd(socket_.get()), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

void client_socket::on_data(bufferevent *, void *self) { static_cast<client_socket *>(self)->pump(); }

void client_socket::on_event(bufferevent *, short what, void *self) {
  auto *client = static_cast<client_socket *>(self);
  client->on_ended(what);
  client->pump();
}

void client_socket::on_scheduled(evutil_socket_t, short, void *self) { static_cast<client_socket *>(self)->pump(); }

void client_socket::on_timer(evutil_socket_t, short, void *self) {
  auto *client = static_cast<client_socket *>(self);
  client->on_timeout();
  client->pump();
}
