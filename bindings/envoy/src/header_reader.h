// SPDX-License-Identifier: Apache-2.0
// Header maps of a stream as its plugins see them.

#pragma once

#include <cstddef>
#include <proxywasm.hpp>
#include <string_view>

namespace proxywasm_envoy {

class header_reader {
 public:
  // As the members of `proxywasm_host`.
  virtual proxywasm::status get_header(proxywasm::map which, std::string_view name, std::string_view &value) = 0;
  virtual proxywasm::status get_headers(proxywasm::map which, proxywasm_pair *pairs, std::size_t capacity,
                                        std::size_t &count) = 0;

 protected:
  ~header_reader() = default;
};

}  // namespace proxywasm_envoy
