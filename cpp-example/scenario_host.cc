// SPDX-License-Identifier: Apache-2.0
#include "scenario_host.h"

#include <algorithm>

using proxywasm::status;
using proxywasm::view;

namespace {

constexpr std::uint64_t ns_per_ms = 1'000'000;

const named_stream *to_named(void *stream) {
  return static_cast<const named_stream *>(static_cast<plugin_stream *>(stream));
}

header_map to_headers(const proxywasm_pair *pairs, std::size_t count) {
  header_map headers;
  for (const proxywasm_pair &pair : proxywasm::array_view<proxywasm_pair>(pairs, count)) {
    headers.add(view(pair.name), view(pair.value));
  }
  return headers;
}

std::vector<proxywasm_pair> to_pairs(const header_map &headers) {
  std::vector<proxywasm_pair> pairs;
  for (const header_field &field : headers) {
    pairs.push_back(proxywasm::to_pair(field.name, field.value));
  }
  return pairs;
}

bool matches(const std::optional<std::string> &wanted, const std::string *value) {
  return !wanted || (value != nullptr && *wanted == *value);
}

}  // namespace

const std::string *find_property(const std::vector<property_value> &properties, std::string_view path) {
  const auto found = std::find_if(properties.begin(), properties.end(),
                                  [path](const property_value &one) { return one.path == path; });
  return found == properties.end() ? nullptr : &found->value;
}

scenario_host::scenario_host(const scenario &script)
    : stream_host(
          {proxywasm::service::set_headers, proxywasm::service::realtime_clock, proxywasm::service::monotonic_clock}),
      script_(script) {}

// ---- Time -------------------------------------------------------------------------------------------------------------

bool scenario_host::step(const proxywasm::worker &worker, std::uint64_t limit_ns) {
  // Shared queues of the library have notices for us without any time passing.
  (void)worker.run_pending();
  const auto call = std::min_element(calls_.begin(), calls_.end(),
                                     [](const auto &a, const auto &b) { return a.second.due_ns < b.second.due_ns; });
  const std::uint64_t wait_ns = worker.timeout_ns();
  const std::uint64_t timer_ns = wait_ns > UINT64_MAX - elapsed_ns_ ? UINT64_MAX : elapsed_ns_ + wait_ns;
  const std::uint64_t call_ns = call == calls_.end() ? UINT64_MAX : call->second.due_ns;
  const std::uint64_t next_ns = std::min(timer_ns, call_ns);
  if (next_ns > limit_ns) {
    elapsed_ns_ = std::max(elapsed_ns_, limit_ns);
    return false;
  }
  elapsed_ns_ = std::max(elapsed_ns_, next_ns);
  if (call_ns <= timer_ns) {
    answer(worker, call->first);
  } else {
    (void)worker.on_timeout();
  }
  (void)worker.run_pending();
  return true;
}

void scenario_host::pass_time(const proxywasm::worker &worker, std::uint64_t duration_ms) {
  const std::uint64_t limit_ns = elapsed_ns_ + duration_ms * ns_per_ms;
  while (step(worker, limit_ns)) {
  }
}

// ---- Callouts ---------------------------------------------------------------------------------------------------------

status scenario_host::http_call(void *stream, proxywasm_token token, const proxywasm_http_request &request) {
  const header_map headers = to_headers(request.headers, request.header_count);
  report_json record;
  if (stream != nullptr) {
    record["stream"] = to_named(stream)->name();
  }
  record["at_ms"] = elapsed_ns_ / ns_per_ms;
  record["cluster"] = bytes_report(view(request.upstream));
  record["headers"] = headers_report(headers);
  record["body"] = bytes_report(view(request.body));
  if (request.trailer_count > 0) {
    record["trailers"] = headers_report(to_headers(request.trailers, request.trailer_count));
  }
  record["timeout_ms"] = request.timeout_ms;

  const auto script = std::find_if(script_.callouts.begin(), script_.callouts.end(), [&](const callout_script &one) {
    return one.cluster == view(request.upstream) && matches(one.method, headers.find(":method")) &&
           matches(one.path, headers.find(":path")) && (!one.times || answered_[&one] < *one.times);
  });
  const bool known = script != script_.callouts.end();
  record["outcome"] = !known ? "unknown cluster" : script->refused ? "refused" : "pending";
  callouts.push_back(std::move(record));
  if (!known) {
    return status::bad_argument;
  }
  ++answered_[&*script];
  if (script->refused) {
    return status::internal_failure;
  }
  const bool late = request.timeout_ms != 0 && script->delay_ms > request.timeout_ms;
  pending_call call;
  call.due_ns = elapsed_ns_ + (late ? request.timeout_ms : script->delay_ms) * ns_per_ms;
  call.script = &*script;
  call.outcome = late ? "timeout" : script->response ? "response" : "failure";
  call.record = callouts.size() - 1;
  calls_.emplace(token, call);
  return status::ok;
}

void scenario_host::cancel_call(proxywasm_token token) {
  const auto found = calls_.find(token);
  if (found != calls_.end()) {
    callouts[found->second.record]["outcome"] = "cancelled";
    calls_.erase(found);
  }
}

void scenario_host::answer(const proxywasm::worker &worker, proxywasm_token token) {
  const pending_call call = calls_.at(token);
  calls_.erase(token);
  callouts[call.record]["outcome"] = call.outcome;
  if (std::string_view(call.outcome) != "response") {
    (void)worker.http_call_failed(token);
    return;
  }
  const message_script &message = *call.script->response;
  const std::vector<proxywasm_pair> headers = to_pairs(message.headers);
  const std::vector<proxywasm_pair> trailers = to_pairs(message.trailers);
  std::vector<proxywasm_slice> body;
  for (const std::string &chunk : message.body) {
    body.push_back(proxywasm::to_slice(chunk));
  }
  proxywasm_http_response response{};
  response.headers = headers.data();
  response.header_count = headers.size();
  response.body = body.data();
  response.body_count = body.size();
  response.trailers = trailers.data();
  response.trailer_count = trailers.size();
  (void)worker.http_call_complete(token, response);
}

// ---- Records ----------------------------------------------------------------------------------------------------------

void scenario_host::log(void *stream, const proxywasm_log_record &record) {
  report_json one;
  if (stream != nullptr) {
    one["stream"] = to_named(stream)->name();
  }
  one["at_ms"] = elapsed_ns_ / ns_per_ms;
  one["plugin"] = bytes_report(view(record.plugin));
  one["level"] = level_name(record.level);
  one["message"] = bytes_report(view(record.message));
  logs.push_back(std::move(one));
}

void scenario_host::vm_failed(std::string_view plugin, std::int32_t result) {
  failures.push_back({{"plugin", bytes_report(plugin)},
                      {"result", proxywasm_result_name(result)},
                      {"at_ms", elapsed_ns_ / ns_per_ms}});
}

status scenario_host::get_property(void *stream, std::string_view path, std::string_view &value) {
  if (stream != nullptr) {
    return stream_host::get_property(stream, path, value);
  }
  const std::string *found = find_property(script_.properties, path);
  if (found == nullptr) {
    return status::not_found;
  }
  value = *found;
  return status::ok;
}
