// SPDX-License-Identifier: Apache-2.0
#include "foreign.h"

#include <dlfcn.h>

#include <cstdint>

#include "envoy_abi.h"
#include "proto_reader.h"

namespace proxywasm_envoy {

using proxywasm::status;

namespace {

// zlib is not linked: an Envoy needs none of the system's, and few plugins do.
struct zlib {
  using convert = int (*)(unsigned char *to, unsigned long *to_size, const unsigned char *from,
                          unsigned long from_size);
  using bound = unsigned long (*)(unsigned long size);
  convert compress = nullptr;
  convert uncompress = nullptr;
  bound compress_bound = nullptr;

  zlib() {
    if (void *library = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL)) {
      compress = reinterpret_cast<convert>(dlsym(library, "compress"));
      uncompress = reinterpret_cast<convert>(dlsym(library, "uncompress"));
      compress_bound = reinterpret_cast<bound>(dlsym(library, "compressBound"));
    }
  }
  bool there() const { return compress != nullptr && uncompress != nullptr && compress_bound != nullptr; }
};

constexpr int zlib_ok = 0, zlib_buffer_too_small = -5;
// As much memory as a VM may have by default.
constexpr std::size_t most_uncompressed = 256 * 1024 * 1024;

const unsigned char *bytes(std::string_view text) { return reinterpret_cast<const unsigned char *>(text.data()); }

bool convert(zlib::convert function, std::string_view from, std::string &to, int &error) {
  unsigned long size = to.size();
  error = function(reinterpret_cast<unsigned char *>(to.data()), &size, bytes(from), from.size());
  to.resize(error == zlib_ok ? size : 0);
  return error == zlib_ok;
}

status compress(const zlib &library, std::string_view argument, std::string &result) {
  int error = 0;
  result.resize(library.compress_bound(argument.size()));
  return convert(library.compress, argument, result, error) ? status::ok : status::serialization_failure;
}

status uncompress(const zlib &library, std::string_view argument, std::string &result) {
  int error = zlib_buffer_too_small;
  for (std::size_t room = argument.size() * 2 + 2; room <= most_uncompressed && error == zlib_buffer_too_small;
       room *= 2) {
    result.resize(room);
    if (convert(library.uncompress, argument, result, error)) {
      return status::ok;
    }
  }
  result.clear();
  return status::serialization_failure;
}

// envoy.source.extensions.common.wasm.SetEnvoyFilterStateArguments: path, value, span.
using set_state = bool (*)(void *filter, abi::buffer key, abi::buffer value);

status set_envoy_filter_state(void *filter, set_state set, std::string_view argument) {
  std::string_view path, value;
  std::uint64_t span = 0;
  proto_reader reader(argument);
  std::uint64_t number = 0;
  std::string_view field;
  while (reader.next(number, field)) {
    switch (number) {
      case 1:
        path = field;
        break;
      case 2:
        value = field;
        break;
      case 3:
        span = reader.integer();
        break;
      default:
        break;
    }
  }
  // Objects that modules set live as long as the filter chain (0), not longer (1: request, 2: connection).
  if (reader.failed() || span == 1 || span == 2) {
    return status::bad_argument;
  }
  // Whether nothing of that name can be, or not with that value, it does not tell.
  return filter != nullptr && set(filter, abi::to_buffer(path), abi::to_buffer(value)) ? status::ok : status::not_found;
}

}  // namespace

std::optional<status> call_pure_function(std::string_view name, std::string_view argument, std::string &result) {
  if (name != "compress" && name != "uncompress") {
    return std::nullopt;
  }
  static const zlib library;
  if (!library.there()) {
    return std::nullopt;
  }
  return name == "compress" ? compress(library, argument, result) : uncompress(library, argument, result);
}

status call_http_function(void *filter, std::string_view name, std::string_view argument) {
  if (name == "clear_route_cache") {
    if (filter != nullptr) {
      abi::envoy_dynamic_module_callback_http_clear_route_cache(filter);
    }
    return status::ok;
  }
  if (name == "set_envoy_filter_state") {
    return set_envoy_filter_state(filter, abi::envoy_dynamic_module_callback_http_set_filter_state_typed, argument);
  }
  return status::not_found;
}

status call_network_function(void *filter, std::string_view name, std::string_view argument) {
  if (name == "clear_route_cache") {
    return status::ok;
  }
  if (name == "set_envoy_filter_state") {
    return set_envoy_filter_state(filter, abi::envoy_dynamic_module_callback_network_set_filter_state_typed, argument);
  }
  return status::not_found;
}

}  // namespace proxywasm_envoy
