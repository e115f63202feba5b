// SPDX-License-Identifier: Apache-2.0
#include "sockets.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <new>

bufferevent_ptr make_socket(event_base *base, evutil_socket_t socket, bufferevent_data_cb on_data,
                            bufferevent_event_cb on_event, void *self) {
  bufferevent_ptr made(bufferevent_socket_new(base, socket, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS));
  if (!made) {
    if (socket != -1) {
      evutil_closesocket(socket);
    }
    throw std::bad_alloc();
  }
  bufferevent_setcb(made.get(), on_data, on_data, on_event, self);
  bufferevent_setwatermark(made.get(), EV_READ, 0, read_mark);
  bufferevent_setwatermark(made.get(), EV_WRITE, write_mark / 2, 0);
  bufferevent_enable(made.get(), EV_READ | EV_WRITE);
  return made;
}

bool connect_socket(bufferevent *socket, const endpoint &upstream) {
  return bufferevent_socket_connect(socket, reinterpret_cast<const sockaddr *>(&upstream.address),
                                    static_cast<int>(upstream.length)) == 0;
}

std::string local_address(evutil_socket_t socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  const bool known = getsockname(socket, reinterpret_cast<sockaddr *>(&address), &length) == 0;
  return known ? to_text(reinterpret_cast<sockaddr *>(&address)) : std::string();
}

void set_no_delay(bufferevent *socket) {
  const int on = 1;
  (void)setsockopt(bufferevent_getfd(socket), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void end_writing(bufferevent *socket) { (void)shutdown(bufferevent_getfd(socket), SHUT_WR); }

void discard(evbuffer *buffer) { (void)evbuffer_drain(buffer, evbuffer_get_length(buffer)); }

timeval to_timeval(std::chrono::milliseconds time) {
  return {static_cast<time_t>(time.count() / 1000), static_cast<suseconds_t>(time.count() % 1000 * 1000)};
}

std::chrono::milliseconds time_left(std::chrono::steady_clock::time_point since, std::chrono::milliseconds limit) {
  const auto gone = std::chrono::steady_clock::now() - since;
  return std::max(limit - std::chrono::duration_cast<std::chrono::milliseconds>(gone), std::chrono::milliseconds(0));
}
