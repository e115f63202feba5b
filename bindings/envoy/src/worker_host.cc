// SPDX-License-Identifier: Apache-2.0
// The hostcalls of a worker.

#include <optional>

#include "foreign.h"
#include "grpc_callout.h"
#include "grpc_target.h"
#include "header_map.h"
#include "log.h"
#include "module_config.h"
#include "process.h"
#include "worker.h"

namespace proxywasm_envoy {

using proxywasm::status;
using proxywasm::view;

namespace {

plugin_stream *to_stream(void *stream) { return static_cast<plugin_stream *>(stream); }

bool are_valid(const proxywasm_pair *pairs, std::size_t count) {
  for (const proxywasm_pair &pair : proxywasm::array_view<proxywasm_pair>(pairs, count)) {
    if (!is_valid_field(view(pair.name), view(pair.value))) {
      return false;
    }
  }
  return true;
}

}  // namespace

// ---- Logs ------------------------------------------------------------------------------------------------------------

void worker::log(void *, const proxywasm_log_record &record) { log_record(record, text_); }

proxywasm::log_level worker::minimum_log_level() {
  using proxywasm::log_level;
  for (const log_level level :
       {log_level::trace, log_level::debug, log_level::info, log_level::warn, log_level::error}) {
    if (is_logged(level)) {
      return level;
    }
  }
  return log_level::critical;
}

// ---- Streams ---------------------------------------------------------------------------------------------------------

status worker::get_header(void *stream, proxywasm::map which, std::string_view name, std::string_view &value) {
  plugin_stream *one = reach(stream);
  return one == nullptr ? status::bad_argument : one->get_header(which, name, value);
}

status worker::add_header(void *stream, proxywasm::map which, std::string_view name, std::string_view value) {
  plugin_stream *one = reach(stream);
  return one == nullptr ? status::bad_argument : one->add_header(which, name, value);
}

status worker::replace_header(void *stream, proxywasm::map which, std::string_view name, std::string_view value) {
  plugin_stream *one = reach(stream);
  return one == nullptr ? status::bad_argument : one->replace_header(which, name, value);
}

status worker::remove_header(void *stream, proxywasm::map which, std::string_view name) {
  plugin_stream *one = reach(stream);
  return one == nullptr ? status::bad_argument : one->remove_header(which, name);
}

status worker::get_property(void *stream, std::string_view path, std::string_view &value) {
  plugin_stream *one = reach(stream);
  return one == nullptr ? status::not_found : one->get_property(path, property_, value);
}

status worker::set_property(void *stream, std::string_view path, std::string_view value) {
  plugin_stream *one = reach(stream);
  return one == nullptr ? status::unimplemented : one->set_property(path, value);
}

status worker::send_local_response(void *stream, const proxywasm_local_response &response) {
  plugin_stream *one = reach(stream);
  return one == nullptr ? status::bad_argument : one->send_local_response(response);
}

void worker::resume_stream(void *stream, proxywasm::direction way) {
  if (stream != nullptr) {
    to_stream(stream)->resume(way);
  }
}

void worker::close_stream(void *stream, proxywasm::stream_type which) {
  if (stream != nullptr) {
    to_stream(stream)->close(which);
  }
}

status worker::call_foreign_function(void *stream, std::string_view name, std::string_view argument,
                                     std::string_view &result) {
  property_.clear();
  if (const std::optional<status> pure = call_pure_function(name, argument, property_)) {
    result = property_;
    return *pure;
  }
  plugin_stream *one = reach(stream);
  return one == nullptr ? call_http_function(nullptr, name, argument) : one->call_foreign_function(name, argument);
}

// ---- Calls -----------------------------------------------------------------------------------------------------------

status worker::http_call(void *stream, proxywasm_token token, const proxywasm_http_request &request) {
  if (!are_valid(request.headers, request.header_count) || !are_valid(request.trailers, request.trailer_count)) {
    return status::bad_argument;
  }
  return new_call(stream, std::make_unique<http_callout>(*this, token, to_call_request(request)), status::bad_argument);
}

void worker::cancel_call(proxywasm_token token) {
  const busy_while here(*this);
  if (const std::unique_ptr<call> one = take_call(token)) {
    abandon(*one);
  }
}

status worker::new_grpc_call(void *stream, proxywasm_token token, const proxywasm_grpc_request &request,
                             grpc_callout::kind kind) {
  // A plain name of a cluster is no GrpcService, and hardly ever looks like one.
  std::optional<grpc_target> target = parse_grpc_service(view(request.upstream));
  if (!target) {
    target = grpc_target{std::string(view(request.upstream)), "", {}};
  }
  std::optional<call_request> made = to_call_request(*target, request, kind);
  if (!made) {
    return status::internal_failure;
  }
  return new_call(stream, std::make_unique<grpc_callout>(*this, token, std::move(*made), kind), status::parse_failure);
}

status worker::grpc_call(void *stream, proxywasm_token token, const proxywasm_grpc_request &request) {
  return new_grpc_call(stream, token, request, grpc_callout::kind::unary);
}

status worker::grpc_stream(void *stream, proxywasm_token token, const proxywasm_grpc_request &request) {
  return new_grpc_call(stream, token, request, grpc_callout::kind::stream);
}

status worker::grpc_send(proxywasm_token token, std::string_view message, bool end_of_stream) {
  const busy_while here(*this);
  auto *one = static_cast<grpc_callout *>(find_call(token));
  return one == nullptr ? status::not_found : one->send_message(message, end_of_stream);
}

status worker::grpc_close(proxywasm_token token) {
  const busy_while here(*this);
  auto *one = static_cast<grpc_callout *>(find_call(token));
  return one == nullptr ? status::not_found : one->half_close();
}

// ---- Metrics ---------------------------------------------------------------------------------------------------------

status worker::define_metric(proxywasm::metric_type type, std::string_view name, std::uint32_t &id) {
  metric &one = owner_.metrics().find(type, name);
  if (metrics_.size() <= one.index) {
    metrics_.resize(one.index + 1);
  }
  metrics_[one.index] = &one;
  if (acting_ != nullptr) {
    acting_->metrics().define(one);  // while it is made
  }
  id = one.index + 1;
  return status::ok;
}

metric *worker::find_metric(std::uint32_t id) noexcept {
  return id == 0 || id > metrics_.size() ? nullptr : metrics_[id - 1];
}

status worker::increment_metric(std::uint32_t id, std::int64_t delta) {
  metric *one = find_metric(id);
  if (one == nullptr) {
    return status::not_found;
  }
  if (one->type == proxywasm::metric_type::histogram || (one->type == proxywasm::metric_type::counter && delta <= 0)) {
    return status::bad_argument;
  }
  one->value.fetch_add(static_cast<std::uint64_t>(delta), std::memory_order_relaxed);
  if (acting_ != nullptr) {
    acting_->metrics().add(*one, delta);
  }
  return status::ok;
}

status worker::record_metric(std::uint32_t id, std::uint64_t value) {
  metric *one = find_metric(id);
  if (one == nullptr) {
    return status::not_found;
  }
  if (one->type == proxywasm::metric_type::counter) {
    one->value.fetch_add(value, std::memory_order_relaxed);
  } else {
    one->value.store(value, std::memory_order_relaxed);
  }
  if (acting_ != nullptr) {
    acting_->metrics().record(*one, value);
  }
  return status::ok;
}

status worker::get_metric(std::uint32_t id, std::uint64_t &value) {
  const metric *one = find_metric(id);
  if (one == nullptr) {
    return status::not_found;
  }
  if (one->type == proxywasm::metric_type::histogram) {
    return status::bad_argument;
  }
  value = one->value.load(std::memory_order_relaxed);
  return status::ok;
}

}  // namespace proxywasm_envoy
