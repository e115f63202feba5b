/* SPDX-License-Identifier: Apache-2.0
 *
 * A host that gives back what cannot be. The guest sees a failure; nothing crashes.
 */
#include "check.h"
#include "host.h"

/* What each callback gives back in this round. */
static int32_t status;
static proxywasm_slice value;
static size_t count;
static bool write_pairs;
static uint32_t id;
static uint64_t number;

static int32_t bad_get_header(void *user_data, void *stream_data, int32_t map, proxywasm_slice name,
                              proxywasm_slice *out_value)
{
    (void)user_data, (void)stream_data, (void)map, (void)name;
    *out_value = value;
    return status;
}

static int32_t bad_get_headers(void *user_data, void *stream_data, int32_t map, proxywasm_pair *pairs,
                               size_t capacity, size_t *out_count)
{
    (void)user_data, (void)stream_data, (void)map;
    for (size_t i = 0; write_pairs && i < capacity; i++) {
        pairs[i].name = value;
        pairs[i].value = value;
    }
    *out_count = count;
    return status;
}

static int32_t bad_change(void *user_data, void *stream_data, int32_t map, proxywasm_slice name,
                          proxywasm_slice text)
{
    (void)user_data, (void)stream_data, (void)map, (void)name, (void)text;
    return status;
}

static int32_t bad_remove(void *user_data, void *stream_data, int32_t map, proxywasm_slice name)
{
    (void)user_data, (void)stream_data, (void)map, (void)name;
    return status;
}

static int32_t bad_set(void *user_data, void *stream_data, int32_t map, const proxywasm_pair *pairs,
                       size_t pair_count)
{
    (void)user_data, (void)stream_data, (void)map, (void)pairs, (void)pair_count;
    return status;
}

static int32_t bad_get_property(void *user_data, void *stream_data, proxywasm_slice path,
                                proxywasm_slice *out_value)
{
    (void)user_data, (void)stream_data, (void)path;
    *out_value = value;
    return status;
}

static int32_t bad_set_property(void *user_data, void *stream_data, proxywasm_slice path,
                                proxywasm_slice text)
{
    (void)user_data, (void)stream_data, (void)path, (void)text;
    return status;
}

static int32_t bad_local(void *user_data, void *stream_data, const proxywasm_local_response *response)
{
    (void)user_data, (void)stream_data, (void)response;
    return status;
}

static int32_t bad_http(void *user_data, void *stream_data, proxywasm_token token,
                        const proxywasm_http_request *request)
{
    (void)user_data, (void)stream_data, (void)token, (void)request;
    return status;
}

static int32_t bad_grpc(void *user_data, void *stream_data, proxywasm_token token,
                        const proxywasm_grpc_request *request)
{
    (void)user_data, (void)stream_data, (void)token, (void)request;
    return status;
}

static int32_t bad_define(void *user_data, int32_t type, proxywasm_slice name, uint32_t *out_id)
{
    (void)user_data, (void)type, (void)name;
    *out_id = id;
    return status;
}

static int32_t bad_increment(void *user_data, uint32_t metric, int64_t delta)
{
    (void)user_data, (void)metric, (void)delta;
    return status;
}

static int32_t bad_record(void *user_data, uint32_t metric, uint64_t amount)
{
    (void)user_data, (void)metric, (void)amount;
    return status;
}

static int32_t bad_get_metric(void *user_data, uint32_t metric, uint64_t *out_value)
{
    (void)user_data, (void)metric;
    *out_value = number;
    return status;
}

static int32_t bad_get_data(void *user_data, proxywasm_slice vm_id, proxywasm_slice key,
                            proxywasm_slice *out_value, uint32_t *out_cas)
{
    (void)user_data, (void)vm_id, (void)key;
    *out_value = value;
    *out_cas = id;
    return status;
}

static int32_t bad_set_data(void *user_data, proxywasm_slice vm_id, proxywasm_slice key, proxywasm_slice text,
                            uint32_t cas)
{
    (void)user_data, (void)vm_id, (void)key, (void)text, (void)cas;
    return status;
}

static int32_t bad_queue(void *user_data, proxywasm_slice vm_id, proxywasm_slice name, uint32_t *out_queue)
{
    (void)user_data, (void)vm_id, (void)name;
    *out_queue = id;
    return status;
}

static int32_t bad_enqueue(void *user_data, uint32_t queue, proxywasm_slice text)
{
    (void)user_data, (void)queue, (void)text;
    return status;
}

static int32_t bad_dequeue(void *user_data, uint32_t queue, proxywasm_slice *out_value)
{
    (void)user_data, (void)queue;
    *out_value = value;
    return status;
}

static int32_t bad_foreign(void *user_data, void *stream_data, proxywasm_slice name, proxywasm_slice argument,
                           proxywasm_slice *out_result)
{
    (void)user_data, (void)stream_data, (void)name, (void)argument;
    *out_result = value;
    return status;
}

static int32_t bad_level(void *user_data)
{
    (void)user_data;
    return status;
}

static proxywasm_host bad_table(void)
{
    proxywasm_host table = fake_host_table();
    table.get_header = bad_get_header;
    table.get_headers = bad_get_headers;
    table.add_header = bad_change;
    table.replace_header = bad_change;
    table.remove_header = bad_remove;
    table.set_headers = bad_set;
    table.get_property = bad_get_property;
    table.set_property = bad_set_property;
    table.send_local_response = bad_local;
    table.http_call = bad_http;
    table.grpc_call = bad_grpc;
    table.grpc_stream = bad_grpc;
    table.define_metric = bad_define;
    table.increment_metric = bad_increment;
    table.record_metric = bad_record;
    table.get_metric = bad_get_metric;
    table.get_shared_data = bad_get_data;
    table.set_shared_data = bad_set_data;
    table.register_queue = bad_queue;
    table.resolve_queue = bad_queue;
    table.enqueue = bad_enqueue;
    table.dequeue = bad_dequeue;
    table.call_foreign_function = bad_foreign;
    return table;
}

static const char *const script =
    "request_headers=get,pairs,add,replace,remove,set,prop,setprop,call,grpc,stream,"
    "counter,histogram,metric,getdata,setdata,register,resolve,enqueue,dequeue,foreign:x";

static struct rig rig;

static void run(void)
{
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    fake_host_forget(&rig.host);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CONTINUE);
    proxywasm_stream_free(stream);
    /* The guest came to its end. */
    CHECK(strstr(rig.host.log, "\nforeign ") != NULL);
}

static void logged(const char *line)
{
    if (!CHECK(fake_host_logged(&rig.host, line))) {
        fprintf(stderr, "    no '%s' in:\n%s", line, rig.host.log);
    }
}

int main(void)
{
    proxywasm_host table = bad_table();
    proxywasm_engine *engine = NULL;
    proxywasm_module *module = NULL;
    REQUIRE_OK(proxywasm_engine_new(NULL, &engine));
    REQUIRE_OK(proxywasm_module_compile(engine, guest("scripted"), &module));
    memset(&rig, 0, sizeof rig);
    fake_host_init(&rig.host);
    rig.engine = engine;
    rig.module = module;
    rig.plugin = new_plugin(module, script, NULL);
    REQUIRE_OK(proxywasm_worker_new(engine, &table, &rig.host, &rig.worker));
    REQUIRE_OK(proxywasm_worker_add_plugin(rig.worker, rig.plugin, &rig.instance));
    const proxywasm_instance *instances[] = {rig.instance};
    REQUIRE_OK(proxywasm_chain_new(rig.worker, instances, 1, &rig.chain));

    /* Statuses that are none: INTERNAL_FAILURE. */
    static const int32_t numbers[] = {13, -1, 100, INT32_MIN, INT32_MAX, PROXYWASM_RESULT_GUEST_TRAP};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        status = numbers[i];
        value = (proxywasm_slice){NULL, 0};
        run();
        static const char *const lines[] = {
            "get 10",      "add 10",       "replace 10",  "remove 10",  "set 10",
            "prop 10",     "setprop 10",   "call 10",     "grpc 10",    "stream 10",
            "counter 10",  "histogram 10", "metric 10 0", "getdata 10", "setdata 10",
            "register 10", "resolve 10",   "enqueue 10",  "dequeue 10", "foreign 10",
        };
        for (size_t j = 0; j < sizeof lines / sizeof lines[0]; j++) {
            logged(lines[j]);
        }
        proxywasm_worker_stats stats = {.struct_size = sizeof stats};
        CHECK_OK(proxywasm_worker_get_stats(rig.worker, &stats));
        CHECK_INT(stats.callouts, 0);
    }

    /* OK with slices that cannot be. */
    static const uint8_t byte = 'x';
    static const proxywasm_slice slices[] = {
        {NULL, 1}, {NULL, SIZE_MAX}, {&byte, SIZE_MAX}, {&byte, SIZE_MAX / 2 + 1}};
    status = PROXYWASM_STATUS_OK;
    id = 1;
    for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++) {
        value = slices[i];
        count = 3;
        write_pairs = true;
        run();
        logged("get 10");
        logged("prop 10");
        logged("getdata 10");
        logged("dequeue 10");
        logged("foreign 10");
        CHECK(strstr(rig.host.log, "pairs 10") != NULL);
    }

    /* Counts that lie. */
    value = (proxywasm_slice){&byte, 1};
    static const size_t counts[] = {SIZE_MAX, SIZE_MAX / 16, SIZE_MAX / 32 + 1, UINT32_MAX, 1u << 24};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        count = counts[i];
        run();
        logged("pairs 10 0");
    }
    /* More than was written: the rest is empty. */
    count = 5;
    write_pairs = false;
    run();
    logged("pairs 0 5");
    /* Ids and numbers of any size. */
    count = 3;
    write_pairs = true;
    id = UINT32_MAX;
    number = UINT64_MAX;
    run();
    logged("metric 0 18446744073709551615");
    id = 0;
    run();

    /* A group of callbacks must be there as a whole. */
    proxywasm_worker *worker = NULL;
    table.get_metric = NULL;
    CHECK_RESULT(proxywasm_worker_new(engine, &table, NULL, &worker), INVALID_ARGUMENT);
    table = bad_table();
    table.dequeue = NULL;
    CHECK_RESULT(proxywasm_worker_new(engine, &table, NULL, &worker), INVALID_ARGUMENT);
    table = bad_table();
    table.set_shared_data = NULL;
    CHECK_RESULT(proxywasm_worker_new(engine, &table, NULL, &worker), INVALID_ARGUMENT);
    CHECK(worker == NULL);
    rig_close(&rig);

    /* No callback at all: honest answers. */
    memset(&table, 0, sizeof table);
    table.struct_size = sizeof table;
    table.log = fake_host_table().log;
    REQUIRE_OK(proxywasm_engine_new(NULL, &engine));
    REQUIRE_OK(proxywasm_module_compile(engine, guest("scripted"), &module));
    memset(&rig, 0, sizeof rig);
    fake_host_init(&rig.host);
    rig.engine = engine;
    rig.module = module;
    rig.plugin = new_plugin(module, script, NULL);
    REQUIRE_OK(proxywasm_worker_new(engine, &table, &rig.host, &rig.worker));
    REQUIRE_OK(proxywasm_worker_add_plugin(rig.worker, rig.plugin, &rig.instance));
    instances[0] = rig.instance;
    REQUIRE_OK(proxywasm_chain_new(rig.worker, instances, 1, &rig.chain));
    run();
    logged("get 12");
    logged("add 12");
    logged("call 12");
    logged("grpc 12");
    logged("prop 1");
    logged("setprop 0");
    logged("foreign 1");
    logged("counter 0");
    logged("setdata 0");
    rig_close(&rig);

    /* Log levels that are none. */
    table = fake_host_table();
    table.log_level = bad_level;
    status = 99;
    proxywasm_plugin *plugin = NULL;
    struct fake_host host;
    fake_host_init(&host);
    REQUIRE_OK(proxywasm_engine_new(NULL, &engine));
    REQUIRE_OK(proxywasm_module_compile(engine, guest("scripted"), &module));
    plugin = new_plugin(module, "", NULL);
    CHECK_OK(proxywasm_plugin_validate(plugin, &table, &host));
    CHECK(fake_host_logged(&host, "on_configure 0"));
    proxywasm_plugin_free(plugin);
    proxywasm_module_free(module);
    proxywasm_engine_free(engine);
    return check_summary("nonsense");
}
