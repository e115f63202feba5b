// SPDX-License-Identifier: Apache-2.0
// One connection to an upstream, for one request. Exchanges and callouts use it.

#pragma once

#include <event2/bufferevent.h>
#include <event2/event.h>

#include <memory>

#include "http1.h"
#include "options.h"

template <typename T, void (*Free)(T *)>
struct libevent_deleter {
  void operator()(T *object) const { Free(object); }
};
using bufferevent_ptr = std::unique_ptr<bufferevent, libevent_deleter<bufferevent, bufferevent_free>>;
using event_ptr = std::unique_ptr<event, libevent_deleter<event, event_free>>;

// Reading pauses by itself when this much is unread. A closed connection is still noticed, as long as less is.
constexpr std::size_t read_mark = 64 * 1024;
// No more is read from the one side when this much waits to be written to the other.
constexpr std::size_t write_mark = 256 * 1024;

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
  // Whether there ever was a connection.
  bool connected() const { return connected_; }

 private:
  static void on_data(bufferevent *, void *self);
  static void on_event(bufferevent *, short what, void *self);

  bufferevent_ptr socket_;
  message_reader reader_{HTTP_RESPONSE};
  listener &listener_;
  bool connected_ = false;
  bool eof_ = false;
  bool failed_ = false;
  bool write_failed_ = false;
};

// Sends small writes at once.
void set_no_delay(bufferevent *socket);
