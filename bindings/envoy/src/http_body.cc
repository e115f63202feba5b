// SPDX-License-Identifier: Apache-2.0
// Bodies, between Envoy's buffers and the library.
//
// Envoy offers a chunk, and has one buffer for each direction, which all filters share: a filter that stops keeps in it what has
// come. At the end of a body it moves the last chunk into that buffer if there is one, also if it is that of a later filter.

#include <algorithm>

#include "http_stream.h"
#include "log.h"
#include "same_bytes.h"

namespace proxywasm_envoy {

using proxywasm::direction;

namespace {

abi::body_type received(direction way) {
  return way == direction::request ? abi::body_type::received_request : abi::body_type::received_response;
}

abi::body_type buffered(direction way) {
  return way == direction::request ? abi::body_type::buffered_request : abi::body_type::buffered_response;
}

std::size_t size_of(void *filter, abi::body_type type) {
  return abi::envoy_dynamic_module_callback_http_get_body_size(filter, type);
}

void append(void *filter, abi::body_type type, std::string_view bytes) {
  (void)abi::envoy_dynamic_module_callback_http_append_body(filter, type, abi::to_buffer(bytes));
}

void append(void *filter, abi::body_type type, const proxywasm::outcome &outcome) {
  for (const proxywasm_slice &slice : outcome.body()) {
    append(filter, type, proxywasm::view(slice));
  }
}

void drain(void *filter, abi::body_type type, std::size_t size) {
  if (size != 0) {
    (void)abi::envoy_dynamic_module_callback_http_drain_body(filter, type, size);
  }
}

// Whether the earlier filter's buffer itself is what is offered.
bool is_buffer_offered(void *filter, direction way) {
  return way == direction::request ? abi::envoy_dynamic_module_callback_http_received_buffered_request_body(filter)
                                   : abi::envoy_dynamic_module_callback_http_received_buffered_response_body(filter);
}

// Adds the pieces of one of Envoy's buffers, without its first bytes.
void add_pieces(void *filter, abi::body_type type, std::size_t skip, std::vector<abi::buffer> &room,
                std::vector<proxywasm_chunk> &chunks) {
  room.resize(abi::envoy_dynamic_module_callback_http_get_body_chunks_size(filter, type));
  if (room.empty() || !abi::envoy_dynamic_module_callback_http_get_body_chunks(filter, type, room.data())) {
    return;
  }
  for (const abi::buffer &piece : room) {
    std::string_view bytes = abi::view(piece);
    const std::size_t cut = std::min(skip, bytes.size());
    skip -= cut;
    bytes.remove_prefix(cut);
    if (!bytes.empty()) {
      chunks.push_back(proxywasm::to_chunk(bytes));
    }
  }
}

}  // namespace

abi::body_status http_stream::on_body(direction way, bool end_of_stream) {
  const hook here(*this, false);
  side &one = of(way);
  one.body = true;
  one.ended = one.ended || end_of_stream;
  if (is_over()) {
    return abi::body_status::stop_iteration_no_buffer;
  }
  const std::uint32_t phase = way == direction::request ? PROXYWASM_PHASE_REQUEST_BODY : PROXYWASM_PHASE_RESPONSE_BODY;
  if (!stream_) {
    return abi::body_status::proceed;
  }
  if (one.holds_all) {
    one.left = true;
    one.left_end = end_of_stream;
    return abi::body_status::stop_iteration_and_watermark;
  }
  if (!takes_part(phase) && !one.discard) {
    return abi::body_status::proceed;
  }
  const bool in_buffer = gather(way, end_of_stream);
  const std::vector<proxywasm_chunk> &chunks = worker_.chunks();
  const proxywasm::outcome outcome = stream_->on_body(way, {chunks.data(), chunks.size()}, end_of_stream);
  if (outcome.result() == PROXYWASM_RESULT_BUSY) {
    // Envoy keeps it, and sees to it that not much more comes.
    one.left = true;
    one.left_end = end_of_stream;
    return abi::body_status::stop_iteration_and_watermark;
  }
  const verdict result = settle(way, outcome);
  if (result == verdict::over) {
    return abi::body_status::stop_iteration_no_buffer;
  }
  put_received(way, outcome, result == verdict::proceed, in_buffer);
  return result == verdict::proceed ? abi::body_status::proceed : abi::body_status::stop_iteration_no_buffer;
}

bool http_stream::gather(direction way, bool end_of_stream) {
  const side &one = of(way);
  std::vector<abi::buffer> &room = worker_.buffers();
  std::vector<proxywasm_chunk> &chunks = worker_.chunks();
  chunks.clear();
  if (one.left) {
    add_pieces(filter_, buffered(way), one.passed, room, chunks);
  }
  const std::size_t before = chunks.size();
  add_pieces(filter_, received(way), 0, room, chunks);
  if (end_of_stream && !one.left && chunks.size() == before && !is_buffer_offered(filter_, way) &&
      size_of(filter_, buffered(way)) > one.passed) {
    add_pieces(filter_, buffered(way), one.passed, room, chunks);
    return true;
  }
  return false;
}

void http_stream::put_received(direction way, const proxywasm::outcome &outcome, bool proceeds, bool in_buffer) {
  side &one = of(way);
  if (one.discard) {
    drain(filter_, received(way), size_of(filter_, received(way)));
    (void)take_buffered(way);
    return;
  }
  if (in_buffer || (one.left && one.passed != 0)) {
    // The bytes that passed before stay in front.
    std::string forward;
    for (const proxywasm_slice &slice : outcome.body()) {
      forward.append(proxywasm::view(slice));
    }
    std::string all = take_buffered(way);
    append(filter_, buffered(way), std::string_view(all).substr(0, one.passed));
    append(filter_, buffered(way), forward);
    drain(filter_, received(way), size_of(filter_, received(way)));
    one.passed += forward.size();
    one.left = false;
    return;
  }
  const std::size_t held = size_of(filter_, buffered(way));
  if (proceeds && !one.left && is_same(outcome, worker_.chunks())) {
    one.passed = held + outcome.body_size();
    return;
  }
  // Behind what is there, which the slices may point into.
  const std::size_t offered = size_of(filter_, received(way));
  append(filter_, proceeds ? received(way) : buffered(way), outcome);
  drain(filter_, received(way), offered);
  if (one.left) {
    drain(filter_, buffered(way), held);
    one.left = false;
    one.passed = proceeds ? 0 : outcome.body_size();
  } else {
    one.passed = held + outcome.body_size();
  }
}

void http_stream::put_held(direction way, const proxywasm::outcome &outcome) {
  side &one = of(way);
  if (one.discard) {
    append(filter_, buffered(way), std::string_view());
    return;
  }
  append(filter_, buffered(way), outcome);
  one.passed += outcome.body_size();
  if (one.body && one.ended && outcome.end_of_stream() && outcome.body_size() == 0 && !one.has_trailers) {
    // Without a buffer Envoy would not tell the next filter of the end.
    append(filter_, buffered(way), std::string_view());
  }
}

std::string http_stream::take_buffered(direction way) {
  std::vector<abi::buffer> &room = worker_.buffers();
  std::string bytes;
  room.resize(abi::envoy_dynamic_module_callback_http_get_body_chunks_size(filter_, buffered(way)));
  if (!room.empty() && abi::envoy_dynamic_module_callback_http_get_body_chunks(filter_, buffered(way), room.data())) {
    for (const abi::buffer &piece : room) {
      bytes.append(abi::view(piece));
    }
    drain(filter_, buffered(way), bytes.size());
  }
  return bytes;
}

http_stream::verdict http_stream::feed_left(direction way, const proxywasm::outcome *before) {
  side &one = of(way);
  const std::string all = take_buffered(way);
  const std::string_view rest = std::string_view(all).substr(std::min(one.passed, all.size()));
  append(filter_, buffered(way), std::string_view(all).substr(0, all.size() - rest.size()));
  if (before != nullptr) {
    put_held(way, *before);
  }
  const proxywasm::outcome outcome = stream_->on_body(way, rest, one.left_end);
  if (outcome.result() == PROXYWASM_RESULT_BUSY) {
    append(filter_, buffered(way), rest);
    return verdict::stop;
  }
  one.left = false;
  verdict result = settle(way, outcome);
  if (result == verdict::over) {
    return result;
  }
  put_held(way, outcome);
  if (one.left_trailers) {
    one.left_trailers = false;
    const auto map =
        way == direction::request ? abi::header_type::request_trailers : abi::header_type::response_trailers;
    const proxywasm::outcome last =
        stream_->on_trailers(way, abi::envoy_dynamic_module_callback_http_get_headers_size(filter_, map));
    result = settle(way, last);
    if (result != verdict::over) {
      put_held(way, last);
    }
  }
  return result;
}

}  // namespace proxywasm_envoy
