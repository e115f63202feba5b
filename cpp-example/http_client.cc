// SPDX-License-Identifier: Apache-2.0
#include "http_client.h"

#include <netinet/tcp.h>

#include <new>

void set_no_delay(bufferevent *socket) {
  const int on = 1;
  (void)setsockopt(bufferevent_getfd(socket), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

http_client::http_client(event_base *base, const endpoint &upstream, listener &listener) : listener_(listener) {
  // Deferred callbacks never run inside our own calls, so a client may be destroyed anywhere.
  socket_.reset(bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS));
  if (!socket_) {
    throw std::bad_alloc();
  }
  bufferevent_setcb(socket_.get(), on_data, on_data, on_event, this);
  bufferevent_setwatermark(socket_.get(), EV_READ, 0, read_mark);
  bufferevent_setwatermark(socket_.get(), EV_WRITE, write_mark / 2, 0);
  bufferevent_enable(socket_.get(), EV_READ | EV_WRITE);
  failed_ = bufferevent_socket_connect(socket_.get(), reinterpret_cast<const sockaddr *>(&upstream.address),
                                       static_cast<int>(upstream.length)) != 0;
}

evbuffer *http_client::output() const {
  evbuffer *output = bufferevent_get_output(socket_.get());
  if (write_failed_) {
    evbuffer_drain(output, evbuffer_get_length(output));
  }
  return output;
}

bool http_client::has_room() const { return evbuffer_get_length(output()) < write_mark; }

message_reader::event http_client::next() {
  const message_reader::event event = reader_.next(bufferevent_get_input(socket_.get()), eof_);
  return event == message_reader::event::starved && failed_ ? message_reader::event::failed : event;
}

void http_client::on_data(bufferevent *, void *self) { static_cast<http_client *>(self)->listener_.on_client_event(); }

void http_client::on_event(bufferevent *socket, short what, void *self) {
  auto *client = static_cast<http_client *>(self);
  if ((what & BEV_EVENT_CONNECTED) != 0) {
    client->connected_ = true;
    set_no_delay(socket);
  } else if ((what & BEV_EVENT_EOF) != 0) {
    client->eof_ = true;
  } else if (client->connected_ && (what & BEV_EVENT_WRITING) != 0) {
    // An upstream may answer early and read no further: its answer still counts.
    client->write_failed_ = true;
  } else {
    client->failed_ = true;
  }
  client->listener_.on_client_event();
}
