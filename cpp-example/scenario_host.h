// SPDX-License-Identifier: Apache-2.0
// The proxy that plugins of a scenario see: a clock that stands still unless told to go on, callouts with answers that are
// known beforehand, and a record of everything.

#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "report.h"
#include "scenario.h"
#include "stream_host.h"

// A stream that the host can name in its records.
class named_stream : public plugin_stream {
 public:
  virtual const std::string &name() const = 0;
};

class scenario_host final : public stream_host {
 public:
  explicit scenario_host(const scenario &script);

  // Lets time pass to the next thing that is due, at most to `limit_ns`, and does it. False when there was none.
  bool step(const proxywasm::worker &worker, std::uint64_t limit_ns);
  void pass_time(const proxywasm::worker &worker, std::uint64_t duration_ms);
  // The clock, from 0 at the start of the scenario.
  std::uint64_t elapsed_ns() const { return elapsed_ns_; }
  const std::vector<property_value> &properties() const { return script_.properties; }

  report_json logs = report_json::array();
  report_json callouts = report_json::array();
  report_json failures = report_json::array();

  void log(void *stream, const proxywasm_log_record &record) override;
  proxywasm::log_level minimum_log_level() override { return script_.log_level; }
  std::uint64_t now_realtime_ns() override { return script_.start_time_ns + elapsed_ns_; }
  // Not from 0: guests take that for a clock that does not run (Go's runtime does).
  std::uint64_t now_monotonic_ns() override { return 1'000'000'000 + elapsed_ns_; }
  proxywasm::status get_property(void *stream, std::string_view path, std::string_view &value) override;
  proxywasm::status http_call(void *stream, proxywasm_token token, const proxywasm_http_request &request) override;
  void cancel_call(proxywasm_token token) override;
  void vm_failed(std::string_view plugin, std::int32_t result) override;

 private:
  struct pending_call {
    std::uint64_t due_ns = 0;
    const callout_script *script = nullptr;
    const char *outcome = nullptr;
    std::size_t record = 0;  // its place in `callouts`
  };
  void answer(const proxywasm::worker &worker, proxywasm_token token);

  const scenario &script_;
  std::map<const callout_script *, std::uint64_t> answered_;
  std::map<proxywasm_token, pending_call> calls_;
  std::uint64_t elapsed_ns_ = 0;
};

// Looks a property up in what a scenario says; null when it does not.
const std::string *find_property(const std::vector<property_value> &properties, std::string_view path);
