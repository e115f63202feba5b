// SPDX-License-Identifier: Apache-2.0
// The one thread that the module makes. Filters have no timers in Envoy's ABI, so it waits for workers' deadlines, and does
// nothing but nudge the worker that is due.

#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <vector>

namespace proxywasm_envoy {

class alarm_clock {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr time_point never = time_point::max();

  class sleeper {
   public:
    virtual ~sleeper() = default;
    // Called on the clock's thread, or on the one that finds out that the time is there; must not block.
    virtual void on_alarm() noexcept = 0;
  };

  // The clock lives as long as the process; so do sleepers.
  alarm_clock() = default;

  // When to wake a sleeper, in place of what was said before; `never`: not at all.
  void set(sleeper &who, time_point when);

 private:
  struct entry {
    sleeper *who;
    time_point when;
  };
  void run() noexcept;

  std::mutex lock_;
  std::condition_variable changed_;
  std::vector<entry> entries_;
  time_point waiting_for_ = never;
  bool started_ = false;
};

}  // namespace proxywasm_envoy
