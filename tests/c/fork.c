/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a proxy that forks its workers: modules and plugins made before, workers after.
 */
#include "check.h"
#include "host.h"
#include <sys/wait.h>
#include <unistd.h>

static proxywasm_engine *engine;
static proxywasm_module *module;

static void short_deadline(proxywasm_plugin_config *config)
{
    proxywasm_limits limits = {.struct_size = sizeof limits, .deadline_ns = 50000000};
    CHECK_OK(proxywasm_plugin_config_set_limits(config, &limits));
}

/* One stream that does what `script` says. */
static void exchange(const char *script, rig_configure_fn *configure, int32_t result)
{
    struct rig rig;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    rig_open_on(&rig, engine, module, script, configure);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_INT(proxywasm_stream_on_request_headers(stream, 3, true, &outcome), result);
    CHECK_INT(outcome.action,
              result == PROXYWASM_RESULT_OK ? PROXYWASM_ACTION_CONTINUE : PROXYWASM_ACTION_LOCAL_RESPONSE);
    CHECK_INT(rig.host.failures, result == PROXYWASM_RESULT_OK ? 0 : 1);
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

/* With the plugin that was made before the fork. */
static void exchange_with(proxywasm_plugin *plugin)
{
    static struct fake_host host;
    proxywasm_worker *worker = NULL;
    proxywasm_instance *instance = NULL;
    proxywasm_chain *chain = NULL;
    proxywasm_stream *stream = NULL;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    proxywasm_host table = fake_host_table();
    fake_host_init(&host);
    fake_stream_init(&data);
    REQUIRE_OK(proxywasm_worker_new(engine, &table, &host, &worker));
    REQUIRE_OK(proxywasm_worker_add_plugin(worker, plugin, &instance));
    const proxywasm_instance *instances[] = {instance};
    REQUIRE_OK(proxywasm_chain_new(worker, instances, 1, &chain));
    REQUIRE_OK(proxywasm_stream_new(chain, 0, &data, &stream));
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    CHECK(fake_host_logged(&host, "get 0 request"));
    proxywasm_stream_free(stream);
    proxywasm_chain_free(chain);
    CHECK_OK(proxywasm_instance_remove(instance));
    proxywasm_worker_free(worker);
}

static void work(proxywasm_plugin *plugin)
{
    exchange_with(plugin);
    exchange("request_headers=trap", NULL, PROXYWASM_RESULT_GUEST_TRAP);
    exchange("request_headers=oob", NULL, PROXYWASM_RESULT_GUEST_TRAP);
    exchange("request_headers=recurse", NULL, PROXYWASM_RESULT_GUEST_TRAP);
    CHECK_OK(proxywasm_engine_start_ticker(engine));
    CHECK_OK(proxywasm_engine_start_ticker(engine));
    exchange("request_headers=loop", short_deadline, PROXYWASM_RESULT_GUEST_TIMEOUT);
    CHECK_OK(proxywasm_engine_stop_ticker(engine));
    CHECK_OK(proxywasm_engine_start_ticker(engine));
    exchange("request_headers=loop", short_deadline, PROXYWASM_RESULT_GUEST_TIMEOUT);
    CHECK_OK(proxywasm_engine_stop_ticker(engine));
    /* Compiling in a child works, too. */
    proxywasm_module *again = NULL;
    CHECK_OK(proxywasm_module_compile(engine, guest("headers"), &again));
    proxywasm_module_free(again);
}

static int child(int number, proxywasm_plugin *plugin)
{
    check_count = check_failures = 0;
    alarm(60);
    if (number == 0) {
        /* Not told of the fork. */
        proxywasm_worker *worker = NULL;
        proxywasm_host table = fake_host_table();
        char text[256];
        CHECK_INT(proxywasm_worker_new(engine, &table, NULL, &worker), PROXYWASM_RESULT_INVALID_ARGUMENT);
        proxywasm_last_error(text, sizeof text);
        CHECK(worker == NULL);
        CHECK(strstr(text, "proxywasm_engine_fork_child") != NULL);
    }
    CHECK_OK(proxywasm_engine_fork_child(engine));
    work(plugin);
    if (number == 1) {
        /* A child of the child. */
        pid_t pid = fork();
        if (pid == 0) {
            CHECK_OK(proxywasm_engine_fork_child(engine));
            exchange_with(plugin);
            fflush(NULL);
            _exit(check_summary("fork, grandchild"));
        }
        int status = 0;
        CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    int result = check_summary("fork, child");
    fflush(NULL);
    return result;
}

int main(void)
{
    static struct fake_host host;
    proxywasm_host table = fake_host_table();
    alarm(110);
    fake_host_init(&host);
    REQUIRE_OK(proxywasm_engine_new(NULL, &engine));
    REQUIRE_OK(proxywasm_module_compile(engine, guest("scripted"), &module));
    proxywasm_plugin *plugin = new_plugin(module, "request_headers=get", NULL);
    CHECK_OK(proxywasm_plugin_validate(plugin, &table, &host));
    CHECK(fake_host_logged(&host, "on_configure 19"));

    enum { CHILDREN = 3 };
    pid_t children[CHILDREN];
    fflush(NULL);
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            _exit(child(i, plugin));
        }
    }
    /* The parent goes on as if nothing had been. */
    work(plugin);
    for (int i = 0; i < CHILDREN; i++) {
        int status = 0;
        CHECK(waitpid(children[i], &status, 0) == children[i]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    proxywasm_plugin_free(plugin);
    proxywasm_module_free(module);
    proxywasm_engine_free(engine);
    return check_summary("fork");
}
