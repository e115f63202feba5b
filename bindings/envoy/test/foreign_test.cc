// SPDX-License-Identifier: Apache-2.0
#include "foreign.h"

#include <gtest/gtest.h>

#include "fake_envoy.h"

using namespace std::string_literals;
using namespace proxywasm_envoy;
using proxywasm::status;

namespace {

std::string called(std::string_view name, std::string_view argument, status wanted = status::ok) {
  std::string result;
  EXPECT_EQ(call_pure_function(name, argument, result), wanted);
  return result;
}

}  // namespace

TEST(Foreign, CompressesAsZlibDoes) {
  // What zlib's own `compress` makes of it.
  EXPECT_EQ(called("compress", "hello hello hello"),
            "\x78\x9c\xcb\x48\xcd\xc9\xc9\x57\xc8\x40\x90\x00\x3a\x2e\x06\x7d"s);
  for (const auto &text : {""s, "a"s, std::string(1'000'000, 'x'), "\0\xff\0"s}) {
    EXPECT_EQ(called("uncompress", called("compress", text)), text);
  }
}

TEST(Foreign, UncompressRefusesWhatIsNone) {
  const std::string whole = called("compress", std::string(5'000, 'x') + "end");
  for (const auto &wrong : {""s, "x"s, "hello"s, whole.substr(0, whole.size() - 1), whole.substr(1)}) {
    EXPECT_EQ(called("uncompress", wrong, status::serialization_failure), "");
  }
  EXPECT_EQ(called("uncompress", called("compress", std::string(300'000'000, '\0')), status::serialization_failure),
            "");
}

TEST(Foreign, UnknownNames) {
  std::string result;
  EXPECT_EQ(call_pure_function("", "", result), std::nullopt);
  EXPECT_EQ(call_pure_function("clear_route_cache", "", result), std::nullopt);
  fake_filter filter;
  EXPECT_EQ(call_http_function(&filter, "", ""), status::not_found);
  EXPECT_EQ(call_http_function(&filter, "compress", ""), status::not_found);
}

TEST(Foreign, ClearRouteCache) {
  fake_filter filter;
  EXPECT_EQ(call_http_function(&filter, "clear_route_cache", ""), status::ok);
  EXPECT_EQ(call_http_function(nullptr, "clear_route_cache", ""), status::ok);
  EXPECT_EQ(filter.cleared_routes, 1u);
}

TEST(Foreign, SetEnvoyFilterState) {
  const auto set = [](void *filter, const std::string &argument) {
    return call_http_function(filter, "set_envoy_filter_state", argument);
  };
  fake_filter filter;
  filter.factories = {"key"};
  EXPECT_EQ(set(&filter, "\x0a\x03key\x12\x05value"s), status::ok);
  EXPECT_EQ(filter.typed["key"], "value");
  EXPECT_EQ(set(&filter, "\x12\x02v2\x0a\x03key\x18\x00"s), status::ok);
  EXPECT_EQ(filter.typed["key"], "v2");
  // Longer lives than that of the filter chain.
  EXPECT_EQ(set(&filter, "\x0a\x03key\x12\x02v3\x18\x01"s), status::bad_argument);
  EXPECT_EQ(set(&filter, "\x0a\x03key\x12\x02v3\x18\x02"s), status::bad_argument);
  EXPECT_EQ(set(&filter, "\x0a\x7fkey"s), status::bad_argument);
  EXPECT_EQ(set(&filter, "\xff"s), status::bad_argument);
  EXPECT_EQ(set(&filter, "\x0a\x05other\x12\x01v"s), status::not_found);
  EXPECT_EQ(set(&filter, ""), status::not_found);
  EXPECT_EQ(set(nullptr, "\x0a\x03key"s), status::not_found);
  EXPECT_EQ(filter.typed["key"], "v2");
}

TEST(Foreign, OfConnections) {
  fake_filter filter;
  filter.factories = {"key"};
  EXPECT_EQ(call_network_function(&filter, "clear_route_cache", ""), status::ok);
  EXPECT_EQ(filter.cleared_routes, 0u);
  EXPECT_EQ(call_network_function(&filter, "set_envoy_filter_state", "\x0a\x03key\x12\x05value"s), status::ok);
  EXPECT_EQ(filter.typed["key"], "value");
  EXPECT_EQ(call_network_function(&filter, "sign", ""), status::not_found);
}
