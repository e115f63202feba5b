/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Header maps.  Pseudo headers come first; names are in lower case, as in
 * Envoy.  NGINX keeps some headers in fields of their own, which follow each
 * change.
 */


#include "ngx_http_proxywasm.h"


typedef struct {
    proxywasm_pair  *pairs;
    size_t           capacity;
    size_t           count;
    /* of names and values, without what is around them */
    size_t           bytes;
} ngx_http_proxywasm_pairs_t;


static ngx_list_t *ngx_http_proxywasm_list(ngx_http_request_t *r, int32_t map);
static ngx_list_t *ngx_http_proxywasm_visible(ngx_http_proxywasm_ctx_t *ctx,
    int32_t map);
static ngx_list_t *ngx_http_proxywasm_writable(ngx_http_proxywasm_ctx_t *ctx,
    int32_t map);
static ngx_int_t ngx_http_proxywasm_get_special(ngx_http_request_t *r,
    int32_t map, ngx_str_t *name, ngx_str_t *value);
static ngx_int_t ngx_http_proxywasm_set_special(ngx_http_request_t *r,
    int32_t map, ngx_str_t *name, ngx_str_t *value);
static void ngx_http_proxywasm_each(ngx_http_request_t *r, int32_t map,
    ngx_http_proxywasm_pairs_t *out);
static void ngx_http_proxywasm_put(ngx_http_proxywasm_pairs_t *out,
    ngx_str_t *name, ngx_str_t *value);
static ngx_int_t ngx_http_proxywasm_push(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name, ngx_str_t *value);
static ngx_uint_t ngx_http_proxywasm_delete(ngx_http_request_t *r,
    int32_t map, ngx_str_t *name);
static void ngx_http_proxywasm_clear(ngx_http_request_t *r, int32_t map);
static ngx_int_t ngx_http_proxywasm_set_path(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_proxywasm_set_method(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_proxywasm_set_authority(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_proxywasm_link(ngx_http_request_t *r, int32_t map,
    ngx_table_elt_t *h);
static void ngx_http_proxywasm_relink(ngx_http_request_t *r, int32_t map);
static ngx_int_t ngx_http_proxywasm_link_slot(ngx_http_request_t *r,
    char *slot, ngx_table_elt_t *h);
static void ngx_http_proxywasm_clear_slot(ngx_http_request_t *r, char *slot);
#if (nginx_version < 1023000)
static ngx_uint_t ngx_http_proxywasm_is_array(ngx_http_request_t *r,
    char *slot);
#endif
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

    if (!ngx_http_proxywasm_valid(&name, &value)) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    switch (ngx_http_proxywasm_set_special(ctx->request, map, &name, &value)) {

    case NGX_OK:
        return PROXYWASM_STATUS_OK;

    case NGX_ERROR:
        return PROXYWASM_STATUS_BAD_ARGUMENT;
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
        return PROXYWASM_STATUS_BAD_ARGUMENT;
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

    int32_t    rc;
    size_t     n;
    ngx_str_t  name, value;

    if (ngx_http_proxywasm_writable(ctx, map) == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    for (n = 0; n < count; n++) {
        name = ngx_proxywasm_str(pairs[n].name);
        value = ngx_proxywasm_str(pairs[n].value);

        if (!ngx_http_proxywasm_valid(&name, &value)) {
            return PROXYWASM_STATUS_BAD_ARGUMENT;
        }
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


/* ---- maps ---- */

static ngx_list_t *
ngx_http_proxywasm_list(ngx_http_request_t *r, int32_t map)
{
    switch (map) {

    case PROXYWASM_MAP_REQUEST_HEADERS:
        return &r->headers_in.headers;

    case PROXYWASM_MAP_RESPONSE_HEADERS:
        return &r->headers_out.headers;

    case PROXYWASM_MAP_RESPONSE_TRAILERS:
        return &r->headers_out.trailers;

    default:
        return NULL;
    }
}


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
        || (map == PROXYWASM_MAP_REQUEST_HEADERS && ctx->response_shown)
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


/* ---- what is a field of its own ---- */

#define ngx_http_proxywasm_is(name, text)                                     \
    ((name)->len == sizeof(text) - 1                                          \
     && ngx_strncasecmp((name)->data, (u_char *) text, sizeof(text) - 1) == 0)


/*
 * NGX_OK: the value.  NGX_DONE: there is such a field, and it is empty.
 * NGX_DECLINED: the header is in the list, if anywhere.
 */

static ngx_int_t
ngx_http_proxywasm_get_special(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name, ngx_str_t *value)
{
    /* the library copies values before it asks for others */
    static u_char  status[NGX_INT_T_LEN];
    static u_char  length[NGX_OFF_T_LEN];
    static u_char  modified[sizeof("Mon, 28 Sep 1970 06:00:00 GMT")];

    if (name->len == 0) {
        return NGX_DECLINED;
    }

    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {

        if (ngx_http_proxywasm_is(name, "host")) {
            goto authority;
        }

        if (name->data[0] != ':') {
            return NGX_DECLINED;
        }

        if (ngx_http_proxywasm_is(name, ":path")) {
            *value = r->unparsed_uri;
            return NGX_OK;
        }

        if (ngx_http_proxywasm_is(name, ":method")) {
            *value = r->method_name;
            return NGX_OK;
        }

        if (ngx_http_proxywasm_is(name, ":authority")) {
            goto authority;
        }

        if (ngx_http_proxywasm_is(name, ":scheme")) {
            ngx_str_set(value, "http");

#if (NGX_HTTP_SSL)
            if (r->connection->ssl) {
                ngx_str_set(value, "https");
            }
#endif
            return NGX_OK;
        }

        return NGX_DONE;
    }

    if (map != PROXYWASM_MAP_RESPONSE_HEADERS) {
        return NGX_DECLINED;
    }

    if (ngx_http_proxywasm_is(name, ":status")) {
        value->data = status;
        value->len = ngx_sprintf(status, "%03ui", r->headers_out.status)
                     - status;
        return NGX_OK;
    }

    if (ngx_http_proxywasm_is(name, "content-type")) {
        *value = r->headers_out.content_type;
        return value->len ? NGX_OK : NGX_DONE;
    }

    if (ngx_http_proxywasm_is(name, "content-length")) {
        if (r->headers_out.content_length_n == -1) {
            return NGX_DONE;
        }

        value->data = length;
        value->len = ngx_sprintf(length, "%O", r->headers_out.content_length_n)
                     - length;
        return NGX_OK;
    }

    if (ngx_http_proxywasm_is(name, "last-modified")
        && r->headers_out.last_modified == NULL)
    {
        if (r->headers_out.last_modified_time == -1) {
            return NGX_DONE;
        }

        value->data = modified;
        value->len = ngx_http_time(modified, r->headers_out.last_modified_time)
                     - modified;
        return NGX_OK;
    }

    return NGX_DECLINED;

authority:

    if (r->headers_in.host) {
        *value = r->headers_in.host->value;

    } else {
        *value = r->headers_in.server;
    }

    return NGX_OK;
}


/*
 * NGX_OK: done.  NGX_ERROR: it cannot have this value, or cannot be changed.
 * NGX_DECLINED: the header belongs in the list.  `value->data` may end with the
 * callback.
 */

static ngx_int_t
ngx_http_proxywasm_set_special(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name, ngx_str_t *given)
{
    off_t      length;
    ngx_int_t  status;
    ngx_str_t  value;

    if (name->data[0] != ':'
        && !ngx_http_proxywasm_is(name, "host")
        && !ngx_http_proxywasm_is(name, "content-type")
        && !ngx_http_proxywasm_is(name, "content-length"))
    {
        return NGX_DECLINED;
    }

    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {

        if (name->data[0] != ':' && !ngx_http_proxywasm_is(name, "host")) {
            return NGX_DECLINED;
        }

        value.len = given->len;
        value.data = ngx_pstrdup(r->pool, given);
        if (value.data == NULL) {
            return NGX_ERROR;
        }

        if (ngx_http_proxywasm_is(name, ":path")) {
            return ngx_http_proxywasm_set_path(r, &value);
        }

        if (ngx_http_proxywasm_is(name, ":method")) {
            return ngx_http_proxywasm_set_method(r, &value);
        }

        if (ngx_http_proxywasm_is(name, ":authority")
            || ngx_http_proxywasm_is(name, "host"))
        {
            return ngx_http_proxywasm_set_authority(r, &value);
        }

        return NGX_ERROR;
    }

    if (map != PROXYWASM_MAP_RESPONSE_HEADERS) {
        return name->data[0] == ':' ? NGX_ERROR : NGX_DECLINED;
    }

    if (ngx_http_proxywasm_is(name, ":status")) {
        status = ngx_atoi(given->data, given->len);

        if (given->len != 3 || status < 200) {
            return NGX_ERROR;
        }

        r->headers_out.status = status;
        ngx_str_null(&r->headers_out.status_line);

        return NGX_OK;
    }

    if (name->data[0] == ':') {
        return NGX_ERROR;
    }

    if (ngx_http_proxywasm_is(name, "content-length")) {
        length = ngx_atoof(given->data, given->len);
        if (length == NGX_ERROR) {
            return NGX_ERROR;
        }

        ngx_http_clear_content_length(r);
        r->headers_out.content_length_n = length;

        return NGX_OK;
    }

    r->headers_out.content_type.len = given->len;
    r->headers_out.content_type.data = ngx_pstrdup(r->pool, given);
    r->headers_out.content_type_len = given->len;
    r->headers_out.content_type_lowcase = NULL;
    ngx_str_null(&r->headers_out.charset);

    return r->headers_out.content_type.data ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_proxywasm_set_path(ngx_http_request_t *r, ngx_str_t *value)
{
    ngx_str_t   uri, args;
    ngx_uint_t  flags;

    if (value->len == 0 || value->data[0] != '/') {
        return NGX_ERROR;
    }

    uri = *value;
    ngx_str_null(&args);
    flags = NGX_HTTP_LOG_UNSAFE;

    if (ngx_http_parse_unsafe_uri(r, &uri, &args, &flags) != NGX_OK) {
        return NGX_ERROR;
    }

    r->uri = uri;
    r->args = args;
    r->unparsed_uri = *value;
    r->valid_unparsed_uri = 1;

    ngx_http_set_exten(r);

    return NGX_OK;
}


static ngx_int_t
ngx_http_proxywasm_set_method(ngx_http_request_t *r, ngx_str_t *value)
{
    ngx_uint_t  i;

    static const struct {
        ngx_str_t   name;
        ngx_uint_t  method;
    } methods[] = {
        { ngx_string("GET"), NGX_HTTP_GET },
        { ngx_string("HEAD"), NGX_HTTP_HEAD },
        { ngx_string("POST"), NGX_HTTP_POST },
        { ngx_string("PUT"), NGX_HTTP_PUT },
        { ngx_string("DELETE"), NGX_HTTP_DELETE },
        { ngx_string("OPTIONS"), NGX_HTTP_OPTIONS },
        { ngx_string("PATCH"), NGX_HTTP_PATCH },
        { ngx_string("TRACE"), NGX_HTTP_TRACE },
        { ngx_string("PROPFIND"), NGX_HTTP_PROPFIND },
        { ngx_string("PROPPATCH"), NGX_HTTP_PROPPATCH },
        { ngx_string("MKCOL"), NGX_HTTP_MKCOL },
        { ngx_string("COPY"), NGX_HTTP_COPY },
        { ngx_string("MOVE"), NGX_HTTP_MOVE },
        { ngx_string("LOCK"), NGX_HTTP_LOCK },
        { ngx_string("UNLOCK"), NGX_HTTP_UNLOCK },
    };

    if (value->len == 0) {
        return NGX_ERROR;
    }

    r->method = NGX_HTTP_UNKNOWN;
    r->method_name = *value;

    for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (methods[i].name.len == value->len
            && ngx_strncmp(methods[i].name.data, value->data, value->len) == 0)
        {
            r->method = methods[i].method;
            break;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_proxywasm_set_authority(ngx_http_request_t *r, ngx_str_t *value)
{
    u_char           *colon;
    ngx_table_elt_t  *h;

    h = r->headers_in.host;

    if (h == NULL) {
        h = ngx_list_push(&r->headers_in.headers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(h, sizeof(ngx_table_elt_t));
        h->hash = 1;
        ngx_str_set(&h->key, "Host");
        h->lowcase_key = (u_char *) "host";
        r->headers_in.host = h;
    }

    h->value = *value;

    /* $host: without the port */

    colon = value->len && value->data[0] == '['
            ? ngx_strlchr(value->data, value->data + value->len, ']')
            : value->data;

    if (colon) {
        colon = ngx_strlchr(colon, value->data + value->len, ':');
    }

    r->headers_in.server.len = colon ? (size_t) (colon - value->data)
                                     : value->len;
    r->headers_in.server.data = ngx_pnalloc(r->pool,
                                            r->headers_in.server.len);
    if (r->headers_in.server.data == NULL) {
        return NGX_ERROR;
    }

    ngx_strlow(r->headers_in.server.data, value->data,
               r->headers_in.server.len);

    return NGX_OK;
}


/* ---- lists ---- */

static ngx_int_t
ngx_http_proxywasm_push(ngx_http_request_t *r, int32_t map, ngx_str_t *name,
    ngx_str_t *value)
{
    u_char           *p;
    ngx_list_t       *list;
    ngx_table_elt_t  *h;

    list = ngx_http_proxywasm_list(r, map);

    if (list->size == 0
        && ngx_list_init(list, r->pool, 4, sizeof(ngx_table_elt_t)) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* one allocation: name, NUL, value, NUL */

    p = ngx_pnalloc(r->pool, name->len + value->len + 2);
    h = ngx_list_push(list);
    if (p == NULL || h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->key.data = p;
    h->key.len = name->len;
    h->lowcase_key = p;
    ngx_strlow(p, name->data, name->len);
    p += name->len;
    *p++ = '\0';

    h->value.data = p;
    h->value.len = value->len;
    p = ngx_cpymem(p, value->data, value->len);
    *p = '\0';

    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {
        h->hash = ngx_hash_key(h->lowcase_key, h->key.len);
    }

    return ngx_http_proxywasm_link(r, map, h);
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


/* Removes all of a name; returns how many there were. */

static ngx_uint_t
ngx_http_proxywasm_delete(ngx_http_request_t *r, int32_t map, ngx_str_t *name)
{
    ngx_uint_t        i, k, n;
    ngx_list_t       *list;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    n = 0;

    if (map == PROXYWASM_MAP_RESPONSE_HEADERS) {

        if (ngx_http_proxywasm_is(name, "content-length")) {
            ngx_http_clear_content_length(r);
            return 1;
        }

        if (ngx_http_proxywasm_is(name, "content-type")) {
            ngx_str_null(&r->headers_out.content_type);
            r->headers_out.content_type_len = 0;
            return 1;
        }

        if (ngx_http_proxywasm_is(name, "last-modified")) {
            ngx_http_clear_last_modified(r);
        }
    }

    if (map == PROXYWASM_MAP_REQUEST_HEADERS
        && ngx_http_proxywasm_is(name, "host"))
    {
        /* a request has one */
        return 0;
    }

    list = ngx_http_proxywasm_list(r, map);

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0, k = 0; i < part->nelts; i++) {

            if (h[i].hash
                && h[i].key.len == name->len
                && ngx_strncasecmp(h[i].key.data, name->data, name->len) == 0)
            {
                n++;

                /* proxy_pass sends all that is in the list of a request */
                if (map == PROXYWASM_MAP_REQUEST_HEADERS) {
                    continue;
                }

                h[i].hash = 0;
            }

            if (k != i) {
                h[k] = h[i];
            }

            k++;
        }

        part->nelts = k;
    }

    if (n) {
        ngx_http_proxywasm_relink(r, map);
    }

    return n;
}


/* Empties a map; a request keeps its host. */

static void
ngx_http_proxywasm_clear(ngx_http_request_t *r, int32_t map)
{
    ngx_list_t       *list;
    ngx_table_elt_t   host, *h;

    list = ngx_http_proxywasm_list(r, map);

    if (list->size == 0) {
        return;
    }

    ngx_memzero(&host, sizeof(ngx_table_elt_t));

    if (map == PROXYWASM_MAP_REQUEST_HEADERS && r->headers_in.host) {
        host = *r->headers_in.host;
    }

    list->part.nelts = 0;
    list->part.next = NULL;
    list->last = &list->part;

    if (host.hash) {
        /* there is room: there was one before */
        h = ngx_list_push(list);
        *h = host;
    }

    if (map == PROXYWASM_MAP_RESPONSE_HEADERS) {
        ngx_http_clear_content_length(r);
        ngx_http_clear_last_modified(r);
        ngx_str_null(&r->headers_out.content_type);
        r->headers_out.content_type_len = 0;
    }

    ngx_http_proxywasm_relink(r, map);
}


/* ---- NGINX's own pointers into lists ---- */

static ngx_int_t
ngx_http_proxywasm_link(ngx_http_request_t *r, int32_t map, ngx_table_elt_t *h)
{
    char                        *slot;
    ngx_uint_t                   i;
    ngx_http_header_t           *in;
    ngx_http_core_main_conf_t   *cmcf;

    slot = NULL;

    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {
        cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

        in = ngx_hash_find(&cmcf->headers_in_hash, h->hash, h->lowcase_key,
                           h->key.len);

        if (in && in->offset) {
            slot = (char *) &r->headers_in + in->offset;
        }

    } else if (map == PROXYWASM_MAP_RESPONSE_HEADERS) {

        for (i = 0; ngx_http_headers_out[i].name.len; i++) {
            if (ngx_http_headers_out[i].name.len == h->key.len
                && ngx_http_headers_out[i].offset
                && ngx_strncasecmp(ngx_http_headers_out[i].name.data,
                                   h->key.data, h->key.len)
                   == 0)
            {
                slot = (char *) &r->headers_out
                       + ngx_http_headers_out[i].offset;
                break;
            }
        }
    }

    return slot ? ngx_http_proxywasm_link_slot(r, slot, h) : NGX_OK;
}


static ngx_int_t
ngx_http_proxywasm_link_slot(ngx_http_request_t *r, char *slot,
    ngx_table_elt_t *h)
{
    ngx_table_elt_t  **last;

#if (nginx_version < 1023000)

    ngx_array_t  *array;

    if (ngx_http_proxywasm_is_array(r, slot)) {
        array = (ngx_array_t *) slot;

        if (array->elts == NULL
            && ngx_array_init(array, r->pool, 1, sizeof(ngx_table_elt_t *))
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        last = ngx_array_push(array);
        if (last == NULL) {
            return NGX_ERROR;
        }

        *last = h;

        return NGX_OK;
    }

    last = (ngx_table_elt_t **) slot;

    if (*last == NULL) {
        *last = h;
    }

#else

    h->next = NULL;

    for (last = (ngx_table_elt_t **) slot; *last; last = &(*last)->next) {
        /* void */
    }

    *last = h;

#endif

    return NGX_OK;
}


/* After elements have moved or gone. */

static void
ngx_http_proxywasm_relink(ngx_http_request_t *r, int32_t map)
{
    ngx_uint_t        i;
    ngx_list_t       *list;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {

        for (i = 0; ngx_http_headers_in[i].name.len; i++) {
            if (ngx_http_headers_in[i].offset) {
                ngx_http_proxywasm_clear_slot(r, (char *) &r->headers_in
                                              + ngx_http_headers_in[i].offset);
            }
        }

        list = &r->headers_in.headers;

    } else if (map == PROXYWASM_MAP_RESPONSE_HEADERS) {

        for (i = 0; ngx_http_headers_out[i].name.len; i++) {
            if (ngx_http_headers_out[i].offset) {
                ngx_http_proxywasm_clear_slot(r, (char *) &r->headers_out
                                             + ngx_http_headers_out[i].offset);
            }
        }

        list = &r->headers_out.headers;

    } else {
        return;
    }

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].hash && h[i].lowcase_key) {
                (void) ngx_http_proxywasm_link(r, map, &h[i]);
            }
        }
    }
}


static void
ngx_http_proxywasm_clear_slot(ngx_http_request_t *r, char *slot)
{
#if (nginx_version < 1023000)

    if (ngx_http_proxywasm_is_array(r, slot)) {
        ((ngx_array_t *) slot)->nelts = 0;
        return;
    }

#endif

    *(ngx_table_elt_t **) slot = NULL;
}


#if (nginx_version < 1023000)

/* Before 1.23 some headers that may be repeated had arrays. */

static ngx_uint_t
ngx_http_proxywasm_is_array(ngx_http_request_t *r, char *slot)
{
    return slot == (char *) &r->headers_in.cookies
#if (NGX_HTTP_X_FORWARDED_FOR)
           || slot == (char *) &r->headers_in.x_forwarded_for
#endif
           || slot == (char *) &r->headers_out.cache_control
           || slot == (char *) &r->headers_out.link;
}

#endif


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
