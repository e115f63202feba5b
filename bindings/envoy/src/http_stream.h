// SPDX-License-Identifier: Apache-2.0
// One HTTP request and its response in Envoy's filter chain, and the library's stream for it.
//
// The library holds back bodies itself: what Envoy offers is taken out of Envoy's buffers, and what plugins let go is put in.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <proxywasm.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "call.h"
#include "envoy_abi.h"
#include "header_map.h"
#include "header_snapshot.h"
#include "plugin_stream.h"
#include "worker.h"

namespace proxywasm_envoy {

class http_config;

class http_stream final : public plugin_stream {
 public:
  http_stream(http_config &config, worker &owner, void *filter) : config_(config), worker_(owner), filter_(filter) {}

  // ---- Envoy's hooks ----
  abi::headers_status on_headers(proxywasm::direction way, bool end_of_stream);
  abi::body_status on_body(proxywasm::direction way, bool end_of_stream);
  abi::trailers_status on_trailers(proxywasm::direction way);
  void on_complete();
  // The filter's end. The object deletes itself, when the last of its hooks has returned.
  void on_destroy();
  void on_event(std::uint64_t event);
  void on_call_headers(std::uint64_t id, const abi::header *headers, std::size_t count, bool end_of_stream);
  void on_call_data(std::uint64_t id, const abi::buffer *chunks, std::size_t count, bool end_of_stream);
  void on_call_trailers(std::uint64_t id, const abi::header *trailers, std::size_t count);
  void on_call_complete(std::uint64_t id);
  void on_call_reset(std::uint64_t id, abi::stream_reset_reason reason);

  // ---- What plugins ask for ----
  proxywasm::status get_header(proxywasm::map which, std::string_view name, std::string_view &value) override;
  proxywasm::status get_headers(proxywasm::map which, proxywasm_pair *pairs, std::size_t capacity,
                                std::size_t &count) override;
  proxywasm::status add_header(proxywasm::map which, std::string_view name, std::string_view value) override;
  proxywasm::status replace_header(proxywasm::map which, std::string_view name, std::string_view value) override;
  proxywasm::status remove_header(proxywasm::map which, std::string_view name) override;
  proxywasm::status get_property(std::string_view path, std::string &room, std::string_view &value) override;
  proxywasm::status set_property(std::string_view path, std::string_view value) override;
  proxywasm::status call_foreign_function(std::string_view name, std::string_view argument) override;
  proxywasm::status send_local_response(const proxywasm_local_response &response) override;
  void resume(proxywasm::direction way) override;
  void close(proxywasm::stream_type which) override;

  bool finds_cluster(std::string_view name) override;
  bool is_waiting() const override;
  abi::callout_init_result start(call &one) override;
  bool send(call &one, std::string_view bytes, bool end_of_stream) override;
  void reset(call &one) override;
  void dropped(call &one) noexcept override;
  void prepare_to_drive() override;
  void commit_drive() noexcept override;

 private:
  class hook;
  enum class verdict { proceed, stop, stop_all, over };

  // The headers or the trailers of a message.
  struct part {
    bool changed = false;
    // A plugin wrote what no proxy may send, or touched what a message must have right.
    bool suspect = false;
    bool gone = false;  // has gone on
  };

  // One direction.
  struct side {
    bool shown = false;         // the plugin was shown the headers
    bool body = false;          // some of the body has come
    bool ended = false;         // the end of the stream has come, in headers or body
    bool has_trailers = false;  // there are some
    bool waiting = false;       // the plugin holds something back
    bool holds_all = false;     // and is shown no more until it resumes
    bool resume_noted = false;
    part headers;
    part trailers;
    // Nobody may get the body: the status that a plugin chose has none.
    bool discard = false;
    // Envoy's buffer holds what the library has not taken yet; with its end, with trailers after it.
    bool left = false;
    bool left_end = false;
    bool left_trailers = false;
    // Bytes in Envoy's buffer that passed us before and that a later filter, or Envoy, holds.
    std::size_t passed = 0;
    // Bytes of body that went on, and how many the headers promised.
    std::uint64_t sent = 0;
    std::optional<std::uint64_t> promised;
  };

  // A response of a plugin (or of its failure policy) on its way through the plugin's response phases.
  struct reply {
    header_map headers;
    std::string body;
    std::string details;
    std::string left;  // of the body, which the library would not take yet
    bool has_left = false;
  };

  side &of(proxywasm::direction way) { return sides_[static_cast<std::size_t>(way)]; }
  const side &of(proxywasm::direction way) const { return sides_[static_cast<std::size_t>(way)]; }
  bool takes_part(std::uint32_t phase) const { return (phases_ & phase) != 0; }
  bool is_over() const { return sent_ || closed_ || reply_; }
  // Makes the library's stream; false: there is no plugin for it.
  bool begin();
  verdict settle(proxywasm::direction way, const proxywasm::outcome &outcome);
  // Ends the stream for a fault of ours, a plugin's or a policy's: by a response while that can be done.
  void fail(std::uint32_t status, std::string_view details);
  bool has_noted() const;
  void do_noted();
  void go_on(proxywasm::direction way);
  void proceed(proxywasm::direction way);

  // ---- http_body.cc ----
  // What there is for the library, into the worker's room; whether it is the end of Envoy's buffer.
  bool gather(proxywasm::direction way, bool end_of_stream);
  void put_received(proxywasm::direction way, const proxywasm::outcome &outcome, bool proceeds, bool in_buffer);
  // Puts what plugins let go into Envoy's buffer, from which Envoy goes on.
  void put_held(proxywasm::direction way, const proxywasm::outcome &outcome);
  std::string take_buffered(proxywasm::direction way);
  // Offers what was left, after the body of an outcome that goes before it.
  verdict feed_left(proxywasm::direction way, const proxywasm::outcome *before);

  // ---- message_check.cc: what no proxy may send, plugins may have written ----
  // Whether what goes on by an outcome may; where not, the stream has failed.
  bool may_pass(proxywasm::direction way, const proxywasm::outcome &outcome);
  bool may_pass_headers(proxywasm::direction way, const proxywasm::outcome &outcome);
  bool is_valid_map(proxywasm::map which) const;
  bool may_send(const reply &last);
  void fit_length(proxywasm::direction way, const proxywasm::outcome &outcome);

  // ---- local_reply.cc ----
  void note_reply(const proxywasm_local_response &response);
  // Takes the reply that is noted through the response phases, as far as it comes.
  void answer();
  void offer_reply_body();
  // True: the reply is no more on its way.
  bool advance_reply(const proxywasm::outcome &outcome);
  void send_reply();

  bool has_map(proxywasm::map which) const;
  bool can_change(proxywasm::map which) const;
  // The map of a reply that is on its way stands for that of Envoy, which has none yet.
  bool is_reply_map(proxywasm::map which) const { return reply_ && which == proxywasm::map::response_headers; }
  part &part_of(proxywasm::map which);
  void note_change(proxywasm::map which, std::string_view name, std::string_view value);
  void *scheduler();
  void schedule();

  http_config &config_;
  worker &worker_;
  void *filter_;  // Envoy's; null when it has ended
  std::optional<proxywasm::stream> stream_;
  std::uint32_t phases_ = 0;
  std::array<side, 2> sides_;
  header_snapshot snapshot_;
  // Calls that run over this stream.
  carried_calls calls_;
  void *scheduler_ = nullptr;
  std::unique_ptr<reply> noted_reply_;
  std::unique_ptr<reply> reply_;
  bool begun_ = false;
  bool sent_ = false;  // a reply
  bool close_noted_ = false;
  bool closed_ = false;
  bool gone_ = false;
  unsigned depth_ = 0;    // of hooks
  bool neutral_ = false;  // the innermost hook belongs to no direction
};

// Being in one of Envoy's hooks: inside the worker, with the stream kept.
class http_stream::hook {
 public:
  // `neutral`: the hook belongs to no direction, so that Envoy may be told to go on at its end.
  hook(http_stream &stream, bool neutral);
  hook(const hook &) = delete;
  hook &operator=(const hook &) = delete;
  ~hook();

 private:
  http_stream &stream_;
  const worker::entry inside_;
  const bool before_;
};

}  // namespace proxywasm_envoy
