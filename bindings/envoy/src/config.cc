// SPDX-License-Identifier: Apache-2.0
#include "config.h"

#include <cstdlib>
#include <set>

#include "json_message.h"
#include "json_values.h"

namespace proxywasm_envoy {

namespace {

constexpr std::uint64_t millisecond = 1'000'000;

// A duration or size of which nothing at all makes no sense.
std::uint64_t positive(const json_message &message, const char *field, std::optional<std::uint64_t> value) {
  if (value && *value == 0) {
    message.refuse(field, "more than nothing");
  }
  return value.value_or(0);
}

std::optional<std::vector<std::string>> read_capabilities(json_message &parent) {
  std::optional<json_message> restriction = parent.message("capability_restriction_config");
  if (!restriction) {
    return std::nullopt;
  }
  std::vector<std::string> names;
  if (auto allowed = restriction->messages("allowed_capabilities")) {
    for (auto &[name, sanitization] : *allowed) {
      sanitization.end();
      names.push_back(name);
    }
  }
  restriction->end();
  return names;
}

std::optional<reload_backoff> read_reload(json_message &parent) {
  std::optional<json_message> reload = parent.message("reload_config");
  if (!reload) {
    return std::nullopt;
  }
  std::optional<json_message> backoff = reload->message("backoff");
  reload->end();
  if (!backoff) {
    return std::nullopt;
  }
  // As Envoy has it: the base is needed, the maximum is ten times the base if nothing else is said.
  const std::optional<std::uint64_t> base = backoff->duration("base_interval");
  const std::optional<std::uint64_t> most = backoff->duration("max_interval");
  backoff->end();
  if (!base || *base < millisecond) {
    backoff->refuse("base_interval", "at least \"0.001s\"");
  }
  if (most && *most < *base) {
    backoff->refuse("max_interval", "no less than base_interval");
  }
  return reload_backoff{*base, most.value_or(*base > UINT64_MAX / 10 ? UINT64_MAX : *base * 10)};
}

std::optional<proxywasm::failure_policy> read_policy(json_message &parent) {
  using proxywasm::failure_policy;
  using maybe = std::optional<failure_policy>;
  static const std::vector<enum_name<maybe>> names = {
      {"UNSPECIFIED", 0, std::nullopt},
      {"FAIL_RELOAD", 1, failure_policy::reload},
      {"FAIL_CLOSED", 2, failure_policy::closed},
      {"FAIL_OPEN", 3, failure_policy::open},
  };
  const maybe policy = parent.one_of("failure_policy", names).value_or(std::nullopt);
  const std::optional<bool> open = parent.boolean("fail_open");
  if (!open || !*open) {
    return policy;
  }
  if (policy) {
    throw json_error(parent.where("fail_open") + ": found beside failure_policy, wanted one of the two");
  }
  return failure_policy::open;
}

plugin_limits read_limits(json_message &parent) {
  plugin_limits limits;
  std::optional<json_message> message = parent.message("limits");
  if (!message) {
    return limits;
  }
  const auto duration = [&](const char *field) { return positive(*message, field, message->duration(field)); };
  const auto number = [&](const char *field) { return positive(*message, field, message->number(field)); };
  limits.deadline_ns = duration("deadline");
  limits.start_deadline_ns = duration("start_deadline");
  limits.max_memory = number("max_memory");
  limits.max_body_buffer = number("max_body_buffer");
  limits.max_callouts = number("max_callouts");
  message->end();
  return limits;
}

plugin_settings read_plugin(json_message &message) {
  using proxywasm::isolation;
  static const std::vector<enum_name<isolation>> isolations = {
      {"SHARED", PROXYWASM_ISOLATION_SHARED, isolation::shared},
      {"STREAM", PROXYWASM_ISOLATION_STREAM, isolation::stream},
      {"PLUGIN", PROXYWASM_ISOLATION_PLUGIN, isolation::plugin},
  };
  plugin_settings plugin;
  plugin.name = message.text("name");
  plugin.root_id = message.text("root_id");
  plugin.configuration = message.any("configuration");
  plugin.failure_policy = read_policy(message);
  plugin.reload = read_reload(message);
  plugin.capabilities = read_capabilities(message);
  plugin.allow_on_headers_stop_iteration = message.boolean("allow_on_headers_stop_iteration");
  plugin.limits = read_limits(message);
  plugin.isolation = message.one_of("isolation", isolations);
  return plugin;
}

plugin_code read_code(json_message code) {
  if (code.has("remote")) {
    throw json_error(code.where("remote") + ": found code to be fetched, which this module cannot do, wanted local");
  }
  std::optional<json_message> local = code.message("local");
  code.end();
  if (!local) {
    code.refuse("local", "an object with filename, inline_bytes or inline_string");
  }
  local->at_most_one({"filename", "inline_bytes", "inline_string"});
  const std::optional<std::string> filename = local->text("filename");
  std::optional<std::string> bytes = local->base64("inline_bytes");
  if (std::optional<std::string> text = local->text("inline_string")) {
    bytes = std::move(text);
  }
  local->end();
  if (filename.value_or("").empty() && bytes.value_or("").empty()) {
    code.refuse("local", "filename, inline_bytes or inline_string in it, and not empty");
  }
  return {filename.value_or(""), bytes.value_or("")};
}

std::vector<std::pair<std::string, std::string>> read_environment(json_message &vm) {
  std::vector<std::pair<std::string, std::string>> environment;
  std::optional<json_message> message = vm.message("environment_variables");
  if (!message) {
    return environment;
  }
  std::set<std::string> names;
  const auto add = [&](const std::string &path, const std::string &name, const char *value) {
    // What would not be one variable of environ_get.
    if (name.empty() || name.find('=') != std::string::npos || name.find('\0') != std::string::npos) {
      throw json_error(path + ": found no name of a variable, wanted one without '=' and NUL");
    }
    if (!names.insert(name).second) {
      throw json_error(path + ": found the same name twice in environment_variables, wanted each once");
    }
    if (value != nullptr) {
      environment.emplace_back(name, value);
    }
  };
  if (const auto host = message->texts("host_env_keys")) {
    for (std::size_t i = 0; i < host->size(); ++i) {
      const std::string &name = (*host)[i];
      add(message->where("host_env_keys") + "[" + std::to_string(i) + "]", name, std::getenv(name.c_str()));
    }
  }
  if (const auto own = message->text_map("key_values")) {
    for (const auto &[name, value] : *own) {
      const std::string path = message->where("key_values") + "." + printable(name, 80);
      if (value.find('\0') != std::string::npos) {
        throw json_error(path + ": found NUL in the value, wanted text without it");
      }
      add(path, name, value.c_str());
    }
  }
  message->end();
  return environment;
}

filter_config read_filter(std::string_view text) {
  const nlohmann::json json = parse_json(text);
  json_message message(json, "");
  filter_config config;
  config.plugin = read_plugin(message);
  std::optional<json_message> vm = message.message("vm_config");
  // Before what is missing: what is there under a wrong name is why.
  message.end("config", "found the built-in filter's `config`, wanted what stands in it, one level up");
  if (!vm) {
    message.refuse("vm_config", "an object with code");
  }
  config.vm.vm_id = vm->text("vm_id").value_or("");
  if (const std::optional<std::string> runtime = vm->text("runtime"); runtime == "envoy.wasm.runtime.null") {
    vm->refuse("runtime", "a runtime for WebAssembly, of which all mean the one in this module");
  }
  std::optional<json_message> code = vm->message("code");
  config.vm.configuration = vm->any("configuration").value_or("");
  config.vm.environment = read_environment(*vm);
  // Of Envoy's two places for it, the one that is not deprecated counts.
  if (auto capabilities = read_capabilities(*vm)) {
    config.plugin.capabilities = std::move(capabilities);
  }
  // Without meaning here: modules come with no code but WebAssembly, and no code is fetched.
  vm->boolean("allow_precompiled");
  vm->boolean("nack_on_code_cache_miss");
  vm->end();
  if (!code) {
    vm->refuse("code", "an object with local");
  }
  config.vm.code = read_code(*code);
  return config;
}

route_config read_route(std::string_view text) {
  const nlohmann::json json = parse_json(text);
  json_message message(json, "");
  route_config config;
  config.disabled = message.boolean("disabled").value_or(false);
  config.plugin = read_plugin(message);
  message.end("vm_config",
              "found it for a route, wanted it in the filter's own configuration, whose VMs the routes have");
  if (config.disabled && json.size() > 1) {
    throw json_error("disabled: found true beside other fields, wanted it alone");
  }
  return config;
}

// The boundary: nothing is thrown beyond.
template <typename T>
std::optional<T> guarded(T (*read)(std::string_view), std::string_view text, std::string &error) noexcept {
  try {
    return read(text);
  } catch (const json_error &wrong) {
    error = wrong.what();
  } catch (const std::bad_alloc &) {
    // Short enough to need no memory.
    error = "no memory";
  } catch (const std::exception &wrong) {
    error = wrong.what();
  }
  return std::nullopt;
}

template <typename T>
void lay_over(std::optional<T> &below, const std::optional<T> &above) {
  if (above) {
    below = above;
  }
}

void lay_over(std::uint64_t &below, std::uint64_t above) {
  if (above != 0) {
    below = above;
  }
}

}  // namespace

std::optional<filter_config> parse_filter_config(std::string_view text, std::string &error) noexcept {
  return guarded(read_filter, text, error);
}

std::optional<route_config> parse_route_config(std::string_view text, std::string &error) noexcept {
  return guarded(read_route, text, error);
}

plugin_settings with_route(const plugin_settings &filter, const plugin_settings &route) {
  plugin_settings both = filter;
  lay_over(both.name, route.name);
  lay_over(both.root_id, route.root_id);
  lay_over(both.configuration, route.configuration);
  lay_over(both.failure_policy, route.failure_policy);
  lay_over(both.reload, route.reload);
  lay_over(both.capabilities, route.capabilities);
  lay_over(both.allow_on_headers_stop_iteration, route.allow_on_headers_stop_iteration);
  lay_over(both.limits.deadline_ns, route.limits.deadline_ns);
  lay_over(both.limits.start_deadline_ns, route.limits.start_deadline_ns);
  lay_over(both.limits.max_memory, route.limits.max_memory);
  lay_over(both.limits.max_body_buffer, route.limits.max_body_buffer);
  lay_over(both.limits.max_callouts, route.limits.max_callouts);
  lay_over(both.isolation, route.isolation);
  return both;
}

}  // namespace proxywasm_envoy
