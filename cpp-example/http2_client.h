// SPDX-License-Identifier: Apache-2.0
// A connection to an upstream that speaks HTTP/2 without TLS (prior knowledge), shared by any number of streams.

#pragma once

#include <event2/buffer.h>
#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "header_map.h"
#include "sockets.h"

class http2_client {
 public:
  // Told what arrives on a stream. Everything may be called inside: `open`, `send`, `drop` take effect when it has returned.
  class stream_listener {
   public:
    virtual ~stream_listener() = default;
    // The headers of the response (those of 1xx are left out), and later its trailers; with `end` nothing follows.
    virtual void on_fields(const header_map &fields, bool end) = 0;
    virtual void on_data(std::string_view bytes) = 0;
    // The end, where it did not come with fields.
    virtual void on_end() = 0;
    // The last of a stream: it was reset, or went with its connection.
    virtual void on_reset(std::uint32_t error) = 0;
    virtual void on_lost(const std::string &why) = 0;
  };

  class owner {
   public:
    virtual ~owner() = default;
    // The connection is of no use any more and has no streams: destroy it.
    virtual void on_connection_ended(http2_client &client) = 0;
  };

  // Begins to connect; streams wait for it.
  http2_client(event_base *base, const endpoint &upstream, owner &owner);

  // Whether streams can be opened: not after GOAWAY.
  bool usable() const;
  // Opens a stream whose body is to come by `send`; its id, or less than 0. The listener stays until the stream ends or is
  // dropped.
  std::int32_t open(const header_map &fields, stream_listener &listener);
  void send(std::int32_t id, std::string_view bytes);
  // No more will be sent.
  void end(std::int32_t id);
  // Bytes of a stream that the peer has not made room for yet.
  std::size_t unsent(std::int32_t id) const;
  // Nobody listens to the stream any more: it is reset unless both sides have ended it.
  void drop(std::int32_t id);

 private:
  template <typename T, void (*Free)(T *)>
  struct deleter {
    void operator()(T *object) const { Free(object); }
  };

  struct stream {
    stream_listener *listener = nullptr;
    std::unique_ptr<evbuffer, deleter<evbuffer, evbuffer_free>> unsent;
    bool ended = false;         // by this side
    bool remote_ended = false;  // by the other
    header_map fields;          // being received
    std::size_t fields_size = 0;
  };

  static int on_begin_headers(nghttp2_session *, const nghttp2_frame *frame, void *self);
  static int on_header(nghttp2_session *, const nghttp2_frame *frame, const std::uint8_t *name, std::size_t name_length,
                       const std::uint8_t *value, std::size_t value_length, std::uint8_t flags, void *self);
  static int on_frame(nghttp2_session *, const nghttp2_frame *frame, void *self);
  static int on_chunk(nghttp2_session *, std::uint8_t flags, std::int32_t id, const std::uint8_t *data,
                      std::size_t length, void *self);
  static int on_close(nghttp2_session *, std::int32_t id, std::uint32_t error, void *self);
  static ssize_t on_body(nghttp2_session *, std::int32_t id, std::uint8_t *to, std::size_t length, std::uint32_t *flags,
                         nghttp2_data_source *, void *self);
  static void on_ready(bufferevent *socket, void *self);
  static void on_event(bufferevent *socket, short what, void *self);
  static void on_scheduled(evutil_socket_t, short, void *self);

  stream *find(std::int32_t id);
  // Lets `write` run soon.
  void schedule();
  // Hands frames to the socket, as many as it should hold. May destroy the client, as `lose` does.
  void write();
  void lose(const std::string &why);

  owner &owner_;
  bufferevent_ptr socket_;
  event_ptr scheduled_;
  std::unique_ptr<nghttp2_session, deleter<nghttp2_session, nghttp2_session_del>> session_;
  std::unordered_map<std::int32_t, stream> streams_;
  bool connected_ = false;
  bool lost_ = false;
};
