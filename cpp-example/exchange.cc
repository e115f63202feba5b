// SPDX-License-Identifier: Apache-2.0
#include "exchange.h"

#include <algorithm>

#include "connection.h"
#include "event_loop.h"
#include "grpc_wire.h"

using proxywasm::direction;
using proxywasm::view;

namespace {

// "http://host/path" to authority and path; anything else is a path already.
void split_target(const std::string &target, std::string &authority, std::string &path) {
  path = target;
  http_parser_url url;
  http_parser_url_init(&url);
  if (target.empty() || target.front() == '/' || http_parser_parse_url(target.data(), target.size(), 0, &url) != 0 ||
      (url.field_set & (1 << UF_HOST)) == 0) {
    return;
  }
  const auto &host = url.field_data[UF_HOST];
  const std::size_t end = target.find_first_of("/?#", host.off);
  authority = target.substr(host.off, end == std::string::npos ? end : end - host.off);
  path = end == std::string::npos ? "/" : target.substr(end);
  if (path.front() != '/') {
    path.insert(0, 1, '/');
  }
}

// As gRPC's clients understand it: a response without a body whose trailers are among its headers.
local_response to_grpc(local_response local) {
  const auto status = local.grpc_status >= 0 ? static_cast<grpc_status>(local.grpc_status)
                                             : from_http_status(std::to_string(local.status));
  header_map headers;
  headers.add("content-type", "application/grpc");
  headers.add("grpc-status", std::to_string(static_cast<std::uint32_t>(status)));
  if (!local.body.empty()) {
    headers.add("grpc-message", encode_grpc_message(local.body));
  }
  for (const header_field &field : local.headers) {
    if (headers.count(field.name) == 0) {
      headers.add(field.name, field.value);
    }
  }
  local.status = 200;
  local.headers = std::move(headers);
  local.body.clear();
  return local;
}

}  // namespace

exchange::exchange(event_loop &loop, connection &client) : loop_(loop), client_(client), start_ns_(now_realtime_ns()) {
  const message_head &head = client.reader().head();
  http10_ = head.minor_version == 0;
  protocol_ = http10_ ? "HTTP/1.0" : "HTTP/1.1";
  is_head_ = head.method == "HEAD";
  const std::string *type = head.fields.find("content-type");
  is_grpc_ = type != nullptr && is_grpc_content(*type);
  keep_alive_ = head.keep_alive;

  const std::string *host = head.fields.find("host");
  std::string authority = host == nullptr ? std::string() : *host;
  std::string path;
  split_target(head.target, authority, path);
  // As plugins know it from Envoy: pseudo headers first, and nothing that concerns this connection only.
  request_.headers.add(":method", head.method);
  request_.headers.add(":path", path);
  request_.headers.add(":authority", authority);
  request_.headers.add(":scheme", "http");
  header_map fields = head.fields;
  remove_hop_by_hop(fields);
  for (const header_field &field : fields) {
    if (field.name == "expect") {
      expect_continue_ = !http10_ && equal_ignoring_case(field.value, "100-continue");
    } else if (field.name != "host") {
      request_.headers.add(field.name, field.value);
    }
  }

  stream_.emplace(loop.chain(), proxywasm::stream_kind::http, static_cast<plugin_stream *>(this));
  request_.shown = true;
  request_.shown_end = head.body == framing::none;
  apply(direction::request, stream_->on_headers(direction::request, request_.headers.size(), request_.shown_end));
}

// Plugins log while what they may ask for is still there.
exchange::~exchange() { stream_->complete(); }

void exchange::advance() {
  bool moved = true;
  while (moved && !over()) {
    moved = do_noted() || feed_request() || feed_response();
  }
}

// ---- What plugins ask for, and how it is done -------------------------------------------------------------------------

header_map *exchange::find_map(proxywasm::map which) {
  switch (which) {
    case proxywasm::map::request_headers:
      return &request_.headers;
    case proxywasm::map::request_trailers:
      return &request_.trailers;
    case proxywasm::map::response_headers:
      return response_.shown ? &response_.headers : nullptr;
    case proxywasm::map::response_trailers:
      return response_.shown ? &response_.trailers : nullptr;
  }
  return nullptr;
}

bool exchange::can_change(proxywasm::map which) const {
  switch (which) {
    case proxywasm::map::request_headers:
      return !request_.head_sent;
    case proxywasm::map::request_trailers:
      return !request_.end_sent;
    case proxywasm::map::response_headers:
      return !response_.head_sent;
    case proxywasm::map::response_trailers:
      return !response_.end_sent;
  }
  return false;
}

bool exchange::find_property(std::string_view path, std::string &value) const {
  stream_facts facts;
  facts.request_headers = &request_.headers;
  facts.response_headers = response_.shown ? &response_.headers : nullptr;
  facts.response_trailers = response_.shown ? &response_.trailers : nullptr;
  facts.protocol = protocol_;
  facts.source_address = client_.peer_address();
  facts.destination_address = client_.local_address();
  facts.upstream_address =
      request_.head_sent ? std::string_view(loop_.options().http->upstream.text) : std::string_view();
  facts.upstream_local_address = upstream_local_;
  facts.start_ns = start_ns_;
  facts.duration_ns = now_realtime_ns() - start_ns_;
  facts.request_size = request_.size;
  facts.response_size = response_.size;
  facts.code_details = details_;
  facts.response_flags = flags_;
  if (answered_at_ > asked_at_) {
    facts.backend_latency_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(answered_at_ - asked_at_).count());
  }
  facts.connection_id = client_.id();
  return ::find_property(facts, path, value);
}

proxywasm::status exchange::on_local_response(const proxywasm_local_response &response) {
  local_response local;
  local.status = response.status;
  local.grpc_status = response.grpc_status;
  local.details = view(response.details);
  local.body = view(response.body);
  for (const proxywasm_pair &pair : proxywasm::array_view<proxywasm_pair>(response.headers, response.header_count)) {
    if (is_valid_field(view(pair.name), view(pair.value))) {
      local.headers.add(view(pair.name), view(pair.value));
    }
  }
  local_ = std::move(local);
  client_.schedule();
  return proxywasm::status::ok;
}

void exchange::on_resume(direction way) {
  side_of(way).resume_noted = true;
  client_.schedule();
}

void exchange::on_close(proxywasm::stream_type) {
  close_noted_ = true;
  client_.schedule();
}

bool exchange::do_noted() {
  if (close_noted_) {
    abort("a plugin closed the stream");
    return true;
  }
  if (local_) {
    local_response response = std::move(*local_);
    local_.reset();
    answer_locally(std::move(response));
    return true;
  }
  for (const direction way : {direction::request, direction::response}) {
    side &one = side_of(way);
    if (one.resume_noted) {
      one.resume_noted = false;
      apply(way, stream_->resume(way));
      return true;
    }
  }
  return false;
}

void exchange::answer_locally(local_response local) {
  upstream_.reset();
  discarding_ = answered_ = true;
  request_.waiting = false;
  if (response_.head_sent) {
    return abort("too late for a local response");
  }
  if (is_grpc_) {
    local = to_grpc(std::move(local));
  }
  // Plugins that have seen the upstream's response do not see the one that replaces it, as in Envoy.
  const bool show = !response_.shown;
  details_ = local.details;
  response_.headers.clear();
  response_.trailers.clear();
  response_.headers.add(":status", std::to_string(local.status));
  response_.headers.add("content-length", std::to_string(local.body.size()));
  if (!local.body.empty() && local.headers.count("content-type") == 0) {
    response_.headers.add("content-type", "text/plain");
  }
  for (const header_field &field : local.headers) {
    if (field.name != "content-length" && field.name.front() != ':') {
      response_.headers.add(field.name, field.value);
    }
  }
  response_.size = local.body.size();
  response_.received = response_.shown = response_.shown_end = true;
  if (show) {
    const bool empty = local.body.empty();
    apply(direction::response, stream_->on_headers(direction::response, response_.headers.size(), empty));
    // The plugins may have put something else in its place.
    if (!empty && !local_ && !close_noted_ && !over()) {
      apply(direction::response, stream_->on_body(direction::response, local.body, true));
    }
  } else {
    response_.waiting = false;
    discard_request();
    const bool keep = keep_alive_ && request_.received && !loop_.stopping();
    keep_alive_ = keep;
    response_.writer.head(client_.output(), "HTTP/1.1 " + status_line_text(local.status), response_.headers,
                          is_head_ ? framing::none : framing::length, local.body.size(), !keep);
    (void)response_.writer.body(client_.output(), local.body);
    response_.head_sent = response_.end_sent = true;
  }
}

void exchange::fail(unsigned status, std::string details) {
  if (!local_ && !over()) {
    local_response local;
    local.status = status;
    local.body = details + "\n";
    local.details = std::move(details);
    std::replace(local.details.begin(), local.details.end(), ' ', '_');
    local_ = std::move(local);
  }
}

void exchange::abort(const char *why) {
  if (!over()) {
    loop_.log(proxywasm::log_level::debug, "proxy", std::string("exchange aborted: ") + why);
    aborted_ = true;
  }
}

// ---- From the client --------------------------------------------------------------------------------------------------

bool exchange::feed_request() {
  if (request_.received) {
    return false;
  }
  if (discarding_) {
    return discard_request();
  }
  if (request_.paused || (upstream_ && !upstream_->has_room())) {
    return false;
  }
  if (expect_continue_ && !response_.head_sent) {
    // The plugins want the body, so the client may send it.
    constexpr std::string_view proceed = "HTTP/1.1 100 Continue\r\n\r\n";
    evbuffer_add(client_.output(), proceed.data(), proceed.size());
  }
  expect_continue_ = false;
  switch (client_.read_request()) {
    case message_reader::event::data:
      feed_message(direction::request, client_.reader());
      return true;
    case message_reader::event::failed:
      keep_alive_ = false;
      discarding_ = true;
      if (response_.shown) {
        abort("bad request body");
      }
      fail(400, client_.reader().error());
      return true;
    default:
      return false;
  }
}

bool exchange::discard_request() {
  while (!request_.received) {
    const message_reader::event event = client_.read_request();
    if (event != message_reader::event::data) {
      return false;
    }
    request_.received = client_.reader().ended();
  }
  return true;
}

// Shows a piece of a message to the plugins: body and, at its end, trailers.
void exchange::feed_message(direction way, message_reader &reader) {
  side &from = side_of(way);
  from.received = reader.ended();
  if (from.shown_end) {
    return;  // there is no body, and the plugins know
  }
  for (const proxywasm_chunk &chunk : reader.chunks()) {
    from.size += chunk.len;
  }
  const bool has_trailers = from.received && !reader.trailers().empty();
  const bool end = from.received && !has_trailers;
  from.shown_end = from.received;
  if (end || !reader.chunks().empty()) {
    apply(way, stream_->on_body(way, reader.chunks(), end));
  }
  if (has_trailers && !local_ && !close_noted_ && !over()) {
    from.trailers = reader.trailers();
    remove_hop_by_hop(from.trailers);
    apply(way, stream_->on_trailers(way, from.trailers.size()));
  }
}

// ---- From the upstream ------------------------------------------------------------------------------------------------

void exchange::on_client_event() { client_.pump(); }

bool exchange::feed_response() {
  if (!upstream_ || response_.received || response_.paused || !client_.has_room()) {
    return false;
  }
  if (upstream_local_.empty()) {
    upstream_local_ = upstream_->local_address();
  }
  switch (upstream_->next()) {
    case message_reader::event::starved:
      return false;
    case message_reader::event::failed:
      upstream_failed();
      return true;
    case message_reader::event::head:
      take_response_head();
      return true;
    case message_reader::event::data:
      break;
  }
  if (upstream_->reader().head().status < 200) {
    // 100 and its like end here: this proxy has told the client to go on already.
    upstream_->reader().begin_next();
    if (is_head_) {
      upstream_->reader().expect_no_body();
    }
    return true;
  }
  answered_at_ = std::chrono::steady_clock::now();
  feed_message(direction::response, upstream_->reader());
  if (response_.received) {
    upstream_.reset();
    discarding_ = true;  // the upstream has answered; it reads no further
  }
  return true;
}

void exchange::take_response_head() {
  const message_head &head = upstream_->reader().head();
  if (head.status == 101) {
    return fail(502, "the upstream switched protocols");
  }
  if (head.status < 200) {
    return;
  }
  answered_at_ = std::chrono::steady_clock::now();
  details_ = "via_upstream";
  header_map fields = head.fields;
  remove_hop_by_hop(fields);
  response_.headers.add(":status", std::to_string(head.status));
  for (const header_field &field : fields) {
    response_.headers.add(field.name, field.value);
  }
  response_.shown = true;
  response_.shown_end = head.body == framing::none;
  apply(direction::response, stream_->on_headers(direction::response, response_.headers.size(), response_.shown_end));
}

void exchange::upstream_failed() {
  const bool refused = !upstream_->connected();
  const std::string why = refused ? "upstream connect error" : "upstream failed: " + upstream_->reader().error();
  loop_.log(proxywasm::log_level::warn, "proxy", why);
  upstream_.reset();
  flags_ |= refused ? upstream_connection_failure : upstream_connection_termination;
  if (response_.head_sent) {
    cut_short_ = response_.writer.body_framing() != framing::until_close;
    return abort("the upstream failed in the middle of a response");
  }
  fail(refused ? 503 : 502, refused ? why : "upstream failed");
}

// ---- Time -------------------------------------------------------------------------------------------------------------

std::chrono::milliseconds exchange::patience() const {
  std::chrono::milliseconds left = loop_.options().idle_timeout;
  for (const side *one : {&request_, &response_}) {
    if (one->waiting) {
      left = std::min(left, time_left(one->waiting_since, loop_.options().pause_timeout));
    }
  }
  return left;
}

void exchange::on_impatience() {
  if (response_.head_sent) {
    abort("timeout in the middle of a response");
  } else if (request_.waiting || response_.waiting) {
    loop_.log(proxywasm::log_level::warn, "proxy", "a plugin paused for too long");
    fail(504, "plugin timeout");
  } else if (request_.end_sent) {
    flags_ |= upstream_request_timeout;
    fail(504, "upstream timeout");
  } else {
    fail(408, "request timeout");
  }
}
