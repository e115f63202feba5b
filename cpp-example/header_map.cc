// SPDX-License-Identifier: Apache-2.0
#include "header_map.h"

#include <algorithm>

namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool is_token_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

}  // namespace

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

std::string to_lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), lower);
  return result;
}

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool is_valid_field(std::string_view name, std::string_view value) {
  const bool pseudo = !name.empty() && name.front() == ':';
  const std::string_view token = pseudo ? name.substr(1) : name;
  if (token.empty() || !std::all_of(token.begin(), token.end(), is_token_char)) {
    return false;
  }
  // Pseudo headers become parts of the request line, which spaces separate.
  return std::none_of(value.begin(), value.end(), [pseudo](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte == 0x7f || (byte < 0x20 && c != '\t') || (pseudo && (c == ' ' || c == '\t'));
  });
}

const std::string *header_map::find(std::string_view name) const {
  auto found = std::find_if(fields_.begin(), fields_.end(),
                            [name](const header_field &field) { return equal_ignoring_case(field.name, name); });
  return found == fields_.end() ? nullptr : &found->value;
}

std::size_t header_map::count(std::string_view name) const {
  return static_cast<std::size_t>(std::count_if(fields_.begin(), fields_.end(), [name](const header_field &field) {
    return equal_ignoring_case(field.name, name);
  }));
}

void header_map::add(std::string_view name, std::string_view value) {
  auto place = fields_.end();
  if (!name.empty() && name.front() == ':') {
    place = std::find_if(fields_.begin(), fields_.end(),
                         [](const header_field &field) { return field.name.empty() || field.name.front() != ':'; });
  }
  fields_.insert(place, header_field{to_lower(name), std::string(value)});
}

void header_map::replace(std::string_view name, std::string_view value) {
  auto same = [name](const header_field &field) { return equal_ignoring_case(field.name, name); };
  auto first = std::find_if(fields_.begin(), fields_.end(), same);
  if (first == fields_.end()) {
    return add(name, value);
  }
  first->value = std::string(value);
  fields_.erase(std::remove_if(first + 1, fields_.end(), same), fields_.end());
}

void header_map::remove(std::string_view name) {
  auto same = [name](const header_field &field) { return equal_ignoring_case(field.name, name); };
  fields_.erase(std::remove_if(fields_.begin(), fields_.end(), same), fields_.end());
}
