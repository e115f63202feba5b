// SPDX-License-Identifier: Apache-2.0
#include "module_config.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "log.h"
#include "memory.h"
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

void module_config::validate(const filter_config &config) {
  const proxywasm::module module(process::get().engine(), read_code(config.vm.code));
  validation_host host;
  make_plugin(module, config.vm, config.plugin).validate(host);
}

module_config::module_config(filter_config config, const metric_api &metrics, void *envoy)
    : config_(std::move(config)), name_(name_of(config_.plugin)), metrics_(metrics, envoy) {}

void module_config::place_plugins() {
  process &owner = process::get();
  module_.emplace(owner.engine(), read_code(config_.vm.code));
  give_back_memory();
  const proxywasm::plugin plugin = make_plugin(*module_, config_.vm, config_.plugin);
  const auto &workers = owner.workers();
  metrics_.define_late();
  owner.metrics().each([this](const metric &one) { metrics_.define(one); });
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

void module_config::remove_plugins() noexcept {
  process &owner = process::get();
  owner.remove_config(*this);
  if (void *envoy = caller()) {
    owner.calls().on_config_end(envoy);
  }
  for (std::size_t index = 0; index < places_.size(); ++index) {
    owner.worker_at(static_cast<unsigned>(index))->now_or_later([ended = places_[index]] {
      ended->routes.clear();
      ended->own.reset();
    });
  }
}

std::unique_ptr<placed_plugin> module_config::place_other(worker &where, const plugin_settings &settings) const {
  return std::make_unique<placed_plugin>(where, make_plugin(*module_, config_.vm, settings), isolation_of(settings));
}

}  // namespace proxywasm_envoy
