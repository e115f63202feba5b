// SPDX-License-Identifier: Apache-2.0
// How hooks are made: functions that Envoy calls, which no exception leaves.

#pragma once

#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "config.h"
#include "envoy_abi.h"

#define HOOK extern "C" __attribute__((visibility("default")))

namespace proxywasm_envoy {

// Stands for a configuration that was checked only.
extern const char valid_config;

void log_failure(const char *what, const char *why) noexcept;
// What Envoy's rejection of a configuration does not say: it stands beside it in the log. `plugin` may be empty.
void log_rejection(abi::buffer filter_name, const std::string &plugin, const std::string &why);

// Runs a hook; what it throws is logged, and the answer is `otherwise`.
template <typename Result, typename Run>
Result guarded(const char *what, Result otherwise, Run run) noexcept {
  try {
    return run();
  } catch (const std::exception &error) {
    log_failure(what, error.what());
  } catch (...) {
    log_failure(what, "unknown failure");
  }
  return otherwise;
}

template <typename Run>
void guarded(const char *what, Run run) noexcept {
  (void)guarded(what, 0, [&] {
    run();
    return 0;
  });
}

// What a filter's configuration comes to: Envoy's handle for it, null when it is refused.
template <typename Config>
const void *make_config(void *envoy, abi::buffer name, abi::buffer text) {
  std::string error;
  std::optional<filter_config> parsed = parse_filter_config(abi::view(text), error);
  if (!parsed) {
    log_rejection(name, "", error);
    return nullptr;
  }
  const std::string plugin = parsed->plugin.name.value_or("");
  try {
    if (abi::envoy_dynamic_module_callback_is_validation_mode()) {
      Config::validate(*parsed);
      return &valid_config;
    }
    return new Config(envoy, std::move(*parsed));
  } catch (const std::exception &failure) {
    log_rejection(name, plugin, failure.what());
    return nullptr;
  }
}

// The end of what `make_config` gave.
template <typename Config>
void end_config(const void *config) {
  if (config != &valid_config) {
    delete static_cast<const Config *>(config);
  }
}

}  // namespace proxywasm_envoy
