// SPDX-License-Identifier: Apache-2.0
#include "scenario_stream.h"

#include <array>

#include "properties.h"

using proxywasm::action;
using proxywasm::direction;
using proxywasm::view;

namespace {

constexpr std::uint64_t ns_per_ms = 1'000'000;

const char *phase_name(direction way, std::size_t what) {
  constexpr std::array<const char *, 3> request = {"request_headers", "request_body", "request_trailers"};
  constexpr std::array<const char *, 3> response = {"response_headers", "response_body", "response_trailers"};
  return (way == direction::request ? request : response).at(what);
}

}  // namespace

scenario_stream::scenario_stream(const scenario &script, const stream_script &stream, scenario_host &host,
                                 const proxywasm::worker &worker, const proxywasm::chain &chain, std::uint64_t id)
    : scenario_(script), script_(stream), host_(host), worker_(worker), id_(id), start_ns_(host.now_realtime_ns()) {
  stream_.emplace(chain, stream.kind, static_cast<plugin_stream *>(this));
}

report_json scenario_stream::run() {
  if (script_.kind == proxywasm::stream_kind::http) {
    run_http();
    (void)stream_->log();
    (void)stream_->done();
  } else {
    run_tcp();
    (void)stream_->done();
    (void)stream_->log();
  }
  stream_.reset();

  report_json report = {{"name", script_.name},
                        {"kind", script_.kind == proxywasm::stream_kind::http ? "http" : "tcp"},
                        {"phases", phases_},
                        {"request", side_report(request_)},
                        {"response", side_report(response_)}};
  if (local_report_) {
    report["local_response"] = *local_report_;
  }
  if (closed_) {
    report["closed"] = *closed_;
  }
  if (timed_out_) {
    report["timed_out"] = true;
  }
  return report;
}

report_json scenario_stream::side_report(const side &one) const {
  report_json report = report_json::object();
  if (one.sent_headers) {
    report["headers"] = *one.sent_headers;
  }
  if (!one.sent_body.empty()) {
    report["body"] = bytes_report(one.sent_body);
  }
  if (one.sent_trailers) {
    report["trailers"] = *one.sent_trailers;
  }
  report["complete"] = one.ended;
  return report;
}

// ---- HTTP -------------------------------------------------------------------------------------------------------------

void scenario_stream::run_http() {
  show(direction::request, script_.request);
  if (closed_ || timed_out_) {
    return;
  }
  if (!local_) {
    show(direction::response, script_.response);
  }
  // A second one can take the place of the first while that passes the plugins.
  while (local_ && !closed_ && !timed_out_) {
    const message_script answer = std::move(*local_);
    local_.reset();
    if (!response_.shown) {
      show(direction::response, answer);
    } else {
      // It replaces a response that the plugins have seen: they are not shown a second one.
      response_.sent_headers = headers_report(answer.headers);
      response_.sent_body = answer.body.empty() ? std::string() : answer.body.front();
      response_.sent_trailers.reset();
      response_.ended = true;
    }
  }
}

void scenario_stream::show(direction way, const message_script &message) {
  side &one = side_of(way);
  one.headers = message.headers;
  one.shown = true;
  const bool has_trailers = !message.trailers.empty();
  apply(way, phase_name(way, 0), stream_->on_headers(way, one.headers.size(), message.body.empty() && !has_trailers));
  for (std::size_t i = 0; i < message.body.size(); ++i) {
    if (!wait(way, false)) {
      return;
    }
    const bool last = i + 1 == message.body.size() && !has_trailers;
    apply(way, phase_name(way, 1), stream_->on_body(way, message.body[i], last));
  }
  if (has_trailers) {
    if (!wait(way, false)) {
      return;
    }
    one.trailers = message.trailers;
    apply(way, phase_name(way, 2), stream_->on_trailers(way, one.trailers.size()));
  }
  (void)wait(way, true);
}

// ---- TCP --------------------------------------------------------------------------------------------------------------

void scenario_stream::run_tcp() {
  apply(direction::request, "new_connection", stream_->on_new_connection());
  for (const data_script &data : script_.data) {
    // One side paused does not keep the other from sending; but nothing comes from an upstream before there is one.
    if (!wait(direction::request, false) || !wait(data.from, false)) {
      break;
    }
    const bool from_client = data.from == direction::request;
    apply(data.from, from_client ? "downstream_data" : "upstream_data",
          stream_->on_data(data.from, data.bytes, data.end));
  }
  if (!closed_) {
    (void)wait(direction::request, false);
    (void)wait(direction::response, false);
  }
  // The client goes first, unless a plugin had the connection closed.
  (void)stream_->on_close(direction::request, closed_ ? proxywasm::peer::local : proxywasm::peer::remote);
  (void)stream_->on_close(direction::response, proxywasm::peer::local);
}

// ---- Both -------------------------------------------------------------------------------------------------------------

void scenario_stream::apply(direction way, const char *phase, const proxywasm::outcome &outcome) {
  side &one = side_of(way);
  phases_.push_back(phase_report(phase, outcome));
  one.action = outcome.action();
  if (outcome.headers_ready() && script_.kind == proxywasm::stream_kind::http) {
    one.sent_headers = headers_report(one.headers);
  }
  for (const proxywasm_slice &slice : outcome.body()) {
    one.sent_body += view(slice);
  }
  if (outcome.trailers_ready()) {
    one.sent_trailers = headers_report(one.trailers);
  }
  one.ended = one.ended || outcome.end_of_stream();
}

bool scenario_stream::stopped(direction way) {
  const action now = side_of(way).action;
  return closed_ || local_ || timed_out_ || now == action::local_response || now == action::close;
}

bool scenario_stream::resume_noted() {
  bool any = false;
  for (const direction way : {direction::request, direction::response}) {
    side &one = side_of(way);
    if (one.resume_noted) {
      one.resume_noted = false;
      any = true;
      apply(way, way == direction::request ? "resume_request" : "resume_response", stream_->resume(way));
    }
  }
  return any;
}

bool scenario_stream::wait(direction way, bool for_end) {
  const std::uint64_t limit_ns = host_.elapsed_ns() + scenario_.pause_limit_ms * ns_per_ms;
  (void)worker_.run_pending();
  for (;;) {
    if (stopped(way)) {
      return false;
    }
    if (resume_noted()) {
      continue;
    }
    const action now = side_of(way).action;
    if (now == action::proceed || (now == action::pause_and_buffer && !for_end)) {
      return true;
    }
    if (!host_.step(worker_, limit_ns) && !side_of(way).resume_noted && !local_ && !closed_) {
      timed_out_ = true;
    }
  }
}

header_map *scenario_stream::find_map(proxywasm::map which) {
  switch (which) {
    case proxywasm::map::request_headers:
      return request_.shown ? &request_.headers : nullptr;
    case proxywasm::map::request_trailers:
      return request_.shown ? &request_.trailers : nullptr;
    case proxywasm::map::response_headers:
      return response_.shown ? &response_.headers : nullptr;
    case proxywasm::map::response_trailers:
      return response_.shown ? &response_.trailers : nullptr;
  }
  return nullptr;
}

bool scenario_stream::find_property(std::string_view path, std::string &value) const {
  for (const auto *properties : {&script_.properties, &scenario_.properties}) {
    if (const std::string *found = ::find_property(*properties, path)) {
      value = *found;
      return true;
    }
  }
  stream_facts facts;
  facts.request_headers = script_.kind == proxywasm::stream_kind::http ? &request_.headers : nullptr;
  facts.response_headers = response_.shown ? &response_.headers : nullptr;
  facts.protocol = script_.kind == proxywasm::stream_kind::http ? "HTTP/1.1" : "";
  facts.start_ns = start_ns_;
  facts.duration_ns = host_.now_realtime_ns() - start_ns_;
  facts.connection_id = id_;
  return ::find_property(facts, path, value);
}

proxywasm::status scenario_stream::on_local_response(const proxywasm_local_response &response) {
  message_script answer;
  answer.headers.add(":status", std::to_string(response.status));
  for (const proxywasm_pair &pair : proxywasm::array_view<proxywasm_pair>(response.headers, response.header_count)) {
    answer.headers.add(view(pair.name), view(pair.value));
  }
  if (response.body.len > 0) {
    answer.body.emplace_back(view(response.body));
  }
  report_json report = {{"status", response.status}};
  if (response.grpc_status >= 0) {
    report["grpc_status"] = response.grpc_status;
  }
  report["details"] = bytes_report(view(response.details));
  local_report_ = std::move(report);
  local_ = std::move(answer);
  return proxywasm::status::ok;
}

void scenario_stream::on_resume(direction way) { side_of(way).resume_noted = true; }

void scenario_stream::on_close(proxywasm::stream_type which) {
  constexpr std::array<const char *, 4> names = {"http_request", "http_response", "downstream", "upstream"};
  closed_ = names.at(static_cast<std::size_t>(which));
}
