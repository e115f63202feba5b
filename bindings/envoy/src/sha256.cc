// SPDX-License-Identifier: Apache-2.0
#include "sha256.h"

#include <cmath>
#include <cstring>

namespace proxywasm_envoy {

namespace {

constexpr std::size_t block_size = 64;

std::uint32_t rotate(std::uint32_t word, unsigned by) { return word >> by | word << (32 - by); }

// The constants of the standard: the first 32 bits of the fractions of roots of the first primes.
struct constants {
  std::array<std::uint32_t, 64> rounds{};
  std::array<std::uint32_t, 8> start{};

  constants() {
    std::size_t found = 0;
    for (unsigned number = 2; found < rounds.size(); ++number) {
      bool prime = true;
      for (unsigned divisor = 2; divisor * divisor <= number; ++divisor) {
        prime = prime && number % divisor != 0;
      }
      if (prime) {
        rounds[found] = fraction(std::cbrt(static_cast<long double>(number)));
        if (found < start.size()) {
          start[found] = fraction(std::sqrt(static_cast<long double>(number)));
        }
        ++found;
      }
    }
  }

  static std::uint32_t fraction(long double root) {
    return static_cast<std::uint32_t>((root - std::floor(root)) * 4294967296.0L);
  }
};

void add_block(std::array<std::uint32_t, 8> &state, const std::uint8_t *block, const constants &known) {
  std::array<std::uint32_t, 64> words;
  for (std::size_t i = 0; i < 16; ++i) {
    words[i] = static_cast<std::uint32_t>(block[4 * i]) << 24 | static_cast<std::uint32_t>(block[4 * i + 1]) << 16 |
               static_cast<std::uint32_t>(block[4 * i + 2]) << 8 | block[4 * i + 3];
  }
  for (std::size_t i = 16; i < words.size(); ++i) {
    const std::uint32_t a = words[i - 15], b = words[i - 2];
    words[i] = words[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + words[i - 7] +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::uint32_t first =
        h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + known.rounds[i] + words[i];
    const std::uint32_t second = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
  }
  const std::array<std::uint32_t, 8> sum = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < sum.size(); ++i) {
    state[i] += sum[i];
  }
}

}  // namespace

std::array<std::uint8_t, 32> sha256(std::string_view bytes) {
  static const constants known;
  std::array<std::uint32_t, 8> state = known.start;
  const auto *data = reinterpret_cast<const std::uint8_t *>(bytes.data());
  std::size_t at = 0;
  for (; bytes.size() - at >= block_size; at += block_size) {
    add_block(state, data + at, known);
  }
  // The rest, a bit that is set, zeros, and the number of bits.
  std::array<std::uint8_t, 2 * block_size> last{};
  const std::size_t rest = bytes.size() - at;
  if (rest != 0) {
    std::memcpy(last.data(), data + at, rest);
  }
  last[rest] = 0x80;
  const std::size_t length = rest < block_size - 8 ? block_size : 2 * block_size;
  const std::uint64_t bits = static_cast<std::uint64_t>(bytes.size()) * 8;
  for (std::size_t i = 0; i < 8; ++i) {
    last[length - 1 - i] = static_cast<std::uint8_t>(bits >> (8 * i));
  }
  for (std::size_t block = 0; block < length; block += block_size) {
    add_block(state, last.data() + block, known);
  }
  std::array<std::uint8_t, 32> digest;
  for (std::size_t i = 0; i < digest.size(); ++i) {
    digest[i] = static_cast<std::uint8_t>(state[i / 4] >> (24 - 8 * (i % 4)));
  }
  return digest;
}

}  // namespace proxywasm_envoy
