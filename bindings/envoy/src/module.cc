// SPDX-License-Identifier: Apache-2.0
// The hooks that Envoy calls. No exception leaves them.

#include <dlfcn.h>

#include <string>

#include "config.h"
#include "envoy_abi.h"
#include "hook.h"
#include "http_config.h"
#include "http_stream.h"
#include "process.h"

using namespace proxywasm_envoy;
using proxywasm::direction;

namespace {

http_stream *to_stream(const void *module) { return static_cast<http_stream *>(const_cast<void *>(module)); }

}  // namespace

// ---- The module ------------------------------------------------------------------------------------------------------

HOOK const char *envoy_dynamic_module_on_program_init() {
  // It stays: its thread and the handlers of signals in it do. Linked with -z nodelete besides.
  Dl_info self{};
  if (dladdr(reinterpret_cast<void *>(&envoy_dynamic_module_on_program_init), &self) != 0) {
    (void)dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
  }
  return abi::version;
}

// ---- Configurations --------------------------------------------------------------------------------------------------

HOOK const void *envoy_dynamic_module_on_http_filter_config_new(void *envoy, abi::buffer name, abi::buffer text) {
  return guarded("configuration", static_cast<const void *>(nullptr),
                 [&] { return make_config<http_config>(envoy, name, text); });
}

HOOK void envoy_dynamic_module_on_http_filter_config_destroy(const void *config) {
  guarded("end of a configuration", [&] { end_config<http_config>(config); });
}

HOOK const void *envoy_dynamic_module_on_http_filter_per_route_config_new(abi::buffer name, abi::buffer text) {
  return guarded("configuration of a route", static_cast<const void *>(nullptr), [&]() -> const void * {
    std::string error;
    std::optional<route_config> parsed = parse_route_config(abi::view(text), error);
    if (!parsed) {
      log_rejection(name, "", "route: " + error);
      return nullptr;
    }
    return new http_route(std::move(*parsed));
  });
}

HOOK void envoy_dynamic_module_on_http_filter_per_route_config_destroy(const void *config) {
  guarded("end of a route's configuration", [&] { delete static_cast<const http_route *>(config); });
}

HOOK void envoy_dynamic_module_on_http_filter_config_scheduled(void *, const void *config, std::uint64_t event) {
  guarded("event", [&] {
    auto *one = static_cast<http_config *>(const_cast<void *>(config));
    if (one != nullptr) {
      process::get().on_main_event(*one, event);
    }
  });
}

HOOK void envoy_dynamic_module_on_http_filter_config_http_stream_headers(void *envoy, const void *, std::uint64_t id,
                                                                         const abi::header *headers, std::size_t count,
                                                                         bool end) {
  guarded("answer", [&] { process::get().calls().on_headers(envoy, id, headers, count, end); });
}

HOOK void envoy_dynamic_module_on_http_filter_config_http_stream_data(void *envoy, const void *, std::uint64_t id,
                                                                      const abi::buffer *chunks, std::size_t count,
                                                                      bool end) {
  guarded("answer", [&] { process::get().calls().on_data(envoy, id, chunks, count, end); });
}

HOOK void envoy_dynamic_module_on_http_filter_config_http_stream_trailers(void *envoy, const void *, std::uint64_t id,
                                                                          const abi::header *trailers,
                                                                          std::size_t count) {
  guarded("answer", [&] { process::get().calls().on_trailers(envoy, id, trailers, count); });
}

HOOK void envoy_dynamic_module_on_http_filter_config_http_stream_complete(void *envoy, const void *, std::uint64_t id) {
  guarded("answer", [&] { process::get().calls().on_complete(envoy, id); });
}

HOOK void envoy_dynamic_module_on_http_filter_config_http_stream_reset(void *envoy, const void *, std::uint64_t id,
                                                                       abi::stream_reset_reason reason) {
  guarded("answer", [&] { process::get().calls().on_reset(envoy, id, reason); });
}

// One-shot callouts are not used: they have no trailers.
HOOK void envoy_dynamic_module_on_http_filter_config_http_callout_done(void *, const void *, std::uint64_t,
                                                                       std::uint32_t, const abi::header *, std::size_t,
                                                                       const abi::buffer *, std::size_t) {}

// ---- Streams ---------------------------------------------------------------------------------------------------------

HOOK const void *envoy_dynamic_module_on_http_filter_new(const void *config, void *filter) {
  return guarded("stream", static_cast<const void *>(nullptr), [&]() -> const void * {
    auto *own = static_cast<http_config *>(const_cast<void *>(config));
    worker *where = process::get().worker_at(abi::envoy_dynamic_module_callback_http_filter_get_worker_index(filter));
    if (where == nullptr) {
      log_failure("stream", "it is of no worker thread");
      return nullptr;
    }
    return new http_stream(*own, *where, filter);
  });
}

HOOK void envoy_dynamic_module_on_http_filter_destroy(const void *stream) {
  guarded("end of a stream", [&] { to_stream(stream)->on_destroy(); });
}

// A stream that cannot be shown to its plugin must not pass it by: it is stopped for good, and reset where that can be done.
HOOK abi::headers_status envoy_dynamic_module_on_http_filter_request_headers(void *, const void *stream, bool end) {
  return guarded("request headers", abi::headers_status::stop_iteration,
                 [&] { return to_stream(stream)->on_headers(direction::request, end); });
}

HOOK abi::headers_status envoy_dynamic_module_on_http_filter_response_headers(void *, const void *stream, bool end) {
  return guarded("response headers", abi::headers_status::stop_iteration,
                 [&] { return to_stream(stream)->on_headers(direction::response, end); });
}

HOOK abi::body_status envoy_dynamic_module_on_http_filter_request_body(void *, const void *stream, bool end) {
  return guarded("request body", abi::body_status::stop_iteration_no_buffer,
                 [&] { return to_stream(stream)->on_body(direction::request, end); });
}

HOOK abi::body_status envoy_dynamic_module_on_http_filter_response_body(void *, const void *stream, bool end) {
  return guarded("response body", abi::body_status::stop_iteration_no_buffer,
                 [&] { return to_stream(stream)->on_body(direction::response, end); });
}

HOOK abi::trailers_status envoy_dynamic_module_on_http_filter_request_trailers(void *, const void *stream) {
  return guarded("request trailers", abi::trailers_status::stop_iteration,
                 [&] { return to_stream(stream)->on_trailers(direction::request); });
}

HOOK abi::trailers_status envoy_dynamic_module_on_http_filter_response_trailers(void *, const void *stream) {
  return guarded("response trailers", abi::trailers_status::stop_iteration,
                 [&] { return to_stream(stream)->on_trailers(direction::response); });
}

HOOK void envoy_dynamic_module_on_http_filter_stream_complete(void *, const void *stream) {
  guarded("log", [&] { to_stream(stream)->on_complete(); });
}

HOOK void envoy_dynamic_module_on_http_filter_scheduled(void *, const void *stream, std::uint64_t event) {
  guarded("event", [&] { to_stream(stream)->on_event(event); });
}

HOOK abi::local_reply_status envoy_dynamic_module_on_http_filter_local_reply(void *, const void *, std::uint32_t,
                                                                             abi::buffer, bool) {
  return abi::local_reply_status::proceed;
}

HOOK void envoy_dynamic_module_on_http_filter_http_callout_done(void *, const void *, std::uint64_t, std::uint32_t,
                                                                const abi::header *, std::size_t, const abi::buffer *,
                                                                std::size_t) {}

HOOK void envoy_dynamic_module_on_http_filter_http_stream_headers(void *, const void *stream, std::uint64_t id,
                                                                  const abi::header *headers, std::size_t count,
                                                                  bool end) {
  guarded("answer", [&] { to_stream(stream)->on_call_headers(id, headers, count, end); });
}

HOOK void envoy_dynamic_module_on_http_filter_http_stream_data(void *, const void *stream, std::uint64_t id,
                                                               const abi::buffer *chunks, std::size_t count, bool end) {
  guarded("answer", [&] { to_stream(stream)->on_call_data(id, chunks, count, end); });
}

HOOK void envoy_dynamic_module_on_http_filter_http_stream_trailers(void *, const void *stream, std::uint64_t id,
                                                                   const abi::header *trailers, std::size_t count) {
  guarded("answer", [&] { to_stream(stream)->on_call_trailers(id, trailers, count); });
}

HOOK void envoy_dynamic_module_on_http_filter_http_stream_complete(void *, const void *stream, std::uint64_t id) {
  guarded("answer", [&] { to_stream(stream)->on_call_complete(id); });
}

HOOK void envoy_dynamic_module_on_http_filter_http_stream_reset(void *, const void *stream, std::uint64_t id,
                                                                abi::stream_reset_reason reason) {
  guarded("answer", [&] { to_stream(stream)->on_call_reset(id, reason); });
}

// Those of terminal filters.
HOOK void envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(void *, const void *) {}
HOOK void envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(void *, const void *) {}
