// SPDX-License-Identifier: Apache-2.0
#include "tcp_connection.h"

#include <algorithm>
#include <vector>

#include "event_loop.h"
#include "properties.h"

using proxywasm::direction;
using proxywasm::view;

namespace {

bool is_empty(evbuffer *buffer) { return evbuffer_get_length(buffer) == 0; }

// What a buffer holds, where it lies.
std::vector<proxywasm_chunk> to_chunks(evbuffer *buffer) {
  const int count = evbuffer_peek(buffer, -1, nullptr, nullptr, 0);
  std::vector<evbuffer_iovec> pieces(static_cast<std::size_t>(std::max(count, 0)));
  (void)evbuffer_peek(buffer, -1, nullptr, pieces.data(), count);
  std::vector<proxywasm_chunk> chunks;
  for (const evbuffer_iovec &piece : pieces) {
    chunks.push_back(proxywasm::to_chunk({static_cast<const char *>(piece.iov_base), piece.iov_len}));
  }
  return chunks;
}

}  // namespace

tcp_connection::tcp_connection(event_loop &loop, evutil_socket_t socket, const sockaddr *peer, std::uint64_t id)
    : client_socket(loop, socket, peer, id), start_ns_(now_realtime_ns()) {
  client_.socket = this->socket();
  stream_.emplace(loop.chain(), proxywasm::stream_kind::tcp, static_cast<plugin_stream *>(this));
  apply(direction::request, stream_->on_new_connection());
  schedule();
}

tcp_connection::~tcp_connection() { end_plugins(); }

void tcp_connection::pump() {
  bool moved = !lingering_;
  while (moved && !closing_) {
    moved = do_noted() || feed(direction::request) || feed(direction::response) || notice_loss();
  }
  if (!lingering_) {
    send_end(direction::request);
    send_end(direction::response);
    if (request_.sent_end && response_.sent_end) {
      end_plugins();
      over_ = true;
    } else if (closing_ && is_flushed()) {
      end_plugins();
      begin_linger();
    }
  }
  if (lingering_) {
    bool gone = true;
    for (const endpoint_state *one : {&client_, &upstream_}) {
      if (one->socket != nullptr) {
        discard(bufferevent_get_input(one->socket));
        gone = gone && (one->ended || one->lost);
      }
    }
    over_ = over_ || gone;
  }
  if (over_) {
    loop_.remove(this);  // destroys this connection
    return;
  }
  if (!lingering_) {
    arm_timer(patience());
  }
}

// ---- What plugins see and ask for -------------------------------------------------------------------------------------

bool tcp_connection::find_property(std::string_view path, std::string &value) const {
  stream_facts facts;
  facts.source_address = peer_address();
  facts.destination_address = local_address();
  if (upstream_.socket != nullptr) {
    facts.upstream_address = loop_.options().tcp->upstream.text;
  }
  facts.start_ns = start_ns_;
  facts.duration_ns = now_realtime_ns() - start_ns_;
  facts.request_size = request_.size;
  facts.response_size = response_.size;
  facts.connection_id = id();
  return ::find_property(facts, path, value);
}

proxywasm::status tcp_connection::on_local_response(const proxywasm_local_response &) {
  return proxywasm::status::unimplemented;  // the library asks HTTP streams only
}

void tcp_connection::on_resume(direction way) {
  flow_of(way).resume_noted = true;
  schedule();
}

// Whichever end a plugin names, the connection ends as a whole, as in Envoy.
void tcp_connection::on_close(proxywasm::stream_type) {
  close_noted_ = true;
  schedule();
}

bool tcp_connection::do_noted() {
  if (close_noted_) {
    loop_.log(proxywasm::log_level::debug, "proxy", "a plugin closed the connection");
    closing_ = true;
    return true;
  }
  for (const direction way : {direction::request, direction::response}) {
    if (flow_of(way).resume_noted) {
      flow_of(way).resume_noted = false;
      apply(way, stream_->resume(way));
      return true;
    }
  }
  return false;
}

// ---- From one end to the other ----------------------------------------------------------------------------------------

void tcp_connection::connect() {
  upstream_socket_ = make_socket(loop_.base(), -1, on_upstream_data, on_upstream_event, this);
  upstream_.socket = upstream_socket_.get();
  upstream_.lost = !connect_socket(upstream_.socket, loop_.options().tcp->upstream);
}

bool tcp_connection::feed(direction way) {
  flow &one = flow_of(way);
  const endpoint_state &from = source_of(way);
  // Nothing is shown before there is someone to send it to, as with Envoy's tcp_proxy.
  if (!connected_ || one.shown_end || one.paused || !::has_room(bufferevent_get_output(target_of(way).socket))) {
    return false;
  }
  evbuffer *input = bufferevent_get_input(from.socket);
  const bool last = from.ended;  // then all of it is in the buffer
  if (is_empty(input) && !last) {
    return false;
  }
  one.size += evbuffer_get_length(input);
  one.shown_end = last;
  const std::vector<proxywasm_chunk> chunks = to_chunks(input);
  apply(way, stream_->on_data(way, {chunks.data(), chunks.size()}, last));
  discard(input);
  if (last && way == direction::response) {
    // As in Envoy the plugins hear of it now, though the upstream may read on.
    tell_close(direction::response);
  }
  return true;
}

void tcp_connection::apply(direction way, const proxywasm::outcome &outcome) {
  if (!outcome.ok()) {
    // The action below is what the plugin's policy says; the log has the reason already when it was the guest's.
    loop_.log(proxywasm::log_level::debug, "proxy",
              std::string("phase: ") + proxywasm_result_name(outcome.result()) + ": " + proxywasm::last_error());
  }
  flow &one = flow_of(way);
  switch (outcome.action()) {
    case proxywasm::action::local_response:  // not for TCP
    case proxywasm::action::close:
      close_noted_ = true;
      return;
    case proxywasm::action::proceed:
      one.paused = one.waiting = false;
      break;
    case proxywasm::action::pause:
    case proxywasm::action::pause_and_buffer:
      one.paused = outcome.action() == proxywasm::action::pause;
      one.waiting = true;
      one.waiting_since = std::chrono::steady_clock::now();
      break;
  }
  if (outcome.headers_ready()) {
    connect();
  }
  const endpoint_state &to = target_of(way);
  if (to.socket != nullptr && !to.deaf) {
    for (const proxywasm_slice &slice : outcome.body()) {
      evbuffer_add(bufferevent_get_output(to.socket), slice.data, slice.len);
    }
  }
  one.passed_end = one.passed_end || outcome.end_of_stream();
}

void tcp_connection::send_end(direction way) {
  flow &one = flow_of(way);
  const endpoint_state &to = target_of(way);
  if (one.passed_end && !one.sent_end && is_empty(bufferevent_get_output(to.socket))) {
    one.sent_end = true;
    end_writing(to.socket);
  }
}

// ---- The end ----------------------------------------------------------------------------------------------------------

void tcp_connection::on_ended(short what) { note_end(direction::request, what); }

void tcp_connection::on_upstream_data(bufferevent *, void *self) { static_cast<tcp_connection *>(self)->pump(); }

void tcp_connection::on_upstream_event(bufferevent *socket, short what, void *self) {
  auto *one = static_cast<tcp_connection *>(self);
  if ((what & BEV_EVENT_CONNECTED) != 0) {
    one->connected_ = true;
    set_no_delay(socket);
  } else {
    one->note_end(direction::response, what);
  }
  one->pump();
}

void tcp_connection::note_end(direction from, short what) {
  endpoint_state &one = source_of(from);
  const direction toward = from == direction::request ? direction::response : direction::request;
  one.by_peer = one.by_peer || (!closing_ && !flow_of(toward).sent_end);
  if ((what & BEV_EVENT_EOF) != 0) {
    one.ended = true;
  } else if ((what & BEV_EVENT_WRITING) != 0) {
    // It reads no further, but what it has sent may still be on its way here.
    one.deaf = true;
    discard(bufferevent_get_output(one.socket));
  } else {
    one.lost = true;
  }
  one.lost = one.lost || (one.ended && one.deaf);
}

// When one end is gone without a farewell, the other one goes too, once it has what there is for it.
bool tcp_connection::notice_loss() {
  if (!client_.lost && !upstream_.lost) {
    return false;
  }
  if (upstream_.lost) {
    loop_.log(proxywasm::log_level::warn, "proxy", connected_ ? "upstream reset" : "upstream connect error");
    tell_close(direction::response);
  }
  closing_ = true;
  return true;
}

bool tcp_connection::is_flushed() const {
  const auto has_all = [](const endpoint_state &one) {
    return one.lost || one.deaf || is_empty(bufferevent_get_output(one.socket));
  };
  return has_all(client_) && (!connected_ || has_all(upstream_));
}

void tcp_connection::begin_linger() {
  lingering_ = true;
  if (connected_) {
    end_writing(upstream_.socket);
  } else {
    upstream_.socket = nullptr;
    upstream_socket_.reset();
  }
  close_softly();
}

void tcp_connection::tell_close(direction way) {
  endpoint_state &one = source_of(way);
  const bool was_open = way == direction::request || connected_;
  if (was_open && !one.close_told) {
    one.close_told = true;
    (void)stream_->on_close(way, one.by_peer ? proxywasm::peer::remote : proxywasm::peer::local);
  }
}

void tcp_connection::end_plugins() {
  if (stream_) {
    tell_close(direction::request);
    tell_close(direction::response);
    // Envoy's order for TCP: done, log, delete.
    (void)stream_->done();
    (void)stream_->log();
    stream_.reset();
  }
}

// ---- Time -------------------------------------------------------------------------------------------------------------

// Whether only a plugin can make it go on. One that is offered more may be waiting for just that, and so for the other end.
bool tcp_connection::is_stuck(const flow &one) const {
  return one.waiting && (!connected_ || one.paused || one.shown_end);
}

std::chrono::milliseconds tcp_connection::patience() const {
  std::chrono::milliseconds left = loop_.options().idle_timeout;
  for (const flow *one : {&request_, &response_}) {
    if (is_stuck(*one)) {
      left = std::min(left, time_left(one->waiting_since, loop_.options().pause_timeout));
    }
  }
  return left;
}

void tcp_connection::on_timeout() {
  if (!closing_ && (is_stuck(request_) || is_stuck(response_))) {
    loop_.log(proxywasm::log_level::warn, "proxy", "a plugin paused for too long");
  }
  over_ = true;  // the plugins are told by the destructor
}
