// SPDX-License-Identifier: Apache-2.0
#include "proxy.h"

#include <event2/thread.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <mutex>
#include <thread>

#include "event_loop.h"

namespace {

// Loops of other threads, so that the signal handler's loop can stop them.
class thread_pool {
 public:
  thread_pool() = default;
  ~thread_pool() {
    stop();
    for (std::thread &thread : threads_) {
      thread.join();
    }
  }
  thread_pool(const thread_pool &) = delete;
  thread_pool &operator=(const thread_pool &) = delete;

  // A worker belongs to the thread that makes it, so each thread makes its own loop.
  void add(const proxy_options &options, const proxywasm::engine &engine, const plugin_set &plugins,
           const listen_addresses &addresses) {
    threads_.emplace_back([this, &options, &engine, &plugins, addresses] {
      try {
        event_loop loop(options, engine, plugins);
        (void)loop.listen(addresses);
        enter(&loop);
        loop.run();
        leave(&loop);
      } catch (const std::exception &error) {
        // The first loop has started the same plugins, so this is rare; the others serve on.
        std::fprintf(stderr, "error [proxy] a thread could not start: %s\n", error.what());
      }
    });
  }

  void stop() {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
    for (event_loop *loop : loops_) {
      loop->stop();
    }
  }

 private:
  void enter(event_loop *loop) {
    const std::lock_guard<std::mutex> lock(mutex_);
    loops_.push_back(loop);
    if (stopped_) {
      loop->stop();
    }
  }
  void leave(event_loop *loop) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (event_loop *&one : loops_) {
      if (one == loop) {
        one = loops_.back();
        loops_.pop_back();
        break;
      }
    }
  }

  std::mutex mutex_;
  std::vector<event_loop *> loops_;
  std::vector<std::thread> threads_;
  bool stopped_ = false;
};

struct stop_all {
  event_loop &first;
  thread_pool &others;
};

std::vector<proxywasm::plugin> load_plugins(const proxywasm::engine &engine, module_set &modules,
                                            const std::vector<plugin_options> &all) {
  std::vector<proxywasm::plugin> plugins;
  for (const plugin_options &one : all) {
    try {
      plugins.push_back(load_plugin(engine, modules, one));
    } catch (const proxywasm::error &error) {
      throw usage_error(error_line(one.name, error));
    }
  }
  return plugins;
}

void on_signal(evutil_socket_t, short, void *data) {
  auto *all = static_cast<stop_all *>(data);
  all->first.stop();
  all->others.stop();
}

}  // namespace

int serve(const proxy_options &options) {
  std::signal(SIGPIPE, SIG_IGN);
  // `wake` and `stop` come from other threads.
  if (evthread_use_pthreads() != 0) {
    throw usage_error("libevent cannot use threads");
  }
  const proxywasm::engine engine;
  module_set modules;
  const plugin_set plugins{load_plugins(engine, modules, options.plugins),
                           load_plugins(engine, modules, options.services)};
  // Without it no plugin would ever be interrupted.
  engine.start_ticker();

  event_loop first(options, engine, plugins);
  listen_addresses wanted;
  if (options.http) wanted.http = options.http->listen;
  if (options.tcp) wanted.tcp = options.tcp->listen;
  const listen_addresses bound = first.listen(wanted);
  thread_pool others;
  for (unsigned i = 1; i < options.threads; ++i) {
    others.add(options, engine, plugins, bound);
  }
  stop_all all{first, others};
  const event_ptr on_term(event_new(first.base(), SIGTERM, EV_SIGNAL | EV_PERSIST, on_signal, &all));
  const event_ptr on_int(event_new(first.base(), SIGINT, EV_SIGNAL | EV_PERSIST, on_signal, &all));
  event_add(on_term.get(), nullptr);
  event_add(on_int.get(), nullptr);
  if (bound.http) std::printf("listening on %s\n", bound.http->text.c_str());
  if (bound.tcp) std::printf("listening on %s (tcp)\n", bound.tcp->text.c_str());
  std::fflush(stdout);
  first.run();
  return 0;
}
