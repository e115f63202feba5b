/* SPDX-License-Identifier: Apache-2.0
 *
 * Many workers, each on a thread of its own, on one engine: streams, shared data, queues that wake each
 * other, metrics, and handles that are used on the wrong thread.
 */
#include "check.h"
#include "host.h"
#include <pthread.h>
#include <unistd.h>

enum { THREADS = 4, STREAMS = 200 };

static proxywasm_engine *engine;
static proxywasm_module *module;

static void *streams(void *argument)
{
    struct rig *rig = malloc(sizeof *rig);
    rig_open_on(rig, engine, module,
                "request_headers=get,add,setdata,getdata,counter request_body=body,ret:1", NULL);
    for (int i = 0; i < STREAMS; i++) {
        struct fake_stream data;
        proxywasm_outcome outcome = blank_outcome();
        const proxywasm_chunk chunk = {(const uint8_t *)"body", 4, NULL, NULL};
        proxywasm_stream *stream = rig_stream(rig, &data);
        fake_host_forget(&rig->host);
        CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
        CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, false, &outcome));
        CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, true, &outcome));
        CHECK(fake_host_logged(&rig->host, "getdata 0 v"));
        CHECK(fake_host_logged(&rig->host, "body 0 bodybody"));
        proxywasm_stream_free(stream);
    }
    rig_close(rig);
    free(rig);
    return argument;
}

static void count(void *user_data, const proxywasm_metric *metric)
{
    *(uint64_t *)user_data += metric->value;
}

static void many_workers(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, streams, NULL), 0);
    }
    /* Meanwhile: what any thread may do. */
    for (int i = 0; i < 50; i++) {
        uint64_t sum = 0;
        CHECK_OK(proxywasm_engine_visit_metrics(engine, count, &sum));
        CHECK(sum <= THREADS * STREAMS);
        proxywasm_engine_tick(engine);
        usleep(1000);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    }
    uint64_t sum = 0;
    CHECK_OK(proxywasm_engine_visit_metrics(engine, count, &sum));
    CHECK_INT(sum, THREADS * STREAMS);
}

/* A queue registered by one worker, filled by others. */
enum { ITEMS = 20 };
static unsigned ready;

static void *consumer(void *argument)
{
    struct rig *rig = malloc(sizeof *rig);
    unsigned taken = 0;
    rig_open_on(rig, engine, module, "configure=register queue_ready=dequeue", NULL);
    __atomic_store_n(&ready, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 5000 && taken < ITEMS * THREADS; i++) {
        if (__atomic_exchange_n(&rig->host.wakes, 0, __ATOMIC_SEQ_CST) > 0) {
            fake_host_forget(&rig->host);
            CHECK_OK(proxywasm_worker_run_pending(rig->worker));
            for (const char *at = rig->host.log; (at = strstr(at, "dequeue 0 item\n")) != NULL; at++) {
                taken++;
            }
        } else {
            usleep(1000);
        }
    }
    CHECK_INT(taken, ITEMS * THREADS);
    CHECK_OK(proxywasm_worker_run_pending(rig->worker));
    rig_close(rig);
    free(rig);
    return argument;
}

static void *producer(void *argument)
{
    struct rig *rig = malloc(sizeof *rig);
    rig_open_on(rig, engine, module, "foreign=resolve,enqueue", NULL);
    for (int i = 0; i < ITEMS; i++) {
        CHECK_OK(proxywasm_instance_on_foreign_function(rig->instance, 1, text_slice("")));
    }
    CHECK(fake_host_logged(&rig->host, "enqueue 0"));
    rig_close(rig);
    free(rig);
    return argument;
}

static void queues(void)
{
    pthread_t threads[THREADS + 1];
    CHECK_INT(pthread_create(&threads[THREADS], NULL, consumer, NULL), 0);
    while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) == 0) {
        usleep(1000);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, producer, NULL), 0);
    }
    for (int i = 0; i <= THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    }
}

/* Handles of the main thread. */
static struct rig rig;
static struct fake_stream data;
static proxywasm_stream *stream;

static void unwanted(void *context)
{
    (void)context;
    CHECK(!"released");
}

static void *wrong_thread(void *argument)
{
    proxywasm_outcome outcome = blank_outcome();
    proxywasm_instance *instance = NULL;
    proxywasm_chain *chain = NULL;
    proxywasm_stream *other = NULL;
    const proxywasm_instance *instances[] = {rig.instance};
    const proxywasm_chunk chunk = {(const uint8_t *)"x", 1, unwanted, NULL};
    proxywasm_worker_stats stats = {.struct_size = sizeof stats};
    uint64_t timeout = 0;
    bool idle = false;
    CHECK_RESULT(proxywasm_worker_add_plugin(rig.worker, rig.plugin, &instance), WRONG_THREAD);
    CHECK_RESULT(proxywasm_instance_remove(rig.instance), WRONG_THREAD);
    CHECK_RESULT(proxywasm_instance_on_foreign_function(rig.instance, 1, text_slice("")), WRONG_THREAD);
    CHECK_RESULT(proxywasm_worker_timeout_ns(rig.worker, &timeout), WRONG_THREAD);
    CHECK_RESULT(proxywasm_worker_on_timeout(rig.worker), WRONG_THREAD);
    CHECK_RESULT(proxywasm_worker_run_pending(rig.worker), WRONG_THREAD);
    CHECK_RESULT(proxywasm_worker_queue_ready(rig.worker, 1), WRONG_THREAD);
    CHECK_RESULT(proxywasm_worker_is_idle(rig.worker, &idle), WRONG_THREAD);
    CHECK_RESULT(proxywasm_worker_get_stats(rig.worker, &stats), WRONG_THREAD);
    CHECK_RESULT(proxywasm_chain_new(rig.worker, instances, 1, &chain), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_new(rig.chain, 0, NULL, &other), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_on_request_headers(stream, 3, false, &outcome), WRONG_THREAD);
    CHECK(outcome.action >= 0);
    CHECK_RESULT(proxywasm_stream_on_request_body(stream, &chunk, 1, false, &outcome), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_on_request_trailers(stream, 3, &outcome), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_on_response_headers(stream, 3, false, &outcome), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_on_response_body(stream, &chunk, 1, false, &outcome), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_on_response_trailers(stream, 3, &outcome), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_on_metadata(stream, 0, 1, &outcome), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_on_new_connection(stream, &outcome), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_on_downstream_data(stream, &chunk, 1, false, &outcome), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_on_upstream_data(stream, &chunk, 1, false, &outcome), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_on_close(stream, 0, 0), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_resume(stream, 0, &outcome), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_log(stream), WRONG_THREAD);
    CHECK_RESULT(proxywasm_stream_done(stream), WRONG_THREAD);
    CHECK_RESULT(proxywasm_http_call_complete(rig.worker, rig.host.tokens[0], NULL), WRONG_THREAD);
    CHECK_RESULT(proxywasm_grpc_initial_metadata(rig.worker, 1, NULL, 0), WRONG_THREAD);
    CHECK_RESULT(proxywasm_grpc_message(rig.worker, 1, NULL, 0), WRONG_THREAD);
    CHECK_RESULT(proxywasm_grpc_trailing_metadata(rig.worker, 1, NULL, 0), WRONG_THREAD);
    CHECK_RESULT(proxywasm_grpc_close(rig.worker, 1, 0, text_slice("")), WRONG_THREAD);
    /* Nothing happens. */
    proxywasm_stream_free(stream);
    proxywasm_worker_free(rig.worker);
    CHECK(instance == NULL && chain == NULL && other == NULL);

    /* A worker of this thread's own, on the same engine and plugin. */
    struct rig *mine = malloc(sizeof *mine);
    rig_open_on(mine, rig.engine, rig.module, "", NULL);
    rig_close(mine);
    free(mine);
    return argument;
}

static void wrong_threads(void)
{
    proxywasm_outcome outcome = blank_outcome();
    pthread_t thread;
    rig_open(&rig, "request_headers=call", NULL);
    stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_INT(pthread_create(&thread, NULL, wrong_thread, NULL), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    /* All is as it was. */
    CHECK_INT(rig.host.cancels, 0);
    CHECK_OK(proxywasm_http_call_complete(rig.worker, rig.host.tokens[0], NULL));
    CHECK_OK(proxywasm_stream_on_response_headers(stream, 2, true, &outcome));
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

/* One worker that several threads use in turn, under a lock: streams begun on one thread go on and end on
 * others. */
enum { TURNS = 50 };
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static struct rig moved;
static proxywasm_stream *begun[THREADS];
static struct fake_stream begun_data[THREADS];

static void *mover(void *argument)
{
    for (int i = 0; i < TURNS; i++) {
        proxywasm_outcome outcome = blank_outcome();
        const unsigned at = (unsigned)i % THREADS;
        CHECK_INT(pthread_mutex_lock(&turn), 0);
        CHECK_OK(proxywasm_worker_move(moved.worker));
        if (begun[at] == NULL) {
            begun[at] = rig_stream(&moved, &begun_data[at]);
            CHECK_OK(proxywasm_stream_on_request_headers(begun[at], 3, false, &outcome));
        } else {
            CHECK_OK(proxywasm_stream_on_response_headers(begun[at], 2, true, &outcome));
            proxywasm_stream_free(begun[at]);
            begun[at] = NULL;
        }
        CHECK_OK(proxywasm_worker_on_timeout(moved.worker));
        fake_host_forget(&moved.host);
        CHECK_INT(pthread_mutex_unlock(&turn), 0);
    }
    return argument;
}

static void moves(void)
{
    pthread_t threads[THREADS];
    uint64_t timeout = 0;
    rig_open_on(&moved, engine, module, "request_headers=get,add response_headers=get", NULL);
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, mover, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    }
    /* It is another thread's now, and comes back. */
    CHECK_RESULT(proxywasm_worker_timeout_ns(moved.worker, &timeout), WRONG_THREAD);
    CHECK_OK(proxywasm_worker_move(moved.worker));
    CHECK_OK(proxywasm_worker_timeout_ns(moved.worker, &timeout));
    for (int i = 0; i < THREADS; i++) {
        proxywasm_stream_free(begun[i]);
    }
    proxywasm_worker_stats stats = {.struct_size = sizeof stats};
    CHECK_OK(proxywasm_worker_get_stats(moved.worker, &stats));
    CHECK_INT(stats.streams, 0);
    rig_close(&moved);
}

static void ticking(proxywasm_plugin_config *config)
{
    proxywasm_limits limits = {.struct_size = sizeof limits, .deadline_ns = 30000000};
    CHECK_OK(proxywasm_plugin_config_set_limits(config, &limits));
}

static void *endless(void *argument)
{
    struct rig *mine = malloc(sizeof *mine);
    struct fake_stream stream_data;
    proxywasm_outcome outcome = blank_outcome();
    rig_open_on(mine, engine, module, "request_headers=loop", ticking);
    proxywasm_stream *loop = rig_stream(mine, &stream_data);
    CHECK_RESULT(proxywasm_stream_on_request_headers(loop, 3, false, &outcome), GUEST_TIMEOUT);
    CHECK_INT(outcome.action, PROXYWASM_ACTION_LOCAL_RESPONSE);
    proxywasm_stream_free(loop);
    rig_close(mine);
    free(mine);
    return argument;
}

static void deadlines(void)
{
    pthread_t threads[THREADS];
    CHECK_OK(proxywasm_engine_start_ticker(engine));
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_create(&threads[i], NULL, endless, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    }
    CHECK_OK(proxywasm_engine_stop_ticker(engine));
}

int main(void)
{
    alarm(250);
    guest("scripted");
    REQUIRE_OK(proxywasm_engine_new(NULL, &engine));
    REQUIRE_OK(proxywasm_module_compile(engine, guest("scripted"), &module));
    many_workers();
    queues();
    wrong_threads();
    moves();
    deadlines();
    proxywasm_module_free(module);
    proxywasm_engine_free(engine);
    return check_summary("threads");
}
