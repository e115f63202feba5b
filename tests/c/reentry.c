/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside a callback of the host the library takes completions only, which it delivers when the outer call
 * returns.
 */
#include "check.h"
#include "host.h"

static struct rig rig;
static proxywasm_stream *other;
static struct fake_stream other_data;
static proxywasm_outcome other_outcome;
static unsigned hooked;
static char seen[1024];

static void unwanted(void *context)
{
    (void)context;
    CHECK(!"released");
}

/* Everything that is not allowed. */
static void try_all(struct fake_host *host, const char *callback)
{
    static bool inside;
    if (inside) {
        return;
    }
    inside = true;
    hooked++;
    if (strstr(seen, callback) == NULL) {
        strcat(strcat(seen, callback), " ");
    }
    const proxywasm_chunk chunk = {(const uint8_t *)"x", 1, unwanted, NULL};
    proxywasm_stream *stream = NULL;
    proxywasm_instance *instance = NULL;
    CHECK_RESULT(proxywasm_worker_move(rig.worker), REENTRANT);
    CHECK_RESULT(proxywasm_worker_add_plugin(rig.worker, rig.plugin, &instance), REENTRANT);
    CHECK_RESULT(proxywasm_instance_remove(rig.instance), REENTRANT);
    CHECK_RESULT(proxywasm_instance_on_foreign_function(rig.instance, 1, text_slice("")), REENTRANT);
    CHECK_RESULT(proxywasm_worker_on_timeout(rig.worker), REENTRANT);
    CHECK_RESULT(proxywasm_worker_run_pending(rig.worker), REENTRANT);
    CHECK_RESULT(proxywasm_worker_queue_ready(rig.worker, 1), REENTRANT);
    CHECK_RESULT(proxywasm_stream_new(rig.chain, 0, NULL, &stream), REENTRANT);
    other_outcome.action = -1;
    CHECK_RESULT(proxywasm_stream_on_request_headers(other, 3, false, &other_outcome), REENTRANT);
    CHECK(other_outcome.action >= 0);
    CHECK_RESULT(proxywasm_stream_on_request_body(other, &chunk, 1, false, &other_outcome), REENTRANT);
    CHECK_RESULT(proxywasm_stream_on_request_trailers(other, 1, &other_outcome), REENTRANT);
    CHECK_RESULT(proxywasm_stream_on_response_headers(other, 3, false, &other_outcome), REENTRANT);
    CHECK_RESULT(proxywasm_stream_on_response_body(other, &chunk, 1, false, &other_outcome), REENTRANT);
    CHECK_RESULT(proxywasm_stream_on_response_trailers(other, 1, &other_outcome), REENTRANT);
    CHECK_RESULT(proxywasm_stream_on_metadata(other, 0, 1, &other_outcome), REENTRANT);
    CHECK_RESULT(proxywasm_stream_resume(other, 0, &other_outcome), REENTRANT);
    CHECK_RESULT(proxywasm_stream_log(other), REENTRANT);
    CHECK_RESULT(proxywasm_stream_done(other), REENTRANT);
    /* Without a result: nothing happens, the handles stay good. */
    proxywasm_stream_free(other);
    proxywasm_worker_free(rig.worker);

    /* Allowed. */
    char text[64];
    CHECK(proxywasm_last_error(text, sizeof text) > 0);
    CHECK_TEXT(proxywasm_result_name(-4), "REENTRANT");
    CHECK_INT(proxywasm_abi_version(), PROXYWASM_ABI_VERSION);
    proxywasm_engine_tick(rig.engine);
    CHECK_RESULT(proxywasm_http_call_complete(rig.worker, 12345, NULL), NOT_FOUND);
    (void)host;
    inside = false;
}

static void refused_everywhere(void)
{
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    other_outcome = blank_outcome();
    rig_open(&rig,
             "configure=tick:10 "
             "request_headers=get,pairs,add,replace,remove,set,prop,setprop,call,time,foreign:x,ret:1 "
             "http_call_response=stream,send,gclose,cancel request_body=local tick=time foreign=time",
             NULL);
    other = rig_stream(&rig, &other_data);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    rig.host.hook = try_all;
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE);
    CHECK_INT(rig.host.token_count, 1);
    CHECK_OK(proxywasm_http_call_complete(rig.worker, rig.host.tokens[0], NULL));
    rig.host.now += 10000000;
    CHECK_OK(proxywasm_worker_on_timeout(rig.worker));
    CHECK_OK(proxywasm_instance_on_foreign_function(rig.instance, 1, text_slice("")));
    CHECK(hooked > 20);
    static const char *const expected[] = {
        "log",           "get_header",   "get_headers", "add_header",   "replace_header",
        "remove_header", "set_headers",  "http_call",   "grpc_call",    "grpc_send",
        "grpc_close",    "get_property", "now",         "set_property", "call_foreign_function",
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        if (!CHECK(strstr(seen, expected[i]) != NULL)) {
            fprintf(stderr, "    %s was not called\n", expected[i]);
        }
    }
    proxywasm_stream_free(stream);

    /* The same in what is called after the guest has returned. */
    stream = rig_stream(&rig, &data);
    rig.host.hook = NULL;
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    proxywasm_stream_free(stream);
    rig.host.hook = NULL;
    proxywasm_stream_free(other);
    rig_close(&rig);

    rig_open(&rig,
             "request_headers=local response_headers=close foreign=call,tick:5 request_trailers=resume "
             "request_body=trap",
             NULL);
    other = rig_stream(&rig, &other_data);
    seen[0] = '\0';
    rig.host.hook = try_all;
    stream = NULL;
    fake_stream_init(&data);
    REQUIRE_OK(proxywasm_stream_new(rig.chain, 0, &data, &stream));
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_LOCAL_RESPONSE);
    CHECK_OK(proxywasm_stream_on_response_headers(stream, 3, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CLOSE);
    CHECK_OK(proxywasm_instance_on_foreign_function(rig.instance, 1, text_slice("")));
    CHECK_INT(rig.host.token_count, 1);
    rig.host.hook = NULL;
    proxywasm_stream_free(stream);
    proxywasm_stream_free(other);
    rig_close(&rig);

    /* And in those about a VM that fails with a call in flight. */
    rig_open(&rig, "foreign=call,tick:5 request_headers=trap", NULL);
    other = rig_stream(&rig, &other_data);
    rig.host.hook = try_all;
    CHECK_OK(proxywasm_instance_on_foreign_function(rig.instance, 1, text_slice("")));
    fake_stream_init(&data);
    rig.host.hook = NULL;
    REQUIRE_OK(proxywasm_stream_new(rig.chain, 0, &data, &stream));
    rig.host.hook = try_all;
    CHECK_RESULT(proxywasm_stream_on_request_headers(stream, 3, false, &outcome), GUEST_TRAP);
    static const char *const late[] = {"send_local_response", "close_stream", "timeout_changed", "vm_failed",
                                       "cancel_call"};
    for (size_t i = 0; i < sizeof late / sizeof late[0]; i++) {
        if (!CHECK(strstr(seen, late[i]) != NULL)) {
            fprintf(stderr, "    %s was not called\n", late[i]);
        }
    }
    rig.host.hook = NULL;
    proxywasm_stream_free(stream);
    proxywasm_stream_free(other);
    rig_close(&rig);
}

static char order[64];

static void complete_in_call(struct fake_host *host, const char *callback)
{
    if (strcmp(callback, "http_call") == 0) {
        const proxywasm_pair headers[] = {{text_slice(":status"), text_slice("200")}};
        proxywasm_http_response response = {
            .struct_size = sizeof response, .headers = headers, .header_count = 1};
        /* In http_call itself, before its token has reached the guest. */
        CHECK_OK(proxywasm_http_call_complete(rig.worker, host->tokens[host->token_count - 1], &response));
        CHECK(!fake_host_logged(host, "on_http_call_response 1 0"));
        CHECK_RESULT(proxywasm_http_call_complete(rig.worker, host->tokens[host->token_count - 1], NULL),
                     NOT_FOUND);
        strcat(order, "completed ");
    }
    if (strcmp(callback, "add_header") == 0) {
        strcat(order, "added ");
        CHECK(!fake_host_logged(host, "on_http_call_response 1 0"));
    }
}

static void completion_is_delivered_after(void)
{
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig, "request_headers=call,add http_call_response=get", NULL);
    rig.host.hook = complete_in_call;
    proxywasm_stream *stream = rig_stream(&rig, &data);
    fake_host_forget(&rig.host);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_TEXT(order, "completed added ");
    CHECK_TEXT(rig.host.log,
               "on_create 1\non_request_headers 3 0\ncall 0\nadd 0\non_http_call_response 1 0\nget 1\n");
    rig.host.hook = NULL;
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

/* Another worker of the same thread is not concerned. */
static struct rig second;
static bool used_second;

static void use_second(struct fake_host *host, const char *callback)
{
    (void)host;
    if (!used_second && strcmp(callback, "get_header") == 0) {
        struct fake_stream data;
        proxywasm_outcome outcome = blank_outcome();
        used_second = true;
        proxywasm_stream *stream = rig_stream(&second, &data);
        CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
        CHECK(fake_host_logged(&second.host, "get 0 request"));
        proxywasm_stream_free(stream);
    }
}

static void other_worker(void)
{
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig, "request_headers=get,add", NULL);
    rig_open_on(&second, rig.engine, rig.module, "request_headers=get", NULL);
    rig.host.hook = use_second;
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK(used_second);
    CHECK(fake_host_logged(&rig.host, "add 0"));
    proxywasm_stream_free(stream);
    rig_close(&second);
    rig_close(&rig);
}

int main(void)
{
    refused_everywhere();
    completion_is_delivered_after();
    other_worker();
    return check_summary("reentry");
}
