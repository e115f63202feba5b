// SPDX-License-Identifier: Apache-2.0
#include "json_values.h"

#include <charconv>
#include <cmath>
#include <limits>

namespace proxywasm_envoy {

namespace {

using nlohmann::json;

constexpr std::uint64_t greatest = std::numeric_limits<std::uint64_t>::max();

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::optional<std::uint64_t> digits_to_number(std::string_view text) {
  std::uint64_t number = 0;
  const char *end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return all_digits(text) && error == std::errc() && stop == end ? std::optional<std::uint64_t>(number) : std::nullopt;
}

int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') {
    return c - 'A';
  }
  if (c >= 'a' && c <= 'z') {
    return c - 'a' + 26;
  }
  if (c >= '0' && c <= '9') {
    return c - '0' + 52;
  }
  if (c == '+' || c == '-') {
    return 62;
  }
  return c == '/' || c == '_' ? 63 : -1;
}

}  // namespace

std::optional<std::uint64_t> whole_number(const json &value) {
  if (const auto *text = value.get_ptr<const std::string *>()) {
    return digits_to_number(*text);
  }
  if (value.is_number_unsigned()) {
    return value.get<std::uint64_t>();
  }
  if (value.is_number_integer()) {
    return std::nullopt;
  }
  if (!value.is_number_float()) {
    return std::nullopt;
  }
  const double number = value.get<double>();
  // 2^64, as a double: the least that does not fit.
  constexpr double limit = 18446744073709551616.0;
  if (!(number >= 0) || number >= limit || number != std::floor(number)) {
    return std::nullopt;
  }
  return static_cast<std::uint64_t>(number);
}

std::optional<std::uint64_t> duration_ns(std::string_view text) {
  if (text.empty() || text.back() != 's') {
    return std::nullopt;
  }
  text.remove_suffix(1);
  const std::size_t dot = text.find('.');
  const std::optional<std::uint64_t> seconds = digits_to_number(text.substr(0, dot));
  // The greatest Duration: 10,000 years.
  if (!seconds || *seconds > 315'576'000'000) {
    return std::nullopt;
  }
  std::uint64_t fraction = 0;
  if (dot != std::string_view::npos) {
    std::string digits(text.substr(dot + 1));
    if (!all_digits(digits) || digits.size() > 9) {
      return std::nullopt;
    }
    digits.resize(9, '0');
    fraction = *digits_to_number(digits);
  }
  constexpr std::uint64_t second = 1'000'000'000;
  return *seconds > (greatest - fraction) / second ? greatest : *seconds * second + fraction;
}

std::optional<std::string> decode_base64(std::string_view text) {
  std::size_t padding = 0;
  while (padding < 2 && !text.empty() && text.back() == '=') {
    text.remove_suffix(1);
    ++padding;
  }
  // One digit over holds no byte; padding, where there is any, fills the group.
  if (text.size() % 4 == 1 || (padding > 0 && (text.size() + padding) % 4 != 0)) {
    return std::nullopt;
  }
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3 + 3);
  std::uint32_t bits = 0;
  unsigned count = 0;
  for (const char c : text) {
    const int digit = base64_digit(c);
    if (digit < 0) {
      return std::nullopt;
    }
    bits = (bits << 6 | static_cast<std::uint32_t>(digit)) & 0xffff;
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes += static_cast<char>(bits >> count & 0xff);
    }
  }
  return bytes;
}

std::string printable(std::string_view text, std::size_t most) {
  std::string shown;
  for (const char c : text.substr(0, most)) {
    shown += c >= ' ' && c <= '~' ? c : '?';
  }
  return text.size() > most ? shown + "..." : shown;
}

std::string describe(const json &value) {
  switch (value.type()) {
    case json::value_t::null:
      return "null";
    case json::value_t::boolean:
      return value.get<bool>() ? "true" : "false";
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "a list";
    case json::value_t::string:
      return "the text \"" + printable(*value.get_ptr<const std::string *>(), 60) + "\"";
    default:
      return "the number " + value.dump();
  }
}

}  // namespace proxywasm_envoy
