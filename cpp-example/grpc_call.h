// SPDX-License-Identifier: Apache-2.0
// One gRPC call or stream of a plugin, on a stream of HTTP/2. What the plugin is told of it, and when, is as in Envoy.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "grpc_wire.h"
#include "http2_client.h"

class event_loop;

class grpc_call final : public std::enable_shared_from_this<grpc_call>, private http2_client::stream_listener {
 public:
  enum class kind { unary, stream };

  class owner {
   public:
    virtual ~owner() = default;
    // The call is over; what remains is to tell the plugin.
    virtual void on_call_ended(proxywasm_token token) = 0;
  };

  grpc_call(event_loop &loop, owner &owner, proxywasm_token token, kind kind)
      : loop_(loop), owner_(owner), token_(token), kind_(kind) {}

  // `timeout_ms` 0: none.
  void start(http2_client &client, const header_map &fields, std::uint32_t timeout_ms);
  void send(std::string_view message);
  // No more will be sent.
  void end();
  bool half_closed() const { return half_closed_; }
  // The plugin wants to hear no more.
  void cancel();

 private:
  void on_fields(const header_map &fields, bool end) override;
  void on_data(std::string_view bytes) override;
  void on_end() override;
  void on_reset(std::uint32_t error) override;
  void on_lost(const std::string &why) override;
  static void on_timer(evutil_socket_t, short, void *self);

  void tell_initial_metadata(const header_map &fields);
  void on_message(std::string message);
  void on_trailers(const header_map &fields);
  // Lets go of the stream and the timer.
  void detach();
  void finish(grpc_status status, const std::string &message, const header_map &trailers = {});

  event_loop &loop_;
  owner &owner_;
  const proxywasm_token token_;
  const kind kind_;
  http2_client *client_ = nullptr;
  std::int32_t id_ = -1;
  event_ptr timer_;
  grpc_deframer deframer_;
  std::optional<std::string> answer_;  // of a unary call, which the status decides on
  bool has_headers_ = false;
  bool is_compressed_ = false;
  bool half_closed_ = false;
  bool over_ = false;
};
