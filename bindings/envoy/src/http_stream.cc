// SPDX-License-Identifier: Apache-2.0
#include "http_stream.h"

#include <algorithm>
#include <iterator>

#include "http_config.h"
#include "log.h"
#include "main_calls.h"

namespace proxywasm_envoy {

using proxywasm::direction;
using proxywasm::status;
using proxywasm::view;

namespace {

// Events of a stream's scheduler.
constexpr std::uint64_t resume_event = 0;
constexpr std::uint64_t drive_event = 1;

std::uint32_t phase_of(direction way, std::uint32_t request_phase) {
  static_assert(PROXYWASM_PHASE_RESPONSE_HEADERS == PROXYWASM_PHASE_REQUEST_HEADERS << 3);
  static_assert(PROXYWASM_PHASE_RESPONSE_TRAILERS == PROXYWASM_PHASE_REQUEST_TRAILERS << 3);
  return way == direction::request ? request_phase : request_phase << 3;
}

}  // namespace

http_stream::hook::hook(http_stream &stream, bool neutral)
    : stream_(stream), inside_(stream.worker_, &stream.config_), before_(stream.neutral_) {
  stream.neutral_ = neutral;
  stream.snapshot_.forget();
  ++stream.depth_;
}

http_stream::hook::~hook() {
  // What plugins asked for meanwhile: now, where Envoy may be told now.
  if (!stream_.gone_ && stream_.has_noted()) {
    try {
      // Not inside a hostcall, where the library is busy.
      if (stream_.neutral_ && !stream_.worker_.is_busy()) {
        stream_.do_noted();
      } else if (stream_.depth_ == 1) {
        stream_.schedule();
      }
    } catch (const std::exception &error) {
      log_line(proxywasm::log_level::error, error.what());
    }
  }
  stream_.neutral_ = before_;
  stream_.snapshot_.forget();
  if (--stream_.depth_ == 0 && stream_.gone_) {
    delete &stream_;
  }
}

// ---- Phases ----------------------------------------------------------------------------------------------------------

bool http_stream::begin() {
  if (begun_) {
    return stream_.has_value();
  }
  begun_ = true;
  const void *route =
      http_route::exists() ? abi::envoy_dynamic_module_callback_get_most_specific_route_config(filter_) : nullptr;
  const proxywasm::chain *chain = config_.chain(worker_, static_cast<const http_route *>(route));
  if (chain == nullptr) {
    return false;
  }
  phases_ = chain->phases();
  stream_.emplace(*chain, proxywasm::stream_kind::http, static_cast<plugin_stream *>(this));
  worker_.began(*this);
  return true;
}

abi::headers_status http_stream::on_headers(direction way, bool end_of_stream) {
  const hook here(*this, false);
  if (is_over()) {
    return way == direction::request ? abi::headers_status::stop_iteration : abi::headers_status::proceed;
  }
  if (way == direction::request) {
    try {
      (void)begin();
    } catch (const std::exception &error) {
      // It must not pass the plugin by.
      log_line(proxywasm::log_level::debug, error.what());
      fail(503, "wasm_fail_stream");
      return abi::headers_status::stop_iteration;
    }
  }
  side &one = of(way);
  one.shown = true;
  one.ended = end_of_stream;
  if (!stream_ || !takes_part(phase_of(way, PROXYWASM_PHASE_REQUEST_HEADERS))) {
    return abi::headers_status::proceed;
  }
  const auto map = way == direction::request ? abi::header_type::request_headers : abi::header_type::response_headers;
  const std::size_t count = abi::envoy_dynamic_module_callback_http_get_headers_size(filter_, map);
  switch (settle(way, stream_->on_headers(way, count, end_of_stream))) {
    case verdict::proceed:
      return abi::headers_status::proceed;
    case verdict::stop_all:
      // Not Envoy's own way of it: that would show the body while Envoy is told to go on, and then not stop again.
      one.holds_all = true;
      break;
    case verdict::stop:
    case verdict::over:
      break;
  }
  return abi::headers_status::stop_iteration;
}

abi::trailers_status http_stream::on_trailers(direction way) {
  const hook here(*this, false);
  side &one = of(way);
  one.has_trailers = true;
  if (is_over()) {
    return abi::trailers_status::stop_iteration;
  }
  if (!stream_) {
    return abi::trailers_status::proceed;
  }
  if (one.holds_all) {
    one.left = one.left_trailers = true;
    return abi::trailers_status::stop_iteration;
  }
  if (one.left) {
    (void)feed_left(way, nullptr);
    one.left_trailers = one.left;
    if (one.left || is_over()) {
      return abi::trailers_status::stop_iteration;
    }
  }
  const auto map = way == direction::request ? abi::header_type::request_trailers : abi::header_type::response_trailers;
  const proxywasm::outcome outcome =
      stream_->on_trailers(way, abi::envoy_dynamic_module_callback_http_get_headers_size(filter_, map));
  const verdict result = settle(way, outcome);
  if (result != verdict::over) {
    put_held(way, outcome);
  }
  return result == verdict::proceed ? abi::trailers_status::proceed : abi::trailers_status::stop_iteration;
}

// What a phase came to. Local responses are answered in here.
http_stream::verdict http_stream::settle(direction way, const proxywasm::outcome &outcome) {
  if (!outcome.ok() && is_logged(proxywasm::log_level::debug)) {
    // The action is what the plugin's policy says; the log has the reason already when it was the guest's.
    log_line(proxywasm::log_level::debug, std::string("proxywasm: phase: ") + proxywasm_result_name(outcome.result()) +
                                              ": " + proxywasm::last_error());
  }
  snapshot_.forget();
  side &one = of(way);
  switch (outcome.action()) {
    case proxywasm::action::proceed:
    case proxywasm::action::pause:
    case proxywasm::action::pause_and_buffer:
      one.waiting = outcome.action() != proxywasm::action::proceed;
      if (!may_pass(way, outcome)) {
        return verdict::over;
      }
      return !one.waiting                                   ? verdict::proceed
             : outcome.action() == proxywasm::action::pause ? verdict::stop_all
                                                            : verdict::stop;
    case proxywasm::action::local_response:
      // Usually noted by now. Not so when the library could not call the host.
      if (!noted_reply_ && !is_over()) {
        fail(503, "wasm_fail_stream");
      } else {
        answer();
      }
      return verdict::over;
    case proxywasm::action::close:
      close_noted_ = true;
      do_noted();
      return verdict::over;
  }
  return verdict::over;
}

void http_stream::fail(std::uint32_t status, std::string_view details) {
  if (of(direction::response).headers.gone || sent_) {
    close_noted_ = true;
    do_noted();
    return;
  }
  proxywasm_local_response failed{};
  failed.status = status;
  failed.grpc_status = -1;
  failed.details = proxywasm::to_slice(details);
  note_reply(failed);
  answer();
}

void http_stream::on_complete() {
  const hook here(*this, false);
  if (begin()) {
    (void)stream_->log();
  }
}

void http_stream::on_destroy() {
  const hook here(*this, false);
  gone_ = true;
  if (stream_) {
    (void)stream_->done();
    stream_.reset();
    worker_.ended(*this);
  }
  calls_.reset_all();
  if (scheduler_ != nullptr) {
    abi::envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler_);
    scheduler_ = nullptr;
  }
  filter_ = nullptr;
}

// ---- Going on --------------------------------------------------------------------------------------------------------

void http_stream::on_event(std::uint64_t event) {
  const hook here(*this, true);
  if (event == drive_event) {
    worker_.drive();
  }
}

void *http_stream::scheduler() {
  if (scheduler_ == nullptr && filter_ != nullptr) {
    scheduler_ = abi::envoy_dynamic_module_callback_http_filter_scheduler_new(filter_);
  }
  return scheduler_;
}

void http_stream::prepare_to_drive() { (void)scheduler(); }

void http_stream::commit_drive() noexcept {
  abi::envoy_dynamic_module_callback_http_filter_scheduler_commit(scheduler_, drive_event);
}

void http_stream::schedule() {
  abi::envoy_dynamic_module_callback_http_filter_scheduler_commit(scheduler(), resume_event);
}

void http_stream::resume(direction way) {
  of(way).resume_noted = true;
  if (depth_ == 0) {
    schedule();
  }
}

void http_stream::close(proxywasm::stream_type) {
  close_noted_ = true;
  if (depth_ == 0) {
    schedule();
  }
}

bool http_stream::has_noted() const {
  return (close_noted_ && !closed_) || noted_reply_ || sides_[0].resume_noted || sides_[1].resume_noted;
}

void http_stream::do_noted() {
  while (!gone_ && !closed_) {
    if (close_noted_) {
      closed_ = true;
      reply_.reset();
      noted_reply_.reset();
      abi::envoy_dynamic_module_callback_http_filter_reset_stream(filter_, abi::reset_reason::local_reset,
                                                                  abi::to_buffer("wasm_close_stream"));
      return;
    }
    if (noted_reply_) {
      answer();
    } else if (of(direction::request).resume_noted) {
      go_on(direction::request);
    } else if (of(direction::response).resume_noted) {
      go_on(direction::response);
    } else {
      return;
    }
  }
}

void http_stream::go_on(direction way) {
  side &one = of(way);
  one.resume_noted = false;
  if (!stream_ || sent_ || (reply_ && way == direction::request)) {
    return;
  }
  if (reply_) {
    if (!advance_reply(stream_->resume(way)) && reply_->has_left) {
      offer_reply_body();
    }
    return;
  }
  const proxywasm::outcome outcome = stream_->resume(way);
  verdict result = settle(way, outcome);
  if (result == verdict::over) {
    return;
  }
  one.holds_all = result == verdict::stop_all && !outcome.headers_ready();
  if (one.holds_all) {
    return;
  }
  if (one.left) {
    result = feed_left(way, &outcome);
  } else {
    put_held(way, outcome);
  }

  if (result == verdict::proceed) {
    proceed(way);
  }
}

void http_stream::proceed(direction way) {
  if (way == direction::request) {
    abi::envoy_dynamic_module_callback_http_filter_continue_decoding(filter_);
  } else {
    abi::envoy_dynamic_module_callback_http_filter_continue_encoding(filter_);
  }
}

// ---- Calls over the stream -------------------------------------------------------------------------------------------

// Envoy tells nobody but who starts a call. So one is started that cannot be sent, for the name of a header that is none, and ended.
bool http_stream::finds_cluster(std::string_view name) {
  const abi::header headers[] = {abi::to_header(":method", "GET"), abi::to_header(":path", "/"),
                                 abi::to_header(":authority", "none"), abi::to_header("not to be sent", "-")};
  std::uint64_t id = 0;
  const abi::callout_init_result result = abi::envoy_dynamic_module_callback_http_filter_start_http_stream(
      filter_, &id, abi::to_buffer(name), headers, std::size(headers), {}, false, 0);
  if (result == abi::callout_init_result::success) {
    abi::envoy_dynamic_module_callback_http_filter_reset_http_stream(filter_, id);
  }
  return result != abi::callout_init_result::cluster_not_found;
}

bool http_stream::is_waiting() const {
  return !gone_ && !is_over() && (of(direction::request).waiting || of(direction::response).waiting);
}

abi::callout_init_result http_stream::start(call &one) {
  if (filter_ == nullptr) {
    return abi::callout_init_result::cannot_create_request;
  }
  calls_.add(one, *this);
  const proxywasm_token token = one.token();
  const call_request request = std::move(one.request());
  const std::vector<abi::header> headers = to_headers(request.headers);
  const bool ends = request.ends && request.trailers.empty();
  // It may end in there, and the call with it.
  const abi::callout_init_result result = abi::envoy_dynamic_module_callback_http_filter_start_http_stream(
      filter_, &one.id, abi::to_buffer(request.cluster), headers.data(), headers.size(), abi::to_buffer(request.body),
      ends, request.timeout_ms);
  if (result != abi::callout_init_result::success) {
    calls_.drop(one);
    return result;
  }
  if (!request.trailers.empty() && worker_.find_call(token) == &one) {
    const std::vector<abi::header> trailers = to_headers(request.trailers);
    (void)abi::envoy_dynamic_module_callback_http_stream_send_trailers(filter_, one.id, trailers.data(),
                                                                       trailers.size());
  }
  return result;
}

bool http_stream::send(call &one, std::string_view bytes, bool end_of_stream) {
  return filter_ != nullptr && abi::envoy_dynamic_module_callback_http_stream_send_data(
                                   filter_, one.id, abi::to_buffer(bytes), end_of_stream);
}

void http_stream::reset(call &one) {
  calls_.drop(one);
  if (filter_ != nullptr) {
    abi::envoy_dynamic_module_callback_http_filter_reset_http_stream(filter_, one.id);
  }
}

void http_stream::dropped(call &one) noexcept { calls_.drop(one); }

void http_stream::on_call_headers(std::uint64_t id, const abi::header *headers, std::size_t count, bool end_of_stream) {
  const hook here(*this, true);
  if (call *one = calls_.find(id)) {
    one->on_headers(copy_fields(headers, count), end_of_stream);
  }
}

void http_stream::on_call_data(std::uint64_t id, const abi::buffer *chunks, std::size_t count, bool end_of_stream) {
  const hook here(*this, true);
  for (std::size_t i = 0; i < count; ++i) {
    if (call *one = calls_.find(id)) {
      one->on_data(abi::view(chunks[i]), end_of_stream && i + 1 == count);
    }
  }
}

void http_stream::on_call_trailers(std::uint64_t id, const abi::header *trailers, std::size_t count) {
  const hook here(*this, true);
  if (call *one = calls_.find(id)) {
    one->on_trailers(copy_fields(trailers, count));
  }
}

void http_stream::on_call_complete(std::uint64_t id) {
  const hook here(*this, true);
  if (call *one = calls_.find(id)) {
    calls_.drop(*one);
    one->on_complete();
  }
}

void http_stream::on_call_reset(std::uint64_t id, abi::stream_reset_reason reason) {
  const hook here(*this, true);
  if (call *one = calls_.find(id)) {
    calls_.drop(*one);
    one->on_reset(reason);
  }
}

}  // namespace proxywasm_envoy
