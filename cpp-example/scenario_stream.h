// SPDX-License-Identifier: Apache-2.0
// One stream of a scenario: shows its messages to the plugins and records what becomes of them.

#pragma once

#include <optional>
#include <string>

#include "scenario_host.h"

class scenario_stream final : public named_stream {
 public:
  scenario_stream(const scenario &script, const stream_script &stream, scenario_host &host,
                  const proxywasm::worker &worker, const proxywasm::chain &chain, std::uint64_t id);

  // Runs it from its beginning to its end.
  report_json run();

  const std::string &name() const override { return script_.name; }
  header_map *find_map(proxywasm::map which) override;
  bool find_property(std::string_view path, std::string &value) const override;
  proxywasm::status on_local_response(const proxywasm_local_response &response) override;
  void on_resume(proxywasm::direction way) override;
  void on_close(proxywasm::stream_type which) override;

 private:
  struct side {
    header_map headers;
    header_map trailers;
    proxywasm::action action = proxywasm::action::proceed;
    bool shown = false;
    bool ended = false;
    bool resume_noted = false;
    // What went on to the other side
    std::optional<report_json> sent_headers;
    std::optional<report_json> sent_trailers;
    std::string sent_body;
  };

  side &side_of(proxywasm::direction way) { return way == proxywasm::direction::request ? request_ : response_; }
  void run_http();
  void run_tcp();
  void show(proxywasm::direction way, const message_script &message);
  void apply(proxywasm::direction way, const char *phase, const proxywasm::outcome &outcome);
  // Lets time pass while a direction is paused; false when it moves no more.
  bool wait(proxywasm::direction way, bool for_end);
  bool stopped(proxywasm::direction way);
  bool resume_noted();
  report_json side_report(const side &one) const;

  const scenario &scenario_;
  const stream_script &script_;
  scenario_host &host_;
  const proxywasm::worker &worker_;
  std::uint64_t id_;
  std::uint64_t start_ns_;
  side request_;
  side response_;
  std::optional<message_script> local_;
  std::optional<report_json> local_report_;
  std::optional<std::string> closed_;
  report_json phases_ = report_json::array();
  bool timed_out_ = false;
  std::optional<proxywasm::stream> stream_;
};
