/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Headers that NGINX keeps in fields of their own: what pseudo headers stand
 * for, and a few of the response's.
 */


#include "ngx_http_proxywasm_headers.h"


static ngx_int_t ngx_http_proxywasm_set_path(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_proxywasm_set_method(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_proxywasm_set_authority(ngx_http_request_t *r,
    ngx_str_t *value);


/*
 * NGX_OK: the value.  NGX_DONE: there is such a field, and it is empty.
 * NGX_DECLINED: the header is in the list, if anywhere.
 */

ngx_int_t
ngx_http_proxywasm_get_special(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name, ngx_str_t *value)
{
    /* the library copies values before it asks for others */
    static u_char  status[NGX_INT_T_LEN];
    static u_char  length[NGX_OFF_T_LEN];
    static u_char  modified[sizeof("Mon, 28 Sep 1970 06:00:00 GMT")];

    ngx_http_proxywasm_ctx_t  *ctx;

    if (name->len == 0) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_proxywasm_module);

    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {

        if (ngx_http_proxywasm_is(name, "host")) {
            goto authority;
        }

        if (name->data[0] != ':') {
            return NGX_DECLINED;
        }

        if (ngx_http_proxywasm_is(name, ":path")) {
            *value = r->unparsed_uri;
            return ctx->no_path ? NGX_DONE : NGX_OK;
        }

        if (ngx_http_proxywasm_is(name, ":method")) {
            *value = r->method_name;
            return ctx->no_method ? NGX_DONE : NGX_OK;
        }

        if (ngx_http_proxywasm_is(name, ":authority")) {
            goto authority;
        }

        if (ngx_http_proxywasm_is(name, ":scheme")) {
            if (ctx->scheme.len) {
                *value = ctx->scheme;
                return NGX_OK;
            }

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
        return ctx->no_status ? NGX_DONE : NGX_OK;
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

    return ctx->no_authority ? NGX_DONE : NGX_OK;
}


/* Whether the name is that of a pseudo header, or of host; it is gone then. */

ngx_uint_t
ngx_http_proxywasm_remove_special(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name)
{
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_proxywasm_module);

    if (map == PROXYWASM_MAP_RESPONSE_HEADERS) {
        ctx->no_status |= ngx_http_proxywasm_is(name, ":status");

    } else if (map == PROXYWASM_MAP_REQUEST_HEADERS) {
        ctx->no_path |= ngx_http_proxywasm_is(name, ":path");
        ctx->no_method |= ngx_http_proxywasm_is(name, ":method");
        ctx->no_authority |= ngx_http_proxywasm_is(name, ":authority")
                             || ngx_http_proxywasm_is(name, "host");
    }

    return name->len
           && (name->data[0] == ':'
               || (map == PROXYWASM_MAP_REQUEST_HEADERS
                   && ngx_http_proxywasm_is(name, "host")));
}


/*
 * NGX_OK: done.  NGX_ERROR: it cannot have this value, or cannot be changed.
 * NGX_DECLINED: the header belongs in the list.  `value->data` may end with the
 * callback.
 */

ngx_int_t
ngx_http_proxywasm_set_special(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name, ngx_str_t *given)
{
    off_t                      length;
    ngx_int_t                  status;
    ngx_str_t                  value;
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_proxywasm_module);

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
            ctx->no_path = 0;
            return ngx_http_proxywasm_set_path(r, &value);
        }

        if (ngx_http_proxywasm_is(name, ":method")) {
            ctx->no_method = 0;
            return ngx_http_proxywasm_set_method(r, &value);
        }

        if (ngx_http_proxywasm_is(name, ":authority")
            || ngx_http_proxywasm_is(name, "host"))
        {
            ctx->no_authority = 0;
            return ngx_http_proxywasm_set_authority(r, &value);
        }

        if (ngx_http_proxywasm_is(name, ":scheme")) {
            ctx->scheme = value;
            return NGX_OK;
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

        ctx->no_status = 0;
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

    /* a blank would end it in the request line */

    if (value->len == 0
        || value->data[0] != '/'
        || ngx_strlchr(value->data, value->data + value->len, ' ') != NULL)
    {
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

    if (value->len == 0
        || ngx_strlchr(value->data, value->data + value->len, ' ') != NULL)
    {
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
