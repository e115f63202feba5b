// SPDX-License-Identifier: Apache-2.0
#include "http_client.h"

http_client::http_client(event_base *base, const endpoint &upstream, listener &listener)
    : socket_(make_socket(base, -1, on_data, on_event, this)), listener_(listener) {
  failed_ = !connect_socket(socket_.get(), upstream);
}

evbuffer *http_client::output() const {
  evbuffer *output = bufferevent_get_output(socket_.get());
  if (write_failed_) {
    discard(output);
  }
  return output;
}

bool http_client::has_room() const { return ::has_room(output()); }

message_reader::event http_client::next() {
  const message_reader::event event = reader_.next(bufferevent_get_input(socket_.get()), eof_);
  return event == message_reader::event::starved && failed_ ? message_reader::event::failed : event;
}

void http_client::on_data(bufferevent *, void *self) { static_cast<http_client *>(self)->listener_.on_client_event(); }

void http_client::on_event(bufferevent *socket, short what, void *self) {
  auto *client = static_cast<http_client *>(self);
  if ((what & BEV_EVENT_CONNECTED) != 0) {
    client->connected_ = true;
    client->local_ = ::local_address(bufferevent_getfd(socket));
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
