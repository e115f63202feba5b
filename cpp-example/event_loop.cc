// SPDX-License-Identifier: Apache-2.0
#include "event_loop.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "connection.h"
#include "tcp_connection.h"

namespace {

std::atomic<std::uint64_t> connections_made{0};

// How often a stopping loop looks whether everything has ended.
constexpr timeval drain_period = {0, 20'000};

}  // namespace

event_loop::event_loop(const proxy_options &options, const proxywasm::engine &engine, const plugin_set &plugins)
    : options_(options), engine_(engine), base_(event_base_new()), callouts_(*this), grpc_calls_(*this), host_(*this) {
  if (!base_) {
    throw std::bad_alloc();
  }
  rearm_.reset(event_new(base(), -1, 0, on_rearm, this));
  timer_.reset(event_new(base(), -1, 0, on_timer, this));
  wake_.reset(event_new(base(), -1, 0, on_wake, this));
  stop_.reset(event_new(base(), -1, 0, on_stop, this));
  drain_.reset(event_new(base(), -1, EV_PERSIST, on_drain, this));
  if (!rearm_ || !timer_ || !wake_ || !stop_ || !drain_) {
    throw std::bad_alloc();
  }
  worker_.emplace(engine, host_);
  // Services first: plugins may look for queues that they register.
  for (const proxywasm::plugin &plugin : plugins.services) {
    services_.push_back(worker_->add_plugin(plugin));
  }
  for (const proxywasm::plugin &plugin : plugins.chain) {
    instances_.push_back(worker_->add_plugin(plugin));
  }
  chain_.emplace(worker_->make_chain(instances_));
}

event_loop::~event_loop() {
  connections_.clear();
  chain_.reset();
  instances_.clear();
  services_.clear();
  // Calls in flight are cancelled while the worker ends, so callouts and events are still there.
  worker_.reset();
}

listen_addresses event_loop::listen(const listen_addresses &wanted) {
  listen_addresses bound;
  if (wanted.http) {
    bound.http = listen(*wanted.http, on_accept<connection>);
  }
  if (wanted.tcp) {
    bound.tcp = listen(*wanted.tcp, on_accept<tcp_connection>);
  }
  return bound;
}

endpoint event_loop::listen(const endpoint &address, evconnlistener_cb on_accept) {
  listener_ptr listener(evconnlistener_new_bind(
      base(), on_accept, this, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE | LEV_OPT_REUSEABLE_PORT, -1,
      reinterpret_cast<const sockaddr *>(&address.address), static_cast<int>(address.length)));
  if (!listener) {
    throw usage_error("cannot listen on " + address.text + ": " + std::strerror(errno));
  }
  endpoint bound;
  bound.length = sizeof bound.address;
  getsockname(evconnlistener_get_fd(listener.get()), reinterpret_cast<sockaddr *>(&bound.address), &bound.length);
  bound.text = to_text(reinterpret_cast<sockaddr *>(&bound.address));
  listeners_.push_back(std::move(listener));
  return bound;
}

void event_loop::run() {
  rearm_timer();
  event_base_loop(base(), EVLOOP_NO_EXIT_ON_EMPTY);
}

void event_loop::stop() { event_active(stop_.get(), 0, 0); }

void event_loop::remove(client_socket *one) { connections_.erase(one); }

void event_loop::log(proxywasm::log_level level, std::string_view who, std::string_view text) const {
  if (level < options_.log_level) {
    return;
  }
  // One write for a line, so that threads do not mix theirs.
  std::string line = std::string(level_name(static_cast<std::int32_t>(level))) + " [" + std::string(who) + "] ";
  line.append(text).push_back('\n');
  (void)std::fwrite(line.data(), 1, line.size(), stderr);
}

template <typename Connection>
void event_loop::on_accept(evconnlistener *, evutil_socket_t socket, sockaddr *peer, int, void *self) {
  auto *loop = static_cast<event_loop *>(self);
  try {
    auto one = std::make_unique<Connection>(*loop, socket, peer, ++connections_made);
    client_socket *key = one.get();
    loop->connections_.emplace(key, std::move(one));
  } catch (const proxywasm::error &error) {
    // The worker can run no stream any more.
    loop->log(proxywasm::log_level::critical, "proxy", std::string(error.name()) + ": " + error.what());
  }
}

// ---- Timer of the worker ----------------------------------------------------------------------------------------------

void event_loop::rearm_timer() {
  // The library must not be called from its callbacks, so this waits for the loop.
  event_active(rearm_.get(), 0, 0);
}

void event_loop::on_rearm(evutil_socket_t, short, void *self) {
  auto *loop = static_cast<event_loop *>(self);
  const std::uint64_t wait_ns = loop->worker().timeout_ns();
  if (wait_ns == UINT64_MAX) {
    event_del(loop->timer_.get());
    return;
  }
  const std::uint64_t wait_us = wait_ns / 1000 + 1;  // not too early
  const timeval time = {static_cast<time_t>(wait_us / 1'000'000), static_cast<suseconds_t>(wait_us % 1'000'000)};
  event_add(loop->timer_.get(), &time);
}

void event_loop::on_timer(evutil_socket_t, short, void *self) {
  auto *loop = static_cast<event_loop *>(self);
  (void)loop->worker().on_timeout();
  on_rearm(-1, 0, self);
}

void event_loop::wake() { event_active(wake_.get(), 0, 0); }

void event_loop::on_wake(evutil_socket_t, short, void *self) {
  (void)static_cast<event_loop *>(self)->worker().run_pending();
}

// ---- Stop -------------------------------------------------------------------------------------------------------------

void event_loop::on_stop(evutil_socket_t, short, void *self) {
  auto *loop = static_cast<event_loop *>(self);
  if (!loop->stopping_) {
    loop->begin_stop();
  }
}

void event_loop::begin_stop() {
  stopping_ = true;
  stop_deadline_ = std::chrono::steady_clock::now() + options_.stop_timeout;
  listeners_.clear();
  for (const auto &[one, owner] : connections_) {
    one->stop();
  }
  event_add(drain_.get(), &drain_period);
}

void event_loop::on_drain(evutil_socket_t, short, void *self) { static_cast<event_loop *>(self)->continue_stop(); }

void event_loop::continue_stop() {
  const bool late = std::chrono::steady_clock::now() >= stop_deadline_;
  if (late) {
    connections_.clear();
  }
  if (!connections_.empty()) {
    return;
  }
  // Nothing uses the plugins any more: their root contexts may end, some after a last callout.
  chain_.reset();
  instances_.clear();
  services_.clear();
  if (late || worker_->is_idle()) {
    event_base_loopbreak(base());
  }
}
