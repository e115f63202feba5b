// SPDX-License-Identifier: Apache-2.0
#include "config.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>

using nlohmann::json;
using proxywasm_envoy::filter_config;
using proxywasm_envoy::parse_filter_config;
using proxywasm_envoy::parse_route_config;
using proxywasm_envoy::route_config;

namespace {

constexpr const char *complete = R"({
  "name": "auth", "root_id": "root",
  "vm_config": {
    "vm_id": "vm", "runtime": "envoy.wasm.runtime.v8",
    "code": {"local": {"filename": "/etc/auth.wasm"}},
    "configuration": {"@type": "type.googleapis.com/google.protobuf.BytesValue", "value": "AP8="},
    "allow_precompiled": true, "nack_on_code_cache_miss": false,
    "environment_variables": {"host_env_keys": ["PROXYWASM_TEST_SET", "PROXYWASM_TEST_UNSET"], "key_values": {"A": "1"}},
    "capability_restriction_config": {"allowed_capabilities": {"proxy_log": {}, "fd_write": {}}}
  },
  "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "hello"},
  "failure_policy": "FAIL_CLOSED",
  "reload_config": {"backoff": {"base_interval": "0.5s", "max_interval": "8s"}},
  "allow_on_headers_stop_iteration": true,
  "limits": {"deadline": "0.25s", "start_deadline": "20s", "max_memory": 33554432, "max_body_buffer": "65536",
             "max_callouts": 16},
  "isolation": "STREAM"
})";

filter_config parsed(const std::string &text) {
  std::string error;
  const std::optional<filter_config> config = parse_filter_config(text, error);
  EXPECT_TRUE(config) << error;
  return config.value_or(filter_config());
}

route_config parsed_route(const std::string &text) {
  std::string error;
  const std::optional<route_config> config = parse_route_config(text, error);
  EXPECT_TRUE(config) << error;
  return config.value_or(route_config());
}

std::string refused(const std::string &text) {
  std::string error;
  EXPECT_FALSE(parse_filter_config(text, error));
  EXPECT_NE(error, "");
  return error;
}

std::string refused_route(const std::string &text) {
  std::string error;
  EXPECT_FALSE(parse_route_config(text, error));
  return error;
}

// A configuration with the least in it, and `pointer` in it set to a value.
std::string with(const char *pointer, const json &value) {
  json config = json::parse(R"({"vm_config": {"code": {"local": {"filename": "x"}}}})");
  config[json::json_pointer(pointer)] = value;
  return config.dump();
}

json any(const std::string &type, const json &value) {
  return {{"@type", "type.googleapis.com/google.protobuf." + type}, {"value", value}};
}

}  // namespace

TEST(FilterConfig, ReadsEveryField) {
  ASSERT_EQ(setenv("PROXYWASM_TEST_SET", "from the host", 1), 0);
  ASSERT_EQ(unsetenv("PROXYWASM_TEST_UNSET"), 0);
  const filter_config config = parsed(complete);
  EXPECT_EQ(config.plugin.name, "auth");
  EXPECT_EQ(config.plugin.root_id, "root");
  EXPECT_EQ(config.plugin.configuration, "hello");
  EXPECT_EQ(config.plugin.failure_policy, proxywasm::failure_policy::closed);
  ASSERT_TRUE(config.plugin.reload);
  EXPECT_EQ(config.plugin.reload->base_ns, 500'000'000u);
  EXPECT_EQ(config.plugin.reload->max_ns, 8'000'000'000u);
  EXPECT_EQ(config.plugin.capabilities, (std::vector<std::string>{"fd_write", "proxy_log"}));
  EXPECT_EQ(config.plugin.allow_on_headers_stop_iteration, true);
  EXPECT_EQ(config.plugin.limits.deadline_ns, 250'000'000u);
  EXPECT_EQ(config.plugin.limits.start_deadline_ns, 20'000'000'000u);
  EXPECT_EQ(config.plugin.limits.max_memory, 33'554'432u);
  EXPECT_EQ(config.plugin.limits.max_body_buffer, 65'536u);
  EXPECT_EQ(config.plugin.limits.max_callouts, 16u);
  EXPECT_EQ(config.plugin.isolation, proxywasm::isolation::stream);
  EXPECT_EQ(config.vm.vm_id, "vm");
  EXPECT_EQ(config.vm.code.filename, "/etc/auth.wasm");
  EXPECT_EQ(config.vm.code.bytes, "");
  EXPECT_EQ(config.vm.configuration, std::string("\0\xff", 2));
  EXPECT_EQ(config.vm.environment,
            (std::vector<std::pair<std::string, std::string>>{{"PROXYWASM_TEST_SET", "from the host"}, {"A", "1"}}));
}

TEST(FilterConfig, LeastHasNothingButCode) {
  const filter_config config = parsed(R"({"vm_config": {"code": {"local": {"filename": "x.wasm"}}}})");
  EXPECT_FALSE(config.plugin.name || config.plugin.root_id || config.plugin.configuration || config.plugin.reload);
  EXPECT_FALSE(config.plugin.failure_policy || config.plugin.capabilities || config.plugin.isolation);
  EXPECT_FALSE(config.plugin.allow_on_headers_stop_iteration);
  EXPECT_EQ(config.plugin.limits.deadline_ns, 0u);
  EXPECT_TRUE(config.vm.environment.empty());
}

TEST(FilterConfig, TakesBothNamesOfAField) {
  const filter_config config = parsed(R"({
    "rootId": "r", "failurePolicy": 3, "allowOnHeadersStopIteration": true,
    "vmConfig": {"vmId": "v", "code": {"local": {"inlineBytes": "AGFzbQ=="}},
                 "environmentVariables": {"keyValues": {"snake_key": "1", "camelKey": "2"}}},
    "reloadConfig": {"backoff": {"baseInterval": "2s"}}, "limits": {"maxMemory": 65536, "startDeadline": "1s"}})");
  EXPECT_EQ(config.plugin.root_id, "r");
  EXPECT_EQ(config.plugin.failure_policy, proxywasm::failure_policy::open);
  EXPECT_EQ(config.vm.vm_id, "v");
  EXPECT_EQ(config.vm.code.bytes, std::string("\0asm", 4));
  // Keys of maps are nobody's fields.
  EXPECT_EQ(config.vm.environment,
            (std::vector<std::pair<std::string, std::string>>{{"camelKey", "2"}, {"snake_key", "1"}}));
  EXPECT_EQ(config.plugin.reload->max_ns, 20'000'000'000u);
  EXPECT_EQ(config.plugin.limits.max_memory, 65536u);
  EXPECT_EQ(refused(R"({"root_id": "a", "rootId": "b"})"), "root_id: found also as rootId, wanted it once");
}

TEST(FilterConfig, NullIsAbsence) {
  const filter_config config = parsed(with("/configuration", nullptr));
  EXPECT_FALSE(config.plugin.configuration);
  EXPECT_EQ(refused(R"({"vm_config": null})"), "vm_config: found nothing, wanted an object with code");
}

TEST(FilterConfig, Policies) {
  using proxywasm::failure_policy;
  EXPECT_EQ(parsed(with("/failure_policy", "FAIL_RELOAD")).plugin.failure_policy, failure_policy::reload);
  EXPECT_EQ(parsed(with("/failure_policy", "FAIL_OPEN")).plugin.failure_policy, failure_policy::open);
  EXPECT_EQ(parsed(with("/failure_policy", 2)).plugin.failure_policy, failure_policy::closed);
  EXPECT_FALSE(parsed(with("/failure_policy", "UNSPECIFIED")).plugin.failure_policy);
  EXPECT_EQ(parsed(with("/fail_open", true)).plugin.failure_policy, failure_policy::open);
  EXPECT_FALSE(parsed(with("/fail_open", false)).plugin.failure_policy);
  EXPECT_EQ(
      refused(with("/failure_policy", "fail_open")),
      "failure_policy: found the text \"fail_open\", wanted one of UNSPECIFIED, FAIL_RELOAD, FAIL_CLOSED, FAIL_OPEN");
  for (const json &wrong : {json("2"), json(4), json(-1), json(1.5), json(true), json::object()}) {
    EXPECT_NE(refused(with("/failure_policy", wrong)), "");
  }
  json both = json::parse(with("/failure_policy", "FAIL_CLOSED"));
  both["fail_open"] = true;
  EXPECT_EQ(refused(both.dump()), "fail_open: found beside failure_policy, wanted one of the two");
}

TEST(FilterConfig, AnyAsEnvoyHandsItOn) {
  const auto bytes = [](const json &value) { return parsed(with("/configuration", value)).plugin.configuration; };
  EXPECT_EQ(bytes(any("StringValue", "\xc3\xa9 {")), "\xc3\xa9 {");
  EXPECT_EQ(bytes(any("BytesValue", "_-8")), "\xff\xef");
  EXPECT_EQ(bytes(any("BytesValue", "/+8=")), "\xff\xef");
  EXPECT_EQ(bytes(any("Struct", json::parse(R"({"b": [1, 2.5, null], "a": {"@type": "x", "vmId": "é"}})"))),
            R"({"a":{"@type":"x","vmId":"é"},"b":[1,2.5,null]})");
  EXPECT_EQ(bytes({{"@type", "type.googleapis.com/google.protobuf.Struct"}}), "{}");
  EXPECT_EQ(bytes({{"@type", "other.example/google.protobuf.StringValue"}}), "");
  EXPECT_EQ(bytes({{"@type", "type.googleapis.com/google.protobuf.Empty"}}), "");
  EXPECT_EQ(bytes(json::object()), "");
}

TEST(FilterConfig, AnyThatCannotBe) {
  const auto error = [](const json &value) { return refused(with("/configuration", value)); };
  EXPECT_EQ(
      error("hello"),
      "configuration: found the text \"hello\", wanted a google.protobuf.Any: an object with \"@type\" and \"value\"");
  EXPECT_EQ(error({{"value", "x"}}), "configuration: found an object without \"@type\", wanted a google.protobuf.Any");
  EXPECT_EQ(error(any("StringValue", 12)), "configuration.value: found the number 12, wanted text");
  EXPECT_EQ(error(any("BytesValue", "a")), "configuration.value: found the text \"a\", wanted bytes in base64");
  EXPECT_EQ(error(any("BytesValue", "ab=")), "configuration.value: found the text \"ab=\", wanted bytes in base64");
  EXPECT_EQ(error(any("Struct", "x")), "configuration.value: found the text \"x\", wanted an object");
  EXPECT_EQ(error(any("Duration", "1s")),
            "configuration.@type: found the text \"type.googleapis.com/google.protobuf.Duration\", wanted "
            "google.protobuf.StringValue, BytesValue or Struct");
  EXPECT_NE(error({{"@type", "google.protobuf.StringValue"}}).find("wanted a URL such as"), std::string::npos);
  json more = any("StringValue", "x");
  more["extra"] = 1;
  EXPECT_EQ(error(more), "configuration.extra: found an unknown field, wanted one of @type, value");
}

TEST(FilterConfig, Durations) {
  const auto ns = [](const char *text) { return parsed(with("/limits/deadline", text)).plugin.limits.deadline_ns; };
  EXPECT_EQ(ns("1s"), 1'000'000'000u);
  EXPECT_EQ(ns("1.5s"), 1'500'000'000u);
  EXPECT_EQ(ns("0.000000001s"), 1u);
  EXPECT_EQ(ns("315576000000s"), UINT64_MAX);
  EXPECT_EQ(ns("18446744073.709551615s"), UINT64_MAX);
  EXPECT_EQ(ns("18446744073.709551614s"), UINT64_MAX - 1);
  EXPECT_EQ(ns("18446744073.709551616s"), UINT64_MAX);
  for (const char *wrong : {"", "s", "1", "1.s", ".5s", "1.0000000001s", "-1s", "+1s", "1 s", "1ms", "1e3s",
                            "315576000001s", "99999999999999999999s", "0x1s", "NaNs"}) {
    EXPECT_EQ(refused(with("/limits/deadline", wrong)), "limits.deadline: found the text \"" + std::string(wrong) +
                                                            "\", wanted a duration in seconds such as \"1.5s\"");
  }
  EXPECT_EQ(refused(with("/limits/deadline", 5)),
            "limits.deadline: found the number 5, wanted a duration in seconds such as \"1.5s\"");
  EXPECT_EQ(refused(with("/limits/deadline", "0s")),
            "limits.deadline: found the text \"0s\", wanted more than nothing");
}

TEST(FilterConfig, Numbers) {
  const auto memory = [](const std::string &text) {
    return R"({"vm_config": {"code": {"local": {"filename": "x"}}}, "limits": {"max_memory": )" + text + "}}";
  };
  EXPECT_EQ(parsed(memory("1e6")).plugin.limits.max_memory, 1'000'000u);
  EXPECT_EQ(parsed(memory("65536.0")).plugin.limits.max_memory, 65536u);
  EXPECT_EQ(parsed(memory("18446744073709551615")).plugin.limits.max_memory, UINT64_MAX);
  EXPECT_EQ(parsed(memory("\"18446744073709551615\"")).plugin.limits.max_memory, UINT64_MAX);
  for (const char *wrong : {"-1", "1.5", "1e30", "18446744073709551616", "-0.5", "\"-1\"", "\"\"", "\"1e6\"",
                            "\"99999999999999999999999\"", "true", "[]", "{}"}) {
    EXPECT_EQ(refused(memory(wrong)).rfind("limits.max_memory: found ", 0), 0u) << wrong;
  }
  EXPECT_EQ(refused(memory("0")), "limits.max_memory: found the number 0, wanted more than nothing");
  EXPECT_EQ(refused(memory("1e999")).rfind("the configuration: found no JSON (", 0), 0u);
}

TEST(FilterConfig, ReloadBackoff) {
  EXPECT_EQ(refused(with("/reload_config/backoff/max_interval", "1s")),
            "reload_config.backoff.base_interval: found nothing, wanted at least \"0.001s\"");
  EXPECT_EQ(refused(with("/reload_config/backoff", {{"base_interval", "2s"}, {"max_interval", "1s"}})),
            "reload_config.backoff.max_interval: found the text \"1s\", wanted no less than base_interval");
  EXPECT_EQ(
      refused(with("/reload_config/backoff/base_interval", "0.0009s")).rfind("reload_config.backoff.base_interval", 0),
      0u);
  EXPECT_FALSE(parsed(with("/reload_config", json::object())).plugin.reload);
  EXPECT_EQ(parsed(with("/reload_config/backoff/base_interval", "315576000000s")).plugin.reload->max_ns, UINT64_MAX);
}

TEST(FilterConfig, Code) {
  EXPECT_EQ(refused("{}"), "vm_config: found nothing, wanted an object with code");
  EXPECT_EQ(refused(R"({"vm_config": {}})"), "vm_config.code: found nothing, wanted an object with local");
  EXPECT_EQ(
      refused(R"({"vm_config": {"code": {"local": {}}}})"),
      "vm_config.code.local: found an object, wanted filename, inline_bytes or inline_string in it, and not empty");
  EXPECT_EQ(refused(R"({"vm_config": {"code": {"remote": {}}}})"),
            "vm_config.code.remote: found code to be fetched, which this module cannot do, wanted local");
  EXPECT_EQ(refused(with("/vm_config/code/local/inline_string", "x")),
            "vm_config.code.local.inline_string: found beside filename, wanted one of the two");
  EXPECT_EQ(refused(with("/vm_config/code/local/environment_variable", "x")),
            "vm_config.code.local.environment_variable: found an unknown field, wanted one of filename, inline_bytes, "
            "inline_string");
  EXPECT_EQ(parsed(R"({"vm_config": {"code": {"local": {"inline_string": "text"}}}})").vm.code.bytes, "text");
  EXPECT_EQ(refused(with("/vm_config/runtime", "envoy.wasm.runtime.null")).rfind("vm_config.runtime: found", 0), 0u);
}

TEST(FilterConfig, Environment) {
  const char *keys = "/vm_config/environment_variables/host_env_keys";
  EXPECT_EQ(refused(with(keys, {"A", "A"})),
            "vm_config.environment_variables.host_env_keys[1]: found the same name twice in environment_variables, "
            "wanted each "
            "once");
  json both = json::parse(with(keys, {"A"}));
  both["vm_config"]["environment_variables"]["key_values"]["A"] = "1";
  EXPECT_EQ(refused(both.dump()).rfind("vm_config.environment_variables.key_values.A: found the same name twice", 0),
            0u);
  EXPECT_EQ(refused(with(keys, {"A", 3})),
            "vm_config.environment_variables.host_env_keys[1]: found the number 3, wanted text");
  EXPECT_EQ(refused(with(keys, "A")),
            "vm_config.environment_variables.host_env_keys: found the text \"A\", wanted a list of texts");
  const char *values = "/vm_config/environment_variables/key_values";
  EXPECT_EQ(refused(with(values, {{"A", 1}})),
            "vm_config.environment_variables.key_values.A: found the number 1, wanted text");
  EXPECT_NE(refused(with(values, {{"A=B", "1"}})).find("found no name of a variable"), std::string::npos);
  EXPECT_NE(refused(with(values, {{"", "1"}})).find("found no name of a variable"), std::string::npos);
  EXPECT_NE(refused(with(values, {{"A", std::string("x\0y", 3)}})).find("found NUL in the value"), std::string::npos);
}

TEST(FilterConfig, Capabilities) {
  const json old = {{"allowed_capabilities", {{"proxy_log", json::object()}}}};
  EXPECT_EQ(parsed(with("/capability_restriction_config", old)).plugin.capabilities,
            (std::vector<std::string>{"proxy_log"}));
  json both = json::parse(with("/capability_restriction_config", old));
  both["vm_config"]["capability_restriction_config"] = {{"allowed_capabilities", {{"fd_write", json::object()}}}};
  EXPECT_EQ(parsed(both.dump()).plugin.capabilities, (std::vector<std::string>{"fd_write"}));
  both["vm_config"]["capability_restriction_config"]["allowed_capabilities"]["fd_write"] = {{"x", 1}};
  EXPECT_EQ(
      refused(both.dump()),
      "vm_config.capability_restriction_config.allowed_capabilities.fd_write.x: found an unknown field, wanted none");
}

TEST(FilterConfig, UnknownFieldsAndWrongTypes) {
  EXPECT_EQ(refused(with("/limits/fuel", 1)),
            "limits.fuel: found an unknown field, wanted one of deadline, start_deadline, max_memory, max_body_buffer, "
            "max_callouts");
  EXPECT_EQ(refused(with("/vm_config/Code", 1)).rfind("vm_config.Code: found an unknown field, wanted one of ", 0), 0u);
  EXPECT_EQ(refused(R"({"config": {}})"),
            "config: found the built-in filter's `config`, wanted what stands in it, one level up");
  EXPECT_EQ(refused(with("/name", 7)), "name: found the number 7, wanted text");
  EXPECT_EQ(refused(with("/vm_config", "x")), "vm_config: found the text \"x\", wanted an object");
  EXPECT_EQ(refused(with("/vm_config", json::array())), "vm_config: found a list, wanted an object");
  EXPECT_EQ(refused(with("/allow_on_headers_stop_iteration", 1)),
            "allow_on_headers_stop_iteration: found the number 1, wanted true or false");
  EXPECT_EQ(refused(with("/isolation", "stream")),
            "isolation: found the text \"stream\", wanted one of SHARED, STREAM, PLUGIN");
  EXPECT_EQ(refused("[]"), "the configuration: found a list, wanted an object");
  EXPECT_EQ(refused(""), "the configuration: found nothing, wanted a google.protobuf.Struct");
}

TEST(FilterConfig, ErrorsAreOneCleanLine) {
  const std::string error = refused(with("/name\n\x1b[31m", std::string(100'000, 'x')));
  EXPECT_EQ(error.rfind("name??[31m: found an unknown field", 0), 0u) << error;
  const std::string text = refused(with("/isolation", "\n" + std::string(100'000, 'x')));
  EXPECT_LT(text.size(), 200u);
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

TEST(FilterConfig, DeepNestingIsRefused) {
  for (const std::size_t depth : {101u, 10'000u, 3'000'000u}) {
    for (const char *open : {"[", "{\"a\":"}) {
      std::string text = "{\"configuration\":";
      for (std::size_t i = 0; i < depth; ++i) {
        text += open;
      }
      EXPECT_EQ(refused(text), "the configuration: found more than 100 levels of objects and lists, wanted fewer");
    }
  }
  // Brackets in text are none.
  EXPECT_EQ(parsed(with("/name", "\"\\" + std::string(5'000, '['))).plugin.name->size(), 5'002u);
  json deep = json::object();
  for (int i = 0; i < 90; ++i) {
    deep = {{"a", deep}};
  }
  EXPECT_GT(parsed(with("/configuration", any("Struct", deep))).plugin.configuration->size(), 500u);
}

TEST(FilterConfig, AnyBytesAreSurvived) {
  const std::string whole = complete;
  std::string error;
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(parse_filter_config(whole.substr(0, length), error)) << length;
  }
  for (const char *invalid : {"{\"name\": \"\xff\"}", "{\"name\": \"\xed\xa0\x80\"}", "{\"name\": \"\\ud800\"}",
                              "\xef\xbb\xbf", "\xfe\xff", "{\"name\": \"\xc0\x80\"}"}) {
    const std::string said = refused(invalid);
    EXPECT_EQ(said.rfind("the configuration: found ", 0), 0u) << said;
    for (const char c : said) {
      EXPECT_TRUE(c >= ' ' && c <= '~') << said;
    }
  }
  std::mt19937 random(1);
  const std::string spice = "{}[]\",:\\0123456789.eE+-tfn \n\xff\xc3\x80";
  for (int i = 0; i < 5'000; ++i) {
    std::string text = whole;
    for (unsigned n = 1 + random() % 4; n > 0; --n) {
      const std::size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = spice[random() % spice.size()];
          break;
        case 1:
          text.erase(at, 1 + random() % 20);
          break;
        default:
          text.insert(at, 1, spice[random() % spice.size()]);
      }
    }
    error.clear();
    const bool good = parse_filter_config(text, error).has_value();
    EXPECT_NE(good, !error.empty()) << text;
    error.clear();
    const bool good_route = parse_route_config(text, error).has_value();
    EXPECT_NE(good_route, !error.empty()) << text;
  }
}

TEST(RouteConfig, OwnSettingsOrDisabled) {
  EXPECT_TRUE(parsed_route(R"({"disabled": true})").disabled);
  const route_config none = parsed_route(R"({"disabled": false})");
  EXPECT_FALSE(none.disabled || none.plugin.configuration || none.plugin.name);
  EXPECT_EQ(refused_route(R"({"disabled": true, "name": "x"})"),
            "disabled: found true beside other fields, wanted it alone");
  EXPECT_EQ(refused_route(R"({"vm_config": {}})"),
            "vm_config: found it for a route, wanted it in the filter's own configuration, whose VMs the routes have");
  EXPECT_EQ(refused_route(R"({"disable": true})").rfind("disable: found an unknown field, wanted one of disabled, ", 0),
            0u);
  EXPECT_FALSE(parsed_route("{}").disabled);
}

TEST(RouteConfig, LiesOverTheFilters) {
  const filter_config filter = parsed(complete);
  const route_config route = parsed_route(R"({
    "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "route"},
    "failure_policy": "FAIL_OPEN", "limits": {"deadline": "3s"}, "isolation": "SHARED",
    "allow_on_headers_stop_iteration": false})");
  const auto both = with_route(filter.plugin, route.plugin);
  EXPECT_EQ(both.configuration, "route");
  EXPECT_EQ(both.failure_policy, proxywasm::failure_policy::open);
  EXPECT_EQ(both.isolation, proxywasm::isolation::shared);
  EXPECT_EQ(both.allow_on_headers_stop_iteration, false);
  EXPECT_EQ(both.limits.deadline_ns, 3'000'000'000u);
  EXPECT_EQ(both.limits.max_memory, 33'554'432u);
  EXPECT_EQ(both.name, "auth");
  EXPECT_EQ(both.reload->max_ns, 8'000'000'000u);
  const auto same = with_route(filter.plugin, route_config().plugin);
  EXPECT_EQ(same.configuration, "hello");
  EXPECT_EQ(same.limits.start_deadline_ns, 20'000'000'000u);
}
