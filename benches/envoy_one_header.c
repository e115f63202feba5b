/* SPDX-License-Identifier: Apache-2.0
 *
 * A dynamic module of Envoy that reads one header of the request and adds one: the least that a filter in
 * native code costs. All that Envoy demands of a module is here; what it does not need does nothing.
 *
 * With AS_A_HOST it asks of Envoy what a host of plugins must besides: the sizes of the maps, which plugins
 * are told, and the route's choice anew, since a header of the request has changed. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    const char *data;
    size_t length;
};

enum { request_headers = 0, response_headers = 2 };
enum { proceed = 0 };

bool envoy_dynamic_module_callback_http_get_header(void *filter, uint32_t map, struct buffer name,
                                                   struct buffer *value, size_t index, size_t *count);
bool envoy_dynamic_module_callback_http_add_header(void *filter, uint32_t map, struct buffer name,
                                                   struct buffer value);
size_t envoy_dynamic_module_callback_http_get_headers_size(void *filter, uint32_t map);
void envoy_dynamic_module_callback_http_clear_route_cache(void *filter);

#define HOOK(name) envoy_dynamic_module_on_##name
#define FILTER_HOOK(name) HOOK(http_filter_##name)

/* What hooks that do nothing get does not matter to them: the arguments are in registers or on the caller's
 * stack. */
#define NOTHING(name)                                                                                        \
    void FILTER_HOOK(name)(void);                                                                            \
    void FILTER_HOOK(name)(void)                                                                             \
    {                                                                                                        \
    }
#define PROCEED(name)                                                                                        \
    uint32_t FILTER_HOOK(name)(void);                                                                        \
    uint32_t FILTER_HOOK(name)(void)                                                                         \
    {                                                                                                        \
        return proceed;                                                                                      \
    }

const char *HOOK(program_init)(void);
const char *HOOK(program_init)(void)
{
    return "v0.2.0";
}

/* Envoy takes NULL for a refusal. */
static const char instance;

const void *FILTER_HOOK(config_new)(void);
const void *FILTER_HOOK(config_new)(void)
{
    return &instance;
}

const void *FILTER_HOOK(new)(void);
const void *FILTER_HOOK(new)(void)
{
    return &instance;
}

#ifdef AS_A_HOST

static void as_a_host(void *envoy, uint32_t map)
{
    (void)envoy_dynamic_module_callback_http_get_headers_size(envoy, map);
    if (map == request_headers) {
        envoy_dynamic_module_callback_http_clear_route_cache(envoy);
    }
}

uint32_t FILTER_HOOK(response_headers)(void *envoy, const void *filter, bool end_of_stream);
uint32_t FILTER_HOOK(response_headers)(void *envoy, const void *filter, bool end_of_stream)
{
    (void)filter, (void)end_of_stream;
    as_a_host(envoy, response_headers);
    return proceed;
}

#else

static void as_a_host(void *envoy, uint32_t map)
{
    (void)envoy, (void)map;
}

PROCEED(response_headers)

#endif

uint32_t FILTER_HOOK(request_headers)(void *envoy, const void *filter, bool end_of_stream);
uint32_t FILTER_HOOK(request_headers)(void *envoy, const void *filter, bool end_of_stream)
{
    (void)filter, (void)end_of_stream;
    const struct buffer read = {"user-agent", 10}, added = {"x-bench", 7}, one = {"1", 1};
    struct buffer value;
    if (envoy_dynamic_module_callback_http_get_header(envoy, request_headers, read, &value, 0, NULL)) {
        envoy_dynamic_module_callback_http_add_header(envoy, request_headers, added, one);
    }
    as_a_host(envoy, request_headers);
    return proceed;
}

PROCEED(request_body)
PROCEED(request_trailers)
PROCEED(response_body)
PROCEED(response_trailers)
NOTHING(config_destroy)
NOTHING(destroy)
NOTHING(stream_complete)
NOTHING(scheduled)
NOTHING(http_callout_done)
NOTHING(http_stream_headers)
NOTHING(http_stream_data)
NOTHING(http_stream_trailers)
NOTHING(http_stream_complete)
NOTHING(http_stream_reset)
NOTHING(downstream_above_write_buffer_high_watermark)
NOTHING(downstream_below_write_buffer_low_watermark)
