/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Header maps.  Pseudo headers come first; names are in lower case, as in
 * Envoy.
 */


#include "ngx_http_proxywasm_headers.h"


typedef struct {
    proxywasm_pair  *pairs;
    size_t           capacity;
    size_t           count;
    /* of names and values, without what is around them */
    size_t           bytes;
} ngx_http_proxywasm_pairs_t;


static ngx_list_t *ngx_http_proxywasm_visible(ngx_http_proxywasm_ctx_t *ctx,
    int32_t map);
static ngx_list_t *ngx_http_proxywasm_writable(ngx_http_proxywasm_ctx_t *ctx,
    int32_t map);
static void ngx_http_proxywasm_each(ngx_http_request_t *r, int32_t map,
    ngx_http_proxywasm_pairs_t *out);
static void ngx_http_proxywasm_put(ngx_http_proxywasm_pairs_t *out,
    ngx_str_t *name, ngx_str_t *value);
static int32_t ngx_http_proxywasm_spoil(ngx_http_proxywasm_ctx_t *ctx,
    int32_t map);
static void ngx_http_proxywasm_trim(ngx_str_t *value);
static ngx_uint_t ngx_http_proxywasm_valid(ngx_str_t *name, ngx_str_t *value);


/* ---- callbacks ---- */

int32_t
ngx_http_proxywasm_get_header(void *user_data, void *stream_data, int32_t map,
    proxywasm_slice slice, proxywasm_slice *value)
{
    ngx_http_proxywasm_ctx_t *ctx = stream_data;

    ngx_str_t         name, found;
    ngx_uint_t        i;
    ngx_list_t       *list;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    list = ngx_http_proxywasm_visible(ctx, map);
    if (list == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    name = ngx_proxywasm_str(slice);

    switch (ngx_http_proxywasm_get_special(ctx->request, map, &name, &found)) {

    case NGX_OK:
        *value = ngx_proxywasm_slice(found);
        return PROXYWASM_STATUS_OK;

    case NGX_DONE:
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].hash
                && h[i].key.len == name.len
                && ngx_strncasecmp(h[i].key.data, name.data, name.len) == 0)
            {
                *value = ngx_proxywasm_slice(h[i].value);
                return PROXYWASM_STATUS_OK;
            }
        }
    }

    return PROXYWASM_STATUS_NOT_FOUND;
}


int32_t
ngx_http_proxywasm_get_headers(void *user_data, void *stream_data, int32_t map,
    proxywasm_pair *pairs, size_t capacity, size_t *count)
{
    ngx_http_proxywasm_ctx_t *ctx = stream_data;

    ngx_http_proxywasm_pairs_t  out;

    if (ngx_http_proxywasm_visible(ctx, map) == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    out.pairs = pairs;
    out.capacity = capacity;
    out.count = 0;
    out.bytes = 0;

    ngx_http_proxywasm_each(ctx->request, map, &out);
    *count = out.count;

    return PROXYWASM_STATUS_OK;
}


ngx_uint_t
ngx_http_proxywasm_count_headers(ngx_http_request_t *r, int32_t map)
{
    ngx_http_proxywasm_pairs_t  out;

    ngx_memzero(&out, sizeof(out));
    ngx_http_proxywasm_each(r, map, &out);

    return out.count;
}


size_t
ngx_http_proxywasm_headers_size(ngx_http_request_t *r, int32_t map)
{
    ngx_http_proxywasm_pairs_t  out;

    ngx_memzero(&out, sizeof(out));
    ngx_http_proxywasm_each(r, map, &out);

    return out.bytes;
}


int32_t
ngx_http_proxywasm_add_header(void *user_data, void *stream_data, int32_t map,
    proxywasm_slice name_slice, proxywasm_slice value_slice)
{
    ngx_http_proxywasm_ctx_t *ctx = stream_data;

    ngx_str_t  name, value;

    if (ngx_http_proxywasm_writable(ctx, map) == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    name = ngx_proxywasm_str(name_slice);
    value = ngx_proxywasm_str(value_slice);
    ngx_http_proxywasm_trim(&value);

    if (!ngx_http_proxywasm_valid(&name, &value)) {
        return ngx_http_proxywasm_spoil(ctx, map);
    }

    switch (ngx_http_proxywasm_set_special(ctx->request, map, &name, &value)) {

    case NGX_OK:
        return PROXYWASM_STATUS_OK;

    case NGX_ERROR:
        return ngx_http_proxywasm_spoil(ctx, map);
    }

    if (ngx_http_proxywasm_push(ctx->request, map, &name, &value) != NGX_OK) {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    return PROXYWASM_STATUS_OK;
}


int32_t
ngx_http_proxywasm_replace_header(void *user_data, void *stream_data,
    int32_t map, proxywasm_slice name_slice, proxywasm_slice value_slice)
{
    ngx_http_proxywasm_ctx_t *ctx = stream_data;

    ngx_str_t  name, value;

    if (ngx_http_proxywasm_writable(ctx, map) == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    name = ngx_proxywasm_str(name_slice);
    value = ngx_proxywasm_str(value_slice);

    if (!ngx_http_proxywasm_valid(&name, &value)) {
        return ngx_http_proxywasm_spoil(ctx, map);
    }

    (void) ngx_http_proxywasm_delete(ctx->request, map, &name);

    return ngx_http_proxywasm_add_header(user_data, stream_data, map,
                                         name_slice, value_slice);
}


int32_t
ngx_http_proxywasm_remove_header(void *user_data, void *stream_data,
    int32_t map, proxywasm_slice slice)
{
    ngx_http_proxywasm_ctx_t *ctx = stream_data;

    ngx_str_t  name;

    if (ngx_http_proxywasm_writable(ctx, map) == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    name = ngx_proxywasm_str(slice);
    (void) ngx_http_proxywasm_delete(ctx->request, map, &name);

    return PROXYWASM_STATUS_OK;
}


int32_t
ngx_http_proxywasm_set_headers(void *user_data, void *stream_data, int32_t map,
    const proxywasm_pair *pairs, size_t count)
{
    ngx_http_proxywasm_ctx_t *ctx = stream_data;

    int32_t  rc;
    size_t   n;

    if (ngx_http_proxywasm_writable(ctx, map) == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    ngx_http_proxywasm_clear(ctx->request, map);

    for (n = 0; n < count; n++) {
        rc = ngx_http_proxywasm_add_header(user_data, stream_data, map,
                                           pairs[n].name, pairs[n].value);
        if (rc != PROXYWASM_STATUS_OK) {
            return rc;
        }
    }

    return PROXYWASM_STATUS_OK;
}


ngx_int_t
ngx_http_proxywasm_push_response_header(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value)
{
    if (!ngx_http_proxywasm_valid(name, value) || name->data[0] == ':') {
        return NGX_OK;
    }

    if (ngx_http_proxywasm_is(name, "content-length")) {
        return NGX_OK;
    }

    if (ngx_http_proxywasm_set_special(r, PROXYWASM_MAP_RESPONSE_HEADERS, name,
                                       value)
        == NGX_OK)
    {
        return NGX_OK;
    }

    return ngx_http_proxywasm_push(r, PROXYWASM_MAP_RESPONSE_HEADERS, name,
                                   value);
}


/* ---- maps ---- */

/* The map, if plugins may read it now. */

static ngx_list_t *
ngx_http_proxywasm_visible(ngx_http_proxywasm_ctx_t *ctx, int32_t map)
{
    if (ctx == NULL) {
        return NULL;
    }

    if (map != PROXYWASM_MAP_REQUEST_HEADERS && !ctx->response_shown) {
        return NULL;
    }

    return ngx_http_proxywasm_list(ctx->request, map);
}


/* The map, if plugins may change it now. */

static ngx_list_t *
ngx_http_proxywasm_writable(ngx_http_proxywasm_ctx_t *ctx, int32_t map)
{
    if (ctx == NULL
        || (map == PROXYWASM_MAP_REQUEST_HEADERS && ctx->request_passed)
        || (map == PROXYWASM_MAP_RESPONSE_HEADERS && ctx->response_passed))
    {
        return NULL;
    }

    return ngx_http_proxywasm_visible(ctx, map);
}


static void
ngx_http_proxywasm_put(ngx_http_proxywasm_pairs_t *out, ngx_str_t *name,
    ngx_str_t *value)
{
    if (out->count < out->capacity) {
        out->pairs[out->count].name = ngx_proxywasm_slice(*name);
        out->pairs[out->count].value = ngx_proxywasm_slice(*value);
    }

    out->count++;
    out->bytes += name->len + value->len;
}


static void
ngx_http_proxywasm_each(ngx_http_request_t *r, int32_t map,
    ngx_http_proxywasm_pairs_t *out)
{
    ngx_str_t         value, *name;
    ngx_uint_t        i;
    ngx_list_t       *list;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    static ngx_str_t  request[] = {
        ngx_string(":method"),
        ngx_string(":path"),
        ngx_string(":authority"),
        ngx_string(":scheme"),
        ngx_null_string
    };

    static ngx_str_t  response[] = {
        ngx_string(":status"),
        ngx_string("content-type"),
        ngx_string("content-length"),
        ngx_string("last-modified"),
        ngx_null_string
    };

    name = map == PROXYWASM_MAP_REQUEST_HEADERS ? request
           : map == PROXYWASM_MAP_RESPONSE_HEADERS ? response : NULL;

    for ( /* void */ ; name && name->len; name++) {
        if (ngx_http_proxywasm_get_special(r, map, name, &value) == NGX_OK) {
            ngx_http_proxywasm_put(out, name, &value);
        }
    }

    list = ngx_http_proxywasm_list(r, map);
    if (list == NULL) {
        return;
    }

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].hash == 0) {
                continue;
            }

            /* it is :authority */
            if (map == PROXYWASM_MAP_REQUEST_HEADERS
                && h[i].key.len == 4
                && ngx_strncasecmp(h[i].key.data, (u_char *) "host", 4) == 0)
            {
                continue;
            }

            if (h[i].lowcase_key == NULL) {
                h[i].lowcase_key = ngx_pnalloc(r->pool, h[i].key.len);
                if (h[i].lowcase_key == NULL) {
                    continue;
                }

                ngx_strlow(h[i].lowcase_key, h[i].key.data, h[i].key.len);
            }

            value.data = h[i].lowcase_key;
            value.len = h[i].key.len;

            ngx_http_proxywasm_put(out, &value, &h[i].value);
        }
    }
}


/*
 * A header that cannot be sent.  The plugin is told OK, because SDKs trap on
 * anything else, with all streams of the VM; its message fails.
 */

static int32_t
ngx_http_proxywasm_spoil(ngx_http_proxywasm_ctx_t *ctx, int32_t map)
{
    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {
        ctx->request_spoiled = 1;

    } else {
        ctx->response_spoiled = 1;
    }

    return PROXYWASM_STATUS_OK;
}


ngx_uint_t
ngx_http_proxywasm_can_send(ngx_http_proxywasm_ctx_t *ctx, int32_t map)
{
    ngx_uint_t  spoiled;

    spoiled = map == PROXYWASM_MAP_REQUEST_HEADERS
              ? ctx->request_spoiled || ctx->no_method || ctx->no_path
                || ctx->no_authority
              : ctx->response_spoiled || ctx->no_status;

    if (spoiled) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "[wasm] plugins left %s headers that cannot be sent",
                      map == PROXYWASM_MAP_REQUEST_HEADERS ? "request"
                                                           : "response");
    }

    return !spoiled;
}


/* Blanks around a value are not part of it. */

static void
ngx_http_proxywasm_trim(ngx_str_t *value)
{
    while (value->len && (value->data[0] == ' ' || value->data[0] == '\t')) {
        value->data++;
        value->len--;
    }

    while (value->len
           && (value->data[value->len - 1] == ' '
               || value->data[value->len - 1] == '\t'))
    {
        value->len--;
    }
}


/* What can be put on the wire. */

static ngx_uint_t
ngx_http_proxywasm_valid(ngx_str_t *name, ngx_str_t *value)
{
    u_char  ch;
    size_t  i;

    if (name->len == 0 || (name->len == 1 && name->data[0] == ':')) {
        return 0;
    }

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];

        if (ch <= 0x20 || ch >= 0x7f || (ch == ':' && i != 0)) {
            return 0;
        }
    }

    for (i = 0; i < value->len; i++) {
        ch = value->data[i];

        if (ch == '\0' || ch == CR || ch == LF) {
            return 0;
        }
    }

    return 1;
}
