// SPDX-License-Identifier: Apache-2.0
#include "properties.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include "fake_envoy.h"

using namespace std::string_literals;

// `abi` alone is also a name of the compiler's.
namespace proxywasm_envoy {

using proxywasm::map;
using proxywasm::status;

namespace {

class fake_headers final : public header_reader {
 public:
  std::map<map, std::vector<std::pair<std::string, std::string>>> maps;

  status get_header(map which, std::string_view name, std::string_view &value) override {
    for (const auto &[key, text] : maps[which]) {
      if (key == name) {
        value = text;
        return status::ok;
      }
    }
    return status::not_found;
  }
  status get_headers(map which, proxywasm_pair *pairs, std::size_t capacity, std::size_t &count) override {
    const auto found = maps.find(which);
    if (found == maps.end()) {
      return status::bad_argument;
    }
    count = found->second.size();
    for (std::size_t i = 0; i < count && i < capacity; ++i) {
      pairs[i] = {proxywasm::to_slice(found->second[i].first), proxywasm::to_slice(found->second[i].second)};
    }
    return status::ok;
  }
};

class Properties : public testing::Test {
 protected:
  fake_filter filter;
  fake_headers headers;

  // `path` has dots between its segments.
  std::optional<std::string> get(std::string path) {
    for (char &c : path) {
      c = c == '.' ? '\0' : c;
    }
    return get_raw(path);
  }
  std::optional<std::string> get_raw(const std::string &path) {
    std::string room;
    std::string_view value;
    const status result = get_http_property(&filter, headers, path, room, value);
    EXPECT_TRUE(result == status::ok || result == status::not_found);
    return result == status::ok ? std::optional<std::string>(value) : std::nullopt;
  }
};

std::string little(std::uint64_t number) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &number, 8);
  return bytes;
}

std::string little(double number) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &number, 8);
  return bytes;
}

}  // namespace

TEST_F(Properties, AttributesOfEachKind) {
  filter.texts = {{abi::attribute::request_path, "/a?b"},
                  {abi::attribute::xds_route_name, ""},
                  {abi::attribute::connection_tls_version, "TLSv1.3"}};
  filter.numbers = {{abi::attribute::response_code, 404}, {abi::attribute::connection_id, 7}};
  EXPECT_EQ(get("request.path"), "/a?b");
  EXPECT_EQ(get("xds.route_name"), "");
  EXPECT_EQ(get("connection.tls_version"), "TLSv1.3");
  EXPECT_EQ(get("response.code"), little(std::uint64_t{404}));
  EXPECT_EQ(get("connection.id"), little(std::uint64_t{7}));
  EXPECT_EQ(get("connection_id"), little(std::uint64_t{7}));
  EXPECT_EQ(get("request.host"), std::nullopt);
  EXPECT_EQ(get("response.size"), std::nullopt);
}

TEST_F(Properties, EmptyQueryOfARequest) {
  // Envoy does not tell an empty one from none at all.
  EXPECT_EQ(get("request.query"), std::nullopt);
  headers.maps[map::request_headers] = {{":path", "/a"}};
  EXPECT_EQ(get("request.query"), "");
}

TEST_F(Properties, SegmentsAreNotDots) {
  filter.texts = {{abi::attribute::request_path, "/a"}};
  EXPECT_EQ(get_raw("request.path"), std::nullopt);
  EXPECT_EQ(get_raw("request\0path"s), "/a");
  for (const auto &wrong :
       {""s, "\0"s, "request"s, "request\0"s, "request\0path\0"s, "request\0path\0more"s, "\0request\0path"s}) {
    EXPECT_EQ(get_raw(wrong), std::nullopt);
  }
}

TEST_F(Properties, MtlsIsFalseWithoutTls) {
  EXPECT_EQ(get("connection.mtls"), "\0"s);
  filter.truths = {{abi::attribute::connection_mtls, false}};
  EXPECT_EQ(get("connection.mtls"), "\0"s);
  filter.truths = {{abi::attribute::connection_mtls, true}};
  EXPECT_EQ(get("connection.mtls"), "\1");
}

TEST_F(Properties, Times) {
  filter.timing.assign(19, -1);
  filter.timing[0] = 1'700'000'000'123'456'789;
  EXPECT_EQ(get("request.time"), little(std::uint64_t{1'700'000'000'123'456'789}));
  EXPECT_EQ(get("request.duration"), std::nullopt);
  EXPECT_EQ(get("response.backend_latency"), std::nullopt);
  filter.timing[9] = 100;
  EXPECT_EQ(get("response.backend_latency"), std::nullopt);
  filter.timing[13] = 350;
  filter.timing[17] = 500;
  EXPECT_EQ(get("response.backend_latency"), little(std::uint64_t{250}));
  EXPECT_EQ(get("request.duration"), little(std::uint64_t{500}));
  // An Envoy that writes less has no more to say.
  filter.timing.resize(8);
  EXPECT_NE(get("request.time"), std::nullopt);
  EXPECT_EQ(get("request.duration"), std::nullopt);
}

TEST_F(Properties, Headers) {
  EXPECT_EQ(get("request.headers"), std::nullopt);
  EXPECT_EQ(get("response.trailers.x"), std::nullopt);
  headers.maps[map::request_headers] = {{"x-a", "1"}, {"x-b", ""}, {"X-A", "2"}};
  headers.maps[map::response_headers] = {{":status", "200"}};
  headers.maps[map::response_trailers] = {{"t", "end"}};
  EXPECT_EQ(get("request.headers.x-a"), "1,2");
  EXPECT_EQ(get("request.headers.X-B"), "");
  EXPECT_EQ(get("request.headers.x-c"), std::nullopt);
  EXPECT_EQ(get("response.headers.:status"), "200");
  EXPECT_EQ(get("response.trailers.t"), "end");
  EXPECT_EQ(get("request.trailers.t"), std::nullopt);
  EXPECT_EQ(get("response.headers_bytes"), little(std::uint64_t{10}));
  EXPECT_EQ(get("request.headers"),
            "\2\0\0\0\3\0\0\0\3\0\0\0\3\0\0\0\0\0\0\0x-a\0"
            "1,2\0x-b\0\0"s);
}

TEST_F(Properties, FilterState) {
  filter.state = {{"wasm.own", "1"}, {"other", "2"}};
  filter.typed = {{"envoy.tcp_proxy.cluster", "c"}};
  EXPECT_EQ(get("own"), "1");
  EXPECT_EQ(get("other"), std::nullopt);
  EXPECT_EQ(get("filter_state.other"), "2");
  EXPECT_EQ(get_raw("filter_state\0wasm.own"s), "1");
  EXPECT_EQ(get_raw("filter_state\0envoy.tcp_proxy.cluster"s), "c");
  EXPECT_EQ(get("filter_state"), std::nullopt);
}

TEST_F(Properties, WhatIsSetCanBeRead) {
  for (const auto &[path, value] : {std::pair("case"s, "v"s), {"case\0part"s, ""s}, {"request\0other"s, "\0\xff"s}}) {
    EXPECT_EQ(set_http_property(&filter, path, value), status::ok);
    EXPECT_EQ(get_raw(path), value);
  }
  EXPECT_EQ(get_raw("case.part"), std::nullopt);
  filter.locked = {"wasm.taken"};
  EXPECT_EQ(set_http_property(&filter, "taken", "x"), status::unimplemented);
  filter.texts = {{abi::attribute::request_method, "GET"}};
  EXPECT_EQ(set_http_property(&filter, "request\0method"s, "PUT"), status::ok);
  EXPECT_EQ(get("request.method"), "GET");
}

TEST_F(Properties, OfConnections) {
  const auto read = [this](const std::string &path) -> std::optional<std::string> {
    std::string room;
    std::string_view value;
    return get_network_property(&filter, path, room, value) == status::ok ? std::optional<std::string>(value)
                                                                          : std::nullopt;
  };
  filter.texts = {{abi::attribute::source_address, "127.0.0.1:1"}};
  filter.numbers = {{abi::attribute::source_port, 1}};
  filter.typed = {{"envoy.tcp_proxy.cluster", "c"}};
  filter.metadata[{abi::metadata_source::dynamic, "ns"}] = {{"text", "t"s}, {"number", 1.5}, {"truth", false}};
  EXPECT_EQ(read("source\0address"s), "127.0.0.1:1");
  EXPECT_EQ(read("source\0port"s), little(std::uint64_t{1}));
  EXPECT_EQ(read("request\0headers\0x"s), std::nullopt);
  EXPECT_EQ(set_network_property(&filter, "case\0part"s, "v"), status::ok);
  EXPECT_EQ(read("case\0part"s), "v");
  EXPECT_EQ(read("filter_state\0envoy.tcp_proxy.cluster"s), "c");
  EXPECT_EQ(read("metadata\0filter_metadata\0ns\0text"s), "t");
  EXPECT_EQ(read("metadata\0filter_metadata\0ns\0number"s), little(1.5));
  EXPECT_EQ(read("metadata\0filter_metadata\0ns\0truth"s), "\0"s);
  EXPECT_EQ(read("metadata\0filter_metadata\0ns"s), std::nullopt);
}

TEST_F(Properties, Metadata) {
  using abi::metadata_source;
  filter.metadata[{metadata_source::dynamic, "ns"}] = {
      {"text", "t"s}, {"number", 1.5}, {"truth", true}, {"list", std::vector<fake_leaf>{"a"s, 2.0, false}}};
  filter.metadata[{metadata_source::route, "ns"}] = {{"text", "of the route"s}};
  filter.metadata[{metadata_source::cluster, "ns"}] = {{"text", "of the cluster"s}};
  filter.metadata[{metadata_source::host, "ns"}] = {{"text", "of the host"s}};
  filter.metadata[{metadata_source::dynamic, "deep"}] = {{"object", std::monostate()}, {"text", "t"s}};
  EXPECT_EQ(get("metadata.filter_metadata.ns.text"), "t");
  EXPECT_EQ(get("metadata.filter_metadata.ns.number"), little(1.5));
  EXPECT_EQ(get("metadata.filter_metadata.ns.truth"), "\1");
  EXPECT_EQ(get("metadata.filter_metadata.ns.list"),
            "\3\0\0\0\1\0\0\0\0\0\0\0\x8\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0a\0\0"s + little(2.0) + "\0\0\0\0\0"s);
  EXPECT_EQ(get("metadata.filter_metadata.ns.none"), std::nullopt);
  EXPECT_EQ(get("metadata.filter_metadata.ns.text.more"), std::nullopt);
  EXPECT_EQ(get("metadata.filter_metadata"), std::nullopt);
  EXPECT_EQ(get("xds.route_metadata.filter_metadata.ns.text"), "of the route");
  EXPECT_EQ(get("xds.cluster_metadata.filter_metadata.ns.text"), "of the cluster");
  EXPECT_EQ(get("xds.upstream_host_metadata.filter_metadata.ns.text"), "of the host");
  EXPECT_EQ(get("xds.route_metadata.filter_metadata.ns"), "\1\0\0\0\4\0\0\0\xc\0\0\0text\0of the route\0"s);
  // Half of it would be a lie.
  EXPECT_EQ(get("metadata.filter_metadata.deep"), std::nullopt);
  EXPECT_EQ(get("metadata.filter_metadata.deep.text"), "t");
}

}  // namespace proxywasm_envoy
