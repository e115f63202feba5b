// SPDX-License-Identifier: Apache-2.0
#include "grpc_target.h"

#include <cstdint>

#include "proto_reader.h"

namespace {

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
