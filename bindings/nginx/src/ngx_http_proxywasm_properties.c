/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Properties of requests and responses: Envoy's names, and what NGINX has for
 * them.  What is not found here may be a property that a plugin has set: the
 * library keeps those.
 */


#include "ngx_http_proxywasm.h"


typedef enum {
    NGX_HTTP_PROXYWASM_PATH,
    NGX_HTTP_PROXYWASM_URL_PATH,
    NGX_HTTP_PROXYWASM_QUERY,
    NGX_HTTP_PROXYWASM_METHOD,
    NGX_HTTP_PROXYWASM_HOST,
    NGX_HTTP_PROXYWASM_SCHEME,
    NGX_HTTP_PROXYWASM_USERAGENT,
    NGX_HTTP_PROXYWASM_REFERER,
    NGX_HTTP_PROXYWASM_ID,
    NGX_HTTP_PROXYWASM_PROTOCOL,
    NGX_HTTP_PROXYWASM_TIME,
    NGX_HTTP_PROXYWASM_DURATION,
    NGX_HTTP_PROXYWASM_SIZE,
    NGX_HTTP_PROXYWASM_HEADERS_BYTES,
    NGX_HTTP_PROXYWASM_TOTAL_SIZE,
    NGX_HTTP_PROXYWASM_IS_SUBREQUEST,
    NGX_HTTP_PROXYWASM_CODE,
    NGX_HTTP_PROXYWASM_CODE_DETAILS,
    NGX_HTTP_PROXYWASM_FLAGS,
    NGX_HTTP_PROXYWASM_GRPC_STATUS
} ngx_http_proxywasm_attribute_e;


typedef struct {
    ngx_str_t                       name;
    ngx_http_proxywasm_attribute_e  attribute;
} ngx_http_proxywasm_attribute_t;


static ngx_int_t ngx_http_proxywasm_find(ngx_http_proxywasm_attribute_t *table,
    proxywasm_slice path);
static ngx_int_t ngx_http_proxywasm_request_property(
    ngx_http_proxywasm_ctx_t *ctx, proxywasm_slice path,
    ngx_proxywasm_value_t *value);
static ngx_int_t ngx_http_proxywasm_response_property(
    ngx_http_proxywasm_ctx_t *ctx, proxywasm_slice path,
    ngx_proxywasm_value_t *value);
static ngx_int_t ngx_http_proxywasm_header(ngx_http_proxywasm_ctx_t *ctx,
    int32_t map, const char *name, ngx_str_t *text);
static ngx_int_t ngx_http_proxywasm_part_of_path(ngx_http_proxywasm_ctx_t *ctx,
    ngx_uint_t query, ngx_str_t *text);
static void ngx_http_proxywasm_protocol(ngx_http_request_t *r,
    ngx_str_t *text);
static uint64_t ngx_http_proxywasm_request_size(ngx_http_request_t *r);
static uint64_t ngx_http_proxywasm_response_size(
    ngx_http_proxywasm_ctx_t *ctx);
static uint64_t ngx_http_proxywasm_grpc_code(ngx_http_proxywasm_ctx_t *ctx);


/* ---- callbacks ---- */

int32_t
ngx_http_proxywasm_get_property(ngx_proxywasm_stream_t *stream,
    proxywasm_slice path, proxywasm_slice *out)
{
    ngx_http_proxywasm_ctx_t *ctx = (ngx_http_proxywasm_ctx_t *) stream;

    ngx_int_t               rc;
    ngx_http_request_t     *r;
    ngx_proxywasm_value_t   value;

    r = ctx->request;
    value.type = NGX_PROXYWASM_TEXT;

    if (ngx_proxywasm_is_variable(path)) {
        rc = ngx_http_proxywasm_get_variable(r, path, &value.text);

    } else {
        rc = ngx_http_proxywasm_map_property(ctx, path, &value.text);

        switch (rc == NGX_DONE ? path.data[0] : '\0') {

        case 'r':
            rc = ngx_http_proxywasm_request_property(ctx, path, &value);

            if (rc == NGX_DECLINED) {
                rc = ngx_http_proxywasm_response_property(ctx, path, &value);
            }

            break;

        case 'u':
            rc = ngx_http_proxywasm_upstream_property(ctx, path, &value);
            break;

        case 's':
        case 'd':
        case 'c':
            rc = ngx_proxywasm_connection_property(r->connection, r->pool,
                                                   path, &value);
        }
    }

    if (rc != NGX_OK) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    ngx_proxywasm_encode(&value, out);

    return PROXYWASM_STATUS_OK;
}


int32_t
ngx_http_proxywasm_set_property(ngx_proxywasm_stream_t *stream,
    proxywasm_slice path, proxywasm_slice value)
{
    ngx_http_proxywasm_ctx_t *ctx = (ngx_http_proxywasm_ctx_t *) stream;

    static ngx_str_t        query = ngx_string("request.query");
    static proxywasm_slice  args = { (u_char *) "ngx.args", 8 };

    if (ngx_proxywasm_is_variable(path)) {
        return ngx_http_proxywasm_set_variable(ctx->request, path, value);
    }

    if (ngx_proxywasm_compat() && ngx_proxywasm_is_path(path, &query)) {
        return ngx_http_proxywasm_set_variable(ctx->request, args, value);
    }

    return PROXYWASM_STATUS_UNIMPLEMENTED;
}


static ngx_int_t
ngx_http_proxywasm_find(ngx_http_proxywasm_attribute_t *table,
    proxywasm_slice path)
{
    for ( /* void */ ; table->name.len; table++) {
        if (ngx_proxywasm_is_path(path, &table->name)) {
            return table->attribute;
        }
    }

    return NGX_DECLINED;
}


/* ---- the request ---- */

static ngx_int_t
ngx_http_proxywasm_request_property(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_slice path, ngx_proxywasm_value_t *value)
{
    int32_t              map;
    ngx_time_t          *tp;
    ngx_http_request_t  *r;

    static ngx_http_proxywasm_attribute_t  attributes[] = {
        { ngx_string("request.path"), NGX_HTTP_PROXYWASM_PATH },
        { ngx_string("request.url_path"), NGX_HTTP_PROXYWASM_URL_PATH },
        { ngx_string("request.query"), NGX_HTTP_PROXYWASM_QUERY },
        { ngx_string("request.method"), NGX_HTTP_PROXYWASM_METHOD },
        { ngx_string("request.host"), NGX_HTTP_PROXYWASM_HOST },
        { ngx_string("request.scheme"), NGX_HTTP_PROXYWASM_SCHEME },
        { ngx_string("request.useragent"), NGX_HTTP_PROXYWASM_USERAGENT },
        { ngx_string("request.referer"), NGX_HTTP_PROXYWASM_REFERER },
        { ngx_string("request.id"), NGX_HTTP_PROXYWASM_ID },
        { ngx_string("request.protocol"), NGX_HTTP_PROXYWASM_PROTOCOL },
        { ngx_string("request.time"), NGX_HTTP_PROXYWASM_TIME },
        { ngx_string("request.duration"), NGX_HTTP_PROXYWASM_DURATION },
        { ngx_string("request.size"), NGX_HTTP_PROXYWASM_SIZE },
        { ngx_string("request.headers_bytes"),
          NGX_HTTP_PROXYWASM_HEADERS_BYTES },
        { ngx_string("request.total_size"), NGX_HTTP_PROXYWASM_TOTAL_SIZE },
        { ngx_string("request.is_subrequest"),
          NGX_HTTP_PROXYWASM_IS_SUBREQUEST },
        { ngx_null_string, 0 }
    };

    static proxywasm_slice  request_id = { (u_char *) "ngx.request_id", 14 };

    r = ctx->request;
    map = PROXYWASM_MAP_REQUEST_HEADERS;
    value->type = NGX_PROXYWASM_TEXT;

    switch (ngx_http_proxywasm_find(attributes, path)) {

    case NGX_HTTP_PROXYWASM_PATH:
        return ngx_http_proxywasm_header(ctx, map, ":path", &value->text);

    case NGX_HTTP_PROXYWASM_METHOD:
        return ngx_http_proxywasm_header(ctx, map, ":method", &value->text);

    case NGX_HTTP_PROXYWASM_HOST:
        return ngx_http_proxywasm_header(ctx, map, ":authority", &value->text);

    case NGX_HTTP_PROXYWASM_SCHEME:
        return ngx_http_proxywasm_header(ctx, map, ":scheme", &value->text);

    case NGX_HTTP_PROXYWASM_USERAGENT:
        return ngx_http_proxywasm_header(ctx, map, "user-agent", &value->text);

    case NGX_HTTP_PROXYWASM_REFERER:
        return ngx_http_proxywasm_header(ctx, map, "referer", &value->text);

    case NGX_HTTP_PROXYWASM_URL_PATH:
        return ngx_http_proxywasm_part_of_path(ctx, 0, &value->text);

    case NGX_HTTP_PROXYWASM_QUERY:
        return ngx_http_proxywasm_part_of_path(ctx, 1, &value->text);

    case NGX_HTTP_PROXYWASM_ID:

        if (ngx_http_proxywasm_header(ctx, map, "x-request-id", &value->text)
            == NGX_OK)
        {
            return NGX_OK;
        }

        /* Envoy gives each request one, and so does NGINX when asked */
        return ngx_http_proxywasm_get_variable(r, request_id, &value->text);

    case NGX_HTTP_PROXYWASM_PROTOCOL:
        ngx_http_proxywasm_protocol(r, &value->text);
        return NGX_OK;

    case NGX_HTTP_PROXYWASM_TIME:
        value->type = NGX_PROXYWASM_MSEC;
        value->number = (uint64_t) r->start_sec * 1000 + r->start_msec;
        return NGX_OK;

    case NGX_HTTP_PROXYWASM_DURATION:
        tp = ngx_timeofday();
        value->type = NGX_PROXYWASM_MSEC;
        value->number = ngx_max((int64_t) (tp->sec - r->start_sec) * 1000
                                + (int64_t) tp->msec - (int64_t) r->start_msec,
                                0);
        return NGX_OK;

    case NGX_HTTP_PROXYWASM_SIZE:
        value->type = NGX_PROXYWASM_NUMBER;
        value->number = ngx_http_proxywasm_request_size(r);
        return NGX_OK;

    case NGX_HTTP_PROXYWASM_HEADERS_BYTES:
        value->type = NGX_PROXYWASM_NUMBER;
        value->number = ngx_http_proxywasm_headers_size(r, map);
        return NGX_OK;

    case NGX_HTTP_PROXYWASM_TOTAL_SIZE:
        value->type = NGX_PROXYWASM_NUMBER;
        value->number = ngx_http_proxywasm_headers_size(r, map)
                        + ngx_http_proxywasm_request_size(r);
        return NGX_OK;

    case NGX_HTTP_PROXYWASM_IS_SUBREQUEST:
        value->type = NGX_PROXYWASM_BOOL;
        value->number = r != r->main;
        return NGX_OK;
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_proxywasm_header(ngx_http_proxywasm_ctx_t *ctx, int32_t map,
    const char *name, ngx_str_t *text)
{
    proxywasm_slice  slice, found;

    slice.data = (u_char *) name;
    slice.len = ngx_strlen(name);

    if (ngx_http_proxywasm_get_header(NULL, ctx, map, slice, &found)
        != PROXYWASM_STATUS_OK)
    {
        return NGX_DECLINED;
    }

    *text = ngx_proxywasm_str(found);

    return NGX_OK;
}


/* A path without a query has an empty one. */

static ngx_int_t
ngx_http_proxywasm_part_of_path(ngx_http_proxywasm_ctx_t *ctx,
    ngx_uint_t query, ngx_str_t *text)
{
    u_char  *p, *end;

    if (ngx_http_proxywasm_header(ctx, PROXYWASM_MAP_REQUEST_HEADERS, ":path",
                                  text)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    end = text->data + text->len;

    p = ngx_strlchr(text->data, end, '?');
    if (p == NULL) {
        p = end;
    }

    if (query) {
        text->data = p == end ? end : p + 1;
        text->len = end - text->data;

    } else {
        text->len = p - text->data;
    }

    return NGX_OK;
}


static void
ngx_http_proxywasm_protocol(ngx_http_request_t *r, ngx_str_t *text)
{
    *text = r->http_protocol;

    /* NGINX has "HTTP/2.0" and "HTTP/3.0" */

    if (r->http_version >= 2000 && text->len > 2 && !ngx_proxywasm_compat()) {
        text->len -= 2;
    }
}


static uint64_t
ngx_http_proxywasm_request_size(ngx_http_request_t *r)
{
    /* NGINX adds up what comes without a length */

    return r->headers_in.content_length_n > 0 ? r->headers_in.content_length_n
                                              : 0;
}


/* ---- the response ---- */

static ngx_int_t
ngx_http_proxywasm_response_property(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_slice path, ngx_proxywasm_value_t *value)
{
    int32_t              map;
    ngx_int_t            attribute;
    ngx_http_request_t  *r;

    static ngx_http_proxywasm_attribute_t  attributes[] = {
        { ngx_string("response.code"), NGX_HTTP_PROXYWASM_CODE },
        { ngx_string("response.code_details"),
          NGX_HTTP_PROXYWASM_CODE_DETAILS },
        { ngx_string("response.flags"), NGX_HTTP_PROXYWASM_FLAGS },
        { ngx_string("response.grpc_status"), NGX_HTTP_PROXYWASM_GRPC_STATUS },
        { ngx_string("response.size"), NGX_HTTP_PROXYWASM_SIZE },
        { ngx_string("response.headers_bytes"),
          NGX_HTTP_PROXYWASM_HEADERS_BYTES },
        { ngx_string("response.total_size"), NGX_HTTP_PROXYWASM_TOTAL_SIZE },
        { ngx_string("response.backend_latency"),
          NGX_HTTP_PROXYWASM_DURATION },
        { ngx_null_string, 0 }
    };

    r = ctx->request;
    map = PROXYWASM_MAP_RESPONSE_HEADERS;
    value->type = NGX_PROXYWASM_NUMBER;

    attribute = ngx_http_proxywasm_find(attributes, path);

    if (attribute == NGX_DECLINED) {
        return NGX_DECLINED;
    }

    if (attribute == NGX_HTTP_PROXYWASM_FLAGS) {
        value->number = ngx_http_proxywasm_response_flags(r);
        return NGX_OK;
    }

    /* a request that was given up has a status, and no response */

    if (!ctx->response_shown && !(ctx->logging && r->headers_out.status)) {
        return NGX_DECLINED;
    }

    switch (attribute) {

    case NGX_HTTP_PROXYWASM_CODE:
        value->number = r->headers_out.status;
        return NGX_OK;

    case NGX_HTTP_PROXYWASM_CODE_DETAILS:
        value->type = NGX_PROXYWASM_TEXT;
        ngx_http_proxywasm_code_details(ctx, &value->text);
        return NGX_OK;

    case NGX_HTTP_PROXYWASM_GRPC_STATUS:
        value->number = ngx_http_proxywasm_grpc_code(ctx);
        return NGX_OK;

    case NGX_HTTP_PROXYWASM_SIZE:
        value->number = ngx_http_proxywasm_response_size(ctx);
        return NGX_OK;

    case NGX_HTTP_PROXYWASM_HEADERS_BYTES:
        value->number = ngx_http_proxywasm_headers_size(r, map);
        return NGX_OK;

    case NGX_HTTP_PROXYWASM_TOTAL_SIZE:
        value->number = ngx_http_proxywasm_headers_size(r, map)
                        + ngx_http_proxywasm_headers_size(r,
                                              PROXYWASM_MAP_RESPONSE_TRAILERS)
                        + ngx_http_proxywasm_response_size(ctx);
        return NGX_OK;

    default: /* NGX_HTTP_PROXYWASM_DURATION */
        return ngx_http_proxywasm_latency(r, value);
    }
}


/* As the client got it, but without the frame around each chunk. */

static uint64_t
ngx_http_proxywasm_response_size(ngx_http_proxywasm_ctx_t *ctx)
{
    off_t                sent;
    ngx_http_request_t  *r;

    r = ctx->request;

    if (r->chunked && r->headers_out.content_encoding == NULL) {
        return ctx->response_size;
    }

    sent = r->connection->sent - r->header_size;

    return sent > 0 ? sent : 0;
}


/* What the response says, or what gRPC makes of its status. */

static uint64_t
ngx_http_proxywasm_grpc_code(ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_int_t   said;
    ngx_str_t   text;
    ngx_uint_t  i;

    static const int32_t  maps[] = {
        PROXYWASM_MAP_RESPONSE_TRAILERS, PROXYWASM_MAP_RESPONSE_HEADERS
    };

    for (i = 0; i < 2; i++) {
        if (ngx_http_proxywasm_header(ctx, maps[i], "grpc-status", &text)
            == NGX_OK)
        {
            said = ngx_atoi(text.data, text.len);

            /* 2: unknown */
            return said == NGX_ERROR ? 2 : said;
        }
    }

    return ngx_http_proxywasm_grpc_status(ctx->request->headers_out.status);
}
