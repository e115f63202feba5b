// SPDX-License-Identifier: Apache-2.0
// One thread of the proxy: an event loop, a worker of the library, and the connections of both.

#pragma once

#include <event2/listener.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "callouts.h"
#include "client_socket.h"
#include "grpc_calls.h"
#include "proxy_host.h"

using event_base_ptr = std::unique_ptr<event_base, libevent_deleter<event_base, event_base_free>>;
using listener_ptr = std::unique_ptr<evconnlistener, libevent_deleter<evconnlistener, evconnlistener_free>>;

// The plugins that every loop starts.
struct plugin_set {
  std::vector<proxywasm::plugin> chain;     // what clients say passes them, in this order
  std::vector<proxywasm::plugin> services;  // have ticks, queues and callouts only
};

// Where clients connect, by what they speak.
struct listen_addresses {
  std::optional<endpoint> http;
  std::optional<endpoint> tcp;
};

class event_loop {
 public:
  // Starts the plugins; throws proxywasm::error when one does not start. On the thread that will call `run`.
  event_loop(const proxy_options &options, const proxywasm::engine &engine, const plugin_set &plugins);
  ~event_loop();

  // Listens, and returns the addresses with their true ports; another loop may listen there too. Throws usage_error.
  listen_addresses listen(const listen_addresses &wanted);
  // Returns when `stop` was called and what was under way has ended, or has had its time.
  void run();
  // On any thread, also repeatedly.
  void stop();

  event_base *base() const { return base_.get(); }
  const proxy_options &options() const { return options_; }
  const proxywasm::engine &engine() const { return engine_; }
  const proxywasm::worker &worker() const { return *worker_; }
  const proxywasm::chain &chain() const { return *chain_; }
  callouts &calls() { return callouts_; }
  grpc_calls &grpc() { return grpc_calls_; }
  bool stopping() const { return stopping_; }

  // For the host's callbacks: what is to happen after the current call of the library.
  void rearm_timer();
  void wake();

  void remove(client_socket *one);
  void log(proxywasm::log_level level, std::string_view who, std::string_view text) const;

 private:
  template <typename Connection>
  static void on_accept(evconnlistener *, evutil_socket_t socket, sockaddr *peer, int, void *self);
  endpoint listen(const endpoint &address, evconnlistener_cb on_accept);
  static void on_rearm(evutil_socket_t, short, void *self);
  static void on_timer(evutil_socket_t, short, void *self);
  static void on_wake(evutil_socket_t, short, void *self);
  static void on_stop(evutil_socket_t, short, void *self);
  static void on_drain(evutil_socket_t, short, void *self);
  void begin_stop();
  void continue_stop();

  const proxy_options &options_;
  const proxywasm::engine &engine_;
  event_base_ptr base_;
  event_ptr rearm_, timer_, wake_, stop_, drain_;
  std::vector<listener_ptr> listeners_;
  callouts callouts_;
  grpc_calls grpc_calls_;
  proxy_host host_;
  // In the order in which they may be made; they end the other way round, streams before their worker.
  std::optional<proxywasm::worker> worker_;
  std::vector<proxywasm::instance> services_;
  std::vector<proxywasm::instance> instances_;
  std::optional<proxywasm::chain> chain_;
  std::unordered_map<client_socket *, std::unique_ptr<client_socket>> connections_;
  std::chrono::steady_clock::time_point stop_deadline_;
  bool stopping_ = false;
};
