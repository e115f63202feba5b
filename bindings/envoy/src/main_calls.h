// SPDX-License-Identifier: Apache-2.0
// Calls that run on Envoy's main thread, over configurations. Requests and answers are copied from and to workers' threads.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "call.h"
#include "envoy_abi.h"

namespace proxywasm_envoy {

class process;

class main_calls {
 public:
  explicit main_calls(process &owner) : owner_(owner) {}

  // ---- Any thread ----
  // Starts a call of a worker and gives it a number.
  std::uint64_t start(worker &from, proxywasm_token token, call_request request);
  void send(std::uint64_t number, std::string bytes, bool end_of_stream);
  void reset(std::uint64_t number);

  // ---- The main thread: what Envoy tells of them ----
  void on_headers(const void *config, std::uint64_t id, const abi::header *headers, std::size_t count, bool end);
  void on_data(const void *config, std::uint64_t id, const abi::buffer *chunks, std::size_t count, bool end);
  void on_trailers(const void *config, std::uint64_t id, const abi::header *trailers, std::size_t count);
  void on_complete(const void *config, std::uint64_t id);
  void on_reset(const void *config, std::uint64_t id, abi::stream_reset_reason reason);
  // Envoy ends those of a configuration without a word.
  void on_config_end(const void *config);

 private:
  struct running {
    worker *from;
    proxywasm_token token;
    const void *config;  // Envoy's
    std::uint64_t id;    // and its number
  };
  void begin(std::uint64_t number, worker &from, proxywasm_token token, const call_request &request, void *config);
  running *find(const void *config, std::uint64_t id);
  // Brings something to the call, where the worker still has it.
  static void bring(const running &to, std::function<void(call &)> what);
  void finish(const void *config, std::uint64_t id, std::function<void(call &)> what);

  process &owner_;
  std::atomic<std::uint64_t> last_number_{0};
  // The main thread's. By our number.
  std::map<std::uint64_t, running> calls_;
};

fields copy_fields(const abi::header *headers, std::size_t count);

}  // namespace proxywasm_envoy
