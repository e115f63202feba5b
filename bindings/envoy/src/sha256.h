// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4), by which modules are told apart before they are compiled.

#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace proxywasm_envoy {

std::array<std::uint8_t, 32> sha256(std::string_view bytes);

}  // namespace proxywasm_envoy
