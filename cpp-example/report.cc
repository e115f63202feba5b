// SPDX-License-Identifier: Apache-2.0
#include "report.h"

#include <array>

#include "base64.h"

report_json bytes_report(std::string_view bytes) {
  return is_utf8(bytes) ? report_json(bytes) : report_json{{"base64", to_base64(bytes)}};
}

report_json headers_report(const header_map &headers) {
  report_json list = report_json::array();
  for (const header_field &field : headers) {
    list.push_back(report_json::array({bytes_report(field.name), bytes_report(field.value)}));
  }
  return list;
}

report_json phase_report(const char *phase, const proxywasm::outcome &outcome) {
  constexpr std::array<const char *, 5> actions = {"CONTINUE", "PAUSE", "PAUSE_AND_BUFFER", "LOCAL_RESPONSE", "CLOSE"};
  report_json ready = report_json::array();
  if (outcome.headers_ready()) ready.push_back("HEADERS");
  if (outcome.body_ready()) ready.push_back("BODY");
  if (outcome.trailers_ready()) ready.push_back("TRAILERS");
  if (outcome.end_of_stream()) ready.push_back("END_OF_STREAM");
  report_json report = {{"phase", phase},
                        {"action", actions.at(static_cast<std::size_t>(outcome.action()))},
                        {"ready", std::move(ready)}};
  if (!outcome.ok()) {
    report["result"] = proxywasm_result_name(outcome.result());
  }
  return report;
}

report_json error_report(const proxywasm::error &error) {
  return {{"result", error.name()}, {"text", bytes_report(error.what())}};
}

report_json metrics_report(const proxywasm::engine &engine) {
  constexpr std::array<const char *, 3> types = {"counter", "gauge", "histogram"};
  report_json list = report_json::array();
  engine.visit_metrics([&](const proxywasm_metric &metric) {
    report_json one = {{"name", bytes_report(proxywasm::view(metric.name))},
                       {"type", types.at(static_cast<std::size_t>(metric.metric_type))}};
    if (metric.metric_type == PROXYWASM_METRIC_TYPE_GAUGE) {
      one["value"] = static_cast<std::int64_t>(metric.value);
    } else if (metric.metric_type == PROXYWASM_METRIC_TYPE_COUNTER) {
      one["value"] = metric.value;
    } else {
      one["count"] = metric.value;
      one["sum"] = metric.sum;
    }
    list.push_back(std::move(one));
  });
  return list;
}
