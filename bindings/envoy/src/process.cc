// SPDX-License-Identifier: Apache-2.0
#include "process.h"

#include <algorithm>
#include <string>

#include "envoy_abi.h"
#include "log.h"
#include "module_config.h"
#include "worker.h"

namespace proxywasm_envoy {

namespace {

// Events of configurations' schedulers: tasks, and then the workers.
constexpr std::uint64_t tasks_event = 0;

void log_of_library(void *, std::int32_t level, proxywasm_slice message) noexcept {
  try {
    log_line(static_cast<proxywasm::log_level>(level), std::string("proxywasm: ").append(proxywasm::view(message)));
  } catch (...) {
  }
}

}  // namespace

process &process::get() {
  // Never destroyed: threads may be about when the process ends.
  static process *const one = new process;
  return *one;
}

const proxywasm::engine &process::engine() {
  if (!engine_) {
    proxywasm::engine_config config;
    config.log(proxywasm::log_level::warn, log_of_library, nullptr);
    // Envoy compiles at each start and at each update of a plugin, on the thread that works on all other updates.
    config.optimization(false);
    engine_.emplace(config);
    engine_->start_ticker();
  }
  return *engine_;
}

std::vector<std::unique_ptr<worker>> &process::workers() {
  if (workers_.empty()) {
    const unsigned count = std::max(1U, abi::envoy_dynamic_module_callback_get_concurrency());
    std::vector<std::unique_ptr<worker>> made;
    for (unsigned index = 0; index < count; ++index) {
      made.push_back(std::make_unique<worker>(*this, engine(), index));
    }
    workers_ = std::move(made);
  }
  return workers_;
}

worker *process::worker_at(unsigned index) noexcept {
  return index < workers_.size() ? workers_[index].get() : nullptr;
}

void process::add_config(module_config &config) {
  {
    const std::lock_guard<std::mutex> hold(lock_);
    configs_.push_back(&config);
  }
  ask_again();
}

void process::remove_config(module_config &config) {
  {
    const std::lock_guard<std::mutex> hold(lock_);
    configs_.erase(std::remove(configs_.begin(), configs_.end(), &config), configs_.end());
  }
  ask_again();
}

// Events of a configuration that ends are lost, and while there is none the main thread cannot be asked.
void process::ask_again() {
  bool posted = false;
  {
    const std::lock_guard<std::mutex> hold(lock_);
    posted = !tasks_.empty();
  }
  if (posted) {
    (void)commit(tasks_event);
  }
  for (const std::unique_ptr<worker> &one : workers_) {
    one->remind();
  }
}

void process::forget_route(std::uint64_t serial) {
  std::vector<std::vector<std::shared_ptr<module_config::place>>> all;
  {
    const std::lock_guard<std::mutex> hold(lock_);
    for (const module_config *config : configs_) {
      all.push_back(config->places());
    }
  }
  for (const auto &places : all) {
    for (std::size_t index = 0; index < places.size(); ++index) {
      workers_[index]->now_or_later([place = places[index], serial] { (void)place->routes.erase(serial); });
    }
  }
}

bool process::knows_cluster(const std::string &name) {
  const std::lock_guard<std::mutex> hold(lock_);
  return clusters_.count(name) != 0;
}

void process::learn_cluster(const std::string &name) {
  const std::lock_guard<std::mutex> hold(lock_);
  (void)clusters_.insert(name);
}

void process::forget_cluster(const std::string &name) {
  const std::lock_guard<std::mutex> hold(lock_);
  (void)clusters_.erase(name);
}

bool process::commit(std::uint64_t event) {
  const std::lock_guard<std::mutex> hold(lock_);
  if (configs_.empty()) {
    return false;
  }
  // The newest one lives longest.
  configs_.back()->commit(event);
  return true;
}

bool process::ask_main(const worker &one) noexcept {
  try {
    return commit(tasks_event + 1 + one.index());
  } catch (...) {
    return false;  // a mutex that does not work
  }
}

// The newest configuration that takes calls, since it lives longest.
module_config *process::caller() const {
  for (auto one = configs_.rbegin(); one != configs_.rend(); ++one) {
    if ((*one)->caller() != nullptr) {
      return *one;
    }
  }
  return nullptr;
}

bool process::post(std::function<void(void *)> what) {
  const std::lock_guard<std::mutex> hold(lock_);
  module_config *to = caller();
  if (to == nullptr) {
    return false;
  }
  tasks_.push_back(std::move(what));
  to->commit(tasks_event);
  return true;
}

void process::on_main_event(module_config &config, std::uint64_t event) {
  if (event != tasks_event) {
    if (worker *one = worker_at(static_cast<unsigned>(event - tasks_event - 1))) {
      one->on_main_event(config);
    }
    return;
  }
  std::vector<std::function<void(void *)>> tasks;
  void *envoy = config.caller();
  {
    const std::lock_guard<std::mutex> hold(lock_);
    if (const module_config *one = caller()) {
      envoy = one->caller();
    }
    if (envoy == nullptr) {
      return;  // they wait for one that takes calls
    }
    tasks.swap(tasks_);
  }
  for (const std::function<void(void *)> &task : tasks) {
    task(envoy);
  }
}

}  // namespace proxywasm_envoy
