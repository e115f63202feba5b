// SPDX-License-Identifier: Apache-2.0
#include "http_config.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "envoy_abi.h"
#include "log.h"
#include "process.h"
#include "worker.h"

namespace proxywasm_envoy {

namespace {

std::string read_code(const plugin_code &code) {
  if (code.filename.empty()) {
    return code.bytes;
  }
  std::ifstream file(code.filename, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) {
    throw std::runtime_error("vm_config.code.local.filename: cannot read " + code.filename + ": " +
                             std::strerror(errno));
  }
  return bytes;
}

std::string name_of(const plugin_settings &settings) { return settings.name.value_or(std::string()); }

proxywasm::plugin make_plugin(const proxywasm::module &module, const vm_settings &vm, const plugin_settings &plugin) {
  proxywasm::plugin_config made(name_of(plugin));
  made.vm_id(vm.vm_id).vm_configuration(vm.configuration);
  for (const auto &[name, value] : vm.environment) {
    made.environment(name, value);
  }
  if (plugin.root_id) {
    made.root_id(*plugin.root_id);
  }
  if (plugin.configuration) {
    made.configuration(*plugin.configuration);
  }
  if (plugin.failure_policy) {
    made.policy(*plugin.failure_policy);
  }
  if (plugin.reload) {
    constexpr std::uint32_t default_limit = 16;
    made.reload(plugin.reload->base_ns, plugin.reload->max_ns, default_limit);
  }
  if (plugin.capabilities) {
    for (const std::string &name : *plugin.capabilities) {
      made.allow(name);
    }
  }
  if (plugin.allow_on_headers_stop_iteration) {
    made.allow_on_headers_stop_iteration(*plugin.allow_on_headers_stop_iteration);
  }
  proxywasm_limits limits{};
  limits.deadline_ns = plugin.limits.deadline_ns;
  limits.start_deadline_ns = plugin.limits.start_deadline_ns;
  limits.max_memory = plugin.limits.max_memory;
  limits.max_body_buffer = plugin.limits.max_body_buffer;
  limits.max_callouts = plugin.limits.max_callouts;
  made.limits(limits);
  return proxywasm::plugin(module, made);
}

proxywasm::isolation isolation_of(const plugin_settings &settings) {
  return settings.isolation.value_or(proxywasm::isolation::shared);
}

std::atomic<std::uint64_t> last_serial{0};

// For a configuration check: plugins say in the log why they refuse.
class validation_host final : public proxywasm::host {
 public:
  void log(void *, const proxywasm_log_record &record) override { log_record(record, text_); }

 private:
  std::string text_;
};

}  // namespace

placed_plugin::placed_plugin(worker &where, const proxywasm::plugin &plugin, proxywasm::isolation isolation)
    : instance_(where.add_plugin(plugin)), chain_(where.make_chain(instance_, isolation)) {}

http_route::http_route(route_config config) : config_(std::move(config)), serial_(++last_serial) {}

http_route::~http_route() { process::get().forget_route(serial_); }

void http_config::validate(const filter_config &config) {
  const std::shared_ptr<const proxywasm::module> module = process::get().compile(read_code(config.vm.code));
  validation_host host;
  make_plugin(*module, config.vm, config.plugin).validate(host);
}

http_config::http_config(void *envoy, filter_config config)
    : envoy_(envoy), config_(std::move(config)), name_(name_of(config_.plugin)), metrics_(envoy) {
  process &owner = process::get();
  module_ = owner.compile(read_code(config_.vm.code));
  const proxywasm::plugin plugin = make_plugin(*module_, config_.vm, config_.plugin);
  const auto &workers = owner.workers();
  metrics_.define_late();
  owner.metrics().each([this](const metric &one) { metrics_.define(one); });

  scheduler_ = abi::envoy_dynamic_module_callback_http_filter_config_scheduler_new(envoy);
  for (std::size_t index = 0; index < workers.size(); ++index) {
    places_.push_back(std::make_shared<place>());
  }
  owner.add_config(*this);
  try {
    for (std::size_t index = 0; index < workers.size(); ++index) {
      const worker::entry inside(*workers[index], this);
      places_[index]->own = std::make_unique<placed_plugin>(*workers[index], plugin, isolation_of(config_.plugin));
    }
  } catch (...) {
    remove_plugins();
    throw;
  }
  metrics_.freeze();
}

http_config::~http_config() { remove_plugins(); }

void http_config::remove_plugins() noexcept {
  process &owner = process::get();
  owner.remove_config(*this);
  owner.calls().on_config_end(envoy_);
  for (std::size_t index = 0; index < places_.size(); ++index) {
    owner.worker_at(static_cast<unsigned>(index))->now_or_later([ended = places_[index]] {
      ended->routes.clear();
      ended->own.reset();
    });
  }
  abi::envoy_dynamic_module_callback_http_filter_config_scheduler_delete(scheduler_);
}

const proxywasm::chain *http_config::chain(worker &where, const http_route *route) {
  place &here = *places_[where.index()];
  if (route == nullptr) {
    return &here.own->chain();
  }
  if (route->config().disabled) {
    return nullptr;
  }
  std::unique_ptr<placed_plugin> &placed = here.routes[route->serial()];
  if (!placed) {
    const plugin_settings settings = with_route(config_.plugin, route->config().plugin);
    placed =
        std::make_unique<placed_plugin>(where, make_plugin(*module_, config_.vm, settings), isolation_of(settings));
  }
  return &placed->chain();
}

}  // namespace proxywasm_envoy
