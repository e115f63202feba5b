// SPDX-License-Identifier: Apache-2.0
// What the command line and scenario files say.

#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <proxywasm.hpp>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Something that the user can put right; ends the program with one line and exit code 2.
class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An address that has been looked up.
struct endpoint {
  sockaddr_storage address{};
  socklen_t length = 0;
  std::string text;  // "192.0.2.1:80"
};

// HOST:PORT, an IPv6 host in brackets. Throws usage_error.
endpoint parse_endpoint(const std::string &text);
// "192.0.2.1:80", "[2001:db8::1]:80"
std::string to_text(const sockaddr *address);

struct plugin_options {
  std::string file;
  std::string name;
  std::string root_id;
  std::string vm_id;
  std::string configuration;
  std::string vm_configuration;
  std::vector<std::pair<std::string, std::string>> environment;
  std::vector<std::string> allow;
  proxywasm::failure_policy policy = proxywasm::failure_policy::reload;
  std::uint64_t deadline_ms = 0;  // 0: the library's default, also below
  std::uint64_t start_deadline_ms = 0;
  std::uint64_t max_memory_mb = 0;
  std::uint64_t max_body = 0;
  bool stop_iteration = false;
};

// FILE[,key=value...]. Throws usage_error.
plugin_options parse_plugin(const std::string &text);
proxywasm::failure_policy parse_policy(const std::string &text);
// A whole file. Throws usage_error.
std::string read_file(const std::string &path);

// Compiled modules by file: plugins that run the same code share them.
using module_set = std::map<std::string, proxywasm::module>;
// Reads and compiles what is not in `modules` yet, and configures a plugin. Throws usage_error (no such file) or
// proxywasm::error.
proxywasm::plugin load_plugin(const proxywasm::engine &engine, module_set &modules, const plugin_options &options);

// "not_wasm: BAD_MODULE: ...": one line, without the backtrace that may follow. `who` may be empty.
std::string error_line(const std::string &who, const proxywasm::error &error);

// Where clients of one kind come in, and where what they say goes.
struct route {
  endpoint listen;
  endpoint upstream;
};

// HTTP, TCP or both.
struct proxy_options {
  std::optional<route> http;
  std::optional<route> tcp;
  std::map<std::string, endpoint, std::less<>> clusters;
  std::vector<plugin_options> plugins;
  std::vector<plugin_options> services;  // plugins that are in no chain
  unsigned threads = 1;
  std::string metrics_path;
  proxywasm::log_level log_level = proxywasm::log_level::info;
  std::chrono::milliseconds pause_timeout{30000};
  std::chrono::milliseconds idle_timeout{60000};
  std::chrono::milliseconds stop_timeout{5000};
};
