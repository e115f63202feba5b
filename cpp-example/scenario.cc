// SPDX-License-Identifier: Apache-2.0
#include "scenario.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <initializer_list>

#include "base64.h"
#include "properties.h"
#include "stream_host.h"

namespace {

using nlohmann::json;

// A value together with where it stands, for messages such as "streams[0].request: no such key: bdoy".
class node {
 public:
  node(const json &value, std::string where) : value_(value), where_(std::move(where)) {}

  [[noreturn]] void fail(const std::string &what) const {
    throw usage_error("scenario: " + (where_.empty() ? std::string() : where_ + ": ") + what);
  }

  // An object with none but these keys.
  const node &object(std::initializer_list<std::string_view> keys) const {
    if (!value_.is_object()) fail("an object is expected");
    for (const auto &[key, value] : value_.items()) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) fail("no such key: " + key);
    }
    return *this;
  }
  bool has(const char *key) const { return value_.contains(key); }
  node at(const char *key) const {
    if (!has(key)) fail(std::string("a key is missing: ") + key);
    return {value_.at(key), where_.empty() ? key : where_ + "." + key};
  }
  // Calls `use` with the value of a key, if there is one.
  template <typename Use>
  void with(const char *key, Use use) const {
    if (has(key)) use(at(key));
  }
  template <typename Use>
  void each(Use use) const {
    if (!value_.is_array()) fail("an array is expected");
    for (std::size_t i = 0; i < value_.size(); ++i) {
      use(node(value_[i], where_ + "[" + std::to_string(i) + "]"));
    }
  }
  template <typename Use>
  void members(Use use) const {
    if (!value_.is_object()) fail("an object is expected");
    for (const auto &[key, value] : value_.items()) {
      use(key, node(value, where_ + "." + key));
    }
  }

  std::string text() const {
    if (!value_.is_string()) fail("a string is expected");
    return value_.get<std::string>();
  }
  std::uint64_t number() const {
    // Bounded, so that times in nanoseconds do not overflow.
    if (!value_.is_number_unsigned() || value_.get<std::uint64_t>() > 4'000'000'000'000) {
      fail("a number from 0 to 4000000000000 is expected");
    }
    return value_.get<std::uint64_t>();
  }
  bool boolean() const {
    if (!value_.is_boolean()) fail("true or false is expected");
    return value_.get<bool>();
  }
  // Text, or {"base64": "..."}.
  std::string bytes() const {
    if (value_.is_string()) return text();
    if (!value_.is_object() || value_.size() != 1 || !has("base64")) fail("a string or {\"base64\": ...} is expected");
    const std::optional<std::string> decoded = from_base64(at("base64").text());
    if (!decoded) at("base64").fail("not base64");
    return *decoded;
  }
  // Bytes, or any other JSON, which is taken as its text.
  std::string configuration() const {
    const bool is_bytes = value_.is_string() || (value_.is_object() && value_.size() == 1 && has("base64"));
    return is_bytes ? bytes() : value_.dump();
  }
  // A property: bytes, a number, or a truth value, in Envoy's encoding.
  std::string encoded() const {
    if (value_.is_number_integer()) return encode_integer(static_cast<std::uint64_t>(value_.get<std::int64_t>()));
    if (value_.is_boolean()) return std::string(1, value_.get<bool>() ? '\1' : '\0');
    return bytes();
  }

 private:
  const json &value_;
  std::string where_;
};

header_map read_headers(const node &from) {
  header_map headers;
  from.each([&](const node &pair) {
    std::vector<std::string> parts;
    pair.each([&](const node &part) { parts.push_back(part.bytes()); });
    if (parts.size() != 2) pair.fail("[name, value] is expected");
    if (!is_valid_field(parts[0], parts[1])) pair.fail("no proxy could have such a header");
    headers.add(parts[0], parts[1]);
  });
  return headers;
}

message_script read_message(const node &from) {
  from.object({"headers", "body", "trailers"});
  message_script message;
  message.headers = read_headers(from.at("headers"));
  from.with("body",
            [&](const node &body) { body.each([&](const node &one) { message.body.push_back(one.bytes()); }); });
  from.with("trailers", [&](const node &trailers) { message.trailers = read_headers(trailers); });
  return message;
}

std::vector<property_value> read_properties(const node &from) {
  std::vector<property_value> properties;
  from.members([&](const std::string &name, const node &value) {
    // Dots separate, as in the documentation of Envoy; a segment that has dots itself is put in brackets: a.[b.c].d
    std::string path;
    bool bracket = false;
    for (const char c : name) {
      if (c == '[' && !bracket) {
        bracket = true;
      } else if (c == ']' && bracket) {
        bracket = false;
      } else {
        path += c == '.' && !bracket ? '\0' : c;
      }
    }
    properties.push_back({path, value.encoded()});
  });
  return properties;
}

plugin_options read_plugin(const node &from, const std::string &folder) {
  from.object({"name", "file", "root_id", "vm_id", "configuration", "vm_configuration", "environment", "allow",
               "policy", "deadline_ms", "max_memory_mb", "max_body", "stop_iteration"});
  const std::string file = from.at("file").text();
  plugin_options plugin;
  plugin.file = file.empty() || file.front() == '/' ? file : folder + file;
  plugin.name = from.at("name").text();
  from.with("root_id", [&](const node &value) { plugin.root_id = value.text(); });
  from.with("vm_id", [&](const node &value) { plugin.vm_id = value.text(); });
  from.with("configuration", [&](const node &value) { plugin.configuration = value.configuration(); });
  from.with("vm_configuration", [&](const node &value) { plugin.vm_configuration = value.configuration(); });
  from.with("environment", [&](const node &value) {
    value.members(
        [&](const std::string &name, const node &text) { plugin.environment.emplace_back(name, text.text()); });
  });
  from.with("allow",
            [&](const node &value) { value.each([&](const node &name) { plugin.allow.push_back(name.text()); }); });
  from.with("policy", [&](const node &value) { plugin.policy = parse_policy(value.text()); });
  from.with("deadline_ms", [&](const node &value) { plugin.deadline_ms = value.number(); });
  from.with("max_memory_mb", [&](const node &value) { plugin.max_memory_mb = value.number(); });
  from.with("max_body", [&](const node &value) { plugin.max_body = value.number(); });
  from.with("stop_iteration", [&](const node &value) { plugin.stop_iteration = value.boolean(); });
  return plugin;
}

callout_script read_callout(const node &from) {
  from.object({"cluster", "method", "path", "delay_ms", "times", "refused", "failure", "response"});
  callout_script callout;
  callout.cluster = from.at("cluster").text();
  from.with("method", [&](const node &value) { callout.method = value.text(); });
  from.with("path", [&](const node &value) { callout.path = value.text(); });
  from.with("delay_ms", [&](const node &value) { callout.delay_ms = value.number(); });
  from.with("times", [&](const node &value) { callout.times = value.number(); });
  from.with("refused", [&](const node &value) { callout.refused = value.boolean(); });
  from.with("response", [&](const node &value) { callout.response = read_message(value); });
  const bool failure = from.has("failure") && from.at("failure").boolean();
  if (callout.refused + failure + callout.response.has_value() != 1) {
    from.fail("exactly one of response, failure and refused is expected");
  }
  return callout;
}

data_script read_data(const node &from) {
  from.object({"from", "bytes", "end"});
  data_script data;
  const std::string side = from.at("from").text();
  if (side != "client" && side != "upstream") from.at("from").fail("client or upstream is expected");
  data.from = side == "client" ? proxywasm::direction::request : proxywasm::direction::response;
  from.with("bytes", [&](const node &value) { data.bytes = value.bytes(); });
  from.with("end", [&](const node &value) { data.end = value.boolean(); });
  return data;
}

stream_script read_stream(const node &from) {
  from.object({"name", "kind", "wait_ms", "properties", "request", "response", "data"});
  stream_script stream;
  stream.name = from.at("name").text();
  const std::string kind = from.has("kind") ? from.at("kind").text() : "http";
  if (kind != "http" && kind != "tcp") from.at("kind").fail("http or tcp is expected");
  stream.kind = kind == "http" ? proxywasm::stream_kind::http : proxywasm::stream_kind::tcp;
  from.with("wait_ms", [&](const node &value) { stream.wait_ms = value.number(); });
  from.with("properties", [&](const node &value) { stream.properties = read_properties(value); });
  if (stream.kind == proxywasm::stream_kind::tcp) {
    if (from.has("request") || from.has("response")) from.fail("a TCP stream has data, not request and response");
    from.with("data",
              [&](const node &list) { list.each([&](const node &one) { stream.data.push_back(read_data(one)); }); });
    return stream;
  }
  if (from.has("data")) from.fail("an HTTP stream has request and response, not data");
  stream.request = read_message(from.at("request"));
  stream.response.headers.add(":status", "200");
  from.with("response", [&](const node &value) { stream.response = read_message(value); });
  return stream;
}

}  // namespace

scenario read_scenario(const std::string &path) {
  json document;
  try {
    document = json::parse(read_file(path));
  } catch (const json::exception &error) {
    throw usage_error("scenario: " + path + ": " + error.what());
  }
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);

  const node root(document, "");
  root.object(
      {"plugins", "properties", "log_level", "start_time_ms", "pause_limit_ms", "wait_ms", "callouts", "streams"});
  scenario result;
  root.at("plugins").each([&](const node &one) { result.plugins.push_back(read_plugin(one, folder)); });
  root.with("properties", [&](const node &value) { result.properties = read_properties(value); });
  root.with("log_level", [&](const node &value) {
    if (!parse_level(value.text(), result.log_level)) value.fail("no such level");
  });
  // 2024-01-01T00:00:00Z
  result.start_time_ns =
      (root.has("start_time_ms") ? root.at("start_time_ms").number() : 1'704'067'200'000ULL) * 1'000'000;
  result.pause_limit_ms = root.has("pause_limit_ms") ? root.at("pause_limit_ms").number() : 60'000;
  result.wait_ms = root.has("wait_ms") ? root.at("wait_ms").number() : 0;
  root.with("callouts", [&](const node &list) {
    list.each([&](const node &one) { result.callouts.push_back(read_callout(one)); });
  });
  root.with("streams",
            [&](const node &list) { list.each([&](const node &one) { result.streams.push_back(read_stream(one)); }); });
  return result;
}
