/* SPDX-License-Identifier: Apache-2.0 */
#include "host.h"
#include "check.h"
#include <strings.h>

proxywasm_slice text_slice(const char *text)
{
    proxywasm_slice slice = {(const uint8_t *)text, strlen(text)};
    return slice;
}

static void hook(struct fake_host *host, const char *callback)
{
    if (host->hook != NULL) {
        host->hook(host, callback);
    }
}

static struct fake_map *map_of(void *stream_data, int32_t map)
{
    struct fake_stream *stream = stream_data;
    return stream != NULL && map >= 0 && map < 4 ? &stream->maps[map] : NULL;
}

static bool has_name(const char *name, proxywasm_slice wanted)
{
    return strlen(name) == wanted.len && strncasecmp(name, (const char *)wanted.data, wanted.len) == 0;
}

static void copy_text(char *to, size_t capacity, proxywasm_slice from)
{
    size_t len = from.len < capacity ? from.len : capacity - 1;
    if (len > 0) {
        memcpy(to, from.data, len);
    }
    to[len] = '\0';
}

/* Callbacks. */

static void on_log(void *user_data, void *stream_data, const proxywasm_log_record *record)
{
    struct fake_host *host = user_data;
    (void)stream_data;
    hook(host, "log");
    CHECK(record->struct_size == sizeof *record);
    size_t room = sizeof host->log - host->log_len;
    if (record->message.len + 2 > room) {
        host->log_len = 0;
        return;
    }
    memcpy(host->log + host->log_len, record->message.data, record->message.len);
    host->log_len += record->message.len;
    host->log[host->log_len++] = '\n';
    host->log[host->log_len] = '\0';
}

static int32_t on_log_level(void *user_data)
{
    struct fake_host *host = user_data;
    hook(host, "log_level");
    return host->log_level;
}

static uint64_t on_now(void *user_data)
{
    struct fake_host *host = user_data;
    hook(host, "now");
    return host->now;
}

static int32_t on_get_header(void *user_data, void *stream_data, int32_t number, proxywasm_slice name,
                             proxywasm_slice *out_value)
{
    hook(user_data, "get_header");
    struct fake_map *map = map_of(stream_data, number);
    if (map == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }
    for (size_t i = 0; i < map->count; i++) {
        if (has_name(map->fields[i].name, name)) {
            *out_value = text_slice(map->fields[i].value);
            return PROXYWASM_STATUS_OK;
        }
    }
    return PROXYWASM_STATUS_NOT_FOUND;
}

static int32_t on_get_headers(void *user_data, void *stream_data, int32_t number, proxywasm_pair *pairs,
                              size_t capacity, size_t *out_count)
{
    hook(user_data, "get_headers");
    struct fake_map *map = map_of(stream_data, number);
    if (map == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }
    CHECK((capacity == 0) == (pairs == NULL));
    for (size_t i = 0; i < map->count && i < capacity; i++) {
        pairs[i].name = text_slice(map->fields[i].name);
        pairs[i].value = text_slice(map->fields[i].value);
    }
    *out_count = map->count;
    return PROXYWASM_STATUS_OK;
}

static int32_t on_add_header(void *user_data, void *stream_data, int32_t number, proxywasm_slice name,
                             proxywasm_slice value)
{
    hook(user_data, "add_header");
    struct fake_map *map = map_of(stream_data, number);
    if (map == NULL || map->count == sizeof map->fields / sizeof map->fields[0]) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }
    copy_text(map->fields[map->count].name, sizeof map->fields[0].name, name);
    copy_text(map->fields[map->count].value, sizeof map->fields[0].value, value);
    map->count++;
    return PROXYWASM_STATUS_OK;
}

static int32_t on_remove_header(void *user_data, void *stream_data, int32_t number, proxywasm_slice name)
{
    hook(user_data, "remove_header");
    struct fake_map *map = map_of(stream_data, number);
    if (map == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }
    size_t kept = 0;
    for (size_t i = 0; i < map->count; i++) {
        if (!has_name(map->fields[i].name, name)) {
            if (kept != i) {
                map->fields[kept] = map->fields[i];
            }
            kept++;
        }
    }
    map->count = kept;
    return PROXYWASM_STATUS_OK;
}

static int32_t on_replace_header(void *user_data, void *stream_data, int32_t number, proxywasm_slice name,
                                 proxywasm_slice value)
{
    hook(user_data, "replace_header");
    int32_t status = on_remove_header(user_data, stream_data, number, name);
    return status != 0 ? status : on_add_header(user_data, stream_data, number, name, value);
}

static int32_t on_set_headers(void *user_data, void *stream_data, int32_t number, const proxywasm_pair *pairs,
                              size_t count)
{
    hook(user_data, "set_headers");
    struct fake_map *map = map_of(stream_data, number);
    if (map == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }
    map->count = 0;
    for (size_t i = 0; i < count; i++) {
        on_add_header(user_data, stream_data, number, pairs[i].name, pairs[i].value);
    }
    return PROXYWASM_STATUS_OK;
}

static int32_t on_get_property(void *user_data, void *stream_data, proxywasm_slice path,
                               proxywasm_slice *out_value)
{
    (void)stream_data;
    hook(user_data, "get_property");
    if (path.len == 3 && memcmp(path.data, "a\0b", 3) == 0) {
        *out_value = text_slice("value");
        return PROXYWASM_STATUS_OK;
    }
    return PROXYWASM_STATUS_NOT_FOUND;
}

static int32_t on_set_property(void *user_data, void *stream_data, proxywasm_slice path,
                               proxywasm_slice value)
{
    (void)stream_data;
    (void)path;
    (void)value;
    hook(user_data, "set_property");
    return PROXYWASM_STATUS_OK;
}

static int32_t on_send_local_response(void *user_data, void *stream_data,
                                      const proxywasm_local_response *response)
{
    hook(user_data, "send_local_response");
    struct fake_stream *stream = stream_data;
    CHECK(response->struct_size == sizeof *response);
    stream->local_responses++;
    stream->local_status = response->status;
    copy_text(stream->local_body, sizeof stream->local_body, response->body);
    return stream->local_result;
}

static void on_resume_stream(void *user_data, void *stream_data, int32_t direction)
{
    hook(user_data, "resume_stream");
    struct fake_stream *stream = stream_data;
    if (CHECK(direction == 0 || direction == 1)) {
        stream->resumes[direction]++;
    }
}

static void on_close_stream(void *user_data, void *stream_data, int32_t stream_type)
{
    hook(user_data, "close_stream");
    struct fake_stream *stream = stream_data;
    CHECK(stream_type >= 0 && stream_type <= 3);
    stream->closes++;
}

static int32_t keep_token(struct fake_host *host, proxywasm_token token)
{
    CHECK(token != 0);
    if (host->call_status == PROXYWASM_STATUS_OK && CHECK(host->token_count < 16)) {
        host->tokens[host->token_count++] = token;
    }
    return host->call_status;
}

static int32_t on_http_call(void *user_data, void *stream_data, proxywasm_token token,
                            const proxywasm_http_request *request)
{
    struct fake_host *host = user_data;
    (void)stream_data;
    CHECK(request->struct_size == sizeof *request);
    CHECK(request->header_count >= 3);
    CHECK(request->body.len == 3 && memcmp(request->body.data, "ask", 3) == 0);
    CHECK_INT(request->timeout_ms, 1000);
    int32_t status = keep_token(host, token);
    hook(host, "http_call");
    return status;
}

static void on_cancel_call(void *user_data, proxywasm_token token)
{
    struct fake_host *host = user_data;
    hook(host, "cancel_call");
    host->cancels++;
    host->cancelled = token;
}

static int32_t on_grpc(void *user_data, void *stream_data, proxywasm_token token,
                       const proxywasm_grpc_request *request)
{
    struct fake_host *host = user_data;
    (void)stream_data;
    CHECK(request->struct_size == sizeof *request);
    int32_t status = keep_token(host, token);
    hook(host, "grpc_call");
    return status;
}

static int32_t on_grpc_send(void *user_data, proxywasm_token token, proxywasm_slice message,
                            bool end_of_stream)
{
    struct fake_host *host = user_data;
    (void)token;
    (void)end_of_stream;
    hook(host, "grpc_send");
    CHECK(message.len == 4);
    host->grpc_sends++;
    return PROXYWASM_STATUS_OK;
}

static int32_t on_grpc_close(void *user_data, proxywasm_token token)
{
    struct fake_host *host = user_data;
    (void)token;
    hook(host, "grpc_close");
    host->grpc_closes++;
    return PROXYWASM_STATUS_OK;
}

static int32_t on_foreign(void *user_data, void *stream_data, proxywasm_slice name, proxywasm_slice argument,
                          proxywasm_slice *out_result)
{
    (void)stream_data;
    hook(user_data, "call_foreign_function");
    if (name.len != 4 || memcmp(name.data, "echo", 4) != 0) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }
    *out_result = argument;
    return PROXYWASM_STATUS_OK;
}

static void on_vm_failed(void *user_data, proxywasm_slice plugin, int32_t result)
{
    struct fake_host *host = user_data;
    (void)plugin;
    hook(host, "vm_failed");
    host->failures++;
    host->failure = result;
}

static void on_timeout_changed(void *user_data)
{
    hook(user_data, "timeout_changed");
}

static void on_wake(void *user_data)
{
    struct fake_host *host = user_data;
    __atomic_add_fetch(&host->wakes, 1, __ATOMIC_SEQ_CST);
}

proxywasm_host fake_host_table(void)
{
    proxywasm_host table;
    memset(&table, 0, sizeof table);
    table.struct_size = sizeof table;
    table.log = on_log;
    table.log_level = on_log_level;
    table.now_realtime_ns = on_now;
    table.now_monotonic_ns = on_now;
    table.get_header = on_get_header;
    table.get_headers = on_get_headers;
    table.add_header = on_add_header;
    table.replace_header = on_replace_header;
    table.remove_header = on_remove_header;
    table.set_headers = on_set_headers;
    table.get_property = on_get_property;
    table.set_property = on_set_property;
    table.send_local_response = on_send_local_response;
    table.resume_stream = on_resume_stream;
    table.close_stream = on_close_stream;
    table.http_call = on_http_call;
    table.cancel_call = on_cancel_call;
    table.grpc_call = on_grpc;
    table.grpc_stream = on_grpc;
    table.grpc_send = on_grpc_send;
    table.grpc_close = on_grpc_close;
    table.call_foreign_function = on_foreign;
    table.vm_failed = on_vm_failed;
    table.timeout_changed = on_timeout_changed;
    table.wake = on_wake;
    return table;
}

void fake_host_init(struct fake_host *host)
{
    memset(host, 0, sizeof *host);
    host->log_level = PROXYWASM_LOG_LEVEL_INFO;
    host->now = 1000000000;
}

bool fake_host_logged(const struct fake_host *host, const char *line)
{
    size_t len = strlen(line);
    for (const char *at = host->log; (at = strstr(at, line)) != NULL; at++) {
        if ((at == host->log || at[-1] == '\n') && at[len] == '\n') {
            return true;
        }
    }
    return false;
}

void fake_host_forget(struct fake_host *host)
{
    host->log_len = 0;
    host->log[0] = '\0';
}

void fake_map_add(struct fake_map *map, const char *name, const char *value)
{
    copy_text(map->fields[map->count].name, sizeof map->fields[0].name, text_slice(name));
    copy_text(map->fields[map->count].value, sizeof map->fields[0].value, text_slice(value));
    map->count++;
}

const char *fake_map_get(const struct fake_map *map, const char *name)
{
    for (size_t i = 0; i < map->count; i++) {
        if (strcmp(map->fields[i].name, name) == 0) {
            return map->fields[i].value;
        }
    }
    return "";
}

void fake_stream_init(struct fake_stream *stream)
{
    memset(stream, 0, sizeof *stream);
    fake_map_add(&stream->maps[PROXYWASM_MAP_REQUEST_HEADERS], ":method", "GET");
    fake_map_add(&stream->maps[PROXYWASM_MAP_REQUEST_HEADERS], ":path", "/");
    fake_map_add(&stream->maps[PROXYWASM_MAP_REQUEST_HEADERS], "x-in", "request");
    fake_map_add(&stream->maps[PROXYWASM_MAP_REQUEST_TRAILERS], "x-in", "request trailer");
    fake_map_add(&stream->maps[PROXYWASM_MAP_RESPONSE_HEADERS], ":status", "200");
    fake_map_add(&stream->maps[PROXYWASM_MAP_RESPONSE_HEADERS], "x-in", "response");
    fake_map_add(&stream->maps[PROXYWASM_MAP_RESPONSE_TRAILERS], "x-in", "response trailer");
}

proxywasm_plugin *new_plugin(proxywasm_module *module, const char *configuration, rig_configure_fn *configure)
{
    proxywasm_plugin_config *config = NULL;
    proxywasm_plugin *plugin = NULL;
    REQUIRE_OK(proxywasm_plugin_config_new(text_slice("scripted"), &config));
    REQUIRE_OK(proxywasm_plugin_config_set_configuration(config, text_slice(configuration)));
    REQUIRE_OK(proxywasm_plugin_config_set_vm_id(config, text_slice("vm")));
    if (configure != NULL) {
        configure(config);
    }
    REQUIRE_OK(proxywasm_plugin_new(module, config, &plugin));
    proxywasm_plugin_config_free(config);
    return plugin;
}

void rig_open_on(struct rig *rig, proxywasm_engine *engine, proxywasm_module *module,
                 const char *configuration, rig_configure_fn *configure)
{
    memset(rig, 0, sizeof *rig);
    fake_host_init(&rig->host);
    rig->plugin = new_plugin(module, configuration, configure);
    proxywasm_host table = fake_host_table();
    REQUIRE_OK(proxywasm_worker_new(engine, &table, &rig->host, &rig->worker));
    REQUIRE_OK(proxywasm_worker_add_plugin(rig->worker, rig->plugin, &rig->instance));
    const proxywasm_instance *instances[] = {rig->instance};
    REQUIRE_OK(proxywasm_chain_new(rig->worker, instances, 1, &rig->chain));
}

void rig_open(struct rig *rig, const char *configuration, rig_configure_fn *configure)
{
    proxywasm_engine *engine = NULL;
    proxywasm_module *module = NULL;
    REQUIRE_OK(proxywasm_engine_new(NULL, &engine));
    REQUIRE_OK(proxywasm_module_compile(engine, guest("scripted"), &module));
    rig_open_on(rig, engine, module, configuration, configure);
    rig->engine = engine;
    rig->module = module;
}

void rig_close(struct rig *rig)
{
    proxywasm_chain_free(rig->chain);
    if (rig->instance != NULL) {
        CHECK_OK(proxywasm_instance_remove(rig->instance));
    }
    proxywasm_worker_free(rig->worker);
    proxywasm_plugin_free(rig->plugin);
    proxywasm_module_free(rig->module);
    proxywasm_engine_free(rig->engine);
}

proxywasm_stream *rig_stream(struct rig *rig, struct fake_stream *data)
{
    proxywasm_stream *stream = NULL;
    fake_stream_init(data);
    REQUIRE_OK(proxywasm_stream_new(rig->chain, PROXYWASM_STREAM_KIND_HTTP, data, &stream));
    return stream;
}

proxywasm_outcome blank_outcome(void)
{
    proxywasm_outcome outcome;
    memset(&outcome, 0, sizeof outcome);
    outcome.struct_size = sizeof outcome;
    outcome.action = -1;
    return outcome;
}

const char *outcome_text(const proxywasm_outcome *outcome)
{
    static __thread char text[4096];
    size_t len = 0;
    for (size_t i = 0; i < outcome->body_count; i++) {
        CHECK(len + outcome->body[i].len < sizeof text);
        memcpy(text + len, outcome->body[i].data, outcome->body[i].len);
        len += outcome->body[i].len;
    }
    CHECK_INT(len, outcome->body_len);
    text[len] = '\0';
    return text;
}
