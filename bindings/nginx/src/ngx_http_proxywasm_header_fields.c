/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Headers that NGINX keeps in fields of their own: what pseudo headers stand
 * for, and a few of the response's.
 */


#include "ngx_http_proxywasm_headers.h"


static void ngx_http_proxywasm_get_server(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_proxywasm_set_path(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_proxywasm_set_method(ngx_http_request_t *r,
    ngx_str_t *value);
static ngx_int_t ngx_http_proxywasm_set_authority(ngx_http_request_t *r,
    ngx_str_t *value);


/* The length tells most names apart, so that few are compared. */

ngx_http_proxywasm_field_e
ngx_http_proxywasm_field(int32_t map, ngx_str_t *name)
{
    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {

        switch (name->len) {

        case 4:
            if (ngx_http_proxywasm_is(name, "host")) {
                return NGX_HTTP_PROXYWASM_HOST;
            }

            break;

        case 5:
            if (ngx_http_proxywasm_is(name, ":path")) {
                return NGX_HTTP_PROXYWASM_PATH;
            }

            break;

        case 7:
            if (ngx_http_proxywasm_is(name, ":method")) {
                return NGX_HTTP_PROXYWASM_METHOD;
            }

            if (ngx_http_proxywasm_is(name, ":scheme")) {
                return NGX_HTTP_PROXYWASM_SCHEME;
            }

            break;

        case 10:
            if (ngx_http_proxywasm_is(name, ":authority")) {
                return NGX_HTTP_PROXYWASM_AUTHORITY;
            }
        }

    } else if (map == PROXYWASM_MAP_RESPONSE_HEADERS) {

        switch (name->len) {

        case 7:
            if (ngx_http_proxywasm_is(name, ":status")) {
                return NGX_HTTP_PROXYWASM_STATUS;
            }

            break;

        case 12:
            if (ngx_http_proxywasm_is(name, "content-type")) {
                return NGX_HTTP_PROXYWASM_CONTENT_TYPE;
            }

            break;

        case 13:
            if (ngx_http_proxywasm_is(name, "last-modified")) {
                return NGX_HTTP_PROXYWASM_LAST_MODIFIED;
            }

            break;

        case 14:
            if (ngx_http_proxywasm_is(name, "content-length")) {
                return NGX_HTTP_PROXYWASM_CONTENT_LENGTH;
            }
        }
    }

    return name->len && name->data[0] == ':' ? NGX_HTTP_PROXYWASM_UNKNOWN
                                             : NGX_HTTP_PROXYWASM_NO_FIELD;
}


/* How many there are, at once. */

ngx_uint_t
ngx_http_proxywasm_count_fields(ngx_http_request_t *r, int32_t map)
{
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_proxywasm_get_ctx(r);

    switch (map) {

    case PROXYWASM_MAP_REQUEST_HEADERS:
        return 4 - ctx->no_method - ctx->no_path - ctx->no_authority;

    case PROXYWASM_MAP_RESPONSE_HEADERS:
        return !ctx->no_status
               + (r->headers_out.content_type.len != 0)
               + (r->headers_out.content_length_n != -1)
               + (r->headers_out.last_modified == NULL
                  && r->headers_out.last_modified_time != -1);

    default:
        return 0;
    }
}


ngx_uint_t
ngx_http_proxywasm_has_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field)
{
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_proxywasm_get_ctx(r);

    switch (field) {

    case NGX_HTTP_PROXYWASM_METHOD:
        return !ctx->no_method;

    case NGX_HTTP_PROXYWASM_PATH:
        return !ctx->no_path;

    case NGX_HTTP_PROXYWASM_AUTHORITY:
    case NGX_HTTP_PROXYWASM_HOST:
        return !ctx->no_authority;

    case NGX_HTTP_PROXYWASM_SCHEME:
        return !ctx->no_scheme;

    case NGX_HTTP_PROXYWASM_STATUS:
        return !ctx->no_status;

    case NGX_HTTP_PROXYWASM_CONTENT_TYPE:
        return r->headers_out.content_type.len != 0;

    case NGX_HTTP_PROXYWASM_CONTENT_LENGTH:
        return r->headers_out.content_length_n != -1;

    case NGX_HTTP_PROXYWASM_LAST_MODIFIED:
        /* otherwise it is in the list */
        return r->headers_out.last_modified == NULL
               && r->headers_out.last_modified_time != -1;

    default:
        return 0;
    }
}


/* Of a field that there is.  The library copies values at once. */

void
ngx_http_proxywasm_get_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field, ngx_str_t *value)
{
    static u_char  status[NGX_INT_T_LEN];
    static u_char  length[NGX_OFF_T_LEN];
    static u_char  modified[sizeof("Mon, 28 Sep 1970 06:00:00 GMT")];

    ngx_http_proxywasm_ctx_t  *ctx;

    switch (field) {

    case NGX_HTTP_PROXYWASM_METHOD:
        *value = r->method_name;
        break;

    case NGX_HTTP_PROXYWASM_PATH:
        ctx = ngx_http_proxywasm_get_ctx(r);
        *value = ctx->path.len ? ctx->path : r->unparsed_uri;
        break;

    case NGX_HTTP_PROXYWASM_AUTHORITY:

        if (ngx_proxywasm_compat()) {
            ngx_http_proxywasm_get_server(r, value);
            break;
        }

        /* fall through */

    case NGX_HTTP_PROXYWASM_HOST:
        *value = r->headers_in.host ? r->headers_in.host->value
                                    : r->headers_in.server;
        break;

    case NGX_HTTP_PROXYWASM_SCHEME:
        ctx = ngx_http_proxywasm_get_ctx(r);

        if (ctx->scheme.len) {
            *value = ctx->scheme;
            break;
        }

        ngx_str_set(value, "http");

#if (NGX_HTTP_SSL)
        if (r->connection->ssl) {
            ngx_str_set(value, "https");
        }
#endif
        break;

    case NGX_HTTP_PROXYWASM_STATUS:
        value->data = status;
        ctx = ngx_http_proxywasm_get_ctx(r);
        value->len = ngx_sprintf(status, "%03ui",
                                 ctx->logging ? ctx->status
                                              : r->headers_out.status)
                     - status;
        break;

    case NGX_HTTP_PROXYWASM_CONTENT_TYPE:
        *value = r->headers_out.content_type;
        break;

    case NGX_HTTP_PROXYWASM_CONTENT_LENGTH:
        value->data = length;
        value->len = ngx_sprintf(length, "%O", r->headers_out.content_length_n)
                     - length;
        break;

    case NGX_HTTP_PROXYWASM_LAST_MODIFIED:
        value->data = modified;
        value->len = ngx_http_time(modified, r->headers_out.last_modified_time)
                     - modified;
        break;

    default:
        ngx_str_null(value);
    }
}


/* What ngx_wasm_module takes for :authority; host is what the client sent. */

static void
ngx_http_proxywasm_get_server(ngx_http_request_t *r, ngx_str_t *value)
{
    u_char                    *p;
    in_port_t                  port;
    ngx_str_t                 *name;
    ngx_http_core_srv_conf_t  *cscf;
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_proxywasm_module);

    if (ctx->server.data == NULL) {
        cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);
        name = cscf->server_name.len ? &cscf->server_name
                                     : &((ngx_cycle_t *) ngx_cycle)->hostname;

        p = ngx_pnalloc(r->pool, name->len + sizeof(":65535") - 1);

        if (p == NULL
            || ngx_connection_local_sockaddr(r->connection, NULL, 0) != NGX_OK)
        {
            ngx_str_null(value);
            return;
        }

        ctx->server.data = p;
        p = ngx_cpymem(p, name->data, name->len);
        port = ngx_inet_get_port(r->connection->local_sockaddr);

        if (port) {
            p = ngx_sprintf(p, ":%d", (int) port);
        }

        ctx->server.len = p - ctx->server.data;
    }

    *value = ctx->server;
}


void
ngx_http_proxywasm_clear_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field)
{
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_proxywasm_get_ctx(r);

    switch (field) {

    case NGX_HTTP_PROXYWASM_METHOD:
        ctx->no_method = 1;
        break;

    case NGX_HTTP_PROXYWASM_PATH:
        ctx->no_path = 1;
        break;

    case NGX_HTTP_PROXYWASM_AUTHORITY:
    case NGX_HTTP_PROXYWASM_HOST:
        ctx->no_authority = 1;
        break;

    case NGX_HTTP_PROXYWASM_SCHEME:
        ctx->no_scheme = 1;
        break;

    case NGX_HTTP_PROXYWASM_STATUS:
        ctx->no_status = 1;
        break;

    case NGX_HTTP_PROXYWASM_CONTENT_TYPE:
        ngx_str_null(&r->headers_out.content_type);
        r->headers_out.content_type_len = 0;
        break;

    case NGX_HTTP_PROXYWASM_CONTENT_LENGTH:
        ngx_http_clear_content_length(r);
        break;

    case NGX_HTTP_PROXYWASM_LAST_MODIFIED:
        ngx_http_clear_last_modified(r);
        break;

    default:
        break;
    }
}


/*
 * NGX_OK: done.  NGX_ERROR: it cannot have this value, or cannot be changed.
 * NGX_DECLINED: the header belongs in the list.  `value->data` may end with the
 * callback.
 */

ngx_int_t
ngx_http_proxywasm_set_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field, ngx_str_t *given)
{
    off_t                      length;
    ngx_int_t                  status;
    ngx_str_t                  value;
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_proxywasm_get_ctx(r);

    switch (field) {

    case NGX_HTTP_PROXYWASM_NO_FIELD:
    case NGX_HTTP_PROXYWASM_LAST_MODIFIED:
        return NGX_DECLINED;

    case NGX_HTTP_PROXYWASM_UNKNOWN:
        return NGX_ERROR;

    case NGX_HTTP_PROXYWASM_STATUS:
        status = ngx_atoi(given->data, given->len);

        if (given->len != 3 || status < 200) {
            return NGX_ERROR;
        }

        ctx->no_status = 0;
        r->headers_out.status = status;
        ngx_str_null(&r->headers_out.status_line);

        return NGX_OK;

    case NGX_HTTP_PROXYWASM_CONTENT_LENGTH:
        length = ngx_atoof(given->data, given->len);
        if (length == NGX_ERROR) {
            return NGX_ERROR;
        }

        ngx_http_clear_content_length(r);
        r->headers_out.content_length_n = length;

        return NGX_OK;

    default:
        break;
    }

    value.len = given->len;
    value.data = ngx_pstrdup(r->pool, given);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    switch (field) {

    case NGX_HTTP_PROXYWASM_METHOD:
        ctx->no_method = 0;
        return ngx_http_proxywasm_set_method(r, &value);

    case NGX_HTTP_PROXYWASM_PATH:
        ctx->no_path = 0;
        return ngx_http_proxywasm_set_path(r, &value);

    case NGX_HTTP_PROXYWASM_AUTHORITY:
    case NGX_HTTP_PROXYWASM_HOST:
        ctx->no_authority = 0;
        return ngx_http_proxywasm_set_authority(r, &value);

    case NGX_HTTP_PROXYWASM_SCHEME:
        ctx->no_scheme = 0;
        ctx->scheme = value;
        return NGX_OK;

    default: /* NGX_HTTP_PROXYWASM_CONTENT_TYPE */
        r->headers_out.content_type = value;
        r->headers_out.content_type_len = value.len;
        r->headers_out.content_type_lowcase = NULL;
        ngx_str_null(&r->headers_out.charset);

        return NGX_OK;
    }
}


static ngx_int_t
ngx_http_proxywasm_set_path(ngx_http_request_t *r, ngx_str_t *value)
{
    ngx_str_t                  uri, args;
    ngx_uint_t                 flags;
    ngx_http_proxywasm_ctx_t  *ctx;

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

    if (r == r->main) {
        r->unparsed_uri = *value;
        r->valid_unparsed_uri = 1;

    } else {
        ctx = ngx_http_proxywasm_get_ctx(r);
        ctx->path = *value;
    }

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
