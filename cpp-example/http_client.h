// SPDX-License-Identifier: Apache-2.0
// One connection to an upstream, for one request. Exchanges and callouts use it.

#pragma once

#include "http1.h"
#include "sockets.h"

class http_client {
 public:
  class listener {
   public:
    virtual ~listener() = default;
    // Something has come, gone out or ended: try `next` again. May destroy the client.
    virtual void on_client_event() = 0;
  };

  // Begins to connect. What is written meanwhile waits.
  http_client(event_base *base, const endpoint &upstream, listener &listener);

  evbuffer *output() const;
  bool has_room() const;
  // The next step of the response; `failed` also when the connection has failed.
  message_reader::event next();
  message_reader &reader() { return reader_; }
  // Of this side, "192.0.2.1:4711"; empty before there is a connection.
  const std::string &local_address() const { return local_; }
  // Whether there ever was a connection.
  bool connected() const { return connected_; }

 private:
  static void on_data(bufferevent *, void *self);
  static void on_event(bufferevent *, short what, void *self);

  bufferevent_ptr socket_;
  message_reader reader_{HTTP_RESPONSE};
  std::string local_;
  listener &listener_;
  bool connected_ = false;
  bool eof_ = false;
  bool failed_ = false;
  bool write_failed_ = false;
};
