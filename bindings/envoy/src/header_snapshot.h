// SPDX-License-Identifier: Apache-2.0
// The pairs of one of Envoy's header maps, for plugins that read several of them by name: to look through what was taken at once
// costs a part of what Envoy takes to find each.

#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "envoy_abi.h"

namespace proxywasm_envoy {

class header_snapshot {
 public:
  // The first value of a name, which is in lower case.
  std::optional<std::string_view> find(void *filter, abi::header_type which, std::string_view name);
  // Envoy's maps may have changed, and what lay in them may be gone.
  void forget() noexcept { reads_ = 0; }

 private:
  abi::header_type which_ = abi::header_type::request_headers;
  unsigned reads_ = 0;  // of that map, since nothing is known of it
  std::vector<abi::header> pairs_;
};

// Asks Envoy for the first value of a name.
std::optional<std::string_view> find_header(void *filter, abi::header_type which, std::string_view name);

}  // namespace proxywasm_envoy
