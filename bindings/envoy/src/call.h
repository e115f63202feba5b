// SPDX-License-Identifier: Apache-2.0
// One HTTP or gRPC call of a plugin: the request until it is started, and the answer until the plugin has it.
//
// A call runs over its stream while that waits, on the stream's thread. All others (of root contexts, and those that a stream
// does not wait for, which may outlive it) run on Envoy's main thread, through main_calls; what comes of them is brought to the
// worker before it reaches `answer`.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <proxywasm.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "envoy_abi.h"

namespace proxywasm_envoy {

class plugin_stream;
class worker;

using fields = std::vector<std::pair<std::string, std::string>>;

// Lends fields to Envoy, or to the library.
std::vector<abi::header> to_headers(const fields &list);
std::vector<proxywasm_pair> to_pairs(const fields &list);

struct call_request {
  std::string cluster;
  fields headers;
  std::string body;
  fields trailers;
  std::uint64_t timeout_ms = 0;
  // No more follows the body and the trailers.
  bool ends = true;
};

class call {
 public:
  call(worker &owner, proxywasm_token token, call_request request)
      : owner_(owner), token_(token), request_(std::move(request)) {}
  virtual ~call();
  call(const call &) = delete;
  call &operator=(const call &) = delete;

  proxywasm_token token() const noexcept { return token_; }
  call_request &request() noexcept { return request_; }

  // What comes, inside the worker. Each may end the call: the object may be gone when it returns.
  virtual void on_headers(const fields &headers, bool end_of_stream) = 0;
  virtual void on_data(std::string_view bytes, bool end_of_stream) = 0;
  virtual void on_trailers(const fields &trailers) = 0;
  virtual void on_complete() = 0;
  virtual void on_reset(abi::stream_reset_reason reason) = 0;
  virtual void on_refused() = 0;

  // The stream that it runs over, if it does.
  plugin_stream *carrier = nullptr;
  // Envoy's number of it on its stream, or ours on the main thread.
  std::uint64_t id = 0;
  // The stream that began it, until that ends.
  plugin_stream *origin = nullptr;
  // It has been handed to Envoy.
  bool started = false;

 protected:
  // Takes it out of the worker's table, before the plugin is told of its end: the plugin may begin and cancel calls meanwhile.
  std::unique_ptr<call> take();

  worker &owner_;
  const proxywasm_token token_;
  call_request request_;
};

// The calls that run over one stream. A call knows its carrier, so that one which ends or is cancelled takes itself out.
class carried_calls {
 public:
  void add(call &one, plugin_stream &carrier);
  void drop(call &one) noexcept;
  call *find(std::uint64_t id) const;
  // Envoy ends them with their stream, without a word.
  void reset_all();

 private:
  std::vector<call *> list_;
};

// An HTTP call, whose answer the plugin gets as a whole.
class http_callout final : public call {
 public:
  using call::call;
  void on_headers(const fields &headers, bool end_of_stream) override;
  void on_data(std::string_view bytes, bool end_of_stream) override;
  void on_trailers(const fields &trailers) override;
  void on_complete() override;
  void on_reset(abi::stream_reset_reason reason) override;
  void on_refused() override;

 private:
  void fail();

  fields headers_;
  std::string body_;
  fields trailers_;
};

// The request of an HTTP call.
call_request to_call_request(const proxywasm_http_request &request);

}  // namespace proxywasm_envoy
