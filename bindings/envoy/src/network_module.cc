// SPDX-License-Identifier: Apache-2.0
// The hooks of TCP filters.

#include "envoy_abi.h"
#include "hook.h"
#include "network_config.h"
#include "network_stream.h"
#include "process.h"

using namespace proxywasm_envoy;
using proxywasm::direction;

namespace {

network_stream *to_stream(const void *module) { return static_cast<network_stream *>(const_cast<void *>(module)); }

}  // namespace

HOOK const void *envoy_dynamic_module_on_network_filter_config_new(void *envoy, abi::buffer name, abi::buffer text) {
  return guarded("configuration", static_cast<const void *>(nullptr),
                 [&] { return make_config<network_config>(envoy, name, text); });
}

HOOK void envoy_dynamic_module_on_network_filter_config_destroy(const void *config) {
  guarded("end of a configuration", [&] { end_config<network_config>(config); });
}

HOOK void envoy_dynamic_module_on_network_filter_config_scheduled(const void *config, std::uint64_t event) {
  guarded("event", [&] {
    auto *one = static_cast<network_config *>(const_cast<void *>(config));
    if (one != nullptr) {
      process::get().on_main_event(*one, event);
    }
  });
}

HOOK const void *envoy_dynamic_module_on_network_filter_new(const void *config, void *filter) {
  return guarded("connection", static_cast<const void *>(nullptr), [&]() -> const void * {
    auto *own = static_cast<network_config *>(const_cast<void *>(config));
    worker *where =
        process::get().worker_at(abi::envoy_dynamic_module_callback_network_filter_get_worker_index(filter));
    if (where == nullptr) {
      log_failure("connection", "it is of no worker thread");
      return nullptr;
    }
    return new network_stream(*own, *where, filter);
  });
}

HOOK void envoy_dynamic_module_on_network_filter_destroy(const void *stream) {
  guarded("end of a connection", [&] { to_stream(stream)->on_destroy(); });
}

// A connection that cannot be shown to its plugin must not pass it by: it is stopped for good.
HOOK abi::data_status envoy_dynamic_module_on_network_filter_new_connection(void *, const void *stream) {
  return guarded("new connection", abi::data_status::stop_iteration,
                 [&] { return to_stream(stream)->on_new_connection(); });
}

HOOK abi::data_status envoy_dynamic_module_on_network_filter_read(void *, const void *stream, std::size_t length,
                                                                  bool end) {
  return guarded("downstream data", abi::data_status::stop_iteration,
                 [&] { return to_stream(stream)->on_data(direction::request, length, end); });
}

HOOK abi::data_status envoy_dynamic_module_on_network_filter_write(void *, const void *stream, std::size_t length,
                                                                   bool end) {
  return guarded("upstream data", abi::data_status::stop_iteration,
                 [&] { return to_stream(stream)->on_data(direction::response, length, end); });
}

HOOK void envoy_dynamic_module_on_network_filter_event(void *, const void *stream, abi::connection_event event) {
  guarded("end of a connection", [&] { to_stream(stream)->on_event(event); });
}

HOOK void envoy_dynamic_module_on_network_filter_scheduled(void *, const void *stream, std::uint64_t event) {
  guarded("event", [&] { to_stream(stream)->on_scheduled(event); });
}

HOOK void envoy_dynamic_module_on_network_filter_http_callout_done(void *, const void *stream, std::uint64_t id,
                                                                   std::uint32_t result, const abi::header *headers,
                                                                   std::size_t count, const abi::buffer *chunks,
                                                                   std::size_t chunk_count) {
  constexpr std::uint32_t success = 0;
  guarded("answer",
          [&] { to_stream(stream)->on_answer(id, headers, result == success ? count : 0, chunks, chunk_count); });
}
