// SPDX-License-Identifier: Apache-2.0
#include "properties.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "grpc_wire.h"

namespace {

std::string_view field(const header_map *fields, std::string_view name) {
  const std::string *value = fields == nullptr ? nullptr : fields->find(name);
  return value == nullptr ? std::string_view() : std::string_view(*value);
}

bool put(std::string &value, std::string_view text) {
  value = text;
  return true;
}

// Text that may be missing.
bool put_if(std::string &value, std::string_view text) {
  value = text;
  return !text.empty();
}

bool put(std::string &value, std::uint64_t number) {
  value = encode_integer(number);
  return true;
}

// Port of "192.0.2.1:80" or "[2001:db8::1]:80".
std::uint64_t port_of(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  return colon == std::string_view::npos ? 0
                                         : std::strtoull(std::string(address.substr(colon + 1)).c_str(), nullptr, 10);
}

// Values of a repeated header are joined by commas, as in Envoy.
bool put_header(std::string &value, const header_map *fields, std::string_view name) {
  if (fields == nullptr || fields->count(name) == 0) {
    return false;
  }
  value.clear();
  for (const header_field &one : *fields) {
    if (equal_ignoring_case(one.name, name)) {
      value += (value.empty() ? "" : ",") + one.value;
    }
  }
  return true;
}

// All of them, each name once, or one of them.
bool headers_property(std::string &value, const header_map *fields, std::string_view name) {
  if (!name.empty() || fields == nullptr) {
    return put_header(value, fields, name);
  }
  header_map joined;
  for (const header_field &one : *fields) {
    std::string values;
    if (joined.find(one.name) == nullptr && put_header(values, fields, one.name)) {
      joined.add(one.name, values);
    }
  }
  value = encode_map(joined);
  return true;
}

// Names and values, without what the wire puts around them.
std::uint64_t bytes_of(const header_map *fields) {
  std::uint64_t bytes = 0;
  if (fields != nullptr) {
    for (const header_field &one : *fields) {
      bytes += one.name.size() + one.value.size();
    }
  }
  return bytes;
}

std::uint64_t number_of(std::string_view text) { return std::strtoull(std::string(text).c_str(), nullptr, 10); }

// Said by the response, or what gRPC makes of its HTTP status.
std::uint64_t grpc_status_of(const stream_facts &facts) {
  for (const header_map *fields : {facts.response_trailers, facts.response_headers}) {
    if (const std::string_view said = field(fields, "grpc-status"); !said.empty()) {
      return static_cast<std::uint64_t>(parse_grpc_status(said));
    }
  }
  return static_cast<std::uint64_t>(from_http_status(field(facts.response_headers, ":status")));
}

bool request_property(const stream_facts &facts, std::string_view name, std::string_view rest, std::string &value) {
  const header_map *headers = facts.request_headers;
  const std::string_view path = field(headers, ":path");
  const std::size_t question = path.find('?');
  if (name == "headers") return headers_property(value, headers, rest);
  if (!rest.empty()) return false;
  if (name == "path") return put_if(value, path);
  if (name == "url_path") return put_if(value, path.substr(0, question));
  if (name == "query")
    return headers != nullptr && put(value, question == path.npos ? std::string_view() : path.substr(question + 1));
  if (name == "host") return put_if(value, field(headers, ":authority"));
  if (name == "method") return put_if(value, field(headers, ":method"));
  if (name == "scheme") return headers != nullptr && put(value, facts.scheme);
  if (name == "protocol") return put_if(value, facts.protocol);
  if (name == "id") return put_if(value, field(headers, "x-request-id"));
  if (name == "referer") return put_if(value, field(headers, "referer"));
  if (name == "useragent") return put_if(value, field(headers, "user-agent"));
  if (name == "time") return put(value, facts.start_ns);
  if (name == "duration") return put(value, facts.duration_ns);
  if (name == "size") return put(value, facts.request_size);
  if (name == "headers_bytes") return put(value, bytes_of(headers));
  if (name == "total_size") return put(value, bytes_of(headers) + facts.request_size);
  return false;
}

bool response_property(const stream_facts &facts, std::string_view name, std::string_view rest, std::string &value) {
  if (facts.response_headers == nullptr) {
    return false;
  }
  if (name == "headers") return headers_property(value, facts.response_headers, rest);
  if (name == "trailers") return headers_property(value, facts.response_trailers, rest);
  if (!rest.empty()) return false;
  if (name == "code") return put(value, number_of(field(facts.response_headers, ":status")));
  if (name == "code_details") return put_if(value, facts.code_details);
  if (name == "flags") return put(value, facts.response_flags);
  if (name == "grpc_status") return put(value, grpc_status_of(facts));
  if (name == "size") return put(value, facts.response_size);
  if (name == "headers_bytes") return put(value, bytes_of(facts.response_headers));
  if (name == "total_size") {
    return put(value, bytes_of(facts.response_headers) + facts.response_size + bytes_of(facts.response_trailers));
  }
  if (name == "backend_latency") return facts.backend_latency_ns != 0 && put(value, facts.backend_latency_ns);
  return false;
}

}  // namespace

std::uint64_t now_realtime_ns() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

bool find_property(const stream_facts &facts, std::string_view path, std::string &value) {
  const std::size_t first = path.find('\0');
  const std::string_view root = path.substr(0, first);
  if (first == std::string_view::npos) {
    return root == "connection_id" && put(value, facts.connection_id);
  }
  const std::string_view tail = path.substr(first + 1);
  const std::size_t second = tail.find('\0');
  const std::string_view name = tail.substr(0, second);
  const std::string_view rest = second == std::string_view::npos ? std::string_view() : tail.substr(second + 1);

  if (root == "request") return request_property(facts, name, rest, value);
  if (root == "response") return response_property(facts, name, rest, value);
  if (root == "connection") {
    if (name == "id") return put(value, facts.connection_id);
    return name == "mtls" && put(value, std::string_view("\0", 1));  // there is no TLS
  }
  if (root == "upstream" && name == "local_address") return put_if(value, facts.upstream_local_address);
  const std::string_view address = root == "source"        ? facts.source_address
                                   : root == "destination" ? facts.destination_address
                                   : root == "upstream"    ? facts.upstream_address
                                                           : std::string_view();
  if (address.empty()) return false;
  if (name == "address") return put(value, address);
  if (name == "port") return put(value, port_of(address));
  return false;
}
