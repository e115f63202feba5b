// SPDX-License-Identifier: Apache-2.0
// Callbacks of Envoy's that answer from maps. A filter is a `fake_filter`.

#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "envoy_abi.h"

using fake_leaf = std::variant<std::string, double, bool>;
// `std::monostate`: an object, which the interface shows nothing of.
using fake_value = std::variant<std::monostate, std::string, double, bool, std::vector<fake_leaf>>;

struct fake_filter {
  std::map<proxywasm_envoy::abi::attribute, std::string> texts;
  std::map<proxywasm_envoy::abi::attribute, std::uint64_t> numbers;
  std::map<proxywasm_envoy::abi::attribute, bool> truths;
  // As many as there are are written.
  std::vector<std::int64_t> timing;
  std::map<std::string, std::string> state;
  // Names that have a factory, and those of which objects were made.
  std::map<std::string, std::string> typed;
  std::vector<std::string> factories;
  // What the bytes of plugins cannot be put in the place of.
  std::vector<std::string> locked;
  std::map<std::pair<proxywasm_envoy::abi::metadata_source, std::string>, std::map<std::string, fake_value>> metadata;
  unsigned cleared_routes = 0;
};
