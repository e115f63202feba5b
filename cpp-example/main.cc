// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <optional>

#include "proxy.h"
#include "scenario_runner.h"
#include "stream_host.h"

namespace {

constexpr const char *plugin_help =
    "A plugin: FILE[,key=value]... Keys: name, root_id, vm_id, vm_config (text), vm_config_file, config_file, "
    "policy (reload, closed, open), deadline_ms, start_deadline_ms, max_memory_mb, max_body (bytes), "
    "stop_iteration (true, false), "
    "env (NAME:VALUE, an environment variable; repeatable), allow (a hostcall, WASI function or callback by its name; "
    "repeatable: all others are denied), and last config (text, to the end). "
    "Give the option again for more plugins: requests and TCP connections pass them in this order.";

constexpr const char *service_help =
    "A plugin that is in no chain: started in each event loop for its ticks, queues and callouts. "
    "FILE[,key=value]..., with the keys of --plugin. May be given more than once.";

// What the options of `serve` are before they are understood.
struct serve_arguments {
  std::string listen;
  std::string upstream;
  std::string log_level = "info";
  std::string tcp_listen;
  std::string tcp_upstream;
  std::vector<std::string> plugins;
  std::vector<std::string> services;
  std::vector<std::string> clusters;
  unsigned threads = 1;
  unsigned pause_timeout_ms = 30'000;
  unsigned idle_timeout_ms = 60'000;
  unsigned stop_timeout_ms = 5'000;
  std::string metrics_path;
};

// Both addresses, or none.
std::optional<route> to_route(const std::string &prefix, const std::string &listen, const std::string &upstream) {
  if (listen.empty() != upstream.empty()) {
    throw usage_error("--" + prefix + "listen and --" + prefix + "upstream go together");
  }
  return listen.empty() ? std::nullopt : std::optional<route>({parse_endpoint(listen), parse_endpoint(upstream)});
}

proxy_options to_options(const serve_arguments &arguments) {
  proxy_options options;
  options.http = to_route("", arguments.listen, arguments.upstream);
  options.tcp = to_route("tcp-", arguments.tcp_listen, arguments.tcp_upstream);
  if (!options.http && !options.tcp) {
    throw usage_error("nowhere to listen: --listen or --tcp-listen is needed");
  }
  if (!options.http && !arguments.metrics_path.empty()) {
    throw usage_error("--metrics-path is of the HTTP proxy: --listen is needed");
  }
  for (const std::string &text : arguments.plugins) {
    options.plugins.push_back(parse_plugin(text));
  }
  for (const std::string &text : arguments.services) {
    options.services.push_back(parse_plugin(text));
  }
  for (const std::string &text : arguments.clusters) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw usage_error("not NAME=HOST:PORT: " + text);
    }
    options.clusters[text.substr(0, equals)] = parse_endpoint(text.substr(equals + 1));
  }
  if (!parse_level(arguments.log_level, options.log_level)) {
    throw usage_error("no such log level: " + arguments.log_level);
  }
  options.threads = arguments.threads;
  options.metrics_path = arguments.metrics_path;
  options.pause_timeout = std::chrono::milliseconds(arguments.pause_timeout_ms);
  options.idle_timeout = std::chrono::milliseconds(arguments.idle_timeout_ms);
  options.stop_timeout = std::chrono::milliseconds(arguments.stop_timeout_ms);
  return options;
}

}  // namespace

int main(int argc, char **argv) {
  CLI::App app("Runs Proxy-Wasm plugins, in a small HTTP and TCP proxy or by a scenario, with libproxywasm.",
               "proxywasm-example");
  app.set_version_flag("--version", std::string("proxywasm-example with libproxywasm ") + proxywasm_version());
  app.require_subcommand(1);

  serve_arguments arguments;
  CLI::App *serve_command =
      app.add_subcommand("serve", "Runs a reverse proxy, for HTTP/1.1, TCP or both, until SIGTERM or SIGINT.");
  serve_command->add_option("--listen", arguments.listen,
                            "Where HTTP clients connect, HOST:PORT. Port 0: any; it is printed.");
  serve_command->add_option("--upstream", arguments.upstream, "Where requests go, HOST:PORT.");
  serve_command->add_option("--tcp-listen", arguments.tcp_listen,
                            "Where TCP clients connect, HOST:PORT. Port 0: any; it is printed.");
  serve_command->add_option("--tcp-upstream", arguments.tcp_upstream, "Where their connections go, HOST:PORT.");
  serve_command->add_option("--plugin", arguments.plugins, plugin_help)->allow_extra_args(false);
  serve_command->add_option("--service", arguments.services, service_help)->allow_extra_args(false);
  serve_command
      ->add_option("--cluster", arguments.clusters,
                   "What plugins may call: NAME=HOST:PORT. May be given more than once.")
      ->allow_extra_args(false);
  serve_command->add_option("--threads", arguments.threads, "Event loops, each with its own VMs. Default 1.")
      ->check(CLI::Range(1, 64));
  serve_command->add_option("--metrics-path", arguments.metrics_path,
                            "Path that answers with the plugins' metrics, for Prometheus. Default: none.");
  serve_command->add_option("--log-level", arguments.log_level,
                            "Lowest level written to stderr: trace, debug, info, warn, error, critical. Default info.");
  serve_command->add_option(
      "--pause-timeout-ms", arguments.pause_timeout_ms,
      "How long a plugin may pause a request or response, then 504; or a TCP connection, then it is "
      "closed. Default 30000.");
  serve_command->add_option("--idle-timeout-ms", arguments.idle_timeout_ms,
                            "How long a connection may be without a sign of life. Default 60000.");
  serve_command->add_option("--stop-timeout-ms", arguments.stop_timeout_ms,
                            "How long exchanges and TCP connections may go on after SIGTERM. Default 5000.");

  std::string scenario;
  CLI::App *run_command =
      app.add_subcommand("run", "Runs plugins by a scenario, without a network; prints what they did as JSON.");
  run_command->add_option("SCENARIO", scenario, "Scenario in JSON, see docs/scenario.md.")->required();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    if (error.get_exit_code() == 0) {
      return app.exit(error);  // --help, --version
    }
    std::fprintf(stderr, "proxywasm-example: %s (see --help)\n", error.what());
    return 2;
  }

  try {
    if (*serve_command) {
      return serve(to_options(arguments));
    }
    return run_scenario(scenario);
  } catch (const proxywasm::error &error) {
    std::fprintf(stderr, "proxywasm-example: %s\n", error_line("", error).c_str());
  } catch (const std::exception &error) {
    std::fprintf(stderr, "proxywasm-example: %s\n", error.what());
  }
  return 2;
}
