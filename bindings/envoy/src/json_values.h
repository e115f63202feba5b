// SPDX-License-Identifier: Apache-2.0
// Single values as the proto3 JSON mapping writes them, and values as error texts show them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace proxywasm_envoy {

// An integer that is not negative: a JSON number, also as 1e3 or 5.0, or its digits as text.
std::optional<std::uint64_t> whole_number(const nlohmann::json &value);
// "1.5s" in nanoseconds; what 64 bits do not hold becomes their greatest value. Nothing for what protobuf refuses and for
// less than nothing.
std::optional<std::uint64_t> duration_ns(std::string_view text);
// Both alphabets, with and without padding.
std::optional<std::string> decode_base64(std::string_view text);

// "the number 3", "the text \"abc\"".
std::string describe(const nlohmann::json &value);
// At most so many bytes of it, without what could spoil a line of a log.
std::string printable(std::string_view text, std::size_t most);

}  // namespace proxywasm_envoy
