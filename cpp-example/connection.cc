// SPDX-License-Identifier: Apache-2.0
#include "connection.h"

#include <new>

#include "event_loop.h"

namespace {

// How long a client may take to read the last response.
constexpr timeval linger_time = {2, 0};

}  // namespace

connection::connection(event_loop &loop, evutil_socket_t socket, const sockaddr *peer, std::uint64_t id)
    : loop_(loop), peer_(to_text(peer)), id_(id) {
  sockaddr_storage local{};
  socklen_t length = sizeof local;
  if (getsockname(socket, reinterpret_cast<sockaddr *>(&local), &length) == 0) {
    local_ = to_text(reinterpret_cast<sockaddr *>(&local));
  }
  socket_.reset(bufferevent_socket_new(loop.base(), socket, BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS));
  if (!socket_) {
    evutil_closesocket(socket);
    throw std::bad_alloc();
  }
  scheduled_.reset(event_new(loop.base(), -1, 0, on_scheduled, this));
  timer_.reset(event_new(loop.base(), -1, 0, on_timer, this));
  if (!scheduled_ || !timer_) {
    throw std::bad_alloc();
  }
  set_no_delay(socket_.get());
  bufferevent_setcb(socket_.get(), on_data, on_data, on_event, this);
  bufferevent_setwatermark(socket_.get(), EV_READ, 0, read_mark);
  bufferevent_setwatermark(socket_.get(), EV_WRITE, write_mark / 2, 0);
  bufferevent_enable(socket_.get(), EV_READ | EV_WRITE);
  arm_timer();
}

void connection::pump() {
  while (!closed_ && !lingering_) {
    if (exchange_) {
      exchange_->advance();
      if (!exchange_->over()) {
        break;
      }
      end_exchange();
      continue;
    }
    if (closing_) {
      if (evbuffer_get_length(output()) == 0) {
        close_softly();
      }
      break;
    }
    // A client that pipelines without reading must not fill our memory.
    if (!has_room()) {
      break;
    }
    const message_reader::event event = read_request();
    if (event == message_reader::event::head) {
      begin_exchange();
    } else if (event == message_reader::event::failed) {
      answer(reader_.error_status(), "text/plain", reader_.error() + "\n");
      closing_ = true;
    } else {
      if (loop_.stopping()) {
        closing_ = true;
        continue;
      }
      break;
    }
  }
  if (lingering_) {
    evbuffer *input = bufferevent_get_input(socket_.get());
    evbuffer_drain(input, evbuffer_get_length(input));
  }
  if (closed_) {
    loop_.remove(this);  // destroys this connection
    return;
  }
  if (!lingering_) {
    arm_timer();
  }
}

void connection::begin_exchange() {
  const message_head &head = reader_.head();
  const std::string path = head.target.substr(0, head.target.find('?'));
  const bool wants_metrics = !loop_.options().metrics_path.empty() && path == loop_.options().metrics_path;
  if (wants_metrics || head.method == "CONNECT") {
    if (wants_metrics) {
      answer(200, "text/plain; version=0.0.4", loop_.engine().render_metrics());
    } else {
      answer(501, "text/plain", "CONNECT is not supported\n");
    }
    closing_ = true;
    return;
  }
  try {
    exchange_ = std::make_unique<exchange>(loop_, *this);
  } catch (const proxywasm::error &error) {
    // The worker can run no stream any more.
    loop_.log(proxywasm::log_level::critical, "proxy", std::string(error.name()) + ": " + error.what());
    answer(503, "text/plain", "no plugins\n");
    closing_ = true;
  }
}

void connection::end_exchange() {
  const bool aborted = exchange_->aborted();
  closing_ = !exchange_->reusable();
  exchange_.reset();
  if (aborted) {
    // A reset tells the client that what it has is not all of it.
    const linger at_once = {1, 0};
    (void)setsockopt(bufferevent_getfd(socket_.get()), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    closed_ = true;
  } else if (!closing_) {
    reader_.begin_next();
  }
}

// An answer that no plugin sees: to what is not a request, or none for the upstream.
void connection::answer(unsigned status, std::string_view type, std::string_view body) {
  header_map fields;
  fields.add("content-type", type);
  message_writer writer;
  writer.head(output(), "HTTP/1.1 " + status_line_text(status), fields, framing::length, body.size(), true);
  (void)writer.body(output(), body);
}

// Closing with unread bytes would reset the connection and could take the response away from the client. So only our side is
// closed, and the client has some time to close its own.
void connection::close_softly() {
  lingering_ = true;
  shutdown(bufferevent_getfd(socket_.get()), SHUT_WR);
  event_add(timer_.get(), &linger_time);
}

void connection::arm_timer() {
  const auto wait = exchange_ ? exchange_->patience() : loop_.options().idle_timeout;
  const timeval time = {static_cast<time_t>(wait.count() / 1000), static_cast<suseconds_t>(wait.count() % 1000 * 1000)};
  event_add(timer_.get(), &time);
}

void connection::schedule() { event_active(scheduled_.get(), 0, 0); }

void connection::stop() {
  if (!exchange_) {
    schedule();
  }
}

void connection::on_data(bufferevent *, void *self) { static_cast<connection *>(self)->pump(); }

void connection::on_scheduled(evutil_socket_t, short, void *self) { static_cast<connection *>(self)->pump(); }

void connection::on_event(bufferevent *, short, void *self) {
  // End of file or an error: either way the client is gone, as far as a proxy can tell.
  auto *client = static_cast<connection *>(self);
  if (client->exchange_) {
    client->exchange_->client_gone();
  } else {
    client->closed_ = true;
  }
  client->pump();
}

void connection::on_timer(evutil_socket_t, short, void *self) {
  auto *client = static_cast<connection *>(self);
  if (client->exchange_) {
    client->exchange_->on_impatience();
  } else {
    client->closed_ = true;
  }
  client->pump();
}
