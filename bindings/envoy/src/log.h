// SPDX-License-Identifier: Apache-2.0
// Lines of the module's own in Envoy's log, under its component `dynamic_modules`.

#pragma once

#include <proxywasm.hpp>
#include <string>
#include <string_view>

namespace proxywasm_envoy {

bool is_logged(proxywasm::log_level level) noexcept;
void log_line(proxywasm::log_level level, std::string_view text) noexcept;

// A record of a plugin, in the form of Envoy's own host: "wasm log NAME ROOT_ID VM_ID: TEXT". `room` is used for the line.
void log_record(const proxywasm_log_record &record, std::string &room);

}  // namespace proxywasm_envoy
