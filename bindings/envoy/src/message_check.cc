// SPDX-License-Identifier: Apache-2.0
// Envoy sends what it has, so what plugins wrote is looked at before it goes on: bytes that would be lines of their own, a request
// line of four words, lengths that do not fit the body. Each pair is looked at when it is written; a map, only where one of them
// was suspect, since it may be gone again.

#include <algorithm>
#include <charconv>

#include "http_stream.h"
#include "log.h"

namespace proxywasm_envoy {

using proxywasm::direction;

namespace {

constexpr std::string_view length_name = "content-length";

std::optional<std::uint64_t> parse(std::optional<std::string_view> text) {
  std::uint64_t number = 0;
  if (!text || text->empty()) {
    return std::nullopt;
  }
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc() || end != text->data() + text->size()) {
    return std::nullopt;
  }
  return number;
}

void set(void *filter, abi::header_type type, std::string_view name, std::string_view value) {
  (void)abi::envoy_dynamic_module_callback_http_set_header(filter, type, abi::to_buffer(name), abi::to_buffer(value));
}

bool is_status(std::optional<std::uint64_t> code) { return code && *code >= 200 && *code <= 999; }

bool is_word(std::optional<std::string_view> text) {
  return text && !text->empty() && text->find_first_of(" \t") == std::string_view::npos;
}

}  // namespace

bool http_stream::is_valid_map(proxywasm::map which) const {
  const auto type = static_cast<abi::header_type>(which);
  std::vector<abi::header> headers(abi::envoy_dynamic_module_callback_http_get_headers_size(filter_, type));
  if (headers.empty() || !abi::envoy_dynamic_module_callback_http_get_headers(filter_, type, headers.data())) {
    return true;
  }
  for (const abi::header &one : headers) {
    const std::string_view name(one.key_ptr, one.key_length);
    if (!is_valid_field(name, {one.value_ptr, one.value_length})) {
      return false;
    }
  }
  return true;
}

bool http_stream::may_pass(direction way, const proxywasm::outcome &outcome) {
  side &one = of(way);
  const bool is_request = way == direction::request;
  if (outcome.headers_ready()) {
    if (!may_pass_headers(way, outcome)) {
      return false;
    }
    one.headers.gone = true;
  }
  if (outcome.body_ready() || (outcome.end_of_stream() && one.body)) {
    one.sent += outcome.body_size();
    const bool fits = !one.promised || one.discard ||
                      (outcome.end_of_stream() ? one.sent == *one.promised : one.sent <= *one.promised);
    if (!fits) {
      // Better no message than a wrong one, which is a danger to all that follow on its connection.
      log_line(proxywasm::log_level::error, "proxywasm: the body is not as long as its content-length says");
      fail(502, "wasm_wrong_content_length");
      return false;
    }
  }
  if (outcome.trailers_ready()) {
    const auto map = is_request ? proxywasm::map::request_trailers : proxywasm::map::response_trailers;
    if (one.trailers.suspect && !is_valid_map(map)) {
      log_line(proxywasm::log_level::error, "proxywasm: a plugin wrote an invalid trailer");
      fail(502, "wasm_invalid_trailer");
      return false;
    }
    one.trailers.gone = true;
  }
  return true;
}

bool http_stream::may_pass_headers(direction way, const proxywasm::outcome &outcome) {
  side &one = of(way);
  const bool is_request = way == direction::request;
  const auto type = is_request ? abi::header_type::request_headers : abi::header_type::response_headers;
  const char *wrong = nullptr;
  if (one.headers.suspect) {
    if (!is_valid_map(static_cast<proxywasm::map>(type))) {
      wrong = "a plugin wrote an invalid header";
    } else if (is_request &&
               (!is_word(find_header(filter_, type, ":method")) || !is_word(find_header(filter_, type, ":path")) ||
                !find_header(filter_, type, ":authority"))) {
      wrong = "a plugin removed or spoiled what a request must have";
    }
  }
  if (wrong == nullptr && !is_request && one.headers.changed) {
    const std::optional<std::uint64_t> status = parse(find_header(filter_, type, ":status"));
    if (!is_status(status)) {
      wrong = "a plugin removed or spoiled the status of a response";
    } else if (*status == 204 || *status == 304) {
      one.discard = true;
    }
    if (one.discard && *status == 204) {
      set(filter_, type, length_name, {});
    }
  }
  if (wrong != nullptr) {
    log_line(proxywasm::log_level::error, std::string("proxywasm: ") + wrong);
    fail(is_request ? 503 : 502, "wasm_invalid_headers");
    return false;
  }
  if (!one.discard) {
    fit_length(way, outcome);
  }
  return true;
}

// Makes the length that the headers promise that of the body, where that is known, and notes it otherwise.
void http_stream::fit_length(direction way, const proxywasm::outcome &outcome) {
  side &one = of(way);
  const bool is_request = way == direction::request;
  if (one.ended && !one.body && !one.headers.suspect) {
    return;
  }
  const auto type = is_request ? abi::header_type::request_headers : abi::header_type::response_headers;
  const std::optional<std::string_view> text = find_header(filter_, type, length_name);
  if (!text) {
    return;
  }
  if (!is_request && find_header(filter_, abi::header_type::request_headers, ":method") == "HEAD") {
    return;
  }
  const std::optional<std::uint64_t> length = parse(text);
  const bool is_whole = outcome.end_of_stream() && !outcome.trailers_ready();
  if (is_whole && length != outcome.body_size()) {
    if (is_request && !one.body) {
      set(filter_, type, length_name, {});
    } else {
      set(filter_, type, length_name, std::to_string(outcome.body_size()));
      one.promised = outcome.body_size();
    }
  } else if (!length) {
    set(filter_, type, length_name, {});  // what is no number promises nothing
  } else {
    one.promised = length;
  }
}

bool http_stream::may_send(const reply &last) {
  const std::string *status = last.headers.find(":status");
  const bool valid = status != nullptr && is_status(parse(*status)) &&
                     std::all_of(last.headers.begin(), last.headers.end(),
                                 [](const header_field &field) { return is_valid_field(field.name, field.value); });
  if (!valid) {
    log_line(proxywasm::log_level::error, "proxywasm: a plugin spoiled the headers of a local response");
    fail(502, "wasm_invalid_headers");
  }
  return valid;
}

}  // namespace proxywasm_envoy
