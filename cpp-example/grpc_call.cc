// SPDX-License-Identifier: Apache-2.0
#include "grpc_call.h"

#include <new>
#include <vector>

#include "event_loop.h"

namespace {

// What a stream may have waiting while the upstream takes nothing.
constexpr std::size_t max_unsent = 4 * max_grpc_message;

std::vector<proxywasm_pair> to_pairs(const header_map &fields) {
  std::vector<proxywasm_pair> pairs;
  for (const header_field &field : fields) {
    pairs.push_back(proxywasm::to_pair(field.name, field.value));
  }
  return pairs;
}

bool is_grpc(const header_map &fields) {
  const std::string *type = fields.find("content-type");
  return type != nullptr && to_lower(*type).rfind("application/grpc", 0) == 0;
}

// The status of an answer that RST_STREAM ends.
grpc_status from_http2_error(std::uint32_t error) {
  switch (error) {
    case NGHTTP2_NO_ERROR:
    case NGHTTP2_PROTOCOL_ERROR:
    case NGHTTP2_INTERNAL_ERROR:
    case NGHTTP2_FLOW_CONTROL_ERROR:
    case NGHTTP2_SETTINGS_TIMEOUT:
    case NGHTTP2_FRAME_SIZE_ERROR:
    case NGHTTP2_COMPRESSION_ERROR:
    case NGHTTP2_CONNECT_ERROR:
      return grpc_status::internal;
    case NGHTTP2_REFUSED_STREAM:
      return grpc_status::unavailable;
    case NGHTTP2_CANCEL:
      return grpc_status::cancelled;
    case NGHTTP2_ENHANCE_YOUR_CALM:
      return grpc_status::resource_exhausted;
    case NGHTTP2_INADEQUATE_SECURITY:
      return grpc_status::permission_denied;
    default:
      return grpc_status::unknown;
  }
}

}  // namespace

void grpc_call::start(http2_client &client, const header_map &fields, std::uint32_t timeout_ms) {
  client_ = &client;
  id_ = client.open(fields, *this);
  if (id_ < 0) {
    return finish(grpc_status::unavailable, "no stream could be opened");
  }
  if (timeout_ms != 0) {
    const timeval time = {static_cast<time_t>(timeout_ms / 1000), static_cast<suseconds_t>(timeout_ms % 1000 * 1000)};
    timer_.reset(event_new(loop_.base(), -1, 0, on_timer, this));
    if (!timer_) {
      throw std::bad_alloc();
    }
    event_add(timer_.get(), &time);
  }
}

void grpc_call::send(std::string_view message) {
  if (over_) {
    return;
  }
  if (message.size() > max_grpc_message) {
    return finish(grpc_status::resource_exhausted, "message to send is too large");
  }
  if (client_->unsent(id_) + message.size() > max_unsent) {
    return finish(grpc_status::resource_exhausted, "the upstream does not take what is sent");
  }
  client_->send(id_, grpc_prefix(message.size()));
  client_->send(id_, message);
}

void grpc_call::end() {
  if (!over_ && !half_closed_) {
    half_closed_ = true;
    client_->end(id_);
  }
}

void grpc_call::cancel() { detach(); }

// ---- What the upstream answers ----------------------------------------------------------------------------------------

// In all of these the plugin is told something, and may cancel this call inside.

void grpc_call::on_fields(const header_map &fields, bool end) {
  const auto self = shared_from_this();
  if (has_headers_) {
    // There is nothing between headers and trailers.
    return end ? on_trailers(fields) : finish(grpc_status::internal, "headers in the middle of an answer");
  }
  if (end && fields.find("grpc-status") != nullptr) {
    return on_trailers(fields);  // and nothing else, whatever the HTTP status
  }
  const std::string *status = fields.find(":status");
  if (status == nullptr || *status != "200") {
    return finish(from_http_status(status == nullptr ? "" : *status),
                  "HTTP status " + (status == nullptr ? "none" : *status));
  }
  if (!is_grpc(fields)) {
    return finish(grpc_status::unknown, "the answer is not gRPC");
  }
  if (end) {
    return on_end();
  }
  const std::string *encoding = fields.find("grpc-encoding");
  is_compressed_ = encoding != nullptr && *encoding != "identity";
  tell_initial_metadata(fields);
}

void grpc_call::tell_initial_metadata(const header_map &fields) {
  has_headers_ = true;
  if (kind_ == kind::stream) {
    const std::vector<proxywasm_pair> pairs = to_pairs(fields);
    (void)loop_.worker().grpc_initial_metadata(token_, {pairs.data(), pairs.size()});
  }
}

void grpc_call::on_data(std::string_view bytes) {
  const auto self = shared_from_this();
  while (!over_) {
    switch (deframer_.next(bytes)) {
      case grpc_deframer::event::starved:
        return;
      case grpc_deframer::event::message:
        on_message(deframer_.take());
        break;
      case grpc_deframer::event::compressed:
        // The request's grpc-accept-encoding asked for none.
        return finish(grpc_status::internal, is_compressed_ ? "the message is compressed, which is not supported"
                                                            : "the message is compressed by no known method");
      case grpc_deframer::event::malformed:
        return finish(grpc_status::internal, "malformed message");
      case grpc_deframer::event::too_large:
        return finish(grpc_status::resource_exhausted, "message received is too large");
    }
  }
}

void grpc_call::on_message(std::string message) {
  if (kind_ == kind::unary) {
    if (answer_) {
      return finish(grpc_status::internal, "more than one message in answer to a unary call");
    }
    answer_ = std::move(message);
    return;
  }
  const proxywasm_slice slice = proxywasm::to_slice(message);
  (void)loop_.worker().grpc_message(token_, {&slice, message.empty() ? 0U : 1U});
}

void grpc_call::on_end() {
  finish(deframer_.between_messages() ? grpc_status::unknown : grpc_status::internal, "the answer has no status");
}

void grpc_call::on_trailers(const header_map &fields) {
  const std::string *status = fields.find("grpc-status");
  const std::string *message = fields.find("grpc-message");
  if (status == nullptr) {
    return finish(grpc_status::unknown, "the answer has no status", fields);
  }
  const grpc_status code = parse_grpc_status(*status);
  if (code == grpc_status::ok && !deframer_.between_messages()) {
    return finish(grpc_status::internal, "the answer ends inside a message", fields);
  }
  finish(code, message == nullptr ? "" : decode_grpc_message(*message), fields);
}

void grpc_call::on_reset(std::uint32_t error) {
  id_ = -1;
  finish(from_http2_error(error), std::string("stream reset: ") + nghttp2_http2_strerror(error));
}

void grpc_call::on_lost(const std::string &why) {
  id_ = -1;
  finish(grpc_status::unavailable, why);
}

void grpc_call::on_timer(evutil_socket_t, short, void *self) {
  static_cast<grpc_call *>(self)->finish(grpc_status::deadline_exceeded, "the time is over");
}

// ---- The end ----------------------------------------------------------------------------------------------------------

void grpc_call::detach() {
  over_ = true;
  timer_.reset();
  if (client_ != nullptr && id_ > 0) {
    client_->drop(id_);
    id_ = -1;
  }
}

void grpc_call::finish(grpc_status status, const std::string &message, const header_map &trailers) {
  if (over_) {
    return;
  }
  const auto self = shared_from_this();
  detach();
  owner_.on_call_ended(token_);
  const proxywasm::worker &worker = loop_.worker();
  if (kind_ == kind::unary && status == grpc_status::ok) {
    if (answer_) {
      const proxywasm_slice slice = proxywasm::to_slice(*answer_);
      (void)worker.grpc_message(token_, {&slice, answer_->empty() ? 0U : 1U});
    } else {
      (void)worker.grpc_close(token_, static_cast<std::uint32_t>(grpc_status::internal), "the answer has no message");
    }
    return;
  }
  // A stream has both kinds of metadata before its end, as in Envoy; there may be nothing in them.
  if (!has_headers_) {
    tell_initial_metadata({});
  }
  if (kind_ == kind::stream) {
    const std::vector<proxywasm_pair> pairs = to_pairs(trailers);
    (void)worker.grpc_trailing_metadata(token_, {pairs.data(), pairs.size()});
  }
  // Where the plugin has cancelled the call meanwhile, this is ignored.
  (void)worker.grpc_close(token_, static_cast<std::uint32_t>(status), message);
}
