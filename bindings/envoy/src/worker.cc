// SPDX-License-Identifier: Apache-2.0
#include "worker.h"

#include <cstring>

#include "grpc_callout.h"
#include "log.h"
#include "module_config.h"
#include "process.h"

namespace proxywasm_envoy {

using proxywasm::status;
using proxywasm::view;

namespace {

plugin_stream *to_stream(void *stream) { return static_cast<plugin_stream *>(stream); }

// Envoy writes headers where the library wants them.
static_assert(sizeof(abi::header) == sizeof(proxywasm_pair));
static_assert(offsetof(abi::header, key_length) == offsetof(proxywasm_pair, name.len));
static_assert(offsetof(abi::header, value_ptr) == offsetof(proxywasm_pair, value.data));
static_assert(offsetof(abi::header, value_length) == offsetof(proxywasm_pair, value.len));

}  // namespace

std::int32_t worker::list_headers(void *user, void *stream, std::int32_t which, proxywasm_pair *pairs,
                                  std::size_t capacity, std::size_t *count) noexcept {
  const auto *self = static_cast<const worker *>(static_cast<proxywasm::host *>(user));
  plugin_stream *one = self->reach(stream);
  return static_cast<std::int32_t>(one == nullptr
                                       ? status::bad_argument
                                       : one->get_headers(static_cast<proxywasm::map>(which), pairs, capacity, *count));
}

worker::worker(process &owner, const proxywasm::engine &engine, unsigned index)
    : proxywasm::host({proxywasm::service::set_property, proxywasm::service::metrics,
                       proxywasm::service::timeout_changed, proxywasm::service::wake, proxywasm::service::grpc}),
      owner_(owner),
      index_(index) {
  proxywasm_host callbacks = vtable();
  callbacks.get_headers = list_headers;
  proxywasm_worker *made = nullptr;
  proxywasm::check(proxywasm_worker_new(engine.get(), &callbacks, static_cast<proxywasm::host *>(this), &made));
  library_.reset(made);
}

// ---- Inside ----------------------------------------------------------------------------------------------------------

worker::entry::entry(worker &owner, module_config *acting) : owner_(owner), before_(owner.enter(acting)) {}

module_config *worker::enter(module_config *acting) {
  lock_.lock();
  ++depth_;
  if (const pthread_t here = pthread_self(); !pthread_equal(here, thread_)) {
    (void)proxywasm_worker_move(get());
    thread_ = here;
  }
  module_config *before = acting_;
  acting_ = acting;
  return before;
}

void worker::leave(module_config *before) noexcept {
  if (depth_ == 1) {
    while (!unstarted_.empty()) {
      start_calls();
    }
    if (timeout_changed_) {
      set_alarm();
      remind();  // in place of the alarm that the main thread had set when it could not get in
    }
    // A driver costs something, so there is none until it may be needed: when the worker is woken, or a stream waits for its plugin.
    if (driver_ == nullptr && first_ != nullptr &&
        (has_timeout_ || woken_.load(std::memory_order_relaxed) || first_->is_waiting())) {
      elect();
    }
  }
  acting_ = before;
  --depth_;
  lock_.unlock();
}

void worker::set_alarm() noexcept {
  timeout_changed_ = false;
  std::uint64_t timeout = UINT64_MAX;
  if (proxywasm_worker_timeout_ns(get(), &timeout) != PROXYWASM_RESULT_OK) {
    timeout = UINT64_MAX;
  }
  has_timeout_ = timeout != UINT64_MAX;
  constexpr std::uint64_t longest = 3'600'000'000'000;  // the clock asks again then
  try {
    owner_.clock().set(
        *this, has_timeout_ ? std::chrono::steady_clock::now() + std::chrono::nanoseconds(std::min(timeout, longest))
                            : alarm_clock::never);
  } catch (...) {
    log_line(proxywasm::log_level::error, "proxywasm: a timer could not be set");
  }
}

proxywasm::instance worker::add_plugin(const proxywasm::plugin &plugin) {
  proxywasm_instance *made = nullptr;
  proxywasm::check(proxywasm_worker_add_plugin(get(), plugin.get(), &made));
  return proxywasm::instance(made);
}

proxywasm::chain worker::make_chain(const proxywasm::instance &instance, proxywasm::isolation isolation) {
  const proxywasm_instance *one = instance.get();
  proxywasm_chain *made = nullptr;
  proxywasm::check(proxywasm_chain_new(get(), &one, 1, &made));
  proxywasm::chain chain(made);
  chain.set_isolation(isolation);
  return chain;
}

void worker::began(plugin_stream &stream) noexcept {
  home_ = pthread_self();
  stream.next_ = first_;
  if (first_ != nullptr) {
    first_->previous_ = &stream;
  }
  first_ = &stream;
}

void worker::ended(plugin_stream &stream) noexcept {
  (stream.previous_ == nullptr ? first_ : stream.previous_->next_) = stream.next_;
  if (stream.next_ != nullptr) {
    stream.next_->previous_ = stream.previous_;
  }
  stream.next_ = stream.previous_ = nullptr;
  for (auto &[token, one] : calls_) {
    if (one->origin == &stream) {
      one->origin = nullptr;
    }
  }
  if (driver_ == &stream) {
    elect();
  }
}

plugin_stream *worker::reach(void *stream) const noexcept {
  return stream != nullptr && is_home() ? to_stream(stream) : nullptr;
}

// ---- Being woken -----------------------------------------------------------------------------------------------------

// Another stream wakes the worker's thread from now on, or none.
//
// The main thread comes here when the worker is woken for the first time and its newest stream waits for nobody but Envoy. What Envoy
// makes for a driver refers to the stream, which the lock keeps, and to the dispatcher of its thread, so it can be made there; made
// beforehand, it would cost each request.
void worker::elect() noexcept {
  plugin_stream *next = first_;
  if (next != nullptr) {
    next->prepare_to_drive();
  }
  const std::lock_guard<std::mutex> hold(signal_lock_);
  driver_ = next;
  if (due_) {
    signal();  // the last driver's event is lost
  }
}

void worker::signal() noexcept {
  if (driver_ != nullptr) {
    driver_->commit_drive();
  } else {
    (void)owner_.ask_main(*this);
  }
}

void worker::on_alarm() noexcept {
  const std::lock_guard<std::mutex> hold(signal_lock_);
  due_ = true;
  signal();
}

void worker::remind() noexcept {
  const std::lock_guard<std::mutex> hold(signal_lock_);
  if (due_) {
    signal();
  }
}

void worker::wake() {
  woken_.store(true, std::memory_order_relaxed);
  const std::lock_guard<std::mutex> hold(signal_lock_);
  if (!due_) {
    due_ = true;
    signal();
  }
}

void worker::later(std::function<void()> what) {
  {
    const std::lock_guard<std::mutex> hold(signal_lock_);
    inbox_.push_back(std::move(what));
  }
  wake();
}

void worker::now_or_later(std::function<void()> what) {
  if (lock_.try_lock()) {
    const entry inside(*this, nullptr);
    lock_.unlock();
    what();
  } else {
    later(std::move(what));
  }
}

void worker::on_main_event(module_config &acting) noexcept {
  constexpr std::chrono::milliseconds soon(2);
  if (!lock_.try_lock()) {
    // A guest runs. The worker's thread may be done soon, and then has no reason to look.
    try {
      owner_.clock().set(*this, std::chrono::steady_clock::now() + soon);
    } catch (...) {
    }
    return;
  }
  const entry inside(*this, &acting);
  lock_.unlock();
  if (first_ == nullptr) {
    drive();
  } else if (driver_ != nullptr) {
    remind();
  } else {
    elect();
  }
}

void worker::drive() noexcept {
  std::vector<std::function<void()>> inbox;
  {
    const std::lock_guard<std::mutex> hold(signal_lock_);
    due_ = false;
    inbox.swap(inbox_);
  }
  for (const std::function<void()> &what : inbox) {
    try {
      what();
    } catch (const std::exception &error) {
      log_line(proxywasm::log_level::error, error.what());
    }
  }
  (void)proxywasm_worker_run_pending(get());
  (void)proxywasm_worker_on_timeout(get());
  timeout_changed_ = true;
}

// ---- Calls -----------------------------------------------------------------------------------------------------------

call *worker::find_call(proxywasm_token token) noexcept {
  const auto found = calls_.find(token);
  return found == calls_.end() ? nullptr : found->second.get();
}

std::unique_ptr<call> worker::take_call(proxywasm_token token) noexcept {
  const auto found = calls_.find(token);
  if (found == calls_.end()) {
    return nullptr;
  }
  std::unique_ptr<call> one = std::move(found->second);
  calls_.erase(found);
  return one;
}

// It is started when guests have run, when it is known whether the stream waits for the answer. That there is no such cluster a
// root context learns from the failure of the call: it has no stream that could ask.
status worker::new_call(void *stream, std::unique_ptr<call> made, status unknown_cluster) {
  const std::string &cluster = made->request().cluster;
  if (cluster.empty()) {
    return unknown_cluster;
  }
  plugin_stream *origin = reach(stream);
  if (origin != nullptr && !owner_.knows_cluster(cluster)) {
    const busy_while here(*this);
    if (!origin->finds_cluster(cluster)) {
      return unknown_cluster;
    }
    owner_.learn_cluster(cluster);
  }
  made->origin = origin;
  const proxywasm_token token = made->token();
  calls_.emplace(token, std::move(made));
  unstarted_.push_back(token);
  return status::ok;
}

// When guests have run.
void worker::start_calls() noexcept {
  std::vector<proxywasm_token> tokens;
  tokens.swap(unstarted_);
  for (const proxywasm_token token : tokens) {
    call *one = find_call(token);
    if (one == nullptr || one->started) {
      continue;
    }
    try {
      if (one->origin != nullptr && one->origin->is_waiting()) {
        const std::string cluster = one->request().cluster;
        const abi::callout_init_result result = one->origin->start(*one);
        if (result == abi::callout_init_result::cluster_not_found) {
          owner_.forget_cluster(cluster);
        }
        if (result != abi::callout_init_result::success) {
          one->on_refused();
        }
      } else {
        // The answer is for this thread while a stream lives: one of them is elected to wake it.
        woken_.store(true, std::memory_order_relaxed);
        one->started = true;
        one->id = owner_.calls().start(*this, token, std::move(one->request()));
      }
    } catch (const std::exception &error) {
      log_line(proxywasm::log_level::error, error.what());
    }
  }
}

bool worker::send(call &one, std::string_view bytes, bool end_of_stream) {
  if (one.carrier == nullptr) {
    owner_.calls().send(one.id, std::string(bytes), end_of_stream);
    return true;
  }
  if (is_home()) {
    return one.carrier->send(one, bytes, end_of_stream);
  }
  later([this, token = one.token(), bytes = std::string(bytes), end_of_stream] {
    if (call *same = find_call(token)) {
      (void)send(*same, bytes, end_of_stream);
    }
  });
  return true;
}

void worker::abandon(call &one) {
  if (!one.started) {
    return;
  }
  if (one.carrier == nullptr) {
    owner_.calls().reset(one.id);
  } else if (is_home()) {
    one.carrier->reset(one);
  } else {
    one.carrier->dropped(one);  // Envoy goes on with it until its stream ends, and its answer finds nobody
  }
}

}  // namespace proxywasm_envoy
