// SPDX-License-Identifier: Apache-2.0
#include "http1.h"

#include <algorithm>
#include <charconv>

namespace {

// Bytes that are given to the parser in one step: bounds what a plugin is shown at once.
constexpr std::size_t step_size = 64 * 1024;

message_reader &self(http_parser *parser) { return *static_cast<message_reader *>(parser->data); }

}  // namespace

message_reader::message_reader(http_parser_type type) : type_(type) { begin_next(); }

void message_reader::begin_next() {
  http_parser_init(&parser_, type_);
  parser_.data = this;
  head_ = {};
  trailers_.clear();
  chunks_.clear();
  name_.clear();
  value_.clear();
  in_value_ = head_done_ = head_told_ = ended_ = no_body_ = malformed_ = false;
  last_byte_ = 0;
}

message_reader::event message_reader::fail(unsigned status, std::string text) {
  error_status_ = status;
  error_ = std::move(text);
  return event::failed;
}

message_reader::event message_reader::next(evbuffer *input, bool eof) {
  evbuffer_drain(input, borrowed_);
  borrowed_ = 0;
  chunks_.clear();
  if (!error_.empty()) {
    return event::failed;
  }
  for (;;) {
    // The first block of the buffer is contiguous already, so nothing is moved here.
    const std::size_t size = std::min(evbuffer_get_contiguous_space(input), step_size);
    if (size > 0) {
      const auto *data = reinterpret_cast<const char *>(evbuffer_pullup(input, static_cast<ev_ssize_t>(size)));
      const event result = parse(input, {data, size});
      if (result != event::starved) {
        return result;
      }
    } else if (eof && !ended_) {
      // With no length and no chunks the end of the connection is the end of the body; anywhere else it is too early.
      http_parser_pause(&parser_, 0);
      const http_parser_settings callbacks = settings();
      http_parser_execute(&parser_, &callbacks, nullptr, 0);
      return ended_ ? event::data : fail(400, "the connection ended inside a message");
    } else {
      return event::starved;
    }
  }
}

message_reader::event message_reader::parse(evbuffer *input, std::string_view bytes) {
  const bool in_head = !head_done_;
  http_parser_pause(&parser_, 0);
  const http_parser_settings callbacks = settings();
  const std::size_t used = http_parser_execute(&parser_, &callbacks, bytes.data(), bytes.size());
  const http_errno error = HTTP_PARSER_ERRNO(&parser_);
  if (error != HPE_OK && error != HPE_PAUSED) {
    const unsigned status = error == HPE_HEADER_OVERFLOW   ? 431
                            : error == HPE_INVALID_METHOD  ? 501
                            : error == HPE_INVALID_VERSION ? 505
                                                           : 400;
    return fail(status, http_errno_description(error));
  }
  if (malformed_) {
    return fail(400, "malformed header field");
  }
  if (in_head) {
    // The parser joins folded lines. RFC 9112 lets a server refuse them, and proxies that disagree about them are a way to
    // smuggle requests.
    for (std::size_t i = 0; i < used; ++i) {
      if ((bytes[i] == ' ' || bytes[i] == '\t') && (i == 0 ? last_byte_ : bytes[i - 1]) == '\n') {
        return fail(400, "folded header line");
      }
    }
    last_byte_ = used > 0 ? bytes[used - 1] : last_byte_;
  }
  if (head_done_ && !head_told_) {
    head_told_ = true;
    evbuffer_drain(input, used);
    return check_head() ? event::head : event::failed;
  }
  if (chunks_.empty()) {
    evbuffer_drain(input, used);
  } else {
    borrowed_ = used;
  }
  return chunks_.empty() && !ended_ ? event::starved : event::data;
}

bool message_reader::check_head() {
  const std::string *encoding = head_.fields.find("transfer-encoding");
  if (encoding != nullptr) {
    // The parser has refused a content-length beside it. Of codings only plain chunked is understood, and exactly one.
    if (head_.fields.count("transfer-encoding") != 1 || !equal_ignoring_case(*encoding, "chunked")) {
      fail(501, "transfer-encoding other than chunked");
      return false;
    }
    if (head_.minor_version == 0) {
      fail(400, "transfer-encoding in HTTP/1.0");
      return false;
    }
  }
  if (type_ == HTTP_REQUEST) {
    const std::size_t hosts = head_.fields.count("host");
    if (hosts > 1 || (hosts == 0 && head_.minor_version >= 1)) {
      fail(400, hosts == 0 ? "no host header" : "more than one host header");
      return false;
    }
  }
  return true;
}

void message_reader::add_field() {
  if (in_value_) {
    // The parser lets pass what no other proxy should read as a field, such as a space before the colon.
    malformed_ = malformed_ || name_.front() == ':' || !is_valid_field(name_, trim(value_));
    (head_done_ ? trailers_ : head_.fields).add(name_, trim(value_));
    name_.clear();
    value_.clear();
    in_value_ = false;
  }
}

int message_reader::on_url(http_parser *parser, const char *at, size_t length) {
  self(parser).head_.target.append(at, length);
  return 0;
}

int message_reader::on_header_name(http_parser *parser, const char *at, size_t length) {
  message_reader &reader = self(parser);
  reader.add_field();
  reader.name_.append(at, length);
  return 0;
}

int message_reader::on_header_value(http_parser *parser, const char *at, size_t length) {
  message_reader &reader = self(parser);
  reader.in_value_ = true;
  reader.value_.append(at, length);
  return 0;
}

int message_reader::on_head(http_parser *parser) {
  message_reader &reader = self(parser);
  reader.add_field();
  reader.head_done_ = true;
  message_head &head = reader.head_;
  head.minor_version = parser->http_minor;
  head.keep_alive = http_should_keep_alive(parser) != 0;
  bool no_body = reader.no_body_;
  if (reader.type_ == HTTP_REQUEST) {
    head.method = http_method_str(static_cast<http_method>(parser->method));
  } else {
    head.status = parser->status_code;
    no_body = no_body || head.status < 200 || head.status == 204 || head.status == 304;
  }
  const bool length_given = (parser->flags & F_CONTENTLENGTH) != 0;
  if (no_body) {
    head.body = framing::none;
  } else if ((parser->flags & F_CHUNKED) != 0) {
    head.body = framing::chunked;
  } else if (length_given) {
    head.body = parser->content_length > 0 ? framing::length : framing::none;
  } else {
    head.body = reader.type_ == HTTP_REQUEST ? framing::none : framing::until_close;
  }
  // This proxy switches to no other protocol, so what follows is HTTP whatever the message asks for.
  parser->upgrade = 0;
  http_parser_pause(parser, 1);
  return no_body ? 1 : 0;
}

int message_reader::on_body(http_parser *parser, const char *at, size_t length) {
  self(parser).chunks_.push_back(proxywasm::to_chunk({at, length}));
  return 0;
}

int message_reader::on_end(http_parser *parser) {
  message_reader &reader = self(parser);
  reader.add_field();
  reader.ended_ = true;
  // What follows belongs to the next message.
  http_parser_pause(parser, 1);
  return 0;
}

http_parser_settings message_reader::settings() {
  http_parser_settings settings;
  http_parser_settings_init(&settings);
  settings.on_url = on_url;
  settings.on_header_field = on_header_name;
  settings.on_header_value = on_header_value;
  settings.on_headers_complete = on_head;
  settings.on_body = on_body;
  settings.on_message_complete = on_end;
  return settings;
}

namespace {

void add(evbuffer *out, std::string_view text) { evbuffer_add(out, text.data(), text.size()); }

void add_fields(evbuffer *out, const header_map &fields) {
  for (const header_field &field : fields) {
    if (field.name.front() == ':') {
      continue;
    }
    add(out, field.name);
    add(out, ": ");
    add(out, field.value);
    add(out, "\r\n");
  }
}

}  // namespace

void message_writer::head(evbuffer *out, std::string_view start_line, const header_map &fields, framing body,
                          std::uint64_t length, bool close) {
  body_ = body;
  left_ = length;
  header_map own = fields;
  remove_hop_by_hop(own);
  if (body == framing::length) {
    own.replace("content-length", std::to_string(length));
  } else if (body != framing::none) {
    own.remove("content-length");
  }
  add(out, start_line);
  add(out, "\r\n");
  add_fields(out, own);
  if (body == framing::chunked) {
    add(out, "transfer-encoding: chunked\r\n");
  }
  add(out, close ? "connection: close\r\n\r\n" : "\r\n");
}

bool message_writer::body(evbuffer *out, std::string_view bytes) {
  if (bytes.empty()) {
    return true;  // an empty chunk would be the last one
  }
  switch (body_) {
    case framing::none:
      return true;  // HEAD, 204, 304: there is a body, but not on the wire
    case framing::length:
      if (bytes.size() > left_) {
        return false;
      }
      left_ -= bytes.size();
      add(out, bytes);
      return true;
    case framing::chunked:
      evbuffer_add_printf(out, "%zx\r\n", bytes.size());
      add(out, bytes);
      add(out, "\r\n");
      return true;
    case framing::until_close:
      add(out, bytes);
      return true;
  }
  return false;
}

bool message_writer::end(evbuffer *out, const header_map *trailers) {
  if (body_ == framing::chunked) {
    add(out, "0\r\n");
    if (trailers != nullptr) {
      add_fields(out, *trailers);
    }
    add(out, "\r\n");
  }
  return body_ != framing::length || left_ == 0;
}

bool parse_length(std::string_view text, std::uint64_t &length) {
  const char *end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, length);
  return !text.empty() && error == std::errc() && stop == end;
}

void remove_hop_by_hop(header_map &fields) {
  std::vector<std::string> names = {"keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"};
  for (const header_field &field : fields) {
    if (field.name != "connection") {
      continue;
    }
    std::string_view rest = field.value;
    while (!rest.empty()) {
      const std::size_t comma = rest.find(',');
      const std::string_view name = trim(rest.substr(0, comma));
      // Connection must not take away what routing and framing rest on.
      if (!name.empty() && name.front() != ':' && !equal_ignoring_case(name, "host") &&
          !equal_ignoring_case(name, "content-length")) {
        names.emplace_back(name);
      }
      rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    }
  }
  fields.remove("connection");
  for (const std::string &name : names) {
    fields.remove(name);
  }
}

std::string status_line_text(unsigned status) {
  const std::string reason = http_status_str(static_cast<http_status>(status));
  return std::to_string(status) + " " + (reason == "<unknown>" ? "Unknown" : reason);
}
