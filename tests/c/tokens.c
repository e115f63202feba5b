/* SPDX-License-Identifier: Apache-2.0
 *
 * A token that names no call is answered with NOT_FOUND and has no effect: stale, forged, used twice, of
 * another worker, of another kind of call.
 */
#include "check.h"
#include "host.h"

#define NOTHING ((proxywasm_slice){NULL, 0})

static struct rig rig;

static void all_not_found(proxywasm_token token)
{
    const proxywasm_slice message = text_slice("message");
    fake_host_forget(&rig.host);
    CHECK_RESULT(proxywasm_http_call_complete(rig.worker, token, NULL), NOT_FOUND);
    CHECK_RESULT(proxywasm_grpc_initial_metadata(rig.worker, token, NULL, 0), NOT_FOUND);
    CHECK_RESULT(proxywasm_grpc_message(rig.worker, token, &message, 1), NOT_FOUND);
    CHECK_RESULT(proxywasm_grpc_trailing_metadata(rig.worker, token, NULL, 0), NOT_FOUND);
    CHECK_RESULT(proxywasm_grpc_close(rig.worker, token, 0, NOTHING), NOT_FOUND);
    CHECK_TEXT(rig.host.log, "");
}

static proxywasm_token start(const char *what)
{
    size_t before = rig.host.token_count;
    if (before == sizeof rig.host.tokens / sizeof rig.host.tokens[0]) {
        before = rig.host.token_count = 0;
    }
    CHECK_OK(proxywasm_instance_on_foreign_function(rig.instance, 1, text_slice(what)));
    CHECK_INT(rig.host.token_count, before + 1);
    return rig.host.tokens[before];
}

static void http(void)
{
    rig_open(&rig, "foreign=call", NULL);
    all_not_found(0);
    all_not_found(1);
    all_not_found(UINT64_MAX);

    proxywasm_token first = start("");
    for (int bit = 0; bit < 64; bit++) {
        all_not_found(first ^ (UINT64_C(1) << bit));
    }
    /* The right token at the wrong door. */
    const proxywasm_slice message = text_slice("message");
    CHECK_RESULT(proxywasm_grpc_message(rig.worker, first, &message, 1), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_grpc_initial_metadata(rig.worker, first, NULL, 0), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_grpc_trailing_metadata(rig.worker, first, NULL, 0), INVALID_ARGUMENT);
    CHECK_RESULT(proxywasm_grpc_close(rig.worker, first, 0, NOTHING), INVALID_ARGUMENT);
    CHECK_TEXT(rig.host.log, "");
    CHECK_OK(proxywasm_http_call_complete(rig.worker, first, NULL));
    CHECK(fake_host_logged(&rig.host, "on_http_call_response 0 0"));
    all_not_found(first);

    /* Its slot is used again, it is not. */
    proxywasm_token next = start("");
    CHECK(next != first);
    all_not_found(first);
    CHECK_OK(proxywasm_http_call_complete(rig.worker, next, NULL));

    /* Of a worker beside this one. */
    struct rig second;
    rig_open_on(&second, rig.engine, rig.module, "foreign=call", NULL);
    CHECK_OK(proxywasm_instance_on_foreign_function(second.instance, 1, text_slice("")));
    CHECK_INT(second.host.token_count, 1);
    CHECK_RESULT(proxywasm_http_call_complete(rig.worker, second.host.tokens[0], NULL), NOT_FOUND);
    CHECK_INT(second.host.cancels, 0);
    rig_close(&second);
    CHECK_INT(second.host.cancels, 1);
    CHECK(second.host.cancelled == second.host.tokens[0]);

    /* A refused call has no token to complete. */
    rig.host.call_status = PROXYWASM_STATUS_BAD_ARGUMENT;
    fake_host_forget(&rig.host);
    CHECK_OK(proxywasm_instance_on_foreign_function(rig.instance, 1, text_slice("")));
    CHECK(fake_host_logged(&rig.host, "call 2"));
    rig.host.call_status = PROXYWASM_STATUS_OK;
    rig_close(&rig);
}

static void grpc(void)
{
    const proxywasm_slice message[] = {text_slice("mess"), text_slice("age")};
    const proxywasm_pair metadata = {text_slice("k"), text_slice("v")};

    rig_open(&rig, "foreign=grpc grpc_receive=body", NULL);
    proxywasm_token token = start("");
    CHECK_RESULT(proxywasm_http_call_complete(rig.worker, token, NULL), INVALID_ARGUMENT);
    CHECK_OK(proxywasm_grpc_message(rig.worker, token, message, 2));
    CHECK(fake_host_logged(&rig.host, "on_grpc_receive 7"));
    CHECK(fake_host_logged(&rig.host, "body 0 message"));
    /* The answer of a unary call ends it. */
    CHECK_RESULT(proxywasm_grpc_message(rig.worker, token, message, 2), NOT_FOUND);
    token = start("");
    CHECK_OK(proxywasm_grpc_close(rig.worker, token, 14, text_slice("away")));
    CHECK(fake_host_logged(&rig.host, "on_grpc_close 14"));
    all_not_found(token);
    rig_close(&rig);

    rig_open(&rig, "foreign=stream grpc_initial=send grpc_receive=body grpc_trailing=gclose", NULL);
    token = start("");
    CHECK_OK(proxywasm_grpc_initial_metadata(rig.worker, token, &metadata, 1));
    CHECK_INT(rig.host.grpc_sends, 1);
    CHECK_OK(proxywasm_grpc_message(rig.worker, token, message, 2));
    CHECK_OK(proxywasm_grpc_message(rig.worker, token, message, 1));
    CHECK(fake_host_logged(&rig.host, "body 0 mess"));
    CHECK_OK(proxywasm_grpc_trailing_metadata(rig.worker, token, &metadata, 1));
    CHECK(fake_host_logged(&rig.host, "on_grpc_trailing 1"));
    CHECK_INT(rig.host.grpc_closes, 1);
    CHECK_OK(proxywasm_grpc_close(rig.worker, token, 0, NOTHING));
    all_not_found(token);
    rig_close(&rig);

    /* Cancelled by the guest. */
    rig_open(&rig, "foreign=stream,cancel", NULL);
    token = start("");
    CHECK_INT(rig.host.cancels, 1);
    CHECK(rig.host.cancelled == token);
    all_not_found(token);
    rig_close(&rig);
}

/* The VM fails: its calls are cancelled. */
static void failed_vm(void)
{
    struct fake_stream data;
    proxywasm_outcome outcome = blank_outcome();
    rig_open(&rig, "foreign=call request_headers=trap", NULL);
    proxywasm_token token = start("");
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_RESULT(proxywasm_stream_on_request_headers(stream, 3, true, &outcome), GUEST_TRAP);
    CHECK_INT(rig.host.cancels, 1);
    CHECK(rig.host.cancelled == token);
    all_not_found(token);
    proxywasm_stream_free(stream);
    rig_close(&rig);
}

int main(void)
{
    http();
    grpc();
    failed_vm();
    return check_summary("tokens");
}
