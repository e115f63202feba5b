/* SPDX-License-Identifier: Apache-2.0
 *
 * Adds the headers named in its configuration to every request and every response.
 */
#include "contexts.h"
#include "header_config.h"
#include "proxy_wasm.h"

struct config {
    struct header_config headers;
    char *text; /* what the headers point into */
};

static struct header default_request = {"x-proxy-wasm", "c", NULL};
static struct header default_response = {"x-plugin", "c-add-headers", NULL};
static struct config default_config = {{&default_request, &default_response}, NULL};

/* The marker by which the proxy knows the ABI. It is never called. */
void PW_EXPORT(proxy_abi_version_0_2_1)(void)
{
}

void PW_EXPORT(proxy_on_context_create)(uint32_t id, uint32_t root)
{
    context_create(id, root);
}

static void free_config(struct config *config)
{
    if (config != NULL && config != &default_config) {
        header_config_clear(&config->headers);
        free(config->text);
        free(config);
    }
}

void PW_EXPORT(proxy_on_delete)(uint32_t id)
{
    struct context *context = context_find(id);
    if (context != NULL && context->root == NULL) {
        free_config(context->config);
    }
    context_delete(id);
}

static const char *parse(const char *bytes, size_t size, struct config **parsed)
{
    struct config *config = calloc(1, sizeof(*config));
    if (config == NULL || (config->text = malloc(size + 1)) == NULL) {
        free(config);
        return "out of memory";
    }
    memcpy(config->text, bytes, size);
    config->text[size] = '\0';
    const char *error = strlen(config->text) != size ? "it has a NUL character"
                                                     : header_config_parse(config->text, &config->headers);
    if (error != NULL) {
        free_config(config);
        return error;
    }
    *parsed = config;
    return NULL;
}

static bool is_blank(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (strchr(" \t\r\n", bytes[i]) == NULL || bytes[i] == '\0') {
            return false;
        }
    }
    return true;
}

bool PW_EXPORT(proxy_on_configure)(uint32_t id, size_t size)
{
    struct context *root = context_find(id);
    char *bytes = NULL;
    proxy_get_buffer_bytes(PW_PLUGIN_CONFIGURATION, 0, size, &bytes, &size);

    struct config *config = &default_config;
    const char *error = bytes == NULL || is_blank(bytes, size) ? NULL : parse(bytes, size, &config);
    free(bytes);
    if (error != NULL) {
        char line[128] = "add-headers: configuration refused: ";
        strncat(line, error, sizeof(line) - strlen(line) - 1);
        pw_log(PW_LOG_ERROR, line);
        return false;
    }
    free_config(root->config);
    root->config = config;
    return true;
}

static void add_all(pw_map map, const struct header *header)
{
    for (; header != NULL; header = header->next) {
        if (proxy_add_header_map_value(map, header->name, strlen(header->name), header->value,
                                       strlen(header->value)) != PW_OK) {
            pw_log(PW_LOG_ERROR, "add-headers: a header could not be added");
        }
    }
}

static const struct config *config_of(uint32_t stream)
{
    return context_find(stream)->root->config;
}

pw_action PW_EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t count, bool end_of_stream)
{
    (void)count, (void)end_of_stream;
    add_all(PW_REQUEST_HEADERS, config_of(id)->headers.request);
    return PW_CONTINUE;
}

pw_action PW_EXPORT(proxy_on_response_headers)(uint32_t id, uint32_t count, bool end_of_stream)
{
    (void)count, (void)end_of_stream;
    add_all(PW_RESPONSE_HEADERS, config_of(id)->headers.response);
    return PW_CONTINUE;
}
