/* SPDX-License-Identifier: Apache-2.0
 *
 * From engine to stream and back: every phase, the order of the guest's callbacks, every order of freeing.
 */
#include "check.h"
#include "host.h"

static void whole_exchange(void)
{
    struct rig rig;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    static const char script[] =
        "request_headers=get,pairs,add request_body=body response_headers=get,replace,remove "
        "response_body=body request_trailers=get response_trailers=get,add log=get";
    char started[64];
    rig_open(&rig, script, NULL);
    snprintf(started, sizeof started, "on_create 0\non_vm_start 0\non_configure %zu\n", strlen(script));
    CHECK_TEXT(rig.host.log, started);
    fake_host_forget(&rig.host);

    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_TEXT(rig.host.log, "");
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CONTINUE);
    CHECK_INT(outcome.ready, PROXYWASM_READY_HEADERS);
    CHECK_INT(outcome.body_count, 0);
    CHECK_TEXT(rig.host.log, "on_create 1\non_request_headers 3 0\nget 0 request\npairs 0 3\nadd 0\n");
    CHECK_TEXT(fake_map_get(&data.maps[PROXYWASM_MAP_REQUEST_HEADERS], "x-out"), "1");
    fake_host_forget(&rig.host);

    const proxywasm_chunk chunks[] = {{(const uint8_t *)"hello ", 6, NULL, NULL},
                                      {NULL, 0, NULL, NULL},
                                      {(const uint8_t *)"world", 5, NULL, NULL}};
    CHECK_OK(proxywasm_stream_on_request_body(stream, chunks, 3, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CONTINUE);
    CHECK_INT(outcome.ready, PROXYWASM_READY_BODY);
    CHECK_TEXT(outcome_text(&outcome), "hello world");
    CHECK_TEXT(rig.host.log, "on_request_body 11 0\nbody 0 hello world\n");
    fake_host_forget(&rig.host);
    CHECK_OK(proxywasm_stream_on_request_trailers(stream, 1, &outcome));
    CHECK_INT(outcome.ready, PROXYWASM_READY_TRAILERS | PROXYWASM_READY_END_OF_STREAM);
    CHECK_TEXT(rig.host.log, "on_request_trailers 1\nget 0 request trailer\n");
    fake_host_forget(&rig.host);

    CHECK_OK(proxywasm_stream_on_response_headers(stream, 2, false, &outcome));
    CHECK_INT(outcome.ready, PROXYWASM_READY_HEADERS);
    CHECK_TEXT(rig.host.log, "on_response_headers 2 0\nget 0 response\nreplace 0\nremove 0\n");
    CHECK_TEXT(fake_map_get(&data.maps[PROXYWASM_MAP_RESPONSE_HEADERS], "x-out"), "2");
    CHECK_TEXT(fake_map_get(&data.maps[PROXYWASM_MAP_RESPONSE_HEADERS], "x-in"), "");
    CHECK_OK(proxywasm_stream_on_response_body(stream, chunks, 1, false, &outcome));
    CHECK_INT(outcome.ready, PROXYWASM_READY_BODY);
    CHECK_TEXT(outcome_text(&outcome), "hello ");
    CHECK_OK(proxywasm_stream_on_response_trailers(stream, 1, &outcome));
    CHECK_INT(outcome.ready, PROXYWASM_READY_TRAILERS | PROXYWASM_READY_END_OF_STREAM);
    CHECK_TEXT(fake_map_get(&data.maps[PROXYWASM_MAP_RESPONSE_TRAILERS], "x-out"), "1");
    fake_host_forget(&rig.host);

    bool idle = true;
    CHECK_OK(proxywasm_worker_is_idle(rig.worker, &idle));
    CHECK(!idle);
    CHECK_OK(proxywasm_stream_log(stream));
    CHECK_OK(proxywasm_stream_done(stream));
    CHECK_OK(proxywasm_stream_done(stream));
    proxywasm_stream_free(stream);
    CHECK(strncmp(rig.host.log, "on_log\n", 7) == 0);
    CHECK(strstr(rig.host.log, "on_done\non_delete\n") != NULL);
    CHECK(strstr(strstr(rig.host.log, "on_done\n") + 1, "on_done\n") == NULL);
    CHECK_OK(proxywasm_worker_is_idle(rig.worker, &idle));
    CHECK(idle);

    fake_stream_init(&data);
    stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    fake_host_forget(&rig.host);
    proxywasm_stream_complete(stream);
    CHECK(strncmp(rig.host.log, "on_log\n", 7) == 0);
    CHECK(strstr(rig.host.log, "on_done\non_delete\n") != NULL);

    proxywasm_worker_stats stats = {.struct_size = sizeof stats};
    CHECK_OK(proxywasm_worker_get_stats(rig.worker, &stats));
    CHECK_INT(stats.vms, 1);
    CHECK_INT(stats.vms_created, 1);
    CHECK_INT(stats.vms_failed, 0);
    CHECK_INT(stats.streams, 0);
    CHECK_INT(stats.streams_created, 2);
    CHECK_INT(stats.callouts, 0);
    CHECK(stats.memory >= 65536 && stats.memory < 16u << 20);
    rig_close(&rig);
}

static void tcp_connection(void)
{
    struct rig rig;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    proxywasm_stream *stream = NULL;
    const proxywasm_chunk chunk = {(const uint8_t *)"bytes", 5, NULL, NULL};
    rig_open(&rig, "downstream=body upstream=body,prepend", NULL);
    fake_stream_init(&data);
    fake_host_forget(&rig.host);
    REQUIRE_OK(proxywasm_stream_new(rig.chain, PROXYWASM_STREAM_KIND_TCP, &data, &stream));
    CHECK_RESULT(proxywasm_stream_on_request_headers(stream, 0, false, &outcome), UNSUPPORTED);
    CHECK_OK(proxywasm_stream_on_new_connection(stream, &outcome));
    CHECK_INT(outcome.ready, PROXYWASM_READY_HEADERS);
    CHECK_OK(proxywasm_stream_on_downstream_data(stream, &chunk, 1, false, &outcome));
    CHECK_TEXT(outcome_text(&outcome), "bytes");
    CHECK_OK(proxywasm_stream_on_upstream_data(stream, &chunk, 1, true, &outcome));
    CHECK_TEXT(outcome_text(&outcome), ">bytes");
    CHECK_INT(outcome.ready, PROXYWASM_READY_BODY | PROXYWASM_READY_END_OF_STREAM);
    CHECK_OK(proxywasm_stream_on_close(stream, PROXYWASM_DIRECTION_RESPONSE, PROXYWASM_PEER_REMOTE));
    CHECK_OK(proxywasm_stream_on_close(stream, PROXYWASM_DIRECTION_REQUEST, PROXYWASM_PEER_LOCAL));
    CHECK_OK(proxywasm_stream_done(stream));
    CHECK_OK(proxywasm_stream_log(stream));
    proxywasm_stream_free(stream);
    CHECK_TEXT(rig.host.log,
               "on_create 1\non_new_connection\non_downstream 5 0\nbody 0 bytes\non_upstream 5 1\nbody 0 "
               "bytes\nprepend 0\non_upstream_close 2\non_downstream_close 1\non_done\non_log\non_delete\n");

    fake_host_forget(&rig.host);
    REQUIRE_OK(proxywasm_stream_new(rig.chain, PROXYWASM_STREAM_KIND_TCP, &data, &stream));
    CHECK_OK(proxywasm_stream_on_new_connection(stream, &outcome));
    proxywasm_stream_complete(stream);
    CHECK_TEXT(rig.host.log, "on_create 1\non_new_connection\non_done\non_log\non_delete\n");

    proxywasm_stream *http = rig_stream(&rig, &data);
    CHECK_RESULT(proxywasm_stream_on_new_connection(http, &outcome), UNSUPPORTED);
    CHECK_RESULT(proxywasm_stream_on_downstream_data(http, &chunk, 1, false, &outcome), UNSUPPORTED);
    proxywasm_stream_free(http);
    rig_close(&rig);
}

/* A chain that passes everything, and one with two plugins in one VM. */
static void chains(void)
{
    struct rig rig;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    proxywasm_chain *empty = NULL, *two = NULL;
    proxywasm_stream *stream = NULL;
    proxywasm_instance *second = NULL;
    const proxywasm_chunk chunk = {(const uint8_t *)"bytes", 5, NULL, NULL};
    rig_open(&rig, "request_body=prepend response_body=prepend", NULL);
    CHECK_INT(proxywasm_chain_length(rig.chain), 1);
    CHECK_INT(proxywasm_chain_phases(rig.chain), 4095);
    CHECK_INT(proxywasm_plugin_phases(rig.plugin), 4095);

    REQUIRE_OK(proxywasm_chain_new(rig.worker, NULL, 0, &empty));
    CHECK_INT(proxywasm_chain_length(empty), 0);
    CHECK_INT(proxywasm_chain_phases(empty), 0);
    REQUIRE_OK(proxywasm_stream_new(empty, PROXYWASM_STREAM_KIND_HTTP, NULL, &stream));
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_INT(outcome.ready, PROXYWASM_READY_HEADERS);
    CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, true, &outcome));
    CHECK_INT(outcome.ready, PROXYWASM_READY_BODY | PROXYWASM_READY_END_OF_STREAM);
    CHECK_TEXT(outcome_text(&outcome), "bytes");
    proxywasm_stream_free(stream);
    proxywasm_chain_free(empty);

    REQUIRE_OK(proxywasm_worker_add_plugin(rig.worker, rig.plugin, &second));
    const proxywasm_instance *instances[] = {rig.instance, second};
    REQUIRE_OK(proxywasm_chain_new(rig.worker, instances, 2, &two));
    CHECK_INT(proxywasm_chain_length(two), 2);
    proxywasm_worker_stats stats = {.struct_size = sizeof stats};
    CHECK_OK(proxywasm_worker_get_stats(rig.worker, &stats));
    CHECK_INT(stats.vms, 1);
    fake_stream_init(&data);
    REQUIRE_OK(proxywasm_stream_new(two, PROXYWASM_STREAM_KIND_HTTP, &data, &stream));
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, true, &outcome));
    CHECK_TEXT(outcome_text(&outcome), ">>bytes");
    proxywasm_stream_free(stream);
    proxywasm_chain_free(two);
    CHECK_OK(proxywasm_instance_remove(second));
    rig_close(&rig);
}

static void phases_of_modules(void)
{
    proxywasm_engine *engine = NULL;
    proxywasm_module *module = NULL;
    proxywasm_plugin_config *config = NULL;
    proxywasm_plugin *plugin = NULL;
    proxywasm_module_info info = {.struct_size = sizeof info};
    REQUIRE_OK(proxywasm_engine_new(NULL, &engine));
    REQUIRE_OK(proxywasm_module_compile(engine, guest("headers"), &module));
    CHECK_OK(proxywasm_module_get_info(module, &info));
    CHECK_INT(info.abi_version, 200);
    CHECK(info.initial_memory >= 65536 && info.initial_memory % 65536 == 0);
    CHECK(memcmp(info.digest, (uint8_t[32]){0}, 32) != 0);
    REQUIRE_OK(proxywasm_plugin_config_new(text_slice("headers"), &config));
    REQUIRE_OK(proxywasm_plugin_new(module, config, &plugin));
    CHECK_INT(proxywasm_plugin_phases(plugin), PROXYWASM_PHASE_REQUEST_HEADERS);
    CHECK_OK(proxywasm_plugin_validate(plugin, NULL, NULL));
    proxywasm_plugin_free(plugin);
    proxywasm_plugin_config_free(config);
    proxywasm_module_free(module);

    /* What is no module. */
    module = NULL;
    static const uint8_t empty_module[] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    CHECK_RESULT(proxywasm_module_compile(engine, (proxywasm_slice){NULL, 0}, &module), BAD_MODULE);
    CHECK_RESULT(proxywasm_module_compile(engine, text_slice("(module)"), &module), BAD_MODULE);
    CHECK_RESULT(proxywasm_module_compile(engine, (proxywasm_slice){empty_module, 8}, &module), UNKNOWN_ABI);
    proxywasm_slice code = guest("scripted");
    for (size_t len = 1; len < code.len; len += code.len / 50) {
        int32_t result = proxywasm_module_compile(engine, (proxywasm_slice){code.data, len}, &module);
        CHECK(result <= PROXYWASM_RESULT_BAD_MODULE && result > PROXYWASM_RESULT_GUEST_TRAP);
    }
    CHECK(module == NULL);
    proxywasm_engine_free(engine);
}

static void rejected(void)
{
    proxywasm_engine *engine = NULL;
    proxywasm_module *module = NULL;
    proxywasm_worker *worker = NULL;
    proxywasm_instance *instance = NULL;
    static struct fake_host host;
    fake_host_init(&host);
    proxywasm_host table = fake_host_table();
    REQUIRE_OK(proxywasm_engine_new(NULL, &engine));
    REQUIRE_OK(proxywasm_module_compile(engine, guest("scripted"), &module));
    REQUIRE_OK(proxywasm_worker_new(engine, &table, &host, &worker));
    proxywasm_plugin *plugin = new_plugin(module, "configure=ret:0", NULL);
    CHECK_RESULT(proxywasm_plugin_validate(plugin, &table, &host), GUEST_REJECTED);
    CHECK(fake_host_logged(&host, "on_configure 15"));
    CHECK_RESULT(proxywasm_worker_add_plugin(worker, plugin, &instance), GUEST_REJECTED);
    CHECK(instance == NULL);
    proxywasm_plugin_free(plugin);
    plugin = new_plugin(module, "configure=trap", NULL);
    CHECK_RESULT(proxywasm_plugin_validate(plugin, &table, &host), GUEST_TRAP);
    CHECK_RESULT(proxywasm_worker_add_plugin(worker, plugin, &instance), GUEST_TRAP);
    CHECK(instance == NULL);
    proxywasm_plugin_free(plugin);
    proxywasm_worker_free(worker);
    proxywasm_module_free(module);
    proxywasm_engine_free(engine);
}

/* A plugin that waits for proxy_done after its removal. */
static void removal(void)
{
    struct rig rig;
    bool idle = true;
    rig_open(&rig, "configure=tick:10 done=ret:0 tick=done", NULL);
    proxywasm_chain_free(rig.chain);
    rig.chain = NULL;
    CHECK_OK(proxywasm_worker_is_idle(rig.worker, &idle));
    CHECK(idle);
    CHECK_OK(proxywasm_instance_remove(rig.instance));
    rig.instance = NULL;
    CHECK(fake_host_logged(&rig.host, "on_done"));
    CHECK(!fake_host_logged(&rig.host, "on_delete"));
    CHECK_OK(proxywasm_worker_is_idle(rig.worker, &idle));
    CHECK(!idle);
    uint64_t timeout = 0;
    CHECK_OK(proxywasm_worker_timeout_ns(rig.worker, &timeout));
    CHECK_INT(timeout, 10000000);
    rig.host.now += timeout;
    CHECK_OK(proxywasm_worker_timeout_ns(rig.worker, &timeout));
    CHECK_INT(timeout, 0);
    CHECK_OK(proxywasm_worker_on_timeout(rig.worker));
    CHECK(fake_host_logged(&rig.host, "on_tick"));
    CHECK(fake_host_logged(&rig.host, "on_delete"));
    CHECK_OK(proxywasm_worker_is_idle(rig.worker, &idle));
    CHECK(idle);
    CHECK_OK(proxywasm_worker_timeout_ns(rig.worker, &timeout));
    CHECK(timeout == UINT64_MAX);
    rig_close(&rig);
}

/* Handles may be freed in any order; those of a worker that is gone only answer. */
enum part { STREAM, CHAIN, INSTANCE, WORKER, PLUGIN, MODULE, ENGINE, PARTS };

static void free_in(const enum part order[PARTS], bool begun)
{
    struct rig rig;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig, "request_body=ret:1 request_headers=call", NULL);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    if (begun) {
        const proxywasm_chunk chunk = {(const uint8_t *)"held", 4, NULL, NULL};
        CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
        CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, false, &outcome));
        CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE_AND_BUFFER);
    }
    bool gone = false, worker_there = true;
    for (int i = 0; i < PARTS; i++) {
        switch (order[i]) {
        case STREAM:
            if (gone) {
                outcome.action = -1;
                CHECK_RESULT(proxywasm_stream_on_request_headers(stream, 3, false, &outcome),
                             INVALID_ARGUMENT);
                CHECK(outcome.action >= 0);
                CHECK_RESULT(proxywasm_stream_log(stream), INVALID_ARGUMENT);
            }
            proxywasm_stream_free(stream);
            break;
        case CHAIN:
            if (gone) {
                proxywasm_stream *none = NULL;
                CHECK_RESULT(proxywasm_stream_new(rig.chain, 0, NULL, &none), INVALID_ARGUMENT);
                CHECK_INT(proxywasm_chain_length(rig.chain), 1);
            }
            proxywasm_chain_free(rig.chain);
            break;
        case INSTANCE:
            if (gone) {
                CHECK_RESULT(proxywasm_instance_on_foreign_function(rig.instance, 1, text_slice("")),
                             INVALID_ARGUMENT);
            }
            {
                int32_t result = proxywasm_instance_remove(rig.instance);
                CHECK(result == PROXYWASM_RESULT_OK || (gone && result == PROXYWASM_RESULT_INVALID_ARGUMENT));
            }
            break;
        case WORKER:
            proxywasm_worker_free(rig.worker);
            /* By then at the latest; with its plugin, if that went before. */
            CHECK_INT(rig.host.cancels, begun ? 1 : 0);
            gone = true;
            worker_there = false;
            break;
        case PLUGIN:
            proxywasm_plugin_free(rig.plugin);
            break;
        case MODULE:
            proxywasm_module_free(rig.module);
            break;
        default:
            proxywasm_engine_free(rig.engine);
            break;
        }
        if (worker_there) {
            CHECK_OK(proxywasm_worker_on_timeout(rig.worker));
        }
    }
}

static void every_order(void)
{
    static const enum part orders[][PARTS] = {
        {STREAM, CHAIN, INSTANCE, WORKER, PLUGIN, MODULE, ENGINE},
        {ENGINE, MODULE, PLUGIN, WORKER, INSTANCE, CHAIN, STREAM},
        {WORKER, STREAM, CHAIN, INSTANCE, PLUGIN, MODULE, ENGINE},
        {WORKER, INSTANCE, CHAIN, STREAM, ENGINE, MODULE, PLUGIN},
        {CHAIN, INSTANCE, STREAM, WORKER, ENGINE, PLUGIN, MODULE},
        {INSTANCE, CHAIN, WORKER, STREAM, MODULE, PLUGIN, ENGINE},
        {PLUGIN, MODULE, ENGINE, INSTANCE, STREAM, CHAIN, WORKER},
        {ENGINE, WORKER, CHAIN, STREAM, MODULE, INSTANCE, PLUGIN},
    };
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        free_in(orders[i], false);
        free_in(orders[i], true);
    }
}

/* A callout that outlives its stream. */
static void callout(void)
{
    struct rig rig;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig, "request_headers=call,ret:1 http_call_response=get,body,resume:0", NULL);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE);
    CHECK_INT(rig.host.token_count, 1);
    proxywasm_worker_stats stats = {.struct_size = sizeof stats};
    CHECK_OK(proxywasm_worker_get_stats(rig.worker, &stats));
    CHECK_INT(stats.callouts, 1);
    proxywasm_stream_free(stream);

    const proxywasm_pair headers[] = {{text_slice(":status"), text_slice("200")},
                                      {text_slice("x-in"), text_slice("of call")}};
    const proxywasm_slice body[] = {text_slice("one "), text_slice("two")};
    proxywasm_http_response response = {
        .struct_size = sizeof response, .headers = headers, .header_count = 2, .body = body, .body_count = 2};
    CHECK_OK(proxywasm_http_call_complete(rig.worker, rig.host.tokens[0], &response));
    CHECK(fake_host_logged(&rig.host, "on_http_call_response 2 7"));
    CHECK(fake_host_logged(&rig.host, "get 0 of call"));
    CHECK(fake_host_logged(&rig.host, "body 0 one two"));
    CHECK_OK(proxywasm_worker_get_stats(rig.worker, &stats));
    CHECK_INT(stats.callouts, 0);
    rig_close(&rig);
}

static void sink(void *user_data, proxywasm_slice bytes)
{
    size_t len = strlen(user_data);
    CHECK(len + bytes.len < 1024);
    memcpy((char *)user_data + len, bytes.data, bytes.len);
}

static void visit(void *user_data, const proxywasm_metric *metric)
{
    CHECK_INT(metric->struct_size, sizeof *metric);
    uint64_t *sum = user_data;
    *sum += metric->value * 100 + metric->sum;
}

static void services(void)
{
    struct rig rig;
    char text[1024] = "";
    uint64_t sum = 0;
    rig_open(&rig,
             "configure=counter,histogram,metric,setdata,getdata,register,enqueue,dequeue,dequeue,time,"
             "foreign:echo",
             NULL);
    CHECK(fake_host_logged(&rig.host, "counter 0"));
    CHECK(fake_host_logged(&rig.host, "metric 0 1"));
    CHECK(fake_host_logged(&rig.host, "getdata 0 v"));
    CHECK(fake_host_logged(&rig.host, "dequeue 0 item"));
    CHECK(fake_host_logged(&rig.host, "dequeue 7"));
    CHECK(fake_host_logged(&rig.host, "foreign 0 arg"));
    CHECK_OK(proxywasm_engine_render_metrics(rig.engine, sink, text));
    CHECK(strstr(text, "# TYPE c counter") != NULL);
    CHECK_OK(proxywasm_engine_visit_metrics(rig.engine, visit, &sum));
    CHECK_INT(sum, 100 + 100 + 7);
    CHECK_OK(proxywasm_instance_on_foreign_function(rig.instance, 5, text_slice("abc")));
    CHECK(fake_host_logged(&rig.host, "on_foreign 5 3"));
    rig_close(&rig);
}

int main(void)
{
    whole_exchange();
    tcp_connection();
    chains();
    phases_of_modules();
    rejected();
    removal();
    every_order();
    callout();
    services();
    return check_summary("lifecycle");
}
