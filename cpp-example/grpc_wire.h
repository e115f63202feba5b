// SPDX-License-Identifier: Apache-2.0
// What gRPC puts on top of HTTP/2: length-prefixed messages, statuses, timeouts.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

enum class grpc_status : std::uint32_t {
  ok = 0,
  cancelled = 1,
  unknown = 2,
  deadline_exceeded = 4,
  permission_denied = 7,
  resource_exhausted = 8,
  unimplemented = 12,
  internal = 13,
  unavailable = 14,
  unauthenticated = 16,
};

// The longest message in either direction.
constexpr std::size_t max_grpc_message = 4 * 1024 * 1024;

// Finds the messages in the bytes of a body, wherever these are cut.
class grpc_deframer {
 public:
  enum class event { starved, message, compressed, malformed, too_large };

  // Takes bytes from the front of `data`, at most to the end of a message.
  event next(std::string_view &data);
  // After event::message.
  std::string take() { return std::move(message_); }
  // Whether the body may end here.
  bool between_messages() const { return prefix_size_ == 0; }

 private:
  static constexpr std::size_t prefix_length = 5;

  unsigned char prefix_[prefix_length] = {};
  std::size_t prefix_size_ = 0;
  std::size_t length_ = 0;
  std::string message_;
};

// The five bytes before a message that is not compressed.
std::string grpc_prefix(std::size_t length);

// The value of `grpc-status`; what is no status is UNKNOWN.
grpc_status parse_grpc_status(std::string_view text);
// The value of `grpc-message`, which is percent-encoded.
std::string decode_grpc_message(std::string_view text);
std::string encode_grpc_message(std::string_view text);
// Whether a content-type is gRPC's: `application/grpc`, with or without a `+` and what messages are written in.
bool is_grpc_content(std::string_view content_type);
// The value of `grpc-timeout`: at most eight digits and a unit.
std::string to_grpc_timeout(std::uint32_t milliseconds);

// The status of an answer that has none, by its HTTP status.
grpc_status from_http_status(std::string_view status);
