// SPDX-License-Identifier: Apache-2.0
// Header fields in order, repeated names kept; pseudo headers (:method, :status, ...) come first.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

struct header_field {
  std::string name;  // lower case
  std::string value;
};

class header_map {
 public:
  using list = std::vector<header_field>;

  // First value of a name, or null.
  const std::string *find(std::string_view name) const;
  std::size_t count(std::string_view name) const;

  // Appends. The name is made lower case; a new pseudo header goes before the ordinary fields.
  void add(std::string_view name, std::string_view value);
  // Makes `value` the only value of a name, in the place of the first one.
  void replace(std::string_view name, std::string_view value);
  void remove(std::string_view name);
  void clear() { fields_.clear(); }

  list::const_iterator begin() const { return fields_.begin(); }
  list::const_iterator end() const { return fields_.end(); }
  std::size_t size() const { return fields_.size(); }
  bool empty() const { return fields_.empty(); }

 private:
  list fields_;
};

// Whether a field can be put on the wire as it is. What plugins add is checked by this, so that bytes from a request which a
// plugin copies into a header cannot start a new line.
bool is_valid_field(std::string_view name, std::string_view value);

bool equal_ignoring_case(std::string_view a, std::string_view b);
std::string to_lower(std::string_view text);
// Without spaces and tabs at both ends.
std::string_view trim(std::string_view text);
