/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Local responses to gRPC requests: what their clients understand is a 200
 * without a body, with the status among the headers.
 */


#include "ngx_http_proxywasm.h"


ngx_uint_t
ngx_http_proxywasm_is_grpc(ngx_http_request_t *r)
{
    size_t      len;
    ngx_str_t  *type;

    if (r->headers_in.content_type == NULL) {
        return 0;
    }

    type = &r->headers_in.content_type->value;
    len = sizeof("application/grpc") - 1;

    if (type->len < len
        || ngx_strncasecmp(type->data, (u_char *) "application/grpc", len) != 0)
    {
        return 0;
    }

    /* not application/grpc-web */

    return type->len == len
           || type->data[len] == '+'
           || type->data[len] == ';';
}


ngx_int_t
ngx_http_proxywasm_to_grpc(ngx_http_request_t *r,
    ngx_http_proxywasm_local_t *local)
{
    u_char            *p;
    size_t             i, n;
    ngx_uint_t         status;
    ngx_table_elt_t   *h;

    static u_char  hex[] = "0123456789ABCDEF";

    status = local->grpc_status >= 0 ? (ngx_uint_t) local->grpc_status
                               : ngx_http_proxywasm_grpc_status(local->status);

    h = ngx_array_push_n(&local->headers, local->body.len ? 3 : 2);
    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN + local->body.len * 3);
    if (h == NULL || p == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&h[0].key, "content-type");
    ngx_str_set(&h[0].value, "application/grpc");

    ngx_str_set(&h[1].key, "grpc-status");
    h[1].value.data = p;
    p = ngx_sprintf(p, "%ui", status);
    h[1].value.len = p - h[1].value.data;

    if (local->body.len) {
        ngx_str_set(&h[2].key, "grpc-message");
        h[2].value.data = p;

        for (i = 0; i < local->body.len; i++) {
            n = local->body.data[i];

            if (n >= 0x20 && n < 0x7f && n != '%') {
                *p++ = (u_char) n;

            } else {
                *p++ = '%';
                *p++ = hex[n >> 4];
                *p++ = hex[n & 0xf];
            }
        }

        h[2].value.len = p - h[2].value.data;
    }

    local->status = NGX_HTTP_OK;
    ngx_str_null(&local->body);

    return NGX_OK;
}


/* As gRPC maps HTTP's statuses. */

ngx_uint_t
ngx_http_proxywasm_grpc_status(ngx_uint_t status)
{
    switch (status) {

    case NGX_HTTP_BAD_REQUEST:
        return 13;

    case NGX_HTTP_UNAUTHORIZED:
        return 16;

    case NGX_HTTP_FORBIDDEN:
        return 7;

    case NGX_HTTP_NOT_FOUND:
        return 12;

    case NGX_HTTP_TOO_MANY_REQUESTS:
    case NGX_HTTP_BAD_GATEWAY:
    case NGX_HTTP_SERVICE_UNAVAILABLE:
    case NGX_HTTP_GATEWAY_TIME_OUT:
        return 14;

    default:
        return 2;
    }
}
