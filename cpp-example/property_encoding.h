// SPDX-License-Identifier: Apache-2.0
// Values of properties as plugins read them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// An integer, a duration or a timestamp: 8 bytes, little endian.
inline std::string encode_integer(std::uint64_t number) {
  std::string bytes(8, '\0');
  for (char &byte : bytes) {
    byte = static_cast<char>(number & 0xff);
    number >>= 8;
  }
  return bytes;
}

// A whole map, of things that have a `name` and a `value`: number of pairs, all lengths, then names and values, each with a NUL
// behind.
template <typename Fields>
std::string encode_map(const Fields &fields) {
  const auto put_u32 = [](std::string &out, std::size_t number) { out += encode_integer(number).substr(0, 4); };
  std::string out;
  put_u32(out, fields.size());
  for (const auto &one : fields) {
    put_u32(out, one.name.size());
    put_u32(out, one.value.size());
  }
  for (const auto &one : fields) {
    out.append(one.name).push_back('\0');
    out.append(one.value).push_back('\0');
  }
  return out;
}
