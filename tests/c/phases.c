/* SPDX-License-Identifier: Apache-2.0
 *
 * What may be forwarded and when: pauses, held bodies, limits, local responses, phases out of order, and the
 * fate of the chunks that the host offers.
 */
#include "check.h"
#include "host.h"

struct offered {
    uint8_t bytes[16];
    unsigned released;
};

static void release(void *context)
{
    struct offered *offered = context;
    offered->released++;
    /* Nobody may look at them any more. */
    memset(offered->bytes, '!', sizeof offered->bytes);
}

static proxywasm_chunk offer(struct offered *offered, const char *text)
{
    memset(offered, 0, sizeof *offered);
    size_t len = strlen(text);
    memcpy(offered->bytes, text, len);
    proxywasm_chunk chunk = {offered->bytes, len, release, offered};
    return chunk;
}

static void released_once(void)
{
    struct rig rig;
    struct fake_stream data;
    struct offered a, b, c;
    proxywasm_outcome outcome = blank_outcome();

    /* Passed through: released at the latest when the stream ends, and not while the outcome shows them. */
    rig_open(&rig, "", NULL);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    proxywasm_chunk chunks[] = {
        offer(&a, "one "), offer(&b, "two "), {(const uint8_t *)"three", 5, NULL, NULL}};
    CHECK_OK(proxywasm_stream_on_request_body(stream, chunks, 3, false, &outcome));
    CHECK_TEXT(outcome_text(&outcome), "one two three");
    CHECK(a.released == 0 && b.released == 0);
    chunks[0] = offer(&c, "four");
    CHECK_OK(proxywasm_stream_on_request_body(stream, chunks, 1, true, &outcome));
    CHECK_TEXT(outcome_text(&outcome), "four");
    CHECK(a.released == 1 && b.released == 1 && c.released == 0);
    proxywasm_stream_free(stream);
    CHECK(a.released == 1 && b.released == 1 && c.released == 1);
    rig_close(&rig);

    /* Held back: kept as they are, without a copy, until they have been forwarded. */
    rig_open(&rig, "request_body=body,ret:1", NULL);
    stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    chunks[0] = offer(&a, "one ");
    CHECK_OK(proxywasm_stream_on_request_body(stream, chunks, 1, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE_AND_BUFFER);
    CHECK_INT(outcome.ready, 0);
    chunks[0] = offer(&b, "two");
    CHECK_OK(proxywasm_stream_on_request_body(stream, chunks, 1, true, &outcome));
    CHECK(fake_host_logged(&rig.host, "body 0 one two"));
    CHECK(a.released == 0 && b.released == 0);
    proxywasm_stream_free(stream);
    CHECK(a.released == 1 && b.released == 1);
    rig_close(&rig);

    /* Changed by the guest: no longer needed. */
    rig_open(&rig, "request_body=setbody", NULL);
    stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    chunks[0] = offer(&a, "one");
    CHECK_OK(proxywasm_stream_on_request_body(stream, chunks, 1, true, &outcome));
    CHECK_TEXT(outcome_text(&outcome), "changed");
    proxywasm_stream_free(stream);
    CHECK_INT(a.released, 1);
    rig_close(&rig);

    /* The worker goes first. */
    rig_open(&rig, "request_body=ret:1", NULL);
    stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    chunks[0] = offer(&a, "one");
    CHECK_OK(proxywasm_stream_on_request_body(stream, chunks, 1, true, &outcome));
    proxywasm_worker_free(rig.worker);
    rig.worker = NULL;
    proxywasm_stream_free(stream);
    CHECK_INT(a.released, 1);
    (void)proxywasm_instance_remove(rig.instance);
    rig.instance = NULL;
    rig_close(&rig);
}

static void not_released(void)
{
    struct rig rig;
    struct fake_stream data;
    struct offered a, b;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig, "", NULL);
    proxywasm_stream *stream = rig_stream(&rig, &data);

    /* Before the headers. */
    proxywasm_chunk chunks[] = {offer(&a, "one"), {NULL, 3, NULL, NULL}};
    CHECK_RESULT(proxywasm_stream_on_request_body(stream, chunks, 1, false, &outcome), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_on_response_body(stream, chunks, 1, false, &outcome), INVALID_ARGUMENT);
    /* Beside one that cannot be. */
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_RESULT(proxywasm_stream_on_request_body(stream, chunks, 2, false, &outcome), INVALID_ARGUMENT);
    /* On a stream of another kind, on none, with nowhere for the outcome. */
    CHECK_RESULT(proxywasm_stream_on_downstream_data(stream, chunks, 1, false, &outcome), UNSUPPORTED);
    CHECK_RESULT(proxywasm_stream_on_request_body(NULL, chunks, 1, false, &outcome), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_on_request_body(stream, chunks, 1, false, NULL), INVALID_ARGUMENT);
    CHECK_INT(a.released, 0);
    /* It was not taken, so it can be offered again. */
    CHECK_OK(proxywasm_stream_on_request_body(stream, chunks, 1, true, &outcome));
    CHECK_TEXT(outcome_text(&outcome), "one");
    /* After the end. */
    chunks[0] = offer(&b, "two");
    CHECK_RESULT(proxywasm_stream_on_request_body(stream, chunks, 1, false, &outcome), INVALID_ARGUMENT);
    CHECK_INT(b.released, 0);
    CHECK_RESULT(proxywasm_stream_on_request_trailers(stream, 1, &outcome), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_stream_on_request_headers(stream, 3, false, &outcome), INVALID_ARGUMENT);
    proxywasm_stream_free(stream);
    CHECK_INT(a.released, 1);
    CHECK_INT(b.released, 0);
    rig_close(&rig);
}

static void small_buffer(proxywasm_plugin_config *config)
{
    proxywasm_limits limits = {.struct_size = sizeof limits, .max_body_buffer = 8};
    CHECK_OK(proxywasm_plugin_config_set_limits(config, &limits));
}

/* A plain pause: what is offered all the same is held up to the limit, then refused. */
static void busy(void)
{
    struct rig rig;
    struct fake_stream data;
    struct offered a, b, c;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig, "request_headers=ret:1 foreign=resume:0 request_body=body", small_buffer);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE);
    CHECK_INT(outcome.ready, 0);
    proxywasm_chunk chunk = offer(&a, "12345");
    CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE);
    CHECK_INT(outcome.ready, 0);
    chunk = offer(&b, "67890");
    CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE);
    chunk = offer(&c, "abcde");
    CHECK_RESULT(proxywasm_stream_on_request_body(stream, &chunk, 1, true, &outcome), BUSY);
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE);
    CHECK_INT(outcome.ready, 0);
    CHECK(a.released == 0 && b.released == 0 && c.released == 0);
    CHECK(!fake_host_logged(&rig.host, "on_request_body 5 0"));

    /* Without a plugin that resumed nothing happens. */
    CHECK_OK(proxywasm_stream_resume(stream, PROXYWASM_DIRECTION_REQUEST, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE);
    CHECK_INT(outcome.ready, 0);
    CHECK_OK(proxywasm_stream_resume(stream, PROXYWASM_DIRECTION_RESPONSE, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CONTINUE);
    CHECK_INT(data.resumes[0], 0);
    proxywasm_stream_free(stream);
    CHECK(a.released == 1 && b.released == 1 && c.released == 0);
    rig_close(&rig);
}

static void pause_and_resume(void)
{
    struct rig rig;
    struct fake_stream data;
    struct offered a;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig,
             "request_headers=call,ret:1 http_call_response=effective,resume:0 request_body=body,ret:1 "
             "request_trailers=get",
             NULL);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE);
    CHECK_INT(data.resumes[0], 0);
    CHECK_OK(proxywasm_http_call_complete(rig.worker, rig.host.tokens[0], NULL));
    CHECK(fake_host_logged(&rig.host, "resume 0"));
    CHECK(data.resumes[0] == 1 && data.resumes[1] == 0);
    CHECK_OK(proxywasm_stream_resume(stream, PROXYWASM_DIRECTION_REQUEST, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CONTINUE);
    CHECK_INT(outcome.ready, PROXYWASM_READY_HEADERS);
    /* A second time there is nothing to resume. */
    CHECK_OK(proxywasm_stream_resume(stream, PROXYWASM_DIRECTION_REQUEST, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CONTINUE);
    CHECK_INT(outcome.ready, 0);

    proxywasm_chunk chunk = offer(&a, "held");
    CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE_AND_BUFFER);
    CHECK_INT(outcome.ready, 0);
    /* The trailers let everything go at once. */
    CHECK_OK(proxywasm_stream_on_request_trailers(stream, 1, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CONTINUE);
    CHECK_INT(outcome.ready, PROXYWASM_READY_BODY | PROXYWASM_READY_TRAILERS | PROXYWASM_READY_END_OF_STREAM);
    CHECK_TEXT(outcome_text(&outcome), "held");
    proxywasm_stream_free(stream);
    CHECK_INT(a.released, 1);
    rig_close(&rig);
}

static void allow_stop_iteration(proxywasm_plugin_config *config)
{
    CHECK_OK(proxywasm_plugin_config_set_allow_on_headers_stop_iteration(config, true));
}

/* A pause in the headers that the body ends. */
static void headers_wait_for_body(void)
{
    struct rig rig;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    const proxywasm_chunk chunk = {(const uint8_t *)"body", 4, NULL, NULL};
    rig_open(&rig, "request_headers=ret:1 request_body=body", allow_stop_iteration);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE_AND_BUFFER);
    CHECK_INT(outcome.ready, 0);
    CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, true, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CONTINUE);
    CHECK_INT(outcome.ready, PROXYWASM_READY_HEADERS | PROXYWASM_READY_BODY | PROXYWASM_READY_END_OF_STREAM);
    CHECK_TEXT(outcome_text(&outcome), "body");
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

/* What is borrowed for the call is copied when it is held. */
static void borrowed(void)
{
    struct rig rig;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig, "response_body=body,ret:1 response_trailers=", NULL);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    CHECK_OK(proxywasm_stream_on_response_headers(stream, 2, false, &outcome));
    for (int i = 0; i < 3; i++) {
        uint8_t *bytes = malloc(2);
        bytes[0] = (uint8_t)('a' + i);
        bytes[1] = ' ';
        proxywasm_chunk chunk = {bytes, 2, NULL, NULL};
        CHECK_OK(proxywasm_stream_on_response_body(stream, &chunk, 1, false, &outcome));
        CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE_AND_BUFFER);
        free(bytes);
    }
    CHECK(fake_host_logged(&rig.host, "body 0 a b c "));
    CHECK_OK(proxywasm_stream_on_response_trailers(stream, 1, &outcome));
    CHECK_TEXT(outcome_text(&outcome), "a b c ");
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

/* More than the limit: 413 for a request, 500 for a response. */
static void too_large(void)
{
    struct rig rig;
    struct fake_stream data;
    struct offered a, b;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig, "request_body=ret:1 response_body=ret:1", small_buffer);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    proxywasm_chunk chunk = offer(&a, "12345");
    CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_PAUSE_AND_BUFFER);
    chunk = offer(&b, "67890");
    CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_LOCAL_RESPONSE);
    CHECK_INT(outcome.ready, 0);
    CHECK_INT(data.local_responses, 1);
    CHECK_INT(data.local_status, 413);
    proxywasm_stream_free(stream);
    CHECK(a.released == 1 && b.released == 1);

    stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    CHECK_OK(proxywasm_stream_on_response_headers(stream, 2, false, &outcome));
    const proxywasm_chunk big = {(const uint8_t *)"123456789", 9, NULL, NULL};
    CHECK_OK(proxywasm_stream_on_response_body(stream, &big, 1, false, &outcome));
    /* The headers have gone out, so there is nothing left but to cut it short. */
    CHECK(outcome.action == PROXYWASM_ACTION_CLOSE || outcome.action == PROXYWASM_ACTION_LOCAL_RESPONSE);
    CHECK_INT(data.local_responses + data.closes, 1);
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

static void local_response(void)
{
    struct rig rig;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig, "request_headers=local", NULL);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_LOCAL_RESPONSE);
    CHECK_INT(outcome.ready, 0);
    CHECK_INT(data.local_responses, 1);
    CHECK_INT(data.local_status, 403);
    CHECK_TEXT(data.local_body, "no");
    /* The response phases may be run on it. */
    CHECK_OK(proxywasm_stream_on_response_headers(stream, 2, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CONTINUE);
    CHECK(fake_host_logged(&rig.host, "on_response_headers 2 0"));
    proxywasm_stream_free(stream);

    /* A host that cannot answer is asked to close. */
    stream = rig_stream(&rig, &data);
    data.local_result = PROXYWASM_STATUS_INTERNAL_FAILURE;
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CLOSE);
    CHECK_INT(data.closes, 1);
    proxywasm_stream_free(stream);
    rig_close(&rig);

    rig_open(&rig, "response_headers=close", NULL);
    stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    CHECK_OK(proxywasm_stream_on_response_headers(stream, 2, false, &outcome));
    CHECK_INT(outcome.action, PROXYWASM_ACTION_CLOSE);
    CHECK_INT(outcome.ready, 0);
    CHECK_INT(data.closes, 1);
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

/* Trailers that a plugin makes at the end of the body. */
static void made_trailers(void)
{
    struct rig rig;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    const proxywasm_chunk chunk = {(const uint8_t *)"body", 4, NULL, NULL};
    rig_open(&rig, "request_body=addtrailer", NULL);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    data.maps[PROXYWASM_MAP_REQUEST_TRAILERS].count = 0;
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &outcome));
    CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, false, &outcome));
    CHECK(fake_host_logged(&rig.host, "addtrailer 2"));
    CHECK_INT(outcome.ready, PROXYWASM_READY_BODY);
    fake_host_forget(&rig.host);
    CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, true, &outcome));
    CHECK(fake_host_logged(&rig.host, "addtrailer 0"));
    CHECK_INT(outcome.ready, PROXYWASM_READY_BODY | PROXYWASM_READY_TRAILERS | PROXYWASM_READY_END_OF_STREAM);
    CHECK_TEXT(fake_map_get(&data.maps[PROXYWASM_MAP_REQUEST_TRAILERS], "x-out"), "1");
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

static void policy_open(proxywasm_plugin_config *config)
{
    CHECK_OK(proxywasm_plugin_config_set_failure_policy(config, PROXYWASM_FAILURE_POLICY_OPEN));
}

static void policy_closed(proxywasm_plugin_config *config)
{
    CHECK_OK(proxywasm_plugin_config_set_failure_policy(config, PROXYWASM_FAILURE_POLICY_CLOSED));
}

/* The action is what the policy says, whatever the result. */
static void failures(void)
{
    static const struct {
        const char *script;
        int32_t result;
    } ways[] = {
        {"request_headers=trap", PROXYWASM_RESULT_GUEST_TRAP},
        {"request_headers=oob", PROXYWASM_RESULT_GUEST_TRAP},
        {"request_headers=recurse", PROXYWASM_RESULT_GUEST_TRAP},
        {"request_headers=grow", PROXYWASM_RESULT_GUEST_LIMIT},
    };
    static rig_configure_fn *const policies[] = {NULL, policy_closed, policy_open};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        for (size_t j = 0; j < sizeof policies / sizeof policies[0]; j++) {
            struct rig rig;
            struct fake_stream data;
            proxywasm_outcome outcome = blank_outcome();
            bool open = policies[j] == policy_open;
            rig_open(&rig, ways[i].script, policies[j]);
            proxywasm_stream *stream = rig_stream(&rig, &data);
            CHECK_INT(proxywasm_stream_on_request_headers(stream, 3, true, &outcome), ways[i].result);
            CHECK_INT(outcome.action, open ? PROXYWASM_ACTION_CONTINUE : PROXYWASM_ACTION_LOCAL_RESPONSE);
            CHECK_INT(outcome.ready, open ? PROXYWASM_READY_HEADERS | PROXYWASM_READY_END_OF_STREAM : 0);
            CHECK_INT(data.local_status, open ? 0 : 503);
            CHECK_INT(rig.host.failures, 1);
            CHECK_INT(rig.host.failure, ways[i].result);
            proxywasm_stream_free(stream);

            /* What comes after: RELOAD has a new VM, which fails again; CLOSED has none, OPEN passes. */
            stream = rig_stream(&rig, &data);
            int32_t later = proxywasm_stream_on_request_headers(stream, 3, true, &outcome);
            CHECK_INT(outcome.action, open ? PROXYWASM_ACTION_CONTINUE : PROXYWASM_ACTION_LOCAL_RESPONSE);
            if (policies[j] == NULL) {
                CHECK_INT(later, ways[i].result);
                CHECK_INT(rig.host.failures, 2);
            } else {
                CHECK(later == PROXYWASM_RESULT_GUEST_UNAVAILABLE || (open && later == PROXYWASM_RESULT_OK));
                CHECK_INT(rig.host.failures, 1);
            }
            proxywasm_stream_free(stream);
            rig_close(&rig);
        }
    }
}

static void allow_little(proxywasm_plugin_config *config)
{
    static const char *const allowed[] = {"proxy_on_context_create", "proxy_on_configure",
                                          "proxy_on_request_headers", "proxy_log", "proxy_get_buffer_bytes"};
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++) {
        CHECK_OK(proxywasm_plugin_config_allow(config, text_slice(allowed[i])));
    }
}

static void only_headers(proxywasm_plugin_config *config)
{
    CHECK_OK(proxywasm_plugin_config_set_phases(config, PROXYWASM_PHASE_REQUEST_HEADERS));
}

static void restricted(void)
{
    struct rig rig;
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig, "request_headers=get,add", allow_little);
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    CHECK(fake_host_logged(&rig.host, "get 10"));
    CHECK(fake_host_logged(&rig.host, "add 10"));
    CHECK_OK(proxywasm_stream_on_response_headers(stream, 2, true, &outcome));
    CHECK(!fake_host_logged(&rig.host, "on_response_headers 2 1"));
    proxywasm_stream_free(stream);
    rig_close(&rig);

    rig_open(&rig, "response_headers=trap", only_headers);
    CHECK_INT(proxywasm_chain_phases(rig.chain) & ~(unsigned)PROXYWASM_PHASE_NEW_CONNECTION,
              PROXYWASM_PHASE_REQUEST_HEADERS);
    stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, true, &outcome));
    CHECK_OK(proxywasm_stream_on_response_headers(stream, 2, true, &outcome));
    CHECK_INT(outcome.ready, PROXYWASM_READY_HEADERS | PROXYWASM_READY_END_OF_STREAM);
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

int main(void)
{
    released_once();
    not_released();
    busy();
    pause_and_resume();
    headers_wait_for_body();
    borrowed();
    too_large();
    local_response();
    made_trailers();
    failures();
    restricted();
    return check_summary("phases");
}
