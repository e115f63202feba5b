/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Where a response comes from, and what went wrong on the way: the properties
 * upstream.*, and those of the response that tell of it.
 */


#include "ngx_http_proxywasm.h"


/* Envoy's bits of response.flags */
#define NGX_HTTP_PROXYWASM_NO_UPSTREAM           0x02
#define NGX_HTTP_PROXYWASM_UPSTREAM_TIMEOUT      0x04
#define NGX_HTTP_PROXYWASM_CONNECTION_FAILED     0x20
#define NGX_HTTP_PROXYWASM_CONNECTION_CLOSED     0x40
#define NGX_HTTP_PROXYWASM_CLIENT_CLOSED         0x4000


static ngx_str_t *ngx_http_proxywasm_server(ngx_http_request_t *r);
static ngx_uint_t ngx_http_proxywasm_attempts(ngx_http_request_t *r);


/*
 * The connection to the upstream is gone when a request is logged, and has its
 * address in the header filter.  Of a connection that is kept alive it is
 * known already.
 */

void
ngx_http_proxywasm_note_upstream(ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_connection_t     *c;
    ngx_http_upstream_t  *u;

    u = ctx->request->upstream;
    c = u ? u->peer.connection : NULL;

    if (c == NULL
        || ngx_connection_local_sockaddr(c, NULL, 0) != NGX_OK
        || c->local_sockaddr->sa_family == AF_UNIX
        || c->local_socklen > sizeof(ctx->upstream_local))
    {
        return;
    }

    ngx_memcpy(&ctx->upstream_local, c->local_sockaddr, c->local_socklen);
    ctx->upstream_local_len = c->local_socklen;
}


ngx_int_t
ngx_http_proxywasm_upstream_property(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_slice path, ngx_proxywasm_value_t *value)
{
    ngx_str_t            *server;
    ngx_http_upstream_t  *u;

    static u_char     buf[NGX_SOCKADDR_STRLEN];
    static ngx_str_t  local = ngx_string("upstream.local_address");
    static ngx_str_t  attempts = ngx_string("upstream.request_attempt_count");
    static ngx_str_t  connecting =
                                ngx_string("upstream.cx_pool_ready_duration");

    u = ctx->request->upstream;
    server = ngx_http_proxywasm_server(ctx->request);

    if (server == NULL) {
        return NGX_DECLINED;
    }

    if (ngx_proxywasm_server_property(server, path, value) == NGX_OK) {
        return NGX_OK;
    }

    if (ngx_proxywasm_is_path(path, &attempts)) {
        value->type = NGX_PROXYWASM_NUMBER;
        value->number = ngx_http_proxywasm_attempts(ctx->request);

        return NGX_OK;
    }

    if (ngx_proxywasm_is_path(path, &connecting)) {
        if (u->state == NULL || u->state->connect_time == (ngx_msec_t) -1) {
            return NGX_DECLINED;
        }

        value->type = NGX_PROXYWASM_MSEC;
        value->number = u->state->connect_time;

        return NGX_OK;
    }

    if (ngx_proxywasm_is_path(path, &local)) {

        if (ctx->upstream_local_len == 0) {
            ngx_http_proxywasm_note_upstream(ctx);
        }

        if (ctx->upstream_local_len == 0) {
            return NGX_DECLINED;
        }

        value->type = NGX_PROXYWASM_TEXT;
        value->text.data = buf;
        value->text.len = ngx_sock_ntop(&ctx->upstream_local.sockaddr,
                                        ctx->upstream_local_len, buf,
                                        NGX_SOCKADDR_STRLEN, 1);
        return NGX_OK;
    }

    return NGX_DECLINED;
}


/*
 * The server that was asked.  When none can be, NGINX has the name of the
 * upstream{} there.
 */

static ngx_str_t *
ngx_http_proxywasm_server(ngx_http_request_t *r)
{
    ngx_str_t            *name, *host;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u == NULL || u->peer.name == NULL) {
        return NULL;
    }

    name = u->peer.name;
    host = u->upstream ? &u->upstream->host : NULL;

    if (host
        && host->len == name->len
        && ngx_strncmp(host->data, name->data, name->len) == 0)
    {
        return NULL;
    }

    return name;
}


/* Servers that were tried. */

static ngx_uint_t
ngx_http_proxywasm_attempts(ngx_http_request_t *r)
{
    ngx_uint_t                  i, n;
    ngx_http_upstream_state_t  *state;

    if (r->upstream_states == NULL) {
        return 0;
    }

    n = 0;
    state = r->upstream_states->elts;

    for (i = 0; i < r->upstream_states->nelts; i++) {
        /* the others divide one location's servers from another's */
        n += state[i].peer != NULL;
    }

    return n;
}


/* Envoy's words for where a response comes from. */

void
ngx_http_proxywasm_code_details(ngx_http_proxywasm_ctx_t *ctx,
    ngx_str_t *details)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ctx->details.len) {
        *details = ctx->details;
        return;
    }

    switch (ngx_http_proxywasm_response_flags(r)) {

    case NGX_HTTP_PROXYWASM_NO_UPSTREAM:
        ngx_str_set(details, "no_healthy_upstream");
        return;

    case NGX_HTTP_PROXYWASM_UPSTREAM_TIMEOUT:
        ngx_str_set(details, "response_timeout");
        return;

    case NGX_HTTP_PROXYWASM_CONNECTION_FAILED:
        ngx_str_set(details, "upstream_reset_before_response_started"
                             "{connection_failure}");
        return;

    case NGX_HTTP_PROXYWASM_CONNECTION_CLOSED:

        if (r->upstream->headers_in.status_n) {
            ngx_str_set(details, "upstream_reset_after_response_started"
                                 "{connection_termination}");
        } else {
            ngx_str_set(details, "upstream_reset_before_response_started"
                                 "{connection_termination}");
        }

        return;

    case NGX_HTTP_PROXYWASM_CLIENT_CLOSED:
        ngx_str_set(details, "downstream_remote_disconnect");
        return;
    }

#if (NGX_HTTP_CACHE)

    if (r->cached) {
        ngx_str_set(details, "cache.response_from_cache_filter");
        return;
    }

#endif

    /* not a page of NGINX's in place of what the upstream said */

    if (r->upstream && r->upstream->headers_in.status_n && r->err_status == 0) {
        ngx_str_set(details, "via_upstream");
        return;
    }

    ngx_str_set(details, "direct_response");
}


uint64_t
ngx_http_proxywasm_response_flags(ngx_http_request_t *r)
{
    ngx_http_upstream_t  *u;

    if (r->headers_out.status == NGX_HTTP_CLIENT_CLOSED_REQUEST) {
        return NGX_HTTP_PROXYWASM_CLIENT_CLOSED;
    }

    u = r->upstream;

    if (u == NULL || u->state == NULL) {
        return 0;
    }

    if (u->state->header_time != (ngx_msec_t) -1) {

        /* it has answered, maybe not to the end */

        return u->pipe && u->pipe->upstream_error
               ? NGX_HTTP_PROXYWASM_CONNECTION_CLOSED : 0;
    }

    switch (u->state->status) {

    case NGX_HTTP_BAD_GATEWAY:
    case NGX_HTTP_GATEWAY_TIME_OUT:

        if (ngx_http_proxywasm_server(r) == NULL) {
            return NGX_HTTP_PROXYWASM_NO_UPSTREAM;
        }

        if (!u->request_sent) {
            return NGX_HTTP_PROXYWASM_CONNECTION_FAILED;
        }

        return u->state->status == NGX_HTTP_GATEWAY_TIME_OUT
               ? NGX_HTTP_PROXYWASM_UPSTREAM_TIMEOUT
               : NGX_HTTP_PROXYWASM_CONNECTION_CLOSED;
    }

    return 0;
}


/* How long the upstream took from its connection to its answer. */

ngx_int_t
ngx_http_proxywasm_latency(ngx_http_request_t *r, ngx_proxywasm_value_t *value)
{
    ngx_http_upstream_state_t  *state;

    state = r->upstream ? r->upstream->state : NULL;

    if (state == NULL
        || state->header_time == (ngx_msec_t) -1
        || state->connect_time == (ngx_msec_t) -1)
    {
        return NGX_DECLINED;
    }

    value->type = NGX_PROXYWASM_MSEC;
    value->number = state->header_time - state->connect_time;

    return NGX_OK;
}
