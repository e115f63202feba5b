// SPDX-License-Identifier: Apache-2.0
// Reads a serialized protobuf message without its schema.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

// One field after the other.
class proto_reader {
 public:
  explicit proto_reader(std::string_view message) : rest_(message) {}

  // False at the end, and when the message is malformed. Text, bytes and messages are `value`, integers are `integer`; the
  // other is then empty or 0.
  bool next(std::uint64_t &number, std::string_view &value) {
    value = {};
    integer_ = 0;
    std::uint64_t key = 0;
    if (rest_.empty()) {
      return false;
    }
    if (!read_varint(key) || key >> 3 == 0) {
      return fail();
    }
    number = key >> 3;
    std::uint64_t length = 0;
    switch (key & 7) {
      case 0:
        return read_varint(integer_) || fail();
      case 1:
        return skip(8) || fail();
      case 2:
        if (!read_varint(length) || length > rest_.size()) {
          return fail();
        }
        value = rest_.substr(0, length);
        return skip(length);
      case 5:
        return skip(4) || fail();
      default:
        return fail();
    }
  }
  // Of the field that was read last.
  std::uint64_t integer() const { return integer_; }
  bool failed() const { return failed_; }

 private:
  bool fail() {
    failed_ = true;
    return false;
  }
  bool skip(std::size_t length) {
    if (length > rest_.size()) {
      return false;
    }
    rest_.remove_prefix(length);
    return true;
  }
  bool read_varint(std::uint64_t &value) {
    value = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) {
        return true;
      }
    }
    return false;
  }

  std::string_view rest_;
  std::uint64_t integer_ = 0;
  bool failed_ = false;
};
