// SPDX-License-Identifier: Apache-2.0
#include "hook.h"

#include "log.h"

namespace proxywasm_envoy {

const char valid_config = 0;

void log_failure(const char *what, const char *why) noexcept {
  try {
    log_line(proxywasm::log_level::error, std::string("proxywasm: ") + what + ": " + why);
  } catch (...) {
  }
}

void log_rejection(abi::buffer filter_name, const std::string &plugin, const std::string &why) {
  std::string text = "proxywasm: filter \"" + std::string(abi::view(filter_name)) + "\"";
  if (!plugin.empty()) {
    text += ", plugin \"" + plugin + "\"";
  }
  log_line(proxywasm::log_level::critical, text + ": " + why);
}

}  // namespace proxywasm_envoy
