// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 on the wire: reading messages with http_parser, writing them with the right framing.

#pragma once

#include <event2/buffer.h>
#include <http_parser.h>
#include <proxywasm.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "header_map.h"

// How the end of a body is found.
enum class framing { none, length, chunked, until_close };

// The first part of a message, as it came.
struct message_head {
  std::string method;   // request
  std::string target;   // request
  unsigned status = 0;  // response
  unsigned minor_version = 1;
  header_map fields;  // names in lower case, repeated ones kept
  framing body = framing::none;
  bool keep_alive = true;
};

// Reads one message after the other from a buffer, in steps: the caller decides when to go on, so nothing is ever delivered to
// an object that is about to end, and not reading is all there is to back pressure.
class message_reader {
 public:
  explicit message_reader(http_parser_type type);
  message_reader(const message_reader &) = delete;
  message_reader &operator=(const message_reader &) = delete;

  enum class event {
    starved,  // more bytes are needed
    head,     // `head()` is complete
    data,     // `chunks()` have come, possibly none; `ended()` says whether the message is complete with them
    failed,   // `error()` says why; nothing can be read any more
  };

  // Goes on by one step. `eof`: no more bytes will be added to `input`.
  event next(evbuffer *input, bool eof);

  const message_head &head() const { return head_; }
  // Borrowed from the buffer until `next` is called again.
  proxywasm::array_view<proxywasm_chunk> chunks() const { return {chunks_.data(), chunks_.size()}; }
  bool ended() const { return ended_; }
  header_map &trailers() { return trailers_; }
  const std::string &error() const { return error_; }
  // The status to answer a request with that could not be read.
  unsigned error_status() const { return error_status_; }

  // The response to come is one to HEAD.
  void expect_no_body() { no_body_ = true; }
  // After `ended`: a further message may come.
  void begin_next();

 private:
  event fail(unsigned status, std::string text);
  event parse(evbuffer *input, std::string_view bytes);
  bool check_head();
  void add_field();

  static int on_url(http_parser *parser, const char *at, size_t length);
  static int on_header_name(http_parser *parser, const char *at, size_t length);
  static int on_header_value(http_parser *parser, const char *at, size_t length);
  static int on_head(http_parser *parser);
  static int on_body(http_parser *parser, const char *at, size_t length);
  static int on_end(http_parser *parser);
  static http_parser_settings settings();

  http_parser_type type_;
  http_parser parser_{};
  message_head head_;
  header_map trailers_;
  std::vector<proxywasm_chunk> chunks_;
  std::string name_, value_, error_;
  unsigned error_status_ = 400;
  std::size_t borrowed_ = 0;  // bytes at the front of the buffer that `chunks_` points into
  bool in_value_ = false;
  bool head_done_ = false;
  bool head_told_ = false;
  bool ended_ = false;
  bool no_body_ = false;
  bool malformed_ = false;
  char last_byte_ = 0;
};

// Writes one message and sees to it that the bytes of the body agree with what the head promised.
class message_writer {
 public:
  // Writes the start line, `fields` without pseudo headers and without what belongs to the framing, and the framing's own.
  // `length` counts with framing::length only.
  void head(evbuffer *out, std::string_view start_line, const header_map &fields, framing body, std::uint64_t length,
            bool close);
  // False when the body would grow longer than promised; nothing is written then.
  bool body(evbuffer *out, std::string_view bytes);
  // Ends the message. False when the body is shorter than promised. Only chunked messages can have trailers.
  bool end(evbuffer *out, const header_map *trailers);
  framing body_framing() const { return body_; }

 private:
  framing body_ = framing::none;
  std::uint64_t left_ = 0;
};

// A content-length; false unless it is digits only and fits.
bool parse_length(std::string_view text, std::uint64_t &length);

// Removes what concerns one connection only: connection and what it names, transfer-encoding, upgrade and the like.
void remove_hop_by_hop(header_map &fields);

// "404 Not Found"
std::string status_line_text(unsigned status);
