// SPDX-License-Identifier: Apache-2.0
// A client's connection: its exchanges one after the other.

#pragma once

#include <memory>
#include <string_view>

#include "client_socket.h"
#include "exchange.h"
#include "http1.h"

class connection final : public client_socket {
 public:
  connection(event_loop &loop, evutil_socket_t socket, const sockaddr *peer, std::uint64_t id)
      : client_socket(loop, socket, peer, id) {}

  void pump() override;
  // Ends when no exchange is under way.
  void stop() override;

  message_reader &reader() { return reader_; }
  message_reader::event read_request() { return reader_.next(input(), false); }

 private:
  void on_ended(short what) override;
  void on_timeout() override;

  void begin_exchange();
  void end_exchange();
  void answer(unsigned status, std::string_view type, std::string_view body);

  message_reader reader_{HTTP_REQUEST};
  std::unique_ptr<exchange> exchange_;
  bool closing_ = false;    // the last response has been written to the buffer
  bool lingering_ = false;  // it has been sent; the client may not have read it yet
  bool gone_ = false;       // the client has closed
  bool closed_ = false;
};
