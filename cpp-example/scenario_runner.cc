// SPDX-License-Identifier: Apache-2.0
#include "scenario_runner.h"

#include <cstdio>

#include "scenario_stream.h"

namespace {

// Loads and starts the plugins; false when one of them cannot be. The report says which, and why.
bool start_plugins(const scenario &script, const proxywasm::engine &engine, const proxywasm::worker &worker,
                   std::vector<proxywasm::instance> &instances, report_json &report) {
  bool all = true;
  module_set modules;
  for (const plugin_options &options : script.plugins) {
    report_json one = {{"name", options.name}, {"loaded", false}, {"started", false}};
    try {
      const proxywasm::plugin plugin = load_plugin(engine, modules, options);
      one["loaded"] = true;
      instances.push_back(worker.add_plugin(plugin));
      one["started"] = true;
    } catch (const proxywasm::error &error) {
      all = false;
      one["error"] = error_report(error);
      std::fprintf(stderr, "proxywasm-example: %s\n", error_line(options.name, error).c_str());
    }
    report.push_back(std::move(one));
  }
  return all;
}

}  // namespace

int run_scenario(const std::string &path) {
  const scenario script = read_scenario(path);
  const proxywasm::engine engine;
  engine.start_ticker();
  scenario_host host(script);
  report_json report = {{"plugins", report_json::array()}, {"streams", report_json::array()}};
  bool started = false;
  {
    const proxywasm::worker worker(engine, host);
    std::vector<proxywasm::instance> instances;
    started = start_plugins(script, engine, worker, instances, report["plugins"]);
    if (started) {
      const proxywasm::chain chain = worker.make_chain(instances);
      std::uint64_t id = 0;
      for (const stream_script &one : script.streams) {
        host.pass_time(worker, one.wait_ms);
        report["streams"].push_back(scenario_stream(script, one, host, worker, chain, ++id).run());
      }
      host.pass_time(worker, script.wait_ms);
    }
    // The root contexts end; one that has something left to do gets as long as a paused stream does.
    instances.clear();
    if (!worker.is_idle()) {
      const std::uint64_t limit_ns = host.elapsed_ns() + script.pause_limit_ms * 1'000'000;
      while (!worker.is_idle() && host.step(worker, limit_ns)) {
      }
    }
  }
  report["callouts"] = host.callouts;
  report["logs"] = host.logs;
  report["metrics"] = metrics_report(engine);
  report["vm_failures"] = host.failures;
  std::printf("%s\n", report.dump(2).c_str());
  return started ? 0 : 2;
}
