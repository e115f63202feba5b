// SPDX-License-Identifier: Apache-2.0
#include "log.h"

#include "envoy_abi.h"

namespace proxywasm_envoy {

// The levels have the same numbers.
static_assert(static_cast<std::uint32_t>(abi::log_level::trace) == PROXYWASM_LOG_LEVEL_TRACE);
static_assert(static_cast<std::uint32_t>(abi::log_level::critical) == PROXYWASM_LOG_LEVEL_CRITICAL);

bool is_logged(proxywasm::log_level level) noexcept {
  return abi::envoy_dynamic_module_callback_log_enabled(static_cast<abi::log_level>(level));
}

void log_line(proxywasm::log_level level, std::string_view text) noexcept {
  abi::envoy_dynamic_module_callback_log(static_cast<abi::log_level>(level), abi::to_buffer(text));
}

void log_record(const proxywasm_log_record &record, std::string &room) {
  const auto level = static_cast<proxywasm::log_level>(record.level);
  if (!is_logged(level)) {
    return;
  }
  room = "wasm log";
  for (const proxywasm_slice &part : {record.plugin, record.root_id, record.vm_id}) {
    if (part.len != 0) {
      room.append(" ").append(proxywasm::view(part));
    }
  }
  room.append(": ").append(proxywasm::view(record.message));
  log_line(level, room);
}

}  // namespace proxywasm_envoy
