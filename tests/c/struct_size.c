/* SPDX-License-Identifier: Apache-2.0
 *
 * Programs that are older or newer than the library: their structs are smaller or larger than those it knows.
 */
#include "check.h"
#include "host.h"
#include <stddef.h>

static struct rig rig;

/* The members that a program had in the first version, which this is: whatever comes before the last one. */
static void limits(void)
{
    struct {
        proxywasm_limits known;
        uint64_t unknown;
    } larger = {{.struct_size = sizeof larger, .max_callouts = 5}, 0};
    proxywasm_plugin_config *config = NULL;
    REQUIRE_OK(proxywasm_plugin_config_new(text_slice("x"), &config));
    CHECK_OK(proxywasm_plugin_config_set_limits(config, &larger.known));
    larger.unknown = UINT64_C(1) << 56;
    CHECK_RESULT(proxywasm_plugin_config_set_limits(config, &larger.known), ABI_MISMATCH);
    larger.unknown = 0;
    larger.known.struct_size = sizeof larger.known;
    CHECK_OK(proxywasm_plugin_config_set_limits(config, &larger.known));
    /* Smaller: what is behind is not read. */
    proxywasm_limits *small = malloc(offsetof(proxywasm_limits, max_memory));
    memset(small, 0, offsetof(proxywasm_limits, max_memory));
    small->struct_size = offsetof(proxywasm_limits, max_memory);
    CHECK_OK(proxywasm_plugin_config_set_limits(config, small));
    small->struct_size = sizeof(size_t);
    CHECK_OK(proxywasm_plugin_config_set_limits(config, small));
    free(small);
    /* Sizes that cannot be: forgotten, or garbage. */
    static const size_t sizes[] = {0, 1, sizeof(size_t) - 1, SIZE_MAX, SIZE_MAX / 2, 1u << 30};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        larger.known.struct_size = sizes[i];
        CHECK_RESULT(proxywasm_plugin_config_set_limits(config, &larger.known), INVALID_ARGUMENT);
    }
    proxywasm_plugin_config_free(config);
}

static void host(void)
{
    struct {
        proxywasm_host known;
        void *unknown[4];
    } larger = {fake_host_table(), {NULL, NULL, NULL, NULL}};
    proxywasm_worker *worker = NULL;
    larger.known.struct_size = sizeof larger;
    CHECK_OK(proxywasm_worker_new(rig.engine, &larger.known, NULL, &worker));
    proxywasm_worker_free(worker);
    worker = NULL;
    larger.unknown[3] = &worker;
    CHECK_RESULT(proxywasm_worker_new(rig.engine, &larger.known, NULL, &worker), ABI_MISMATCH);
    CHECK(worker == NULL);
    CHECK_RESULT(proxywasm_plugin_validate(rig.plugin, &larger.known, NULL), ABI_MISMATCH);

    /* An old program has fewer callbacks. */
    size_t size = offsetof(proxywasm_host, get_header);
    proxywasm_host *small = malloc(size);
    memcpy(small, &larger.known, size);
    small->struct_size = size;
    static struct fake_host state;
    fake_host_init(&state);
    CHECK_OK(proxywasm_worker_new(rig.engine, small, &state, &worker));
    free(small);
    proxywasm_instance *instance = NULL;
    proxywasm_chain *chain = NULL;
    proxywasm_stream *stream = NULL;
    proxywasm_outcome outcome = blank_outcome();
    CHECK_OK(proxywasm_worker_add_plugin(worker, rig.plugin, &instance));
    const proxywasm_instance *instances[] = {instance};
    CHECK_OK(proxywasm_chain_new(worker, instances, 1, &chain));
    CHECK_OK(proxywasm_stream_new(chain, 0, NULL, &stream));
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 0, true, &outcome));
    CHECK(fake_host_logged(&state, "get 12"));
    proxywasm_stream_free(stream);
    proxywasm_chain_free(chain);
    CHECK_OK(proxywasm_instance_remove(instance));
    proxywasm_worker_free(worker);
    static const size_t sizes[] = {0, 7, SIZE_MAX};
    worker = NULL;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        larger.known.struct_size = sizes[i];
        CHECK_RESULT(proxywasm_worker_new(rig.engine, &larger.known, NULL, &worker), INVALID_ARGUMENT);
    }
    CHECK(worker == NULL);
}

/* What the library writes: no more than the program has, and nothing behind it. */
static void written(void)
{
    struct fake_stream data;
    struct {
        proxywasm_outcome known;
        uint64_t unknown;
    } larger;
    memset(&larger, 0x5a, sizeof larger);
    larger.known.struct_size = sizeof larger;
    larger.unknown = 0;
    proxywasm_stream *stream = rig_stream(&rig, &data);
    CHECK_OK(proxywasm_stream_on_request_headers(stream, 3, false, &larger.known));
    CHECK_INT(larger.known.action, PROXYWASM_ACTION_CONTINUE);
    CHECK_INT(larger.known.struct_size, sizeof larger);
    CHECK_INT(larger.unknown, 0);

    /* Up to `ready`: as of a program that knows no bodies. */
    proxywasm_outcome small;
    memset(&small, 0x5a, sizeof small);
    small.struct_size = offsetof(proxywasm_outcome, body);
    const proxywasm_chunk chunk = {(const uint8_t *)"x", 1, NULL, NULL};
    CHECK_OK(proxywasm_stream_on_request_body(stream, &chunk, 1, true, &small));
    CHECK_INT(small.action, PROXYWASM_ACTION_CONTINUE);
    CHECK_INT(small.ready, PROXYWASM_READY_BODY | PROXYWASM_READY_END_OF_STREAM);
    CHECK(small.body_count == (size_t)0x5a5a5a5a5a5a5a5a);
    static const size_t sizes[] = {0, 7, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        small.struct_size = sizes[i];
        CHECK_RESULT(proxywasm_stream_on_response_headers(stream, 3, true, &small), INVALID_ARGUMENT);
    }
    proxywasm_stream_free(stream);

    struct {
        proxywasm_worker_stats known;
        uint64_t unknown;
    } stats = {{.struct_size = sizeof stats}, 7};
    CHECK_OK(proxywasm_worker_get_stats(rig.worker, &stats.known));
    CHECK_INT(stats.known.vms, 1);
    CHECK_INT(stats.known.struct_size, sizeof stats);
    memset(&stats, 0x5a, sizeof stats);
    stats.known.struct_size = offsetof(proxywasm_worker_stats, vms_created);
    CHECK_OK(proxywasm_worker_get_stats(rig.worker, &stats.known));
    CHECK_INT(stats.known.vms, 1);
    CHECK(stats.known.vms_created == 0x5a5a5a5a5a5a5a5a);
    stats.known.struct_size = 0;
    CHECK_RESULT(proxywasm_worker_get_stats(rig.worker, &stats.known), INVALID_ARGUMENT);

    proxywasm_module_info info;
    memset(&info, 0x5a, sizeof info);
    info.struct_size = offsetof(proxywasm_module_info, digest);
    CHECK_OK(proxywasm_module_get_info(rig.module, &info));
    CHECK_INT(info.abi_version, 201);
    CHECK_INT(info.digest[0], 0x5a);
    info.struct_size = 3;
    CHECK_RESULT(proxywasm_module_get_info(rig.module, &info), INVALID_ARGUMENT);
}

static void response(void)
{
    struct {
        proxywasm_http_response known;
        uint64_t unknown;
    } larger = {{.struct_size = sizeof larger}, 1};
    const proxywasm_slice body = text_slice("body");
    CHECK_OK(proxywasm_instance_on_foreign_function(rig.instance, 1, text_slice("")));
    CHECK_INT(rig.host.token_count, 1);
    proxywasm_token token = rig.host.tokens[0];
    CHECK_RESULT(proxywasm_http_call_complete(rig.worker, token, &larger.known), ABI_MISMATCH);
    larger.known.struct_size = 0;
    CHECK_RESULT(proxywasm_http_call_complete(rig.worker, token, &larger.known), INVALID_ARGUMENT);
    /* The token is still good. Older than trailers: */
    size_t size = offsetof(proxywasm_http_response, trailers);
    proxywasm_http_response *small = malloc(size);
    memset(small, 0, size);
    small->struct_size = size;
    small->body = &body;
    small->body_count = 1;
    CHECK_OK(proxywasm_http_call_complete(rig.worker, token, small));
    CHECK(fake_host_logged(&rig.host, "on_http_call_response 0 4"));
    free(small);
}

int main(void)
{
    rig_open(&rig, "request_headers=get foreign=call", NULL);
    limits();
    host();
    written();
    response();
    rig_close(&rig);
    return check_summary("struct_size");
}
