/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Subrequests are streams of their own.  NGINX makes them share with their
 * request what plugins may change, tells them its path, and does not log them.
 */


#include "ngx_http_proxywasm_headers.h"


static ngx_int_t ngx_http_proxywasm_set_own_path(
    ngx_http_proxywasm_ctx_t *ctx);
static ngx_int_t ngx_http_proxywasm_on_done(ngx_http_request_t *r, void *data,
    ngx_int_t rc);


ngx_int_t
ngx_http_proxywasm_begin_subrequest(ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ngx_http_proxywasm_set_own_path(ctx) != NGX_OK
        || ngx_http_proxywasm_own_headers(r) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ctx->after = r->post_subrequest;
    ctx->done.handler = ngx_http_proxywasm_on_done;
    ctx->done.data = ctx;
    r->post_subrequest = &ctx->done;

    return NGX_OK;
}


/* $request_uri stays that of the request. */

static ngx_int_t
ngx_http_proxywasm_set_own_path(ngx_http_proxywasm_ctx_t *ctx)
{
    size_t               len;
    u_char              *p;
    uintptr_t            escape;
    ngx_http_request_t  *r;

    r = ctx->request;

    escape = 2 * ngx_escape_uri(NULL, r->uri.data, r->uri.len,
                                NGX_ESCAPE_URI);
    len = r->uri.len + escape + (r->args.len ? r->args.len + 1 : 0);

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->path.data = p;
    ctx->path.len = len;

    if (escape) {
        p = (u_char *) ngx_escape_uri(p, r->uri.data, r->uri.len,
                                      NGX_ESCAPE_URI);
    } else {
        p = ngx_cpymem(p, r->uri.data, r->uri.len);
    }

    if (r->args.len) {
        *p++ = '?';
        ngx_memcpy(p, r->args.data, r->args.len);
    }

    return NGX_OK;
}


/*
 * In place of what the subrequest's maker wants to have called.  NGINX calls it
 * also when the subrequest goes on: with the page of an error, or because not
 * all is sent.
 */

static ngx_int_t
ngx_http_proxywasm_on_done(ngx_http_request_t *r, void *data, ngx_int_t rc)
{
    ngx_http_proxywasm_ctx_t *ctx = data;

    if (ctx->after && ctx->after->handler) {
        rc = ctx->after->handler(r, ctx->after->data, rc);
    }

    if (rc == NGX_ERROR
        || rc >= NGX_HTTP_SPECIAL_RESPONSE
        || rc == NGX_HTTP_CREATED
        || rc == NGX_HTTP_NO_CONTENT
        || r->buffered
        || r->postponed
        || r->connection->error)
    {
        return rc;
    }

    ngx_http_proxywasm_finish(ctx);

    return rc;
}
