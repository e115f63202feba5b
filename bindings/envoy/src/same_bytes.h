// SPDX-License-Identifier: Apache-2.0
// Whether plugins have let bytes pass as they came.

#pragma once

#include <algorithm>
#include <proxywasm.hpp>
#include <vector>

namespace proxywasm_envoy {

// The very bytes that were offered, where they lay.
inline bool is_same(const proxywasm::outcome &outcome, const std::vector<proxywasm_chunk> &chunks) {
  const auto slices = outcome.body();
  return std::equal(slices.begin(), slices.end(), chunks.begin(), chunks.end(),
                    [](const proxywasm_slice &slice, const proxywasm_chunk &chunk) {
                      return slice.data == chunk.data && slice.len == chunk.len;
                    });
}

}  // namespace proxywasm_envoy
