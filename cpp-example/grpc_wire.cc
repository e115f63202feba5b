// SPDX-License-Identifier: Apache-2.0
#include "grpc_wire.h"

#include <algorithm>
#include <charconv>

grpc_deframer::event grpc_deframer::next(std::string_view &data) {
  while (prefix_size_ < prefix_length) {
    if (data.empty()) {
      return event::starved;
    }
    prefix_[prefix_size_++] = static_cast<unsigned char>(data.front());
    data.remove_prefix(1);
    if (prefix_size_ == prefix_length) {
      length_ = static_cast<std::size_t>(prefix_[1]) << 24 | static_cast<std::size_t>(prefix_[2]) << 16 |
                static_cast<std::size_t>(prefix_[3]) << 8 | prefix_[4];
      message_.clear();
      if (prefix_[0] != 0) {
        return prefix_[0] == 1 ? event::compressed : event::malformed;
      }
      if (length_ > max_grpc_message) {
        return event::too_large;
      }
    }
  }
  // Memory is taken as bytes come: a length alone costs the sender nothing.
  const std::string_view part = data.substr(0, length_ - message_.size());
  message_.append(part);
  data.remove_prefix(part.size());
  if (message_.size() < length_) {
    return event::starved;
  }
  prefix_size_ = 0;
  return event::message;
}

std::string grpc_prefix(std::size_t length) {
  std::string prefix(1, '\0');
  for (const int shift : {24, 16, 8, 0}) {
    prefix += static_cast<char>(length >> shift & 0xff);
  }
  return prefix;
}

grpc_status parse_grpc_status(std::string_view text) {
  constexpr std::uint32_t last = 16;
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > last) {
    return grpc_status::unknown;
  }
  return static_cast<grpc_status>(value);
}

std::string decode_grpc_message(std::string_view text) {
  std::string message;
  while (!text.empty()) {
    unsigned byte = 0;
    // What is no escape stays as it is: a text that is odd is better than none.
    if (text.front() == '%' && text.size() >= 3 &&
        std::from_chars(text.data() + 1, text.data() + 3, byte, 16).ptr == text.data() + 3) {
      message += static_cast<char>(byte);
      text.remove_prefix(3);
    } else {
      message += text.front();
      text.remove_prefix(1);
    }
  }
  return message;
}

std::string encode_grpc_message(std::string_view text) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string message;
  for (const char one : text) {
    const auto byte = static_cast<unsigned char>(one);
    if (byte >= 0x20 && byte < 0x7f && byte != '%') {
      message += one;
    } else {
      message += {'%', digits[byte >> 4], digits[byte & 15]};
    }
  }
  return message;
}

bool is_grpc_content(std::string_view content_type) {
  constexpr std::string_view type = "application/grpc";
  return content_type.substr(0, type.size()) == type &&
         (content_type.size() == type.size() || content_type[type.size()] == '+');
}

std::string to_grpc_timeout(std::uint32_t milliseconds) {
  constexpr std::uint32_t most_digits = 99'999'999;
  return milliseconds <= most_digits ? std::to_string(milliseconds) + "m" : std::to_string(milliseconds / 1000) + "S";
}

grpc_status from_http_status(std::string_view status) {
  struct mapping {
    std::string_view http;
    grpc_status grpc;
  };
  constexpr mapping table[] = {
      {"400", grpc_status::internal},          {"401", grpc_status::unauthenticated},
      {"403", grpc_status::permission_denied}, {"404", grpc_status::unimplemented},
      {"429", grpc_status::unavailable},       {"502", grpc_status::unavailable},
      {"503", grpc_status::unavailable},       {"504", grpc_status::unavailable},
  };
  const auto *found =
      std::find_if(std::begin(table), std::end(table), [status](const mapping &one) { return one.http == status; });
  return found == std::end(table) ? grpc_status::unknown : found->grpc;
}
