// SPDX-License-Identifier: Apache-2.0
// Pieces of the report that `run` prints.

#pragma once

#include <nlohmann/json.hpp>
#include <proxywasm.hpp>

#include <string_view>

#include "header_map.h"

using report_json = nlohmann::ordered_json;

// Text where it is UTF-8, {"base64": ...} where not.
report_json bytes_report(std::string_view bytes);
// [[name, value], ...]
report_json headers_report(const header_map &headers);
// {"phase": ..., "action": ..., "ready": [...]}, and the result where it is not OK.
report_json phase_report(const char *phase, const proxywasm::outcome &outcome);
// {"result": "GUEST_REJECTED", "text": ...}
report_json error_report(const proxywasm::error &error);
// All metrics of the engine.
report_json metrics_report(const proxywasm::engine &engine);
