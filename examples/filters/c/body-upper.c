/* SPDX-License-Identifier: Apache-2.0
 *
 * Makes the ASCII letters of bodies uppercase, chunk by chunk as they come, so that nothing is held back.
 */
#include "contexts.h"
#include "proxy_wasm.h"

struct config {
    const char *name;
    bool request, response;
};

static struct config configs[] = {
    {"", false, true}, {"response", false, true}, {"request", true, false}, {"both", true, true}};

/* The marker by which the proxy knows the ABI. It is never called. */
void PW_EXPORT(proxy_abi_version_0_2_1)(void)
{
}

void PW_EXPORT(proxy_on_context_create)(uint32_t id, uint32_t root)
{
    context_create(id, root);
}

void PW_EXPORT(proxy_on_delete)(uint32_t id)
{
    context_delete(id);
}

static bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

bool PW_EXPORT(proxy_on_configure)(uint32_t id, size_t size)
{
    char *bytes = NULL;
    proxy_get_buffer_bytes(PW_PLUGIN_CONFIGURATION, 0, size, &bytes, &size);

    const char *word = bytes == NULL ? "" : bytes;
    size_t length = bytes == NULL ? 0 : size;
    while (length > 0 && is_space(word[length - 1])) {
        length--;
    }
    while (length > 0 && is_space(*word)) {
        word++, length--;
    }
    struct config *found = NULL;
    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
        if (strlen(configs[i].name) == length && memcmp(configs[i].name, word, length) == 0) {
            found = &configs[i];
        }
    }
    free(bytes);
    if (found == NULL) {
        pw_log(PW_LOG_ERROR, "body-upper: configuration refused: it is not request, response or both");
        return false;
    }
    context_find(id)->config = found;
    return true;
}

/* Compressed bytes are no text. */
static bool is_encoded(pw_map map)
{
    const char name[] = "content-encoding";
    char *value = NULL;
    size_t size = 0;
    pw_status status = proxy_get_header_map_value(map, name, sizeof(name) - 1, &value, &size);
    free(value);
    return status == PW_OK && size > 0;
}

pw_action PW_EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t count, bool end_of_stream)
{
    (void)count, (void)end_of_stream;
    struct context *stream = context_find(id);
    const struct config *config = stream->root->config;
    stream->change_request = config->request && !is_encoded(PW_REQUEST_HEADERS);
    if (config->response) {
        const char name[] = "accept-encoding";
        proxy_remove_header_map_value(PW_REQUEST_HEADERS, name, sizeof(name) - 1);
    }
    return PW_CONTINUE;
}

pw_action PW_EXPORT(proxy_on_response_headers)(uint32_t id, uint32_t count, bool end_of_stream)
{
    (void)count, (void)end_of_stream;
    struct context *stream = context_find(id);
    const struct config *config = stream->root->config;
    stream->change_response = config->response && !is_encoded(PW_RESPONSE_HEADERS);
    return PW_CONTINUE;
}

static void make_upper(pw_buffer buffer, size_t size)
{
    char *bytes = NULL;
    if (proxy_get_buffer_bytes(buffer, 0, size, &bytes, &size) != PW_OK || bytes == NULL) {
        return;
    }
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] >= 'a' && bytes[i] <= 'z') {
            bytes[i] -= 'a' - 'A';
        }
    }
    /* As long as before, so content-length stays right. */
    proxy_set_buffer_bytes(buffer, 0, size, bytes, size);
    free(bytes);
}

pw_action PW_EXPORT(proxy_on_request_body)(uint32_t id, size_t size, bool end_of_stream)
{
    (void)end_of_stream;
    if (context_find(id)->change_request) {
        make_upper(PW_REQUEST_BODY, size);
    }
    return PW_CONTINUE;
}

pw_action PW_EXPORT(proxy_on_response_body)(uint32_t id, size_t size, bool end_of_stream)
{
    (void)end_of_stream;
    if (context_find(id)->change_response) {
        make_upper(PW_RESPONSE_BODY, size);
    }
    return PW_CONTINUE;
}
