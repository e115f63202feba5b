// SPDX-License-Identifier: Apache-2.0
// One TCP connection in Envoy's filter chain, and the library's stream for it.
//
// The library holds back data itself: what Envoy offers is taken out of Envoy's buffers, and what plugins let go is put back, or
// sent on behind the filter when that is later.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <proxywasm.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "call.h"
#include "envoy_abi.h"
#include "plugin_stream.h"
#include "worker.h"

namespace proxywasm_envoy {

class network_config;

class network_stream final : public plugin_stream {
 public:
  network_stream(network_config &config, worker &owner, void *filter)
      : config_(config), worker_(owner), filter_(filter) {}

  // ---- Envoy's hooks ----
  abi::data_status on_new_connection();
  abi::data_status on_data(proxywasm::direction way, std::size_t length, bool end_of_stream);
  void on_event(abi::connection_event event);
  // The filter's end. The object deletes itself, when the last of its hooks has returned.
  void on_destroy();
  void on_scheduled(std::uint64_t event);
  // The whole answer of a call; no headers when it failed.
  void on_answer(std::uint64_t id, const abi::header *headers, std::size_t count, const abi::buffer *chunks,
                 std::size_t chunk_count);

  // ---- What plugins ask for ----
  proxywasm::status get_header(proxywasm::map, std::string_view, std::string_view &) override;
  proxywasm::status get_headers(proxywasm::map, proxywasm_pair *, std::size_t, std::size_t &) override;
  proxywasm::status add_header(proxywasm::map, std::string_view, std::string_view) override;
  proxywasm::status replace_header(proxywasm::map, std::string_view, std::string_view) override;
  proxywasm::status remove_header(proxywasm::map, std::string_view) override;
  proxywasm::status get_property(std::string_view path, std::string &room, std::string_view &value) override;
  proxywasm::status set_property(std::string_view path, std::string_view value) override;
  proxywasm::status call_foreign_function(std::string_view name, std::string_view argument) override;
  proxywasm::status send_local_response(const proxywasm_local_response &response) override;
  void resume(proxywasm::direction way) override;
  void close(proxywasm::stream_type which) override;

  bool finds_cluster(std::string_view name) override;
  // All calls of a connection run over it.
  bool is_waiting() const override { return filter_ != nullptr; }
  abi::callout_init_result start(call &one) override;
  bool send(call &one, std::string_view bytes, bool end_of_stream) override;
  void reset(call &one) override;
  void dropped(call &one) noexcept override;
  void prepare_to_drive() override;
  void commit_drive() noexcept override;

 private:
  class hook;

  // One direction.
  struct side {
    bool ended = false;  // the end of its data has come
    bool resume_noted = false;
    // Envoy's buffer holds what the library would not take yet; with its end.
    bool left = false;
    bool left_end = false;
  };

  side &of(proxywasm::direction way) { return sides_[static_cast<std::size_t>(way)]; }
  // True: go on with what the outcome lets go. A connection that is to be closed is closed in here.
  bool settle(const proxywasm::outcome &outcome);
  void gather(proxywasm::direction way);
  void send_on(proxywasm::direction way, const proxywasm::outcome &outcome);
  bool has_noted() const { return close_noted_ || sides_[0].resume_noted || sides_[1].resume_noted; }
  void do_noted();
  void go_on(proxywasm::direction way);
  void close_now();
  void tell_close(proxywasm::direction way, proxywasm::peer who);
  void end_plugins();
  void *scheduler();
  void schedule();

  network_config &config_;
  worker &worker_;
  void *filter_;  // Envoy's; null when it has ended
  std::optional<proxywasm::stream> stream_;
  std::array<side, 2> sides_;
  std::array<bool, 2> close_told_{};
  carried_calls calls_;
  void *scheduler_ = nullptr;
  // Who has ended the connection first, as far as that is known.
  std::optional<proxywasm::direction> first_end_;
  bool opened_ = false;  // the plugins have let the connection go on
  bool close_noted_ = false;
  bool closed_ = false;
  bool gone_ = false;
  unsigned depth_ = 0;    // of hooks
  bool neutral_ = false;  // the innermost hook carries no data
};

// Being in one of Envoy's hooks: inside the worker, with the stream kept.
class network_stream::hook {
 public:
  // `neutral`: the hook carries no data, so that more can be sent on at its end.
  hook(network_stream &stream, bool neutral);
  hook(const hook &) = delete;
  hook &operator=(const hook &) = delete;
  ~hook();

 private:
  network_stream &stream_;
  const worker::entry inside_;
  const bool before_;
};

}  // namespace proxywasm_envoy
