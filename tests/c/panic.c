/* SPDX-License-Identifier: Apache-2.0
 *
 * A fault inside the library is caught at its boundary, takes its worker and nothing else. Needs a library
 * with the feature fault-injection: a guest that calls the foreign function `proxywasm.fault.panic` makes it
 * panic.
 */
#include "check.h"
#include "host.h"

static const char *const script = "request_headers=get response_headers=foreign:proxywasm.fault.panic "
                                  "request_body=foreign:proxywasm.fault.panic";

static void policy_open(proxywasm_plugin_config *config)
{
    CHECK_OK(proxywasm_plugin_config_set_failure_policy(config, PROXYWASM_FAILURE_POLICY_OPEN));
}

static unsigned released;

static void release(void *context)
{
    (void)context;
    released++;
}

static void one(rig_configure_fn *configure)
{
    struct rig rig, other;
    struct fake_stream data, second_data, other_data;
    proxywasm_outcome outcome = blank_outcome();
    bool open = configure == policy_open;
    rig_open(&rig, script, configure);
    rig_open_on(&other, rig.engine, rig.module, "request_headers=get", NULL);
    proxywasm_stream *stream = rig_stream(&rig, &data), *second = rig_stream(&rig, &second_data);
    proxywasm_stream *beside = rig_stream(&other, &other_data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_OK(proxywasm_stream_on_request_headers(second, 3, false, &outcome));

    released = 0;
    const proxywasm_chunk chunk = {(const uint8_t *)"body", 4, release, NULL};
    outcome.action = -1;
    CHECK_RESULT(proxywasm_stream_on_request_body(stream, &chunk, 1, true, &outcome), PANIC);
    CHECK_INT(outcome.action, open ? PROXYWASM_ACTION_CONTINUE : PROXYWASM_ACTION_CLOSE);
    CHECK_INT(outcome.ready, open ? PROXYWASM_READY_BODY | PROXYWASM_READY_END_OF_STREAM : 0);
    if (open) {
        CHECK_INT(outcome.body_len, 4);
        CHECK_TEXT(outcome_text(&outcome), "body");
    }
    CHECK(released <= 1);

    /* From now on. */
    outcome.action = -1;
    CHECK_RESULT(proxywasm_stream_on_response_headers(second, 2, true, &outcome), POISONED);
    CHECK_INT(outcome.action, open ? PROXYWASM_ACTION_CONTINUE : PROXYWASM_ACTION_CLOSE);
    CHECK_INT(outcome.ready, open ? PROXYWASM_READY_HEADERS | PROXYWASM_READY_END_OF_STREAM : 0);
    CHECK_RESULT(proxywasm_stream_log(second), POISONED);
    CHECK_RESULT(proxywasm_stream_done(second), POISONED);
    CHECK_RESULT(proxywasm_worker_on_timeout(rig.worker), POISONED);
    CHECK_RESULT(proxywasm_worker_run_pending(rig.worker), POISONED);
    uint64_t timeout = 0;
    bool idle = false;
    proxywasm_worker_stats stats = {.struct_size = sizeof stats};
    proxywasm_stream *none = NULL;
    proxywasm_instance *instance = NULL;
    CHECK_RESULT(proxywasm_worker_timeout_ns(rig.worker, &timeout), POISONED);
    CHECK_RESULT(proxywasm_worker_is_idle(rig.worker, &idle), POISONED);
    CHECK_RESULT(proxywasm_worker_get_stats(rig.worker, &stats), POISONED);
    CHECK_RESULT(proxywasm_stream_new(rig.chain, 0, NULL, &none), POISONED);
    CHECK_RESULT(proxywasm_worker_add_plugin(rig.worker, rig.plugin, &instance), POISONED);
    CHECK_RESULT(proxywasm_http_call_complete(rig.worker, 1, NULL), POISONED);

    /* Freeing works. */
    proxywasm_stream_free(stream);
    proxywasm_stream_free(second);
    CHECK(released <= 1);
    proxywasm_chain_free(rig.chain);
    CHECK_RESULT(proxywasm_instance_remove(rig.instance), POISONED);
    proxywasm_worker_free(rig.worker);

    /* The worker beside goes on, and a new one can be made of the same plugin. */
    CHECK_OK(proxywasm_stream_on_request_headers(beside, 3, true, &outcome));
    CHECK(fake_host_logged(&other.host, "get 0 request"));
    proxywasm_stream_free(beside);
    rig_close(&other);
    struct rig again;
    rig_open_on(&again, rig.engine, rig.module, script, configure);
    beside = rig_stream(&again, &other_data);
    CHECK_OK(proxywasm_stream_on_request_headers(beside, 3, true, &outcome));
    CHECK_RESULT(proxywasm_stream_on_response_headers(beside, 2, true, &outcome), PANIC);
    CHECK_INT(outcome.action, open ? PROXYWASM_ACTION_CONTINUE : PROXYWASM_ACTION_CLOSE);
    proxywasm_stream_free(beside);
    proxywasm_chain_free(again.chain);
    (void)proxywasm_instance_remove(again.instance);
    proxywasm_worker_free(again.worker);
    proxywasm_plugin_free(again.plugin);

    proxywasm_plugin_free(rig.plugin);
    proxywasm_module_free(rig.module);
    proxywasm_engine_free(rig.engine);
}

/* While a plugin starts. */
static void in_configure(void)
{
    static struct fake_host host;
    proxywasm_engine *engine = NULL;
    proxywasm_module *module = NULL;
    proxywasm_worker *worker = NULL;
    proxywasm_instance *instance = NULL;
    proxywasm_host table = fake_host_table();
    fake_host_init(&host);
    REQUIRE_OK(proxywasm_engine_new(NULL, &engine));
    REQUIRE_OK(proxywasm_module_compile(engine, guest("scripted"), &module));
    proxywasm_plugin *plugin = new_plugin(module, "configure=foreign:proxywasm.fault.panic", NULL);
    CHECK_RESULT(proxywasm_plugin_validate(plugin, &table, &host), PANIC);
    REQUIRE_OK(proxywasm_worker_new(engine, &table, &host, &worker));
    CHECK_RESULT(proxywasm_worker_add_plugin(worker, plugin, &instance), PANIC);
    CHECK(instance == NULL);
    CHECK_RESULT(proxywasm_worker_run_pending(worker), POISONED);
    proxywasm_worker_free(worker);
    proxywasm_plugin_free(plugin);
    proxywasm_module_free(module);
    proxywasm_engine_free(engine);
}

int main(void)
{
    one(NULL);
    one(policy_open);
    in_configure();
    return check_summary("panic");
}
