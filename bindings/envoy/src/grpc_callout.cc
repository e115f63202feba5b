// SPDX-License-Identifier: Apache-2.0
#include "grpc_callout.h"

#include <utility>

#include "grpc_fields.h"
#include "worker.h"

namespace proxywasm_envoy {

using proxywasm::status;
using proxywasm::view;

namespace {

const std::string *find(const fields &list, std::string_view name) {
  for (const auto &[key, value] : list) {
    if (key == name) {
      return &value;
    }
  }
  return nullptr;
}

struct ending {
  grpc_status status;
  const char *text;
};

ending of_reset(abi::stream_reset_reason reason) {
  switch (reason) {
    case abi::stream_reset_reason::connection_failure:
    case abi::stream_reset_reason::connection_termination:
    case abi::stream_reset_reason::remote_refused_stream_reset:
    case abi::stream_reset_reason::local_refused_stream_reset:
    case abi::stream_reset_reason::overflow:
      return {grpc_status::unavailable, "the stream was reset: no connection"};
    default:
      return {grpc_status::internal, "the stream was reset"};
  }
}

}  // namespace

std::optional<call_request> to_call_request(const grpc_target &target, const proxywasm_grpc_request &request,
                                            grpc_callout::kind kind) {
  const std::optional<header_map> headers = to_grpc_fields(target, request);
  if (!headers) {
    return std::nullopt;
  }
  call_request made;
  made.cluster = target.cluster;
  for (const header_field &field : *headers) {
    made.headers.emplace_back(field.name, field.value);
  }
  if (kind == grpc_callout::kind::unary) {
    made.body = grpc_prefix(request.message.len).append(view(request.message));
    made.timeout_ms = request.timeout_ms;
  } else {
    made.ends = false;
  }
  return made;
}

status grpc_callout::send_message(std::string_view message, bool end_of_stream) {
  if (half_closed_) {
    return status::bad_argument;
  }
  if (message.size() > max_grpc_message) {
    return status::bad_argument;
  }
  half_closed_ = end_of_stream;
  std::string bytes = grpc_prefix(message.size()).append(message);
  if (!started) {
    request_.body += bytes;
    request_.ends = end_of_stream;
  } else {
    (void)owner_.send(*this, bytes, end_of_stream);
  }
  return status::ok;
}

status grpc_callout::half_close() {
  if (!half_closed_) {
    half_closed_ = true;
    if (!started) {
      request_.ends = true;
    } else {
      (void)owner_.send(*this, {}, true);
    }
  }
  return status::ok;
}

void grpc_callout::on_headers(const fields &headers, bool end_of_stream) {
  if (end_of_stream && find(headers, "grpc-status") != nullptr) {
    return on_trailers(headers);  // and nothing else, whatever the HTTP status
  }
  const std::string *code = find(headers, ":status");
  if (code == nullptr || *code != "200") {
    return finish(from_http_status(code == nullptr ? "" : *code), "HTTP status " + (code == nullptr ? "none" : *code),
                  {}, !end_of_stream);
  }
  const std::string *type = find(headers, "content-type");
  if (type == nullptr || !is_grpc_content(*type)) {
    return finish(grpc_status::unknown, "the answer is not gRPC", {}, !end_of_stream);
  }
  if (!end_of_stream) {
    tell_initial_metadata(headers);
  }
}

void grpc_callout::tell_initial_metadata(const fields &headers) {
  has_headers_ = true;
  if (kind_ == kind::stream) {
    const std::vector<proxywasm_pair> pairs = to_pairs(headers);
    (void)proxywasm_grpc_initial_metadata(owner_.get(), token_, pairs.data(), pairs.size());
  }
}

void grpc_callout::on_data(std::string_view bytes, bool) {
  // The plugin may cancel the call while it is told of a message.
  worker &owner = owner_;
  const proxywasm_token token = token_;
  while (owner.find_call(token) == this) {
    switch (deframer_.next(bytes)) {
      case grpc_deframer::event::starved:
        return;
      case grpc_deframer::event::message:
        if (!on_message(deframer_.take())) {
          return;
        }
        break;
      case grpc_deframer::event::compressed:
        return finish(grpc_status::internal, "the message is compressed, which is not supported", {}, true);
      case grpc_deframer::event::malformed:
        return finish(grpc_status::internal, "malformed message", {}, true);
      case grpc_deframer::event::too_large:
        return finish(grpc_status::resource_exhausted, "message received is too large", {}, true);
    }
  }
}

bool grpc_callout::on_message(std::string message) {
  if (kind_ == kind::unary) {
    if (answer_) {
      finish(grpc_status::internal, "more than one message in answer to a unary call", {}, true);
      return false;
    }
    answer_ = std::move(message);
    return true;
  }
  const proxywasm_slice slice = proxywasm::to_slice(message);
  (void)proxywasm_grpc_message(owner_.get(), token_, &slice, message.empty() ? 0 : 1);
  return true;
}

void grpc_callout::on_trailers(const fields &trailers) {
  const std::string *code = find(trailers, "grpc-status");
  const std::string *message = find(trailers, "grpc-message");
  if (code == nullptr) {
    return finish(grpc_status::unknown, "the answer has no status", trailers);
  }
  const grpc_status result = parse_grpc_status(*code);
  if (result == grpc_status::ok && !deframer_.between_messages()) {
    return finish(grpc_status::internal, "the answer ends inside a message", trailers);
  }
  finish(result, message == nullptr ? std::string() : decode_grpc_message(*message), trailers);
}

void grpc_callout::on_complete() {
  // Its trailers would have ended it.
  finish(deframer_.between_messages() ? grpc_status::unknown : grpc_status::internal, "the answer has no status");
}

void grpc_callout::on_reset(abi::stream_reset_reason reason) {
  const ending end = of_reset(reason);
  finish(end.status, end.text);
}

void grpc_callout::on_refused() { finish(grpc_status::unavailable, "the call could not be started"); }

void grpc_callout::finish(grpc_status result, std::string_view message, const fields &trailers, bool reset) {
  if (reset) {
    owner_.abandon(*this);
  }
  // Envoy ends a call whose time is over as if the service could not be reached, and says so in the text alone.
  if (result == grpc_status::unavailable && has_timeout_ && message == "upstream request timeout") {
    result = grpc_status::deadline_exceeded;
  }
  const std::unique_ptr<call> self = take();
  proxywasm_worker *worker = owner_.get();
  if (kind_ == kind::unary && result == grpc_status::ok) {
    if (answer_) {
      const proxywasm_slice slice = proxywasm::to_slice(*answer_);
      (void)proxywasm_grpc_message(worker, token_, &slice, answer_->empty() ? 0 : 1);
    } else {
      (void)proxywasm_grpc_close(worker, token_, static_cast<std::uint32_t>(grpc_status::internal),
                                 proxywasm::to_slice("the answer has no message"));
    }
    return;
  }
  if (kind_ == kind::stream) {
    // A stream has both kinds of metadata before its end, as in Envoy; there may be nothing in them.
    if (!has_headers_) {
      tell_initial_metadata({});
    }
    const std::vector<proxywasm_pair> pairs = to_pairs(trailers);
    (void)proxywasm_grpc_trailing_metadata(worker, token_, pairs.data(), pairs.size());
  }
  // Where the plugin has cancelled the call meanwhile, this is ignored.
  (void)proxywasm_grpc_close(worker, token_, static_cast<std::uint32_t>(result), proxywasm::to_slice(message));
}

}  // namespace proxywasm_envoy
