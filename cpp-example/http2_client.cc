// SPDX-License-Identifier: Apache-2.0
#include "http2_client.h"

#include <cerrno>
#include <cstring>
#include <iterator>
#include <new>
#include <vector>

namespace {

constexpr timeval connect_timeout = {5, 0};
// What a response's headers or trailers may have, counted as in RFC 9113, 6.5.2.
constexpr std::size_t max_fields_size = 64 * 1024;
// What the peer may send before it was read: for a stream, and for all of them.
constexpr std::int32_t stream_window = 256 * 1024;
constexpr std::int32_t connection_window = 1024 * 1024;

std::string_view to_view(const std::uint8_t *bytes, std::size_t length) {
  return {reinterpret_cast<const char *>(bytes), length};
}

nghttp2_nv to_field(const header_field &field) {
  // The library copies both and changes neither.
  auto bytes = [](const std::string &text) {
    return reinterpret_cast<std::uint8_t *>(const_cast<char *>(text.data()));
  };
  return {bytes(field.name), bytes(field.value), field.name.size(), field.value.size(), NGHTTP2_NV_FLAG_NONE};
}

}  // namespace

http2_client::http2_client(event_base *base, const endpoint &upstream, owner &owner) : owner_(owner) {
  nghttp2_session_callbacks *callbacks = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0) {
    throw std::bad_alloc();
  }
  const std::unique_ptr<nghttp2_session_callbacks, deleter<nghttp2_session_callbacks, nghttp2_session_callbacks_del>>
      callbacks_owner(callbacks);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
  nghttp2_session *session = nullptr;
  if (nghttp2_session_client_new(&session, callbacks, this) != 0) {
    throw std::bad_alloc();
  }
  session_.reset(session);
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                             {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, stream_window},
                                             {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, max_fields_size}};
  nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, connection_window);

  socket_ = make_socket(base, -1, on_ready, on_event, this);
  scheduled_.reset(event_new(base, -1, 0, on_scheduled, this));
  if (!scheduled_) {
    throw std::bad_alloc();
  }
  bufferevent_set_timeouts(socket_.get(), nullptr, &connect_timeout);
  if (!connect_socket(socket_.get(), upstream)) {
    socket_.reset();  // which `write` sees
  }
  schedule();
}

bool http2_client::usable() const { return !lost_ && nghttp2_session_check_request_allowed(session_.get()) != 0; }

std::int32_t http2_client::open(const header_map &fields, stream_listener &listener) {
  std::vector<nghttp2_nv> list;
  for (const header_field &field : fields) {
    list.push_back(to_field(field));
  }
  stream one;
  one.listener = &listener;
  one.unsent.reset(evbuffer_new());
  if (!one.unsent) {
    throw std::bad_alloc();
  }
  nghttp2_data_provider body{};
  body.read_callback = on_body;
  const std::int32_t id = nghttp2_submit_request(session_.get(), nullptr, list.data(), list.size(), &body, nullptr);
  if (id > 0) {
    streams_.emplace(id, std::move(one));
    schedule();
  }
  return id;
}

void http2_client::send(std::int32_t id, std::string_view bytes) {
  stream *one = find(id);
  if (one == nullptr) {
    return;
  }
  if (evbuffer_add(one->unsent.get(), bytes.data(), bytes.size()) != 0) {
    throw std::bad_alloc();
  }
  // Fails where the stream does not wait for data, which is all right.
  (void)nghttp2_session_resume_data(session_.get(), id);
  schedule();
}

void http2_client::end(std::int32_t id) {
  if (stream *one = find(id)) {
    one->ended = true;
    (void)nghttp2_session_resume_data(session_.get(), id);
    schedule();
  }
}

std::size_t http2_client::unsent(std::int32_t id) const {
  const auto found = streams_.find(id);
  return found == streams_.end() ? 0 : evbuffer_get_length(found->second.unsent.get());
}

void http2_client::drop(std::int32_t id) {
  const stream *one = find(id);
  if (one == nullptr) {
    return;
  }
  if (!one->remote_ended || nghttp2_session_get_stream_local_close(session_.get(), id) != 1) {
    nghttp2_submit_rst_stream(session_.get(), NGHTTP2_FLAG_NONE, id,
                              one->remote_ended ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
  }
  streams_.erase(id);
  schedule();
}

http2_client::stream *http2_client::find(std::int32_t id) {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : &found->second;
}

// ---- Of the session ---------------------------------------------------------------------------------------------------

int http2_client::on_begin_headers(nghttp2_session *, const nghttp2_frame *frame, void *self) {
  if (stream *one = static_cast<http2_client *>(self)->find(frame->hd.stream_id)) {
    one->fields.clear();
    one->fields_size = 0;
  }
  return 0;
}

int http2_client::on_header(nghttp2_session *, const nghttp2_frame *frame, const std::uint8_t *name,
                            std::size_t name_length, const std::uint8_t *value, std::size_t value_length, std::uint8_t,
                            void *self) {
  stream *one = static_cast<http2_client *>(self)->find(frame->hd.stream_id);
  if (one == nullptr) {
    return 0;
  }
  one->fields_size += name_length + value_length + 32;
  if (one->fields_size > max_fields_size) {
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // resets the stream
  }
  one->fields.add(to_view(name, name_length), to_view(value, value_length));
  return 0;
}

int http2_client::on_frame(nghttp2_session *, const nghttp2_frame *frame, void *self) {
  stream *one = static_cast<http2_client *>(self)->find(frame->hd.stream_id);
  if (one == nullptr || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)) {
    return 0;
  }
  const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  one->remote_ended = end;
  if (frame->hd.type == NGHTTP2_DATA) {
    if (end) {
      one->listener->on_end();
    }
    return 0;
  }
  const std::string *status = one->fields.find(":status");
  if (status == nullptr || status->empty() || status->front() != '1') {
    // The stream may be dropped inside.
    const header_map fields = std::move(one->fields);
    one->listener->on_fields(fields, end);
  }
  return 0;
}

int http2_client::on_chunk(nghttp2_session *, std::uint8_t, std::int32_t id, const std::uint8_t *data,
                           std::size_t length, void *self) {
  if (stream *one = static_cast<http2_client *>(self)->find(id)) {
    one->listener->on_data(to_view(data, length));
  }
  return 0;
}

int http2_client::on_close(nghttp2_session *, std::int32_t id, std::uint32_t error, void *self) {
  auto *client = static_cast<http2_client *>(self);
  if (const stream *one = client->find(id)) {
    stream_listener *listener = one->listener;
    client->streams_.erase(id);
    listener->on_reset(error);
  }
  return 0;
}

ssize_t http2_client::on_body(nghttp2_session *, std::int32_t id, std::uint8_t *to, std::size_t length,
                              std::uint32_t *flags, nghttp2_data_source *, void *self) {
  const stream *one = static_cast<http2_client *>(self)->find(id);
  if (one == nullptr) {
    return NGHTTP2_ERR_DEFERRED;  // dropped: its reset is on the way
  }
  const int count = evbuffer_remove(one->unsent.get(), to, length);
  if (one->ended && evbuffer_get_length(one->unsent.get()) == 0) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
  } else if (count == 0) {
    return NGHTTP2_ERR_DEFERRED;
  }
  return count;
}

// ---- Of the socket ----------------------------------------------------------------------------------------------------

void http2_client::on_ready(bufferevent *socket, void *self) {
  auto *client = static_cast<http2_client *>(self);
  evbuffer *input = bufferevent_get_input(socket);
  while (const std::size_t length = evbuffer_get_contiguous_space(input)) {
    const std::uint8_t *bytes = evbuffer_pullup(input, static_cast<ev_ssize_t>(length));
    const ssize_t read = nghttp2_session_mem_recv(client->session_.get(), bytes, length);
    if (read < 0) {
      return client->lose(nghttp2_strerror(static_cast<int>(read)));
    }
    evbuffer_drain(input, static_cast<std::size_t>(read));
  }
  client->write();
}

void http2_client::on_event(bufferevent *socket, short what, void *self) {
  auto *client = static_cast<http2_client *>(self);
  if ((what & BEV_EVENT_CONNECTED) != 0) {
    client->connected_ = true;
    bufferevent_set_timeouts(socket, nullptr, nullptr);
    set_no_delay(socket);
    return client->write();
  }
  const char *why = (what & BEV_EVENT_EOF) != 0       ? "closed by the upstream"
                    : (what & BEV_EVENT_TIMEOUT) != 0 ? std::strerror(ETIMEDOUT)
                                                      : std::strerror(EVUTIL_SOCKET_ERROR());
  client->lose(std::string(client->connected_ ? "connection lost: " : "cannot connect: ") + why);
}

void http2_client::schedule() { event_active(scheduled_.get(), 0, 0); }

void http2_client::on_scheduled(evutil_socket_t, short, void *self) { static_cast<http2_client *>(self)->write(); }

void http2_client::write() {
  if (!socket_) {
    return lose("cannot connect");
  }
  evbuffer *output = bufferevent_get_output(socket_.get());
  while (evbuffer_get_length(output) < write_mark) {
    const std::uint8_t *frame = nullptr;
    const ssize_t length = nghttp2_session_mem_send(session_.get(), &frame);
    if (length < 0) {
      return lose(nghttp2_strerror(static_cast<int>(length)));
    }
    if (length == 0) {
      break;
    }
    if (evbuffer_add(output, frame, static_cast<std::size_t>(length)) != 0) {
      throw std::bad_alloc();
    }
  }
  const bool over = nghttp2_session_want_read(session_.get()) == 0 && nghttp2_session_want_write(session_.get()) == 0;
  if (over || (streams_.empty() && !usable())) {
    lose("connection ended");
  }
}

void http2_client::lose(const std::string &why) {
  lost_ = true;
  // One by one: a listener may drop other streams.
  while (!streams_.empty()) {
    stream_listener *listener = streams_.begin()->second.listener;
    streams_.erase(streams_.begin());
    listener->on_lost(why);
  }
  owner_.on_connection_ended(*this);
}
