/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Responses that plugins make, in place of a request's or of one that passes
 * them.
 */


#include "ngx_http_proxywasm.h"


static ngx_int_t ngx_http_proxywasm_set_local(ngx_http_proxywasm_ctx_t *ctx,
    ngx_http_proxywasm_local_t *local);
static ngx_int_t ngx_http_proxywasm_send_body(ngx_http_request_t *r,
    ngx_str_t *body, ngx_http_output_body_filter_pt send);


/* In place of a response that has not begun: from the request's phases. */

ngx_int_t
ngx_http_proxywasm_send_local(ngx_http_request_t *r,
    ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_int_t                    rc;
    ngx_http_proxywasm_local_t  *local;

    if (r->header_sent) {
        /* too late */
        return NGX_ERROR;
    }

    local = ctx->local;
    ctx->local = NULL;

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_proxywasm_set_local(ctx, local) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_proxywasm_send_body(r, &local->body,
                                        ngx_http_output_filter);
}


/*
 * In place of a response that passes the plugins: what a plugin has given, or
 * no more than a status.
 */

ngx_int_t
ngx_http_proxywasm_replace(ngx_http_proxywasm_ctx_t *ctx, ngx_uint_t status)
{
    ngx_int_t                    rc;
    ngx_http_request_t          *r;
    ngx_http_proxywasm_local_t  *local;
    ngx_http_proxywasm_local_t   failed;

    r = ctx->request;
    local = ctx->local;
    ctx->local = NULL;

    r->buffered &= ~NGX_HTTP_PROXYWASM_BUFFERED;
    ngx_http_proxywasm_pause(ctx, PROXYWASM_DIRECTION_RESPONSE, 0);

    if (ctx->response_passed) {
        return NGX_ERROR;
    }

    if (local == NULL) {
        ngx_memzero(&failed, sizeof(failed));
        failed.status = status;
        failed.grpc_status = -1;

        if (ngx_array_init(&failed.headers, r->pool, 2,
                           sizeof(ngx_table_elt_t))
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        local = &failed;
    }

    ctx->response_passed = 1;
    ctx->dropping = 1;
    ngx_http_proxywasm_post(ctx);

    if (ngx_http_proxywasm_set_local(ctx, local) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_proxywasm_next_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK) {
        return NGX_ERROR;
    }

    if (r->header_only) {
        return NGX_DONE;
    }

    rc = ngx_http_proxywasm_send_body(r, &local->body,
                                      ngx_http_proxywasm_next_body);

    return rc == NGX_ERROR ? NGX_ERROR : NGX_DONE;
}


static ngx_int_t
ngx_http_proxywasm_set_local(ngx_http_proxywasm_ctx_t *ctx,
    ngx_http_proxywasm_local_t *local)
{
    ngx_uint_t           i;
    ngx_table_elt_t     *h;
    ngx_http_request_t  *r;

    r = ctx->request;
    ctx->details = local->details;
    ctx->status = local->status;

    if (ngx_http_proxywasm_is_grpc(r)
        && ngx_http_proxywasm_to_grpc(r, local) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_proxywasm_compat() && local->body.len) {
        /* ngx_wasm_module ends the body with a line; there is room for it */
        local->body.data[local->body.len++] = LF;
    }

    ngx_http_clean_header(r);

    r->headers_out.status = local->status;
    ngx_str_null(&r->headers_out.status_line);
    r->headers_out.content_length_n = local->body.len;
    r->headers_out.last_modified_time = -1;
    r->allow_ranges = 0;

    if (local->body.len) {
        ngx_str_set(&r->headers_out.content_type, "text/plain");
        r->headers_out.content_type_len = r->headers_out.content_type.len;
        r->headers_out.content_type_lowcase = NULL;
    }

    h = local->headers.elts;

    for (i = 0; i < local->headers.nelts; i++) {
        if (ngx_http_proxywasm_push_response_header(r, &h[i].key, &h[i].value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_proxywasm_send_body(ngx_http_request_t *r, ngx_str_t *body,
    ngx_http_output_body_filter_pt send)
{
    ngx_buf_t    *b;
    ngx_chain_t   out;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    if (body->len != 0) {
        b->pos = body->data;
        b->last = body->data + body->len;
        b->memory = 1;
    }

    b->sync = body->len == 0;
    b->last_buf = r == r->main;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return send(r, &out);
}
