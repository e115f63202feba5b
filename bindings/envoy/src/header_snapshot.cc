// SPDX-License-Identifier: Apache-2.0
#include "header_snapshot.h"

namespace proxywasm_envoy {

namespace {

// To take all pairs costs as much as to ask for a few, and most plugins read one or two.
constexpr unsigned reads_by_name = 3;

}  // namespace

std::optional<std::string_view> find_header(void *filter, abi::header_type which, std::string_view name) {
  abi::buffer found{};
  if (!abi::envoy_dynamic_module_callback_http_get_header(filter, which, abi::to_buffer(name), &found, 0, nullptr)) {
    return std::nullopt;
  }
  return abi::view(found);
}

std::optional<std::string_view> header_snapshot::find(void *filter, abi::header_type which, std::string_view name) {
  if (which != which_) {
    which_ = which;
    reads_ = 0;
  }
  if (reads_ < reads_by_name) {
    ++reads_;
    return find_header(filter, which, name);
  }
  if (reads_ == reads_by_name) {
    pairs_.resize(abi::envoy_dynamic_module_callback_http_get_headers_size(filter, which));
    if (!pairs_.empty() && !abi::envoy_dynamic_module_callback_http_get_headers(filter, which, pairs_.data())) {
      return find_header(filter, which, name);
    }
    ++reads_;
  }
  for (const abi::header &pair : pairs_) {
    if (std::string_view(pair.key_ptr, pair.key_length) == name) {
      return std::string_view(pair.value_ptr, pair.value_length);
    }
  }
  return std::nullopt;
}

}  // namespace proxywasm_envoy
