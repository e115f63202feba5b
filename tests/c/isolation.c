/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams with VMs of their own: they are there when they are needed and gone when the stream is, whichever
 * way it ends.
 */
#include "check.h"
#include "host.h"

static const int32_t modes[] = {PROXYWASM_ISOLATION_STREAM, PROXYWASM_ISOLATION_PLUGIN};

static proxywasm_worker_stats stats_of(const struct rig *rig)
{
    proxywasm_worker_stats stats = {.struct_size = sizeof stats};
    CHECK_OK(proxywasm_worker_get_stats(rig->worker, &stats));
    return stats;
}

static void open_isolated(struct rig *rig, int32_t isolation, const char *script, rig_configure_fn *configure)
{
    rig_open(rig, script, configure);
    CHECK_OK(proxywasm_chain_set_isolation(rig->chain, isolation));
    fake_host_forget(&rig->host);
}

static proxywasm_stream *begin(struct rig *rig, struct fake_stream *data)
{
    proxywasm_outcome outcome = blank_outcome();
    proxywasm_stream *stream = rig_stream(rig, data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    return stream;
}

/* The start is replayed, and the root context is not told of its end. */
static void replay(void)
{
    struct rig rig;
    struct fake_stream data;
    char expected[256];
    static const char script[] = "request_headers=get";
    open_isolated(&rig, PROXYWASM_ISOLATION_STREAM, script, NULL);
    snprintf(expected, sizeof expected,
             "on_create 0\non_vm_start 0\non_configure %zu\non_create 1\non_request_headers 3 1\n"
             "get 0 request\non_done\non_delete\n",
             strlen(script));
    for (int i = 0; i < 3; i++) {
        proxywasm_stream *stream = begin(&rig, &data);
        CHECK_INT(stats_of(&rig).vms, 2);
        proxywasm_stream_free(stream);
        CHECK_INT(stats_of(&rig).vms, 1);
        CHECK_TEXT(rig.host.log, expected);
        fake_host_forget(&rig.host);
    }
    CHECK_OK(proxywasm_chain_set_isolation(rig.chain, PROXYWASM_ISOLATION_SHARED));
    proxywasm_stream *stream = begin(&rig, &data);
    CHECK_INT(stats_of(&rig).vms, 1);
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

static void callouts(void)
{
    struct rig rig;
    struct fake_stream data[2];
    proxywasm_stream *streams[2];
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        open_isolated(&rig, modes[i], "request_headers=call,ret:1 http_call_response=effective,resume:0",
                      NULL);
        for (int k = 0; k < 2; k++) {
            streams[k] = begin(&rig, &data[k]);
        }
        CHECK_INT(rig.host.token_count, 2);
        CHECK_OK(proxywasm_http_call_complete(rig.worker, rig.host.tokens[1], NULL));
        CHECK_INT(data[0].resumes[0], 0);
        CHECK_INT(data[1].resumes[0], 1);
        proxywasm_stream_free(streams[1]);
        CHECK_INT(rig.host.cancels, 0);
        /* The other one is cancelled with its stream. */
        proxywasm_stream_free(streams[0]);
        CHECK_INT(rig.host.cancels, 1);
        CHECK_INT(rig.host.cancelled, rig.host.tokens[0]);
        CHECK_RESULT(proxywasm_http_call_complete(rig.worker, rig.host.tokens[0], NULL), NOT_FOUND);
        CHECK_INT(stats_of(&rig).callouts, 0);
        CHECK_INT(stats_of(&rig).vms, 1);
        rig_close(&rig);
    }
}

static void closed(proxywasm_plugin_config *config)
{
    CHECK_OK(proxywasm_plugin_config_set_failure_policy(config, PROXYWASM_FAILURE_POLICY_CLOSED));
}

static void failures(void)
{
    struct rig rig;
    struct fake_stream victim_data, other_data;
    proxywasm_outcome outcome = blank_outcome();
    open_isolated(&rig, PROXYWASM_ISOLATION_STREAM, "response_headers=trap", closed);
    for (unsigned i = 1; i <= 3; i++) {
        proxywasm_stream *victim = begin(&rig, &victim_data), *other = begin(&rig, &other_data);
        CHECK_RESULT(proxywasm_stream_on_response_headers(victim, 2, true, &outcome), GUEST_TRAP);
        CHECK_INT(outcome.action, PROXYWASM_ACTION_LOCAL_RESPONSE);
        CHECK_INT(victim_data.local_status, 503);
        CHECK_INT(rig.host.failures, i);
        CHECK_INT(stats_of(&rig).vms, 2);
        CHECK_OK(proxywasm_stream_log(other));
        CHECK_INT(other_data.local_responses, 0);
        proxywasm_stream_free(victim);
        proxywasm_stream_free(other);
    }
    CHECK_INT(stats_of(&rig).vms, 1);
    CHECK_INT(stats_of(&rig).vms_failed, 3);
    rig_close(&rig);
}

/* Every order in which handles can be freed while a stream has a VM of its own. */
static void ends(void)
{
    struct rig rig;
    struct fake_stream data;
    for (int order = 0; order < 3; order++) {
        open_isolated(&rig, PROXYWASM_ISOLATION_PLUGIN,
                      "configure=tick:1000,register request_headers=call,ret:1", NULL);
        proxywasm_stream *stream = begin(&rig, &data);
        CHECK_INT(stats_of(&rig).vms, 2);
        switch (order) {
        case 0:
            CHECK_OK(proxywasm_instance_remove(rig.instance));
            rig.instance = NULL;
            proxywasm_chain_free(rig.chain);
            rig.chain = NULL;
            CHECK_INT(stats_of(&rig).vms, 2);
            proxywasm_stream_free(stream);
            CHECK_OK(proxywasm_worker_run_pending(rig.worker));
            CHECK_INT(stats_of(&rig).vms, 0);
            break;
        case 1:
            proxywasm_worker_free(rig.worker);
            rig.worker = NULL;
            CHECK_INT(rig.host.cancels, 1);
            proxywasm_stream_free(stream);
            CHECK_INT(rig.host.cancels, 1);
            CHECK_RESULT(proxywasm_instance_remove(rig.instance), INVALID_ARGUMENT);
            rig.instance = NULL;
            break;
        default:
            /* Without log and done; the worker goes last. */
            proxywasm_stream_free(stream);
            CHECK_INT(stats_of(&rig).vms, 1);
        }
        rig_close(&rig);
    }
}

/* What one stream costs for ever would add up. The leak checkers see the rest. */
static void many(void)
{
    struct rig rig;
    struct fake_stream data;
    open_isolated(&rig, PROXYWASM_ISOLATION_STREAM, "configure=tick:1000,counter,register", NULL);
    for (int i = 0; i < 200; i++) {
        proxywasm_stream_free(begin(&rig, &data));
        fake_host_forget(&rig.host);
    }
    proxywasm_worker_stats stats = stats_of(&rig);
    CHECK_INT(stats.vms, 1);
    CHECK_INT(stats.vms_created, 201);
    CHECK_INT(stats.streams_created, 200);
    rig_close(&rig);
}

int main(void)
{
    replay();
    callouts();
    failures();
    ends();
    many();
    return check_summary("isolation");
}
