// SPDX-License-Identifier: Apache-2.0
// What a worker's host asks of the stream that a plugin acts on, and how the worker knows its live streams.

#pragma once

#include <cstddef>
#include <cstdint>
#include <proxywasm.hpp>
#include <string>
#include <string_view>

#include "envoy_abi.h"
#include "header_reader.h"

namespace proxywasm_envoy {

class call;

class plugin_stream : public header_reader {
 public:
  virtual ~plugin_stream() = default;

  // Hostcalls; statuses as at the members of `proxywasm_host`.
  virtual proxywasm::status add_header(proxywasm::map which, std::string_view name, std::string_view value) = 0;
  virtual proxywasm::status replace_header(proxywasm::map which, std::string_view name, std::string_view value) = 0;
  virtual proxywasm::status remove_header(proxywasm::map which, std::string_view name) = 0;
  // `room` may hold a value that is made for the answer.
  virtual proxywasm::status get_property(std::string_view path, std::string &room, std::string_view &value) = 0;
  virtual proxywasm::status set_property(std::string_view path, std::string_view value) = 0;
  virtual proxywasm::status call_foreign_function(std::string_view name, std::string_view argument) = 0;
  virtual proxywasm::status send_local_response(const proxywasm_local_response &response) = 0;
  virtual void resume(proxywasm::direction way) = 0;
  virtual void close(proxywasm::stream_type which) = 0;

  // Calls of plugins. All but `dropped` on the stream's own thread.
  // Whether there is a cluster of that name.
  virtual bool finds_cluster(std::string_view name) = 0;
  // Whether a plugin makes it wait, so that it will be there when an answer comes.
  virtual bool is_waiting() const = 0;
  // Starts a call over the stream, which may be over when this returns.
  virtual abi::callout_init_result start(call &one) = 0;
  virtual bool send(call &one, std::string_view bytes, bool end_of_stream) = 0;
  virtual void reset(call &one) = 0;
  // A call that runs over the stream is over, or nothing more is wanted of it.
  virtual void dropped(call &one) noexcept = 0;

  // Makes what `commit_drive` needs, unless it is there. Inside the worker, on the stream's thread or the main one.
  virtual void prepare_to_drive() = 0;
  // Asks for a call of worker::drive on the stream's thread. From any thread.
  virtual void commit_drive() noexcept = 0;

 private:
  friend class worker;
  plugin_stream *next_ = nullptr;
  plugin_stream *previous_ = nullptr;
};

}  // namespace proxywasm_envoy
