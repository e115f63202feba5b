// SPDX-License-Identifier: Apache-2.0
// The hooks of bootstrap extensions: plugins without streams. Most are there because Envoy demands them.

#include "envoy_abi.h"
#include "hook.h"
#include "process.h"
#include "service_config.h"
#include "worker.h"

using namespace proxywasm_envoy;

HOOK const void *envoy_dynamic_module_on_bootstrap_extension_config_new(void *envoy, abi::buffer name,
                                                                        abi::buffer text) {
  return guarded("configuration", static_cast<const void *>(nullptr), [&] {
    const void *made = make_config<service_config>(envoy, name, text);
    // Plugins have started by now.
    abi::envoy_dynamic_module_callback_bootstrap_extension_config_signal_init_complete(envoy);
    return made;
  });
}

HOOK void envoy_dynamic_module_on_bootstrap_extension_config_destroy(const void *config) {
  guarded("end of a configuration", [&] { end_config<service_config>(config); });
}

HOOK void envoy_dynamic_module_on_bootstrap_extension_config_scheduled(void *, const void *config,
                                                                       std::uint64_t event) {
  guarded("event", [&] {
    if (config != nullptr && config != &valid_config) {
      process::get().on_main_event(*static_cast<service_config *>(const_cast<void *>(config)), event);
    }
  });
}

// Nothing is there besides the configuration, which stands for the extension too.
HOOK const void *envoy_dynamic_module_on_bootstrap_extension_new(const void *config, void *) { return config; }
HOOK void envoy_dynamic_module_on_bootstrap_extension_destroy(const void *) {}
HOOK void envoy_dynamic_module_on_bootstrap_extension_server_initialized(void *, const void *) {}
HOOK void envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized(void *, const void *) {}
HOOK void envoy_dynamic_module_on_bootstrap_extension_drain_started(void *, const void *) {}
// Envoy waits for `done` before it ends.
HOOK void envoy_dynamic_module_on_bootstrap_extension_shutdown(void *, const void *, void (*done)(void *),
                                                               void *context) {
  if (done != nullptr) {
    done(context);
  }
}

// What is told to those that have asked for it.
HOOK void envoy_dynamic_module_on_bootstrap_extension_http_callout_done(void *, const void *, std::uint64_t,
                                                                        std::uint32_t, const abi::header *, std::size_t,
                                                                        const abi::buffer *, std::size_t) {}
HOOK void envoy_dynamic_module_on_bootstrap_extension_timer_fired(void *, const void *, void *) {}
HOOK void envoy_dynamic_module_on_bootstrap_extension_file_changed(void *, const void *, abi::buffer, std::uint32_t) {}
HOOK std::uint32_t envoy_dynamic_module_on_bootstrap_extension_admin_request(void *, const void *, abi::buffer,
                                                                             abi::buffer, abi::buffer) {
  constexpr std::uint32_t not_found = 404;
  return not_found;
}
HOOK void envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update(void *, const void *, abi::buffer) {}
HOOK void envoy_dynamic_module_on_bootstrap_extension_cluster_removal(void *, const void *, abi::buffer) {}
HOOK void envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update(void *, const void *, abi::buffer) {}
HOOK void envoy_dynamic_module_on_bootstrap_extension_listener_removal(void *, const void *, abi::buffer) {}
