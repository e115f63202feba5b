// SPDX-License-Identifier: Apache-2.0
#include "grpc_target.h"

#include <cstdint>

namespace {

// Reads the fields of a protobuf message one by one; those that are not length-delimited have an empty value.
class proto_reader {
 public:
  explicit proto_reader(std::string_view message) : rest_(message) {}

  // False at the end, and when the message is malformed.
  bool next(std::uint64_t &number, std::string_view &value) {
    value = {};
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
        return read_varint(length) || fail();
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
  bool failed_ = false;
};

// Fields 1 and 2, both text: EnvoyGrpc's cluster_name and authority, HeaderValue's key and value.
bool read_two_texts(std::string_view message, std::string &first, std::string &second) {
  proto_reader reader(message);
  std::uint64_t number = 0;
  std::string_view value;
  while (reader.next(number, value)) {
    if (number == 1 || number == 2) {
      (number == 1 ? first : second) = value;
    }
  }
  return !reader.failed();
}

}  // namespace

std::optional<grpc_target> parse_grpc_service(std::string_view message) {
  constexpr std::uint64_t envoy_grpc = 1;
  constexpr std::uint64_t initial_metadata = 5;
  grpc_target target;
  proto_reader reader(message);
  std::uint64_t number = 0;
  std::string_view value;
  while (reader.next(number, value)) {
    if (number == envoy_grpc && !read_two_texts(value, target.cluster, target.authority)) {
      return std::nullopt;
    }
    if (number == initial_metadata) {
      std::string name, text;
      if (!read_two_texts(value, name, text)) {
        return std::nullopt;
      }
      target.metadata.add(name, text);
    }
  }
  if (reader.failed() || target.cluster.empty()) {
    return std::nullopt;
  }
  return target;
}
