/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Header maps.  Pseudo headers come first; names are in lower case, as in
 * Envoy.
 */


#include "ngx_http_proxywasm_headers.h"


/* ngx_wasm_module shows no more of a map */
#define NGX_HTTP_PROXYWASM_COMPAT_HEADERS  100


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
static void ngx_http_proxywasm_fields(int32_t map,
    ngx_http_proxywasm_field_e *first, ngx_http_proxywasm_field_e *last);
static ngx_uint_t ngx_http_proxywasm_shown(int32_t map, ngx_table_elt_t *h);
static ngx_int_t ngx_http_proxywasm_lowcase(ngx_http_request_t *r,
    int32_t map, ngx_table_elt_t *h, ngx_str_t *name);
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

    ngx_str_t                    name, found;
    ngx_uint_t                   i;
    ngx_list_t                  *list;
    ngx_list_part_t             *part;
    ngx_table_elt_t             *h;
    ngx_http_proxywasm_field_e   field;

    list = ngx_http_proxywasm_visible(ctx, map);
    if (list == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    name = ngx_proxywasm_str(slice);

    field = ngx_http_proxywasm_field(map, &name);

    if (field) {

        if (ngx_http_proxywasm_has_field(ctx->request, field)) {
            ngx_http_proxywasm_get_field(ctx->request, field, &found);
            *value = ngx_proxywasm_slice(found);
            return PROXYWASM_STATUS_OK;
        }

        if (field != NGX_HTTP_PROXYWASM_LAST_MODIFIED) {
            return PROXYWASM_STATUS_NOT_FOUND;
        }
    }

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_http_proxywasm_named(map, &h[i], &name)) {
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

    if (capacity && ngx_proxywasm_compat()) {
        *count = ngx_min(out.count, NGX_HTTP_PROXYWASM_COMPAT_HEADERS);
    }

    return PROXYWASM_STATUS_OK;
}


/* Told with every message: nothing is looked at but what counts. */

ngx_uint_t
ngx_http_proxywasm_count_headers(ngx_http_request_t *r, int32_t map)
{
    ngx_uint_t        i, n;
    ngx_list_t       *list;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    n = ngx_http_proxywasm_count_fields(r, map);

    list = ngx_http_proxywasm_list(r, map);

    for (part = list ? &list->part : NULL; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            n += ngx_http_proxywasm_shown(map, &h[i]);
        }
    }

    return n;
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

    switch (ngx_http_proxywasm_set_field(ctx->request,
                                         ngx_http_proxywasm_field(map, &name),
                                         &value))
    {

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

    ngx_http_proxywasm_delete(ctx->request, map, &name);

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
    ngx_http_proxywasm_delete(ctx->request, map, &name);

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
    ngx_http_proxywasm_field_e  field;

    field = ngx_http_proxywasm_field(PROXYWASM_MAP_RESPONSE_HEADERS, name);

    if (!ngx_http_proxywasm_valid(name, value)
        || name->data[0] == ':'
        || field == NGX_HTTP_PROXYWASM_CONTENT_LENGTH)
    {
        return NGX_OK;
    }

    if (ngx_http_proxywasm_set_field(r, field, value) == NGX_OK) {
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
    ngx_str_t                    name, value;
    ngx_uint_t                   i;
    ngx_list_t                  *list;
    ngx_list_part_t             *part;
    ngx_table_elt_t             *h;
    ngx_http_proxywasm_field_e   field, last;

    static ngx_str_t  names[] = {
        ngx_null_string,
        ngx_string(":method"),
        ngx_string(":path"),
        ngx_string(":authority"),
        ngx_string(":scheme"),
        ngx_string(":status"),
        ngx_string("content-type"),
        ngx_string("content-length"),
        ngx_string("last-modified")
    };

    ngx_http_proxywasm_fields(map, &field, &last);

    for ( /* void */ ; field <= last; field++) {
        if (ngx_http_proxywasm_has_field(r, field)) {
            ngx_http_proxywasm_get_field(r, field, &value);
            ngx_http_proxywasm_put(out, &names[field], &value);
        }
    }

    list = ngx_http_proxywasm_list(r, map);

    for (part = list ? &list->part : NULL; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (ngx_http_proxywasm_shown(map, &h[i])
                && ngx_http_proxywasm_lowcase(r, map, &h[i], &name) == NGX_OK)
            {
                ngx_http_proxywasm_put(out, &name, &h[i].value);
            }
        }
    }
}


/* The fields that a map begins with; none if the last is before the first. */

static void
ngx_http_proxywasm_fields(int32_t map, ngx_http_proxywasm_field_e *first,
    ngx_http_proxywasm_field_e *last)
{
    switch (map) {

    case PROXYWASM_MAP_REQUEST_HEADERS:
        *first = NGX_HTTP_PROXYWASM_METHOD;
        *last = NGX_HTTP_PROXYWASM_SCHEME;
        break;

    case PROXYWASM_MAP_RESPONSE_HEADERS:
        *first = NGX_HTTP_PROXYWASM_STATUS;
        *last = NGX_HTTP_PROXYWASM_LAST_MODIFIED;
        break;

    default:
        *first = NGX_HTTP_PROXYWASM_METHOD;
        *last = NGX_HTTP_PROXYWASM_NO_FIELD;
    }
}


/* Not what has been removed; nor host, where it is :authority. */

static ngx_uint_t
ngx_http_proxywasm_shown(int32_t map, ngx_table_elt_t *h)
{
    static ngx_str_t  host = ngx_string("host");

    return h->hash
           && (map != PROXYWASM_MAP_REQUEST_HEADERS
               || !ngx_http_proxywasm_named(map, h, &host)
               || ngx_proxywasm_compat());
}


/* Copied only if it is not in lower case as it is. */

static ngx_int_t
ngx_http_proxywasm_lowcase(ngx_http_request_t *r, int32_t map,
    ngx_table_elt_t *h, ngx_str_t *name)
{
    size_t   i;
    u_char  *p;

    *name = h->key;

    if (map == PROXYWASM_MAP_REQUEST_HEADERS && h->lowcase_key) {
        name->data = h->lowcase_key;
        return NGX_OK;
    }

    for (i = 0; i < name->len; i++) {
        if (name->data[i] != ngx_tolower(name->data[i])) {
            break;
        }
    }

    if (i == name->len) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, name->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_strlow(p, name->data, name->len);
    name->data = p;

    return NGX_OK;
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
