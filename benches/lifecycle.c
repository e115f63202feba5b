/* SPDX-License-Identifier: Apache-2.0
 *
 * What requests and VMs cost, through the C interface. Prints samples, one `KEY NUMBER` a line.
 *
 *   lifecycle time GUEST MILLISECONDS RUNS       requests, loading, VMs: CPU time
 *   lifecycle memory GUEST plain|pooling         memory of 100 VMs
 *   lifecycle count GUEST                        instructions of requests; below `valgrind --tool=callgrind`,
 *                                                started with --instr-atstart=no
 *   lifecycle profile GUEST on|off WORKLOAD N    N requests and nothing else counted, also below callgrind
 */
#include "proxy.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#define CALLGRIND_ZERO_STATS
#define CALLGRIND_DUMP_STATS_AT(name) (void)(name)
#endif

enum { WORKLOADS = 5, ENGINES = 2, VMS = 100 };

static const char *const workloads[WORKLOADS] = {"f0", "f1", "f2", "f3", "f4"};
static const char *const engine_names[ENGINES] = {"on", "off"};

static struct exchange exchange;

static void check(int32_t result, const char *what)
{
    if (result != PROXYWASM_RESULT_OK) {
        char text[1024];
        proxywasm_last_error(text, sizeof text);
        fprintf(stderr, "lifecycle: %s: %s: %s\n", what, proxywasm_result_name(result), text);
        exit(1);
    }
}

static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "lifecycle: %s\n", what);
        exit(1);
    }
}

#define CHECK(call) check(call, #call)

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double cpu(void)
{
    return seconds(CLOCK_PROCESS_CPUTIME_ID);
}

static proxywasm_slice read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    require(file != NULL && fseek(file, 0, SEEK_END) == 0, "cannot open the guest");
    long size = ftell(file);
    rewind(file);
    uint8_t *bytes = malloc((size_t)size);
    require(bytes != NULL && fread(bytes, 1, (size_t)size, file) == (size_t)size, "cannot read the guest");
    fclose(file);
    return (proxywasm_slice){bytes, (size_t)size};
}

static proxywasm_engine *new_engine(bool interruption, bool pooling, bool parallel)
{
    proxywasm_engine_config *config;
    proxywasm_engine *engine;
    CHECK(proxywasm_engine_config_new(&config));
    CHECK(proxywasm_engine_config_set_interruption(config, interruption));
    CHECK(proxywasm_engine_config_set_pooling(config, pooling ? VMS + 1 : 0));
    CHECK(proxywasm_engine_config_set_parallel_compilation(config, parallel));
    CHECK(proxywasm_engine_new(config, &engine));
    proxywasm_engine_config_free(config);
    return engine;
}

static proxywasm_plugin *new_plugin(proxywasm_module *module, const char *workload, const char *vm_id)
{
    proxywasm_plugin_config *config;
    proxywasm_plugin *plugin;
    CHECK(proxywasm_plugin_config_new(slice_of(vm_id), &config));
    CHECK(proxywasm_plugin_config_set_vm_id(config, slice_of(vm_id)));
    CHECK(proxywasm_plugin_config_set_configuration(config, slice_of(workload)));
    CHECK(proxywasm_plugin_new(module, config, &plugin));
    proxywasm_plugin_config_free(config);
    return plugin;
}

static proxywasm_worker *new_worker(const proxywasm_engine *engine)
{
    const proxywasm_host table = proxy_table();
    proxywasm_worker *worker;
    CHECK(proxywasm_worker_new(engine, &table, NULL, &worker));
    return worker;
}

/* Everything that serves one workload. */
struct rig {
    proxywasm_plugin *plugin;
    proxywasm_worker *worker;
    proxywasm_instance *instance;
    proxywasm_chain *chain;
    bool with_body;
};

static void rig_open(struct rig *rig, proxywasm_engine *engine, proxywasm_module *module,
                     const char *workload)
{
    rig->plugin = new_plugin(module, workload, workload);
    rig->worker = new_worker(engine);
    CHECK(proxywasm_worker_add_plugin(rig->worker, rig->plugin, &rig->instance));
    const proxywasm_instance *instances[] = {rig->instance};
    CHECK(proxywasm_chain_new(rig->worker, instances, 1, &rig->chain));
    rig->with_body = strcmp(workload, "f4") == 0;
}

static void rig_close(struct rig *rig)
{
    proxywasm_chain_free(rig->chain);
    CHECK(proxywasm_instance_remove(rig->instance));
    proxywasm_worker_free(rig->worker);
    proxywasm_plugin_free(rig->plugin);
}

/* One request, from its beginning to its end. */
static void lifecycle(const proxywasm_chain *chain, bool with_body, struct exchange *data)
{
    proxywasm_stream *stream;
    proxywasm_outcome outcome = {.struct_size = sizeof outcome};
    int32_t failed = proxywasm_stream_new(chain, PROXYWASM_STREAM_KIND_HTTP, data, &stream);
    failed |= proxywasm_stream_on_request_headers(stream, REQUEST_HEADERS, !with_body, &outcome);
    if (with_body) {
        const proxywasm_chunk chunk = {data->body, BODY_SIZE, NULL, NULL};
        failed |= proxywasm_stream_on_request_body(stream, &chunk, 1, true, &outcome);
    }
    failed |= proxywasm_stream_on_response_headers(stream, RESPONSE_HEADERS, true, &outcome);
    proxywasm_stream_complete(stream);
    check(failed, "a request");
}

static void requests(const struct rig *rig, unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        exchange_reset(&exchange);
        lifecycle(rig->chain, rig->with_body, &exchange);
    }
}

/* Whether a workload does what it says. */
static void verify(const struct rig *rig, const char *workload)
{
    const struct map *map = &exchange.maps[PROXYWASM_MAP_REQUEST_HEADERS];
    requests(rig, 1);
    require(map->count == (size_t)(strcmp(workload, "f1") == 0 ? REQUEST_HEADERS + 1 : REQUEST_HEADERS),
            "the guest left a wrong number of headers");
    require(map->replaced == (strcmp(workload, "f3") == 0), "the guest set, or did not set, all headers");
    if (rig->with_body) {
        proxywasm_stream *stream;
        proxywasm_outcome outcome = {.struct_size = sizeof outcome};
        const proxywasm_chunk chunk = {exchange.body, BODY_SIZE, NULL, NULL};
        CHECK(proxywasm_stream_new(rig->chain, PROXYWASM_STREAM_KIND_HTTP, &exchange, &stream));
        CHECK(proxywasm_stream_on_request_headers(stream, REQUEST_HEADERS, false, &outcome));
        CHECK(proxywasm_stream_on_request_body(stream, &chunk, 1, true, &outcome));
        require(outcome.body_len == BODY_SIZE && outcome.body->data != exchange.body,
                "the guest did not set the body");
        proxywasm_stream_free(stream);
    }
    exchange_init(&exchange);
}

static void engines_open(proxywasm_slice code, proxywasm_engine *engines[ENGINES],
                         proxywasm_module *modules[ENGINES], struct rig rigs[ENGINES][WORKLOADS])
{
    for (int e = 0; e < ENGINES; e++) {
        engines[e] = new_engine(e == 0, false, false);
        double wall = seconds(CLOCK_MONOTONIC), start = cpu();
        CHECK(proxywasm_module_compile(engines[e], code, &modules[e]));
        printf("compile_cpu_ms.%s %.3f\n", engine_names[e], (cpu() - start) * 1e3);
        printf("compile_wall_ms.%s %.3f\n", engine_names[e], (seconds(CLOCK_MONOTONIC) - wall) * 1e3);
        for (int w = 0; w < WORKLOADS; w++) {
            rig_open(&rigs[e][w], engines[e], modules[e], workloads[w]);
            verify(&rigs[e][w], workloads[w]);
        }
    }
}

static void engines_close(proxywasm_engine *engines[ENGINES], proxywasm_module *modules[ENGINES],
                          struct rig rigs[ENGINES][WORKLOADS])
{
    for (int e = 0; e < ENGINES; e++) {
        for (int w = 0; w < WORKLOADS; w++) {
            rig_close(&rigs[e][w]);
        }
        proxywasm_module_free(modules[e]);
        proxywasm_engine_free(engines[e]);
    }
}

/* Each VM has a name of its own, or the plugins would share one. */
static void many_plugins(proxywasm_module *module, const char *workload, proxywasm_plugin *plugins[VMS])
{
    for (int i = 0; i < VMS; i++) {
        char name[16];
        snprintf(name, sizeof name, "vm%d", i);
        plugins[i] = new_plugin(module, workload, name);
    }
}

static void time_vms(const char *name, const proxywasm_engine *engine, proxywasm_module *module, int runs)
{
    proxywasm_plugin *plugins[VMS];
    proxywasm_instance *instances[VMS];
    many_plugins(module, "f1", plugins);
    for (int run = 0; run <= runs; run++) {
        proxywasm_worker *worker = new_worker(engine);
        double start = cpu();
        for (int i = 0; i < VMS; i++) {
            CHECK(proxywasm_worker_add_plugin(worker, plugins[i], &instances[i]));
        }
        double made = cpu();
        for (int i = 0; i < VMS; i++) {
            CHECK(proxywasm_instance_remove(instances[i]));
        }
        double ended = cpu();
        proxywasm_worker_free(worker);
        if (run > 0) {
            printf("vm_new_us.%s %.3f\n", name, (made - start) * 1e6 / VMS);
            printf("vm_end_us.%s %.3f\n", name, (ended - made) * 1e6 / VMS);
        }
    }
    for (int i = 0; i < VMS; i++) {
        proxywasm_plugin_free(plugins[i]);
    }
}

static void time_workers(const proxywasm_engine *engine, int runs)
{
    enum { WORKERS = 200 };
    proxywasm_worker *workers[WORKERS];
    for (int run = 0; run <= runs; run++) {
        double start = cpu();
        for (int i = 0; i < WORKERS; i++) {
            workers[i] = new_worker(engine);
        }
        double made = cpu();
        for (int i = 0; i < WORKERS; i++) {
            proxywasm_worker_free(workers[i]);
        }
        if (run > 0) {
            printf("worker_new_us %.3f\n", (made - start) * 1e6 / WORKERS);
        }
    }
}

static void time_all(proxywasm_slice code, double milliseconds, int runs)
{
    proxywasm_engine *engines[ENGINES];
    proxywasm_module *modules[ENGINES];
    static struct rig rigs[ENGINES][WORKLOADS];
    static unsigned long counts[ENGINES][WORKLOADS];
    engines_open(code, engines, modules, rigs);
    time_workers(engines[0], runs);
    time_vms("on", engines[0], modules[0], runs);
    time_vms("off", engines[1], modules[1], runs);

    proxywasm_module *module;
    proxywasm_engine *pooling = new_engine(true, true, true);
    double wall = seconds(CLOCK_MONOTONIC);
    CHECK(proxywasm_module_compile(pooling, code, &module));
    printf("compile_wall_ms.parallel %.3f\n", (seconds(CLOCK_MONOTONIC) - wall) * 1e3);
    time_vms("pooling", pooling, module, runs);
    proxywasm_module_free(module);
    proxywasm_engine_free(pooling);

    /* As a proxy does it: deadlines count. */
    CHECK(proxywasm_engine_start_ticker(engines[0]));
    for (int run = 0; run <= runs; run++) {
        for (int w = 0; w < WORKLOADS; w++) {
            for (int e = 0; e < ENGINES; e++) {
                unsigned long count = run == 0 ? 1000 : counts[e][w];
                double start = cpu();
                requests(&rigs[e][w], count);
                double each = (cpu() - start) / (double)count;
                if (run == 0) {
                    counts[e][w] = 1 + (unsigned long)(milliseconds * 1e-3 / each);
                } else {
                    printf("request_ns.%s.%s %.2f\n", workloads[w], engine_names[e], each * 1e9);
                }
            }
        }
    }
    engines_close(engines, modules, rigs);
}

static void count_all(proxywasm_slice code)
{
    static const unsigned long counts[2] = {100, 300};
    proxywasm_engine *engines[ENGINES];
    proxywasm_module *modules[ENGINES];
    static struct rig rigs[ENGINES][WORKLOADS];
    engines_open(code, engines, modules, rigs);
    for (int e = 0; e < ENGINES; e++) {
        for (int w = 0; w < WORKLOADS; w++) {
            requests(&rigs[e][w], 100);
            for (int c = 0; c < 2; c++) {
                char name[64];
                snprintf(name, sizeof name, "%s %s %lu", workloads[w], engine_names[e], counts[c]);
                CALLGRIND_START_INSTRUMENTATION;
                CALLGRIND_ZERO_STATS;
                requests(&rigs[e][w], counts[c]);
                CALLGRIND_DUMP_STATS_AT(name);
                CALLGRIND_STOP_INSTRUMENTATION;
            }
        }
    }
    engines_close(engines, modules, rigs);
}

static void profile(proxywasm_slice code, bool interruption, const char *workload, unsigned long count)
{
    proxywasm_module *module;
    struct rig rig;
    proxywasm_engine *engine = new_engine(interruption, false, false);
    CHECK(proxywasm_module_compile(engine, code, &module));
    rig_open(&rig, engine, module, workload);
    requests(&rig, 100);
    CALLGRIND_START_INSTRUMENTATION;
    requests(&rig, count);
    CALLGRIND_STOP_INSTRUMENTATION;
    rig_close(&rig);
    proxywasm_module_free(module);
    proxywasm_engine_free(engine);
}

/* A line of a file below /proc/self, in KB. */
static double proc_kb(const char *path, const char *line)
{
    char text[256];
    double value = -1;
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(text, sizeof text, file) != NULL) {
        if (strncmp(text, line, strlen(line)) == 0) {
            value = strtod(text + strlen(line), NULL);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return value;
}

struct memory {
    double resident, dirty, tables;
};

static struct memory memory_now(void)
{
    return (struct memory){proc_kb("/proc/self/smaps_rollup", "Rss:"),
                           proc_kb("/proc/self/smaps_rollup", "Private_Dirty:"),
                           proc_kb("/proc/self/status", "VmPTE:")};
}

static void print_memory(const char *name, const char *when, struct memory before, struct memory after)
{
    printf("vm_rss_kb.%s.%s %.2f\n", name, when, (after.resident - before.resident) / VMS);
    printf("vm_dirty_kb.%s.%s %.2f\n", name, when, (after.dirty - before.dirty) / VMS);
    printf("vm_tables_kb.%s.%s %.2f\n", name, when, (after.tables - before.tables) / VMS);
}

static void measure_memory(proxywasm_slice code, const char *name)
{
    proxywasm_module *module;
    proxywasm_plugin *plugins[VMS];
    proxywasm_instance *instances[VMS];
    struct rig first;
    proxywasm_engine *engine = new_engine(true, strcmp(name, "pooling") == 0, false);
    CHECK(proxywasm_module_compile(engine, code, &module));
    /* What is made once for all is made now. */
    rig_open(&first, engine, module, "f4");
    requests(&first, 10);
    many_plugins(module, "f4", plugins);
    proxywasm_worker *worker = new_worker(engine);

    struct memory before = memory_now();
    for (int i = 0; i < VMS; i++) {
        CHECK(proxywasm_worker_add_plugin(worker, plugins[i], &instances[i]));
    }
    print_memory(name, "fresh", before, memory_now());
    for (int i = 0; i < VMS; i++) {
        const proxywasm_instance *one[] = {instances[i]};
        struct rig rig = {.with_body = true};
        CHECK(proxywasm_chain_new(worker, one, 1, &rig.chain));
        requests(&rig, 10);
        proxywasm_chain_free(rig.chain);
    }
    print_memory(name, "used", before, memory_now());
    for (int i = 0; i < VMS; i++) {
        CHECK(proxywasm_instance_remove(instances[i]));
        proxywasm_plugin_free(plugins[i]);
    }
    proxywasm_worker_free(worker);
    rig_close(&first);
    proxywasm_module_free(module);
    proxywasm_engine_free(engine);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    proxywasm_slice code = {NULL, 0};
    if (argc > 2) {
        code = read_file(argv[2]);
        exchange_init(&exchange);
    }
    if (strcmp(mode, "time") == 0 && argc == 5) {
        time_all(code, strtod(argv[3], NULL), atoi(argv[4]));
    } else if (strcmp(mode, "memory") == 0 && argc == 4) {
        measure_memory(code, argv[3]);
    } else if (strcmp(mode, "count") == 0 && argc == 3) {
        count_all(code);
    } else if (strcmp(mode, "profile") == 0 && argc == 6) {
        profile(code, strcmp(argv[3], "on") == 0, argv[4], strtoul(argv[5], NULL, 10));
    } else {
        fprintf(stderr, "usage: lifecycle time|memory|count|profile GUEST ...\n");
        return 2;
    }
    free((void *)code.data);
    return 0;
}
