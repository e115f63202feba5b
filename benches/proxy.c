/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const request_headers[REQUEST_HEADERS][2] = {
    {":method", "GET"},
    {":scheme", "https"},
    {":authority", "shop.example.com"},
    {":path", "/catalogue/books?sort=price&page=3"},
    {"user-agent",
     "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"},
    {"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"},
    {"accept-encoding", "gzip, deflate, br"},
    {"accept-language", "en-GB,en;q=0.9,de;q=0.7"},
    {"cache-control", "no-cache"},
    {"cookie", "session=6f1e6c7a9d0b4f0c8c5d; theme=dark; consent=1"},
    {"dnt", "1"},
    {"referer", "https://shop.example.com/catalogue"},
    {"sec-fetch-dest", "document"},
    {"sec-fetch-mode", "navigate"},
    {"sec-fetch-site", "same-origin"},
    {"upgrade-insecure-requests", "1"},
    {"x-forwarded-for", "192.0.2.17"},
    {"x-forwarded-proto", "https"},
    {"x-request-id", "0c1f5e1a-7f0b-4a1e-9d77-5a3c1c4b9e2d"},
    {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
};

static const char *const response_headers[RESPONSE_HEADERS][2] = {
    {":status", "200"},
    {"content-type", "text/html; charset=utf-8"},
    {"content-length", "65536"},
    {"date", "Sat, 21 Nov 2026 10:00:00 GMT"},
    {"server", "upstream"},
    {"cache-control", "max-age=60"},
    {"etag", "\"5d8c72a5edda8\""},
    {"vary", "accept-encoding"},
};

proxywasm_slice slice_of(const char *text)
{
    return (proxywasm_slice){(const uint8_t *)text, strlen(text)};
}

static void fill(struct map *map, const char *const headers[][2], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        map->pairs[i] = (proxywasm_pair){slice_of(headers[i][0]), slice_of(headers[i][1])};
    }
    map->count = count;
    map->used = 0;
    map->replaced = false;
}

void exchange_init(struct exchange *exchange)
{
    memset(exchange->maps, 0, sizeof exchange->maps);
    fill(&exchange->maps[PROXYWASM_MAP_REQUEST_HEADERS], request_headers, REQUEST_HEADERS);
    fill(&exchange->maps[PROXYWASM_MAP_RESPONSE_HEADERS], response_headers, RESPONSE_HEADERS);
    memset(exchange->body, 'x', sizeof exchange->body);
}

static void reset(struct map *map, const char *const headers[][2], size_t count)
{
    if (map->replaced) {
        fill(map, headers, count);
    }
    map->count = count;
    map->used = 0;
}

void exchange_reset(struct exchange *exchange)
{
    reset(&exchange->maps[PROXYWASM_MAP_REQUEST_HEADERS], request_headers, REQUEST_HEADERS);
    reset(&exchange->maps[PROXYWASM_MAP_RESPONSE_HEADERS], response_headers, RESPONSE_HEADERS);
}

static struct map *map_of(void *stream_data, int32_t map)
{
    return &((struct exchange *)stream_data)->maps[map];
}

static proxywasm_pair *find(struct map *map, proxywasm_slice name)
{
    for (proxywasm_pair *pair = map->pairs; pair < map->pairs + map->count; pair++) {
        if (pair->name.len == name.len &&
            strncasecmp((const char *)pair->name.data, (const char *)name.data, name.len) == 0) {
            return pair;
        }
    }
    return NULL;
}

/* Copies into the map's own text. */
static bool keep(struct map *map, proxywasm_slice given, proxywasm_slice *kept)
{
    if (given.len > sizeof map->text - map->used) {
        return false;
    }
    char *at = map->text + map->used;
    memcpy(at, given.data, given.len);
    map->used += given.len;
    *kept = (proxywasm_slice){(const uint8_t *)at, given.len};
    return true;
}

static int32_t append(struct map *map, proxywasm_slice name, proxywasm_slice value)
{
    if (map->count == MAX_HEADERS) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }
    proxywasm_pair *pair = &map->pairs[map->count];
    if (!keep(map, name, &pair->name) || !keep(map, value, &pair->value)) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }
    map->count++;
    return PROXYWASM_STATUS_OK;
}

static int32_t get_header(void *user_data, void *stream_data, int32_t map, proxywasm_slice name,
                          proxywasm_slice *out_value)
{
    (void)user_data;
    const proxywasm_pair *pair = find(map_of(stream_data, map), name);
    if (pair == NULL) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }
    *out_value = pair->value;
    return PROXYWASM_STATUS_OK;
}

static int32_t get_headers(void *user_data, void *stream_data, int32_t map, proxywasm_pair *pairs,
                           size_t capacity, size_t *out_count)
{
    (void)user_data;
    const struct map *from = map_of(stream_data, map);
    if (capacity >= from->count) {
        memcpy(pairs, from->pairs, from->count * sizeof *pairs);
    }
    *out_count = from->count;
    return PROXYWASM_STATUS_OK;
}

static int32_t add_header(void *user_data, void *stream_data, int32_t map, proxywasm_slice name,
                          proxywasm_slice value)
{
    (void)user_data;
    return append(map_of(stream_data, map), name, value);
}

static int32_t set_headers(void *user_data, void *stream_data, int32_t map, const proxywasm_pair *pairs,
                           size_t count)
{
    (void)user_data;
    struct map *to = map_of(stream_data, map);
    to->replaced = true;
    to->count = 0;
    to->used = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t status = append(to, pairs[i].name, pairs[i].value);
        if (status != PROXYWASM_STATUS_OK) {
            return status;
        }
    }
    return PROXYWASM_STATUS_OK;
}

static void print_log(void *user_data, void *stream_data, const proxywasm_log_record *record)
{
    (void)user_data;
    (void)stream_data;
    fprintf(stderr, "%.*s: %.*s\n", (int)record->plugin.len, (const char *)record->plugin.data,
            (int)record->message.len, (const char *)record->message.data);
}

proxywasm_host proxy_table(void)
{
    return (proxywasm_host){
        .struct_size = sizeof(proxywasm_host),
        .log = print_log,
        .get_header = get_header,
        .get_headers = get_headers,
        .add_header = add_header,
        .set_headers = set_headers,
    };
}
