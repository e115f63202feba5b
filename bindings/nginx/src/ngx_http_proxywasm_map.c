/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Header maps as properties: request.headers, response.headers and
 * response.trailers, whole or by name.  Values of a name that is there more
 * than once are joined by commas, as in Envoy.
 */


#include "ngx_http_proxywasm.h"


static ngx_int_t ngx_http_proxywasm_one(ngx_http_proxywasm_ctx_t *ctx,
    int32_t map, proxywasm_slice name, ngx_str_t *text);
static ngx_int_t ngx_http_proxywasm_all(ngx_http_proxywasm_ctx_t *ctx,
    int32_t map, ngx_str_t *text);
static ngx_int_t ngx_http_proxywasm_pairs(ngx_http_proxywasm_ctx_t *ctx,
    int32_t map, proxywasm_pair **pairs, size_t *count);
static u_char *ngx_http_proxywasm_scratch(size_t size);
static size_t ngx_http_proxywasm_joined(proxywasm_pair *pairs, size_t count,
    size_t from, u_char *dst);
static ngx_uint_t ngx_http_proxywasm_same_name(proxywasm_slice one,
    proxywasm_slice two);
static ngx_uint_t ngx_http_proxywasm_is_repeated(proxywasm_pair *pairs,
    size_t n);
static u_char *ngx_http_proxywasm_u32(u_char *p, size_t number);


/* NGX_DONE: it is another property. */

ngx_int_t
ngx_http_proxywasm_map_property(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_slice path, ngx_str_t *text)
{
    u_char           separator;
    size_t           len;
    ngx_uint_t       i;
    proxywasm_slice  name;

    static struct {
        ngx_str_t  name;
        int32_t    map;
    } maps[] = {
        { ngx_string("request.headers"), PROXYWASM_MAP_REQUEST_HEADERS },
        { ngx_string("response.headers"), PROXYWASM_MAP_RESPONSE_HEADERS },
        { ngx_string("response.trailers"), PROXYWASM_MAP_RESPONSE_TRAILERS },
    };

    for (i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {

        if (!ngx_proxywasm_path_begins(path, &maps[i].name)) {
            continue;
        }

        len = maps[i].name.len;

        if (path.len == len) {
            return ngx_http_proxywasm_all(ctx, maps[i].map, text);
        }

        separator = path.data[len];

        if (separator == '\0' || (separator == '.' && ngx_proxywasm_compat())) {
            name.data = path.data + len + 1;
            name.len = path.len - len - 1;

            return ngx_http_proxywasm_one(ctx, maps[i].map, name, text);
        }
    }

    return NGX_DONE;
}


static ngx_int_t
ngx_http_proxywasm_one(ngx_http_proxywasm_ctx_t *ctx, int32_t map,
    proxywasm_slice name, ngx_str_t *text)
{
    u_char           *p;
    size_t            i, n, count, first;
    proxywasm_pair   *pairs;
    proxywasm_slice   lower, value;

    p = ngx_http_proxywasm_scratch(name.len);
    if (p == NULL) {
        return NGX_DECLINED;
    }

    ngx_strlow(p, (u_char *) name.data, name.len);
    lower.data = p;
    lower.len = name.len;

    if (ngx_http_proxywasm_get_header(NULL, ctx, map, lower, &value)
        != PROXYWASM_STATUS_OK
        || ngx_http_proxywasm_pairs(ctx, map, &pairs, &count) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    n = 0;
    first = 0;

    for (i = 0; i < count; i++) {
        if (ngx_http_proxywasm_same_name(pairs[i].name, name) && n++ == 0) {
            first = i;
        }
    }

    if (n < 2) {
        *text = ngx_proxywasm_str(value);
        return NGX_OK;
    }

    text->len = ngx_http_proxywasm_joined(pairs, count, first, NULL);
    text->data = ngx_http_proxywasm_scratch(text->len);

    if (text->data == NULL) {
        return NGX_DECLINED;
    }

    (void) ngx_http_proxywasm_joined(pairs, count, first, text->data);

    return NGX_OK;
}


/*
 * As plugins get maps: how many, the lengths of each, then names and values,
 * each with a NUL behind it.  Each name is there once.
 */

static ngx_int_t
ngx_http_proxywasm_all(ngx_http_proxywasm_ctx_t *ctx, int32_t map,
    ngx_str_t *text)
{
    u_char           *p;
    size_t            i, n, count, len;
    proxywasm_pair   *pairs;

    if (ngx_http_proxywasm_pairs(ctx, map, &pairs, &count) != NGX_OK) {
        return NGX_DECLINED;
    }

    n = 0;
    len = 4;

    for (i = 0; i < count; i++) {
        if (!ngx_http_proxywasm_is_repeated(pairs, i)) {
            n++;
            len += 8 + pairs[i].name.len + 2
                   + ngx_http_proxywasm_joined(pairs, count, i, NULL);
        }
    }

    text->len = len;
    text->data = ngx_http_proxywasm_scratch(len);

    if (text->data == NULL) {
        return NGX_DECLINED;
    }

    p = ngx_http_proxywasm_u32(text->data, n);

    for (i = 0; i < count; i++) {
        if (!ngx_http_proxywasm_is_repeated(pairs, i)) {
            p = ngx_http_proxywasm_u32(p, pairs[i].name.len);
            p = ngx_http_proxywasm_u32(p, ngx_http_proxywasm_joined(pairs,
                                                         count, i, NULL));
        }
    }

    for (i = 0; i < count; i++) {
        if (!ngx_http_proxywasm_is_repeated(pairs, i)) {
            p = ngx_cpymem(p, pairs[i].name.data, pairs[i].name.len);
            *p++ = '\0';
            p += ngx_http_proxywasm_joined(pairs, count, i, p);
            *p++ = '\0';
        }
    }

    return NGX_OK;
}


/* In an array of the worker's, which is good until the next call. */

static ngx_int_t
ngx_http_proxywasm_pairs(ngx_http_proxywasm_ctx_t *ctx, int32_t map,
    proxywasm_pair **pairs, size_t *count)
{
    static size_t           capacity;
    static proxywasm_pair  *array;

    for ( ;; ) {
        if (ngx_http_proxywasm_get_headers(NULL, ctx, map, array, capacity,
                                           count)
            != PROXYWASM_STATUS_OK)
        {
            return NGX_ERROR;
        }

        if (*count <= capacity) {
            *pairs = array;
            return NGX_OK;
        }

        if (array) {
            ngx_free(array);
        }

        capacity = ngx_max(*count, 64);

        array = ngx_alloc(capacity * sizeof(proxywasm_pair), ngx_cycle->log);
        if (array == NULL) {
            capacity = 0;
            return NGX_ERROR;
        }
    }
}


/* Room for one value, the worker's: requests would add up what they ask. */

static u_char *
ngx_http_proxywasm_scratch(size_t size)
{
    static size_t   capacity;
    static u_char  *scratch;

    if (size > capacity || scratch == NULL) {

        if (scratch) {
            ngx_free(scratch);
        }

        capacity = ngx_align(size, 4096);

        scratch = ngx_alloc(capacity, ngx_cycle->log);
        if (scratch == NULL) {
            capacity = 0;
        }
    }

    return scratch;
}


/* All values of the name at `from`; returns their length. */

static size_t
ngx_http_proxywasm_joined(proxywasm_pair *pairs, size_t count, size_t from,
    u_char *dst)
{
    size_t  i, len;

    len = 0;

    for (i = from; i < count; i++) {

        if (!ngx_http_proxywasm_same_name(pairs[i].name, pairs[from].name)) {
            continue;
        }

        if (dst) {
            if (i != from) {
                *dst++ = ',';
            }

            dst = ngx_cpymem(dst, pairs[i].value.data, pairs[i].value.len);
        }

        len += pairs[i].value.len + (i != from);
    }

    return len;
}


static ngx_uint_t
ngx_http_proxywasm_same_name(proxywasm_slice one, proxywasm_slice two)
{
    return one.len == two.len
           && ngx_strncasecmp((u_char *) one.data, (u_char *) two.data,
                              one.len)
              == 0;
}


static ngx_uint_t
ngx_http_proxywasm_is_repeated(proxywasm_pair *pairs, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        if (ngx_http_proxywasm_same_name(pairs[i].name, pairs[n].name)) {
            return 1;
        }
    }

    return 0;
}


static u_char *
ngx_http_proxywasm_u32(u_char *p, size_t number)
{
    ngx_uint_t  i;

    for (i = 0; i < 4; i++) {
        *p++ = (u_char) (number & 0xff);
        number >>= 8;
    }

    return p;
}
