// SPDX-License-Identifier: Apache-2.0
#include "network_stream.h"

#include <algorithm>

#include "foreign.h"
#include "log.h"
#include "main_calls.h"
#include "network_config.h"
#include "properties.h"
#include "same_bytes.h"

namespace proxywasm_envoy {

using proxywasm::direction;
using proxywasm::peer;
using proxywasm::status;
using proxywasm::view;

namespace {

// Events of a connection's scheduler.
constexpr std::uint64_t resume_event = 0;
constexpr std::uint64_t drive_event = 1;

// What Envoy has for one direction of a connection.
struct buffer_api {
  std::size_t (*pieces)(void *filter);
  bool (*get)(void *filter, abi::buffer *pieces);
  bool (*drain)(void *filter, std::size_t length);
  bool (*append)(void *filter, abi::buffer bytes);
  bool (*inject)(void *filter, abi::buffer bytes, bool end_of_stream);
};

const buffer_api &api(direction way) {
  static constexpr buffer_api read = {
      abi::envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks_size,
      abi::envoy_dynamic_module_callback_network_filter_get_read_buffer_chunks,
      abi::envoy_dynamic_module_callback_network_filter_drain_read_buffer,
      abi::envoy_dynamic_module_callback_network_filter_append_read_buffer,
      abi::envoy_dynamic_module_callback_network_filter_inject_read_data,
  };
  static constexpr buffer_api write = {
      abi::envoy_dynamic_module_callback_network_filter_get_write_buffer_chunks_size,
      abi::envoy_dynamic_module_callback_network_filter_get_write_buffer_chunks,
      abi::envoy_dynamic_module_callback_network_filter_drain_write_buffer,
      abi::envoy_dynamic_module_callback_network_filter_append_write_buffer,
      abi::envoy_dynamic_module_callback_network_filter_inject_write_data,
  };
  return way == direction::request ? read : write;
}

}  // namespace

network_stream::hook::hook(network_stream &stream, bool neutral)
    : stream_(stream), inside_(stream.worker_, &stream.config_), before_(stream.neutral_) {
  stream.neutral_ = neutral;
  ++stream.depth_;
}

network_stream::hook::~hook() {
  // What plugins asked for meanwhile: now, where data can be sent on now.
  if (!stream_.gone_ && !stream_.closed_ && stream_.has_noted()) {
    try {
      if (stream_.neutral_ || stream_.close_noted_) {
        stream_.do_noted();
      } else if (stream_.depth_ == 1) {
        stream_.schedule();
      }
    } catch (const std::exception &error) {
      log_line(proxywasm::log_level::error, error.what());
    }
  }
  stream_.neutral_ = before_;
  if (--stream_.depth_ == 0 && stream_.gone_) {
    delete &stream_;
  }
}

// ---- Phases ----------------------------------------------------------------------------------------------------------

abi::data_status network_stream::on_new_connection() {
  const hook here(*this, false);
  const proxywasm::chain &chain = config_.chain(worker_);
  if (chain.phases() == 0) {
    return abi::data_status::proceed;
  }
  stream_.emplace(chain, proxywasm::stream_kind::tcp, static_cast<plugin_stream *>(this));
  worker_.began(*this);
  opened_ = settle(stream_->on_new_connection());
  return opened_ ? abi::data_status::proceed : abi::data_status::stop_iteration;
}

abi::data_status network_stream::on_data(direction way, std::size_t length, bool end_of_stream) {
  const hook here(*this, false);
  if (closed_) {
    (void)api(way).drain(filter_, length);
    return abi::data_status::stop_iteration;
  }
  if (!stream_) {
    return abi::data_status::proceed;
  }
  side &one = of(way);
  if (end_of_stream && !one.ended) {
    one.ended = true;
    if (!first_end_) {
      first_end_ = way;
    }
  }
  gather(way);
  const std::vector<proxywasm_chunk> &chunks = worker_.chunks();
  const proxywasm::outcome outcome = stream_->on_data(way, {chunks.data(), chunks.size()}, end_of_stream);
  if (outcome.result() == PROXYWASM_RESULT_BUSY) {
    // Envoy keeps it, and sees to it that not much more comes.
    one.left = true;
    one.left_end = end_of_stream;
    return abi::data_status::stop_iteration;
  }
  one.left = false;
  const bool proceeds = settle(outcome);
  if (!proceeds || !is_same(outcome, chunks)) {
    // New bytes may lie among the old ones: first behind them, then in their place.
    if (proceeds) {
      for (const proxywasm_slice &slice : outcome.body()) {
        (void)api(way).append(filter_, abi::to_buffer(view(slice)));
      }
    }
    (void)api(way).drain(filter_, length);
  }
  if (end_of_stream && way == direction::response) {
    // As in Envoy plugins hear of it now, though the upstream may read on.
    tell_close(way, first_end_ == way ? peer::remote : peer::local);
  }
  return proceeds ? abi::data_status::proceed : abi::data_status::stop_iteration;
}

void network_stream::gather(direction way) {
  std::vector<abi::buffer> &room = worker_.buffers();
  std::vector<proxywasm_chunk> &chunks = worker_.chunks();
  chunks.clear();
  room.resize(api(way).pieces(filter_));
  if (room.empty() || !api(way).get(filter_, room.data())) {
    return;
  }
  for (const abi::buffer &piece : room) {
    if (piece.length != 0) {
      chunks.push_back(proxywasm::to_chunk(abi::view(piece)));
    }
  }
}

bool network_stream::settle(const proxywasm::outcome &outcome) {
  if (!outcome.ok() && is_logged(proxywasm::log_level::debug)) {
    // The action is what the plugin's policy says; the log has the reason already when it was the guest's.
    log_line(proxywasm::log_level::debug, std::string("proxywasm: phase: ") + proxywasm_result_name(outcome.result()) +
                                              ": " + proxywasm::last_error());
  }
  switch (outcome.action()) {
    case proxywasm::action::proceed:
      return true;
    case proxywasm::action::pause:
    case proxywasm::action::pause_and_buffer:
      return false;
    case proxywasm::action::local_response:  // not for TCP
    case proxywasm::action::close:
      close_noted_ = true;
      return false;
  }
  return false;
}

// ---- Going on --------------------------------------------------------------------------------------------------------

void network_stream::on_scheduled(std::uint64_t event) {
  const hook here(*this, true);
  if (event == drive_event) {
    worker_.drive();
  }
}

void network_stream::do_noted() {
  while (!gone_ && !closed_) {
    if (close_noted_) {
      close_now();
    } else if (of(direction::request).resume_noted) {
      go_on(direction::request);
    } else if (of(direction::response).resume_noted) {
      go_on(direction::response);
    } else {
      return;
    }
  }
  close_noted_ = false;
}

void network_stream::go_on(direction way) {
  side &one = of(way);
  one.resume_noted = false;
  if (!stream_) {
    return;
  }
  const proxywasm::outcome outcome = stream_->resume(way);
  if (!settle(outcome)) {
    return;
  }
  if (way == direction::request && !opened_) {
    opened_ = true;
    if (!one.left) {
      send_on(way, outcome);
      return;
    }
    // What Envoy's buffer holds must not pass unseen.
    gather(way);
    std::string left;
    for (const proxywasm_chunk &chunk : worker_.chunks()) {
      left.append(reinterpret_cast<const char *>(chunk.data), chunk.len);
    }
    (void)api(way).drain(filter_, left.size());
    one.left = false;
    send_on(way, outcome);
    if (closed_ || gone_ || !stream_) {
      return;
    }
    const proxywasm::outcome rest = stream_->on_data(way, left, one.left_end);
    if (settle(rest)) {
      send_on(way, rest);
    }
    return;
  }
  send_on(way, outcome);
}

// Behind the filter, from outside of the hooks that carry data.
void network_stream::send_on(direction way, const proxywasm::outcome &outcome) {
  std::string bytes;
  for (const proxywasm_slice &slice : outcome.body()) {
    bytes.append(view(slice));
  }
  const bool opens = outcome.headers_ready(), ends = outcome.end_of_stream();
  if (opens) {
    abi::envoy_dynamic_module_callback_network_filter_continue_reading(filter_);
  }
  if (filter_ != nullptr && !closed_ && (!bytes.empty() || ends)) {
    (void)api(way).inject(filter_, abi::to_buffer(bytes), ends);
  }
}

void *network_stream::scheduler() {
  if (scheduler_ == nullptr && filter_ != nullptr) {
    scheduler_ = abi::envoy_dynamic_module_callback_network_filter_scheduler_new(filter_);
  }
  return scheduler_;
}

void network_stream::schedule() {
  if (void *one = scheduler()) {
    abi::envoy_dynamic_module_callback_network_filter_scheduler_commit(one, resume_event);
  }
}

void network_stream::prepare_to_drive() { (void)scheduler(); }

void network_stream::commit_drive() noexcept {
  abi::envoy_dynamic_module_callback_network_filter_scheduler_commit(scheduler_, drive_event);
}

void network_stream::resume(direction way) {
  of(way).resume_noted = true;
  if (depth_ == 0) {
    schedule();
  }
}

// Whichever end a plugin names, the connection ends as a whole, as in Envoy.
void network_stream::close(proxywasm::stream_type) {
  close_noted_ = true;
  if (depth_ == 0) {
    schedule();
  }
}

// ---- The end ---------------------------------------------------------------------------------------------------------

void network_stream::close_now() {
  closed_ = true;
  close_noted_ = false;
  // What has passed is still sent to the client.
  abi::envoy_dynamic_module_callback_network_filter_close_with_details(filter_, abi::close_type::flush_write,
                                                                       abi::to_buffer("wasm_close_connection"));
}

void network_stream::tell_close(direction way, peer who) {
  bool &told = close_told_[static_cast<std::size_t>(way)];
  if (stream_ && !told) {
    told = true;
    (void)stream_->on_close(way, who);
  }
}

void network_stream::on_event(abi::connection_event event) {
  if (event != abi::connection_event::remote_close && event != abi::connection_event::local_close) {
    return;
  }
  const hook here(*this, false);
  const bool by_us = closed_;
  closed_ = true;
  if (!stream_) {
    return;
  }
  if (!first_end_ && !by_us) {
    // A reset: of the client, or of the upstream, which has Envoy close this end.
    first_end_ = event == abi::connection_event::remote_close ? direction::request : direction::response;
  }
  const auto who = [this](direction way) { return first_end_ == way ? peer::remote : peer::local; };
  tell_close(direction::request, who(direction::request));
  abi::buffer address{};
  std::uint32_t port = 0;
  if (abi::envoy_dynamic_module_callback_network_filter_get_upstream_host_address(filter_, &address, &port)) {
    tell_close(direction::response, who(direction::response));
  }
  end_plugins();
}

void network_stream::end_plugins() {
  if (stream_) {
    // Envoy's order for TCP: done, log, delete.
    (void)stream_->done();
    (void)stream_->log();
    stream_.reset();
    worker_.ended(*this);
  }
}

void network_stream::on_destroy() {
  const hook here(*this, false);
  gone_ = true;
  end_plugins();
  calls_.reset_all();
  if (scheduler_ != nullptr) {
    abi::envoy_dynamic_module_callback_network_filter_scheduler_delete(scheduler_);
    scheduler_ = nullptr;
  }
  filter_ = nullptr;
}

// ---- Calls over the connection ---------------------------------------------------------------------------------------

bool network_stream::finds_cluster(std::string_view name) {
  std::size_t total = 0, healthy = 0, degraded = 0;
  return abi::envoy_dynamic_module_callback_network_filter_get_cluster_host_count(filter_, abi::to_buffer(name), 0,
                                                                                  &total, &healthy, &degraded);
}

abi::callout_init_result network_stream::start(call &one) {
  const call_request request = std::move(one.request());
  // What Envoy offers for connections is one request and one answer, without trailers.
  if (!request.ends || !request.trailers.empty()) {
    return abi::callout_init_result::cannot_create_request;
  }
  calls_.add(one, *this);
  const std::vector<abi::header> headers = to_headers(request.headers);
  const abi::callout_init_result result = abi::envoy_dynamic_module_callback_network_filter_http_callout(
      filter_, &one.id, abi::to_buffer(request.cluster), headers.data(), headers.size(), abi::to_buffer(request.body),
      request.timeout_ms);
  if (result != abi::callout_init_result::success) {
    calls_.drop(one);
  }
  return result;
}

bool network_stream::send(call &, std::string_view, bool) { return false; }

// Envoy has no way to end it: its answer will find nobody.
void network_stream::reset(call &one) { calls_.drop(one); }

void network_stream::dropped(call &one) noexcept { calls_.drop(one); }

void network_stream::on_answer(std::uint64_t id, const abi::header *headers, std::size_t count,
                               const abi::buffer *chunks, std::size_t chunk_count) {
  const hook here(*this, true);
  call *one = calls_.find(id);
  if (one == nullptr) {
    return;
  }
  if (count == 0) {
    calls_.drop(*one);
    one->on_reset(abi::stream_reset_reason::remote_reset);
    return;
  }
  one->on_headers(copy_fields(headers, count), chunk_count == 0);
  for (std::size_t i = 0; i < chunk_count; ++i) {
    if ((one = calls_.find(id)) != nullptr) {
      one->on_data(abi::view(chunks[i]), i + 1 == chunk_count);
    }
  }
  if ((one = calls_.find(id)) != nullptr) {
    calls_.drop(*one);
    one->on_complete();
  }
}

// ---- What plugins ask for --------------------------------------------------------------------------------------------

// A connection has no headers.
status network_stream::get_header(proxywasm::map, std::string_view, std::string_view &) { return status::bad_argument; }
status network_stream::get_headers(proxywasm::map, proxywasm_pair *, std::size_t, std::size_t &) {
  return status::bad_argument;
}
status network_stream::add_header(proxywasm::map, std::string_view, std::string_view) { return status::bad_argument; }
status network_stream::replace_header(proxywasm::map, std::string_view, std::string_view) {
  return status::bad_argument;
}
status network_stream::remove_header(proxywasm::map, std::string_view) { return status::bad_argument; }

status network_stream::get_property(std::string_view path, std::string &room, std::string_view &value) {
  return filter_ == nullptr ? status::not_found : get_network_property(filter_, path, room, value);
}

status network_stream::set_property(std::string_view path, std::string_view value) {
  return filter_ == nullptr ? status::unimplemented : set_network_property(filter_, path, value);
}

status network_stream::call_foreign_function(std::string_view name, std::string_view argument) {
  return call_network_function(filter_, name, argument);
}

status network_stream::send_local_response(const proxywasm_local_response &) {
  return status::unimplemented;  // the library asks HTTP streams only
}

}  // namespace proxywasm_envoy
