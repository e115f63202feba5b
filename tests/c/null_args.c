/* SPDX-License-Identifier: Apache-2.0
 *
 * Every function with NULL and zero for everything, then those with an out parameter with that alone NULL.
 * The list of functions is made from include/proxywasm.sym: one that has no case here does not compile.
 */
#include "check.h"
#include "host.h"

#define NONE ((proxywasm_slice){NULL, 0})

/* A function with a result refuses. */
#define REFUSES(name, ...)                                                                                   \
    static void null_##name(void)                                                                            \
    {                                                                                                        \
        CHECK_RESULT(name(__VA_ARGS__), INVALID_ARGUMENT);                                                   \
    }
/* A function without a result does nothing. */
#define IGNORES(name)                                                                                        \
    static void null_##name(void)                                                                            \
    {                                                                                                        \
        name(NULL);                                                                                          \
        CHECK(true);                                                                                         \
    }
/* A function that gives a number gives 0. */
#define ZERO(name)                                                                                           \
    static void null_##name(void)                                                                            \
    {                                                                                                        \
        CHECK_INT(name(NULL), 0);                                                                            \
    }

static void null_proxywasm_version(void)
{
    CHECK(proxywasm_version() != NULL);
}

static void null_proxywasm_abi_version(void)
{
    CHECK_INT(proxywasm_abi_version(), PROXYWASM_ABI_VERSION);
}

static void null_proxywasm_result_name(void)
{
    CHECK_TEXT(proxywasm_result_name(0), "OK");
}

static void null_proxywasm_last_error(void)
{
    char buffer[8] = "sentine";
    CHECK_RESULT(proxywasm_engine_new(NULL, NULL), INVALID_ARGUMENT);
    size_t length = proxywasm_last_error(NULL, 0);
    CHECK(length > 4);
    CHECK_INT(proxywasm_last_error(buffer, 0), length);
    CHECK_TEXT(buffer, "sentine");
    CHECK_INT(proxywasm_last_error(buffer, 1), length);
    CHECK_TEXT(buffer, "");
    CHECK_INT(proxywasm_last_error(buffer, 5), length);
    CHECK_INT(strlen(buffer), 4);
    /* A capacity that no buffer has. */
    CHECK_INT(proxywasm_last_error(NULL, 8), length);
}

static void null_proxywasm_instance_remove(void)
{
    CHECK_OK(proxywasm_instance_remove(NULL));
}

REFUSES(proxywasm_engine_config_new, NULL)
IGNORES(proxywasm_engine_config_free)
REFUSES(proxywasm_engine_config_set_log, NULL, 0, NULL, NULL)
REFUSES(proxywasm_engine_config_set_parallel_compilation, NULL, false)
REFUSES(proxywasm_engine_config_set_optimization, NULL, false)
REFUSES(proxywasm_engine_config_set_signal_traps, NULL, false)
REFUSES(proxywasm_engine_config_set_interruption, NULL, false)
REFUSES(proxywasm_engine_config_set_tick_period, NULL, 0)
REFUSES(proxywasm_engine_config_set_pooling, NULL, 0)
REFUSES(proxywasm_engine_config_add_foreign_function, NULL, NONE, NULL, NULL)
REFUSES(proxywasm_engine_new, NULL, NULL)
IGNORES(proxywasm_engine_free)
IGNORES(proxywasm_engine_tick)
REFUSES(proxywasm_engine_start_ticker, NULL)
REFUSES(proxywasm_engine_stop_ticker, NULL)
REFUSES(proxywasm_engine_fork_child, NULL)
REFUSES(proxywasm_engine_visit_metrics, NULL, NULL, NULL)
REFUSES(proxywasm_engine_render_metrics, NULL, NULL, NULL)
REFUSES(proxywasm_module_compile, NULL, NONE, NULL)
REFUSES(proxywasm_module_get_info, NULL, NULL)
IGNORES(proxywasm_module_free)
REFUSES(proxywasm_plugin_config_new, NONE, NULL)
IGNORES(proxywasm_plugin_config_free)
REFUSES(proxywasm_plugin_config_set_root_id, NULL, NONE)
REFUSES(proxywasm_plugin_config_set_vm_id, NULL, NONE)
REFUSES(proxywasm_plugin_config_set_vm_configuration, NULL, NONE)
REFUSES(proxywasm_plugin_config_set_configuration, NULL, NONE)
REFUSES(proxywasm_plugin_config_add_environment, NULL, NONE, NONE)
REFUSES(proxywasm_plugin_config_set_limits, NULL, NULL)
REFUSES(proxywasm_plugin_config_set_failure_policy, NULL, 0)
REFUSES(proxywasm_plugin_config_set_reload, NULL, 0, 0, 0)
REFUSES(proxywasm_plugin_config_allow, NULL, NONE)
REFUSES(proxywasm_plugin_config_set_allow_on_headers_stop_iteration, NULL, false)
REFUSES(proxywasm_plugin_config_set_phases, NULL, 0)
REFUSES(proxywasm_plugin_new, NULL, NULL, NULL)
ZERO(proxywasm_plugin_phases)
REFUSES(proxywasm_plugin_validate, NULL, NULL, NULL)
IGNORES(proxywasm_plugin_free)
REFUSES(proxywasm_worker_new, NULL, NULL, NULL, NULL)
REFUSES(proxywasm_worker_move, NULL)
REFUSES(proxywasm_worker_add_plugin, NULL, NULL, NULL)
REFUSES(proxywasm_instance_on_foreign_function, NULL, 0, NONE)
REFUSES(proxywasm_worker_timeout_ns, NULL, NULL)
REFUSES(proxywasm_worker_on_timeout, NULL)
REFUSES(proxywasm_worker_run_pending, NULL)
REFUSES(proxywasm_worker_queue_ready, NULL, 0)
REFUSES(proxywasm_worker_is_idle, NULL, NULL)
REFUSES(proxywasm_worker_get_stats, NULL, NULL)
IGNORES(proxywasm_worker_free)
REFUSES(proxywasm_chain_new, NULL, NULL, 0, NULL)
REFUSES(proxywasm_chain_set_isolation, NULL, 0)
ZERO(proxywasm_chain_phases)
ZERO(proxywasm_chain_length)
IGNORES(proxywasm_chain_free)
REFUSES(proxywasm_stream_new, NULL, 0, NULL, NULL)
REFUSES(proxywasm_stream_on_request_headers, NULL, 0, false, NULL)
REFUSES(proxywasm_stream_on_request_body, NULL, NULL, 0, false, NULL)
REFUSES(proxywasm_stream_on_request_trailers, NULL, 0, NULL)
REFUSES(proxywasm_stream_on_response_headers, NULL, 0, false, NULL)
REFUSES(proxywasm_stream_on_response_body, NULL, NULL, 0, false, NULL)
REFUSES(proxywasm_stream_on_response_trailers, NULL, 0, NULL)
REFUSES(proxywasm_stream_on_metadata, NULL, 0, 0, NULL)
REFUSES(proxywasm_stream_on_new_connection, NULL, NULL)
REFUSES(proxywasm_stream_on_downstream_data, NULL, NULL, 0, false, NULL)
REFUSES(proxywasm_stream_on_upstream_data, NULL, NULL, 0, false, NULL)
REFUSES(proxywasm_stream_on_close, NULL, 0, 0)
REFUSES(proxywasm_stream_resume, NULL, 0, NULL)
REFUSES(proxywasm_stream_log, NULL)
REFUSES(proxywasm_stream_done, NULL)
IGNORES(proxywasm_stream_free)
IGNORES(proxywasm_stream_complete)
REFUSES(proxywasm_http_call_complete, NULL, 0, NULL)
REFUSES(proxywasm_grpc_initial_metadata, NULL, 0, NULL, 0)
REFUSES(proxywasm_grpc_message, NULL, 0, NULL, 0)
REFUSES(proxywasm_grpc_trailing_metadata, NULL, 0, NULL, 0)
REFUSES(proxywasm_grpc_close, NULL, 0, 0, NONE)

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
#define SYMBOL(name) {#name, null_##name},
#include "symbols.inc"
};

static const uint8_t byte;
/* NULL with a length, and a length that nothing has. */
static const proxywasm_slice bad_slices[] = {
    {NULL, 1}, {NULL, SIZE_MAX}, {&byte, SIZE_MAX}, {&byte, SIZE_MAX / 2 + 1}};

static void one_null_at_a_time(void)
{
    struct rig rig;
    struct fake_stream data;
    rig_open(&rig, "", NULL);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    proxywasm_outcome outcome = blank_outcome();
    proxywasm_plugin_config *config = NULL;
    proxywasm_engine_config *engine_config = NULL;
    proxywasm_worker *worker = NULL;
    proxywasm_module *module = NULL;
    proxywasm_plugin *plugin = NULL;
    proxywasm_chain *chain = NULL;
    proxywasm_host table = fake_host_table();
    REQUIRE_OK(proxywasm_plugin_config_new(text_slice("x"), &config));
    REQUIRE_OK(proxywasm_engine_config_new(&engine_config));

    CHECK_RESULT(proxywasm_module_compile(rig.engine, guest("scripted"), NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_module_get_info(rig.module, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_plugin_new(rig.module, config, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_plugin_new(rig.module, NULL, &plugin), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_plugin_new(NULL, config, &plugin), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_plugin_config_set_limits(config, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_plugin_config_set_failure_policy(config, 3), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_plugin_config_set_failure_policy(config, -1), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_engine_config_set_tick_period(engine_config, 0), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_engine_config_set_tick_period(engine_config, 10000000001u), INVALID_ARGUMENT);
    CHECK_OK(proxywasm_engine_config_set_tick_period(engine_config, 10000000000u));
    CHECK_RESULT(proxywasm_engine_config_add_foreign_function(engine_config, text_slice("f"), NULL, NULL),
                 INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_engine_visit_metrics(rig.engine, NULL, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_engine_render_metrics(rig.engine, NULL, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_worker_new(rig.engine, &table, NULL, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_worker_new(rig.engine, NULL, NULL, &worker), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_worker_new(NULL, &table, NULL, &worker), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_worker_add_plugin(rig.worker, rig.plugin, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_worker_timeout_ns(rig.worker, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_worker_is_idle(rig.worker, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_worker_get_stats(rig.worker, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_worker_queue_ready(rig.worker, 0), NOT_FOUND);
    CHECK_RESULT(proxywasm_chain_new(rig.worker, NULL, 1, &chain), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_chain_new(rig.worker, NULL, SIZE_MAX, &chain), INVALID_ARGUMENT);
    const proxywasm_instance *holes[] = {rig.instance, NULL};
    CHECK_RESULT(proxywasm_chain_new(rig.worker, holes, 2, &chain), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_chain_new(rig.worker, holes, 1, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_chain_set_isolation(rig.chain, 3), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_chain_set_isolation(rig.chain, -1), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_new(rig.chain, 0, NULL, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_new(rig.chain, 2, NULL, &stream), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_new(rig.chain, -1, NULL, &stream), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_on_request_headers(stream, 3, false, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_on_request_headers(NULL, 3, false, &outcome), INVALID_ARGUMENT);
    CHECK(outcome.action >= 0);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_RESULT(proxywasm_stream_on_request_body(stream, NULL, 1, false, &outcome), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_on_request_body(stream, NULL, SIZE_MAX, false, &outcome), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_resume(stream, 2, &outcome), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_resume(stream, -1, &outcome), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_resume(stream, 0, NULL), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_on_metadata(stream, 2, 0, &outcome), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_on_close(stream, 0, 3), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_on_close(stream, 2, 0), INVALID_ARGUMENT);
    for (size_t i = 0; i < sizeof bad_slices / sizeof bad_slices[0]; i++) {
        proxywasm_slice bad = bad_slices[i];
        proxywasm_pair pair = {bad, NONE};
        proxywasm_chunk chunk = {bad.data, bad.len, NULL, NULL};
        proxywasm_plugin_config *other = NULL;
        CHECK_RESULT(proxywasm_module_compile(rig.engine, bad, &module), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_plugin_config_new(bad, &other), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_plugin_config_set_root_id(config, bad), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_plugin_config_set_vm_id(config, bad), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_plugin_config_set_configuration(config, bad), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_plugin_config_set_vm_configuration(config, bad), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_plugin_config_add_environment(config, bad, NONE), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_plugin_config_add_environment(config, text_slice("A"), bad), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_plugin_config_allow(config, bad), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_instance_on_foreign_function(rig.instance, 0, bad), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_stream_on_request_body(stream, &chunk, 1, false, &outcome), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_grpc_message(rig.worker, 1, &bad, 1), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_grpc_close(rig.worker, 1, 0, bad), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_grpc_initial_metadata(rig.worker, 1, &pair, 1), INVALID_ARGUMENT);
        CHECK_RESULT(proxywasm_grpc_trailing_metadata(rig.worker, 1, &pair, 1), INVALID_ARGUMENT);
    }
    /* Text that is no UTF-8. */
    proxywasm_slice latin = text_slice("\xe9t\xe9");
    CHECK_RESULT(proxywasm_plugin_config_set_root_id(config, latin), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_plugin_config_set_vm_id(config, latin), INVALID_ARGUMENT);
    CHECK_OK(proxywasm_plugin_config_set_configuration(config, latin));

    /* Out parameters are written on success only. */
    CHECK(module == NULL && plugin == NULL && worker == NULL && chain == NULL);
    proxywasm_engine_config_free(engine_config);
    proxywasm_plugin_config_free(config);
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned before = check_count;
        cases[i].run();
        CHECK(check_count > before);
    }
    printf("%zu functions\n", sizeof cases / sizeof cases[0]);
    one_null_at_a_time();
    return check_summary("null_args");
}
