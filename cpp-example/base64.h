// SPDX-License-Identifier: Apache-2.0
// Bytes in JSON: text where they are UTF-8, base64 (RFC 4648) where not.

#pragma once

#include <optional>
#include <string>
#include <string_view>

std::string to_base64(std::string_view bytes);
// Nothing when the text is not base64.
std::optional<std::string> from_base64(std::string_view text);
bool is_utf8(std::string_view bytes);
