// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include <arpa/inet.h>
#include <netdb.h>

#include <array>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>

namespace {

std::uint64_t parse_number(const std::string &key, std::string_view text) {
  std::uint64_t number = 0;
  const char *end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  // Bounded, so that no unit conversion below overflows.
  if (text.empty() || error != std::errc() || stop != end || number > 1'000'000'000'000) {
    throw usage_error(key + " is not a number: " + std::string(text));
  }
  return number;
}

bool parse_bool(const std::string &key, std::string_view text) {
  if (text != "true" && text != "false") {
    throw usage_error(key + " is neither true nor false: " + std::string(text));
  }
  return text == "true";
}

std::string file_stem(const std::string &path) {
  const std::size_t slash = path.rfind('/');
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  const std::size_t dot = name.rfind('.');
  return dot == std::string::npos || dot == 0 ? name : name.substr(0, dot);
}

void set_option(plugin_options &plugin, const std::string &key, std::string_view value) {
  if (key == "name") {
    plugin.name = value;
  } else if (key == "root_id") {
    plugin.root_id = value;
  } else if (key == "vm_id") {
    plugin.vm_id = value;
  } else if (key == "config") {
    plugin.configuration = value;
  } else if (key == "config_file") {
    plugin.configuration = read_file(std::string(value));
  } else if (key == "vm_config") {
    plugin.vm_configuration = value;
  } else if (key == "vm_config_file") {
    plugin.vm_configuration = read_file(std::string(value));
  } else if (key == "env") {
    const std::size_t colon = value.find(':');
    if (colon == std::string_view::npos || colon == 0) {
      throw usage_error("env is not NAME:VALUE: " + std::string(value));
    }
    plugin.environment.emplace_back(value.substr(0, colon), value.substr(colon + 1));
  } else if (key == "allow") {
    plugin.allow.emplace_back(value);
  } else if (key == "policy") {
    plugin.policy = parse_policy(std::string(value));
  } else if (key == "deadline_ms") {
    plugin.deadline_ms = parse_number(key, value);
  } else if (key == "start_deadline_ms") {
    plugin.start_deadline_ms = parse_number(key, value);
  } else if (key == "max_memory_mb") {
    plugin.max_memory_mb = parse_number(key, value);
  } else if (key == "max_body") {
    plugin.max_body = parse_number(key, value);
  } else if (key == "stop_iteration") {
    plugin.stop_iteration = parse_bool(key, value);
  } else {
    throw usage_error("unknown plugin key: " + key);
  }
}

}  // namespace

std::string to_text(const sockaddr *address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address->sa_family == AF_INET6) {
    const auto *v6 = reinterpret_cast<const sockaddr_in6 *>(address);
    inet_ntop(AF_INET6, &v6->sin6_addr, text.data(), text.size());
    return "[" + std::string(text.data()) + "]:" + std::to_string(ntohs(v6->sin6_port));
  }
  const auto *v4 = reinterpret_cast<const sockaddr_in *>(address);
  inet_ntop(AF_INET, &v4->sin_addr, text.data(), text.size());
  return std::string(text.data()) + ":" + std::to_string(ntohs(v4->sin_port));
}

endpoint parse_endpoint(const std::string &text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    throw usage_error("not HOST:PORT: " + text);
  }
  std::string host = text.substr(0, colon);
  const std::string port = text.substr(colon + 1);
  if (parse_number("port", port) > 65535) {
    throw usage_error("no such port: " + port);
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  // Once, at the start: a proxy for more than an example looks names up again, without blocking.
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo *found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0) {
    throw usage_error("cannot look up " + text + ": " + gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  endpoint result;
  std::memcpy(&result.address, found->ai_addr, found->ai_addrlen);
  result.length = found->ai_addrlen;
  result.text = to_text(found->ai_addr);
  return result;
}

proxywasm::failure_policy parse_policy(const std::string &text) {
  if (text == "reload") return proxywasm::failure_policy::reload;
  if (text == "closed") return proxywasm::failure_policy::closed;
  if (text == "open") return proxywasm::failure_policy::open;
  throw usage_error("unknown policy (reload, closed, open): " + text);
}

plugin_options parse_plugin(const std::string &text) {
  plugin_options plugin;
  std::size_t at = text.find(',');
  plugin.file = text.substr(0, at);
  if (plugin.file.empty()) {
    throw usage_error("a plugin without a file: " + text);
  }
  plugin.name = file_stem(plugin.file);
  while (at != std::string::npos) {
    const std::size_t start = at + 1;
    const std::size_t equals = text.find('=', start);
    at = text.find(',', start);
    if (equals == std::string::npos || equals > at) {
      throw usage_error("a plugin key without a value: " + text.substr(start, at == text.npos ? at : at - start));
    }
    const std::string key = text.substr(start, equals - start);
    // Configurations are full of commas: `config` takes everything to the end.
    if (key == "config") {
      at = std::string::npos;
    }
    const std::size_t value = equals + 1;
    set_option(plugin, key, std::string_view(text).substr(value, at == std::string::npos ? at : at - value));
  }
  return plugin;
}

std::string read_file(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file.is_open() || file.bad()) {
    throw usage_error("cannot read " + path);
  }
  return bytes;
}

proxywasm::plugin load_plugin(const proxywasm::engine &engine, module_set &modules, const plugin_options &options) {
  auto module = modules.find(options.file);
  if (module == modules.end()) {
    module = modules.emplace(options.file, proxywasm::module(engine, read_file(options.file))).first;
  }
  proxywasm::plugin_config config(options.name);
  proxywasm_limits limits{};
  limits.deadline_ns = options.deadline_ms * 1'000'000;
  limits.start_deadline_ns = options.start_deadline_ms * 1'000'000;
  limits.max_memory = options.max_memory_mb << 20;
  limits.max_body_buffer = options.max_body;
  config.root_id(options.root_id)
      .vm_id(options.vm_id)
      .configuration(options.configuration)
      .vm_configuration(options.vm_configuration)
      .policy(options.policy)
      .limits(limits)
      .allow_on_headers_stop_iteration(options.stop_iteration);
  for (const auto &[name, value] : options.environment) {
    config.environment(name, value);
  }
  for (const std::string &capability : options.allow) {
    config.allow(capability);
  }
  return proxywasm::plugin(module->second, config);
}

std::string error_line(const std::string &who, const proxywasm::error &error) {
  const std::string text = error.what();
  return (who.empty() ? who : who + ": ") + error.name() + ": " + text.substr(0, text.find('\n'));
}
