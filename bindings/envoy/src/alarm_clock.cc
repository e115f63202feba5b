// SPDX-License-Identifier: Apache-2.0
#include "alarm_clock.h"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <thread>

namespace proxywasm_envoy {

void alarm_clock::set(sleeper &who, time_point when) {
  const std::lock_guard<std::mutex> hold(lock_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const entry &one) { return one.who == &who; });
  if (found == entries_.end()) {
    if (when == never) {
      return;
    }
    entries_.push_back({&who, when});
  } else {
    found->when = when;
  }
  if (when == never) {
    return;  // the thread finds nothing to do when it wakes
  }
  if (!started_) {
    // Signals are for Envoy's threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([this] { run(); }).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    started_ = true;
  } else if (when < waiting_for_) {
    changed_.notify_one();
  }
}

void alarm_clock::run() noexcept {
  pthread_setname_np(pthread_self(), "proxywasm-clock");
  std::unique_lock<std::mutex> hold(lock_);
  for (;;) {
    const auto next = std::min_element(entries_.begin(), entries_.end(),
                                       [](const entry &a, const entry &b) { return a.when < b.when; });
    waiting_for_ = next == entries_.end() ? never : next->when;
    if (waiting_for_ == never) {
      changed_.wait(hold);
    } else if (std::chrono::steady_clock::now() < waiting_for_) {
      changed_.wait_until(hold, waiting_for_);
    } else {
      sleeper *who = next->who;
      next->when = never;
      hold.unlock();
      who->on_alarm();
      hold.lock();
    }
  }
}

}  // namespace proxywasm_envoy
