/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The stream of a request: how it begins and ends, what plugins ask for
 * meanwhile, and how long they may keep it waiting.
 */


#include "ngx_http_proxywasm.h"


static void ngx_http_proxywasm_cleanup(void *data);
static void ngx_http_proxywasm_on_event(ngx_event_t *ev);
static void ngx_http_proxywasm_answer(ngx_http_proxywasm_ctx_t *ctx);
static void ngx_http_proxywasm_drop_body(ngx_http_request_t *r);
static void ngx_http_proxywasm_settle(ngx_http_proxywasm_ctx_t *ctx);
static void ngx_http_proxywasm_on_timeout(ngx_http_proxywasm_ctx_t *ctx);
static void ngx_http_proxywasm_stop_upstream(ngx_http_request_t *r);


/* ---- beginning ---- */

ngx_http_proxywasm_ctx_t *
ngx_http_proxywasm_get_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t        *cln;
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_proxywasm_module);

    if (ctx == NULL && (r->internal || r->filter_finalize)) {

        /*
         * an internal redirect, or an error page, forgets the contexts;
         * the pool is also that of subrequests
         */

        for (cln = r->pool->cleanup; cln; cln = cln->next) {

            if (cln->handler != ngx_http_proxywasm_cleanup) {
                continue;
            }

            ctx = cln->data;

            if (ctx->request == r) {
                ngx_http_set_ctx(r, ctx, ngx_http_proxywasm_module);
                ngx_http_proxywasm_leave_request(ctx);
                return ctx;
            }
        }

        return NULL;
    }

    return ctx;
}


ngx_http_proxywasm_ctx_t *
ngx_http_proxywasm_create_ctx(ngx_http_request_t *r,
    ngx_proxywasm_chain_t *chain)
{
    ngx_pool_cleanup_t        *cln;
    ngx_http_proxywasm_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_proxywasm_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_proxywasm_ctx_t));

    ctx->head.kind = PROXYWASM_STREAM_KIND_HTTP;
    ctx->head.connection = r->connection;
    ctx->request = r;
    ctx->chain = chain;
    ctx->event.handler = ngx_http_proxywasm_on_event;
    ctx->event.data = ctx;
    ctx->event.log = r->connection->log;

    if (r != r->main && ngx_http_proxywasm_begin_subrequest(ctx) != NGX_OK) {
        return NULL;
    }

    if (proxywasm_stream_new(chain->chain, PROXYWASM_STREAM_KIND_HTTP, ctx,
                             &ctx->stream)
        != PROXYWASM_RESULT_OK)
    {
        return NULL;
    }

    cln->handler = ngx_http_proxywasm_cleanup;
    ngx_http_set_ctx(r, ctx, ngx_http_proxywasm_module);

    return ctx;
}


/* ---- events ---- */

/* What callbacks have noted; NGINX has come back to its loop. */

static void
ngx_http_proxywasm_on_event(ngx_event_t *ev)
{
    ngx_connection_t          *c;
    ngx_http_request_t        *r;
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ev->data;
    r = ctx->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (ctx->resume_request && ctx->resume_response) {
        /* one at a time: the request may not outlive the first */
        ngx_http_proxywasm_post(ctx);
    }

    if (ev->timedout) {
        ev->timedout = 0;
        ngx_http_proxywasm_on_timeout(ctx);

    } else if (ctx->close) {
        ngx_http_proxywasm_end(ctx, NGX_HTTP_CLOSE);

    } else if (ctx->local) {
        ngx_http_proxywasm_answer(ctx);

    } else if (ctx->resume_request) {
        ngx_http_proxywasm_resume_request(ctx);

    } else if (ctx->resume_response) {
        ngx_http_proxywasm_resume_response(ctx);

    } else {
        ngx_http_proxywasm_settle(ctx);
    }

    ngx_http_run_posted_requests(c);
}


/* With a local response. */

static void
ngx_http_proxywasm_answer(ngx_http_proxywasm_ctx_t *ctx)
{
    if (ctx->response_shown && !ctx->response_passed) {
        /* in place of a response that waits */
        ngx_http_proxywasm_resume_response(ctx);
        return;
    }

    /* what is on its way comes too late */
    ngx_http_proxywasm_stop_upstream(ctx->request);

    ngx_http_proxywasm_end(ctx,
                           ngx_http_proxywasm_send_local(ctx->request, ctx));
}


/* Its response begins: plugins that have not let it pass need not any more. */

void
ngx_http_proxywasm_leave_request(ngx_http_proxywasm_ctx_t *ctx)
{
    if (!ctx->request_passed
        || (ctx->body_reading && !ctx->body_streams && !ctx->body_read))
    {
        ctx->request_over = 1;
        ngx_http_proxywasm_pause(ctx, PROXYWASM_DIRECTION_REQUEST, 0);
    }

    if (ctx->body_reading && !ctx->body_streams && !ctx->body_read) {
        ctx->body_read = 1;
        ngx_http_proxywasm_drop_body(ctx->request);
    }
}


/*
 * What is left of a body is not the next request.  NGINX itself throws away only
 * one that it has not begun to read.
 */

static void
ngx_http_proxywasm_drop_body(ngx_http_request_t *r)
{
    ngx_connection_t         *c;
    ngx_http_request_body_t  *rb;

    c = r->connection;
    rb = r->request_body;

    if (c->read->timer_set) {
        ngx_del_timer(c->read);
    }

    r->read_event_handler = ngx_http_block_reading;
    /* not by an upstream */
    r->reading_body = 0;

    if (rb == NULL) {
        return;
    }

#if (NGX_HTTP_V2)
    if (r->stream) {
        /* what comes on it does not disturb others */
        return;
    }
#endif

    if (rb->rest == 0) {

        if (rb->buf && rb->buf->pos != rb->buf->last) {
            /* the next request has come with the last chunk */
            r->keepalive = 0;
        }

        return;
    }

    r->lingering_close = 1;

    if (!r->keepalive) {
        return;
    }

    /* in what comes in chunks it is how much may be looked at */
    r->headers_in.content_length_n = ngx_max(rb->rest, 1);

    r->read_event_handler = ngx_http_discarded_request_body_handler;
    r->discard_body = 1;
    r->main->count++;

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        c->error = 1;
    }
}


/* Ends a request from outside of its handlers. */

void
ngx_http_proxywasm_end(ngx_http_proxywasm_ctx_t *ctx, ngx_int_t rc)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    ctx->request_over = 1;
    ctx->body_streams = 0;
    ngx_http_proxywasm_leave_request(ctx);
    ngx_http_proxywasm_pause(ctx, PROXYWASM_DIRECTION_REQUEST, 0);

    if (rc == NGX_HTTP_CLOSE && r != r->main) {
        /* not the client's connection; no plugin sees what takes its place */
        ngx_http_proxywasm_finish(ctx);
        rc = r->header_sent ? NGX_OK : NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    ngx_http_finalize_request(r, rc);
}


/*
 * Ends what NGINX does with the upstream, and not the request: it counts one
 * reference less.
 */

static void
ngx_http_proxywasm_stop_upstream(ngx_http_request_t *r)
{
    if (r->upstream && r->upstream->cleanup) {
        r->main->count++;
        (*r->upstream->cleanup)(r);
    }
}


/* ---- pauses ---- */

/* A direction waits for nothing but a plugin, or does so no longer. */

void
ngx_http_proxywasm_pause(ngx_http_proxywasm_ctx_t *ctx, ngx_uint_t way,
    ngx_uint_t paused)
{
    ngx_http_proxywasm_loc_conf_t  *lcf;

    if (!paused) {

        if (ctx->paused[way] && ctx->event.timer_set && !ctx->paused[!way]) {
            ngx_del_timer(&ctx->event);
        }

        ctx->paused[way] = 0;
        return;
    }

    ctx->paused[way] = 1;

    if (!ctx->held) {
        ctx->held = 1;
        ngx_proxywasm_hold();
    }

    lcf = ngx_http_get_module_loc_conf(ctx->request,
                                       ngx_http_proxywasm_module);

    if (lcf->pause_timeout && !ctx->event.timer_set) {
        ngx_add_timer(&ctx->event, lcf->pause_timeout);
    }

    ngx_http_proxywasm_post(ctx);
}


/*
 * NGINX has timers for a client that does not send its body, or does not take
 * the response.  They do not concern one that waits for a plugin; but that it
 * leaves is to be noticed.  And nobody waits for the rest of a response that
 * was replaced.
 */

static void
ngx_http_proxywasm_settle(ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = r->connection;

    if (ctx->paused[PROXYWASM_DIRECTION_REQUEST]
        && ctx->body_reading
        && !ctx->body_read
        && ctx->body_ended
        && ctx->read_handler == NULL)
    {
        /* until the upstream has the beginning, NGINX has others to come */

        if (!r->request_body_no_buffering
            || (r->upstream && r->upstream->request_sent))
        {
            ctx->read_handler = r->read_event_handler;
            r->read_event_handler = ngx_http_test_reading;
        }

        if (c->read->timer_set) {
            ngx_del_timer(c->read);
        }
    }

    if (ctx->paused[PROXYWASM_DIRECTION_RESPONSE]
        && r == c->data
        && !c->buffered
        && !c->write->delayed
        && c->write->timer_set)
    {
        ngx_del_timer(c->write);
    }

    if (ctx->dropping
        && r->upstream
        && r->upstream->cleanup
        && !r->main->blocked)
    {
        ngx_http_proxywasm_stop_upstream(r);
        ngx_http_finalize_request(r, NGX_OK);
    }
}


static void
ngx_http_proxywasm_on_timeout(ngx_http_proxywasm_ctx_t *ctx)
{
    u_char                         *p, *end;
    ngx_uint_t                      i, request;
    ngx_http_request_t             *r;
    ngx_proxywasm_plugin_t        **plugins;
    ngx_http_proxywasm_loc_conf_t  *lcf;
    u_char                          names[NGX_MAX_ERROR_STR / 4];

    r = ctx->request;
    request = ctx->paused[PROXYWASM_DIRECTION_REQUEST];
    lcf = ngx_http_get_module_loc_conf(r, ngx_http_proxywasm_module);

    plugins = ctx->chain->plugins.elts;
    p = names;
    end = names + sizeof(names);

    for (i = 0; i < ctx->chain->plugins.nelts; i++) {
        p = ngx_slprintf(p, end, "%s\"%V\"", i ? ", " : "", &plugins[i]->name);
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "[wasm] %s %*s paused a %s and did not resume it for %M ms",
                  ctx->chain->plugins.nelts > 1 ? "one of the plugins"
                                                : "plugin",
                  (size_t) (p - names), names,
                  request ? "request" : "response", lcf->pause_timeout);

    if (request) {
        ngx_http_proxywasm_end(ctx, NGX_HTTP_GATEWAY_TIME_OUT);

    } else {
        ngx_http_proxywasm_refuse_response(ctx, NGX_HTTP_GATEWAY_TIME_OUT);
    }
}


/* ---- end ---- */

ngx_int_t
ngx_http_proxywasm_log_handler(ngx_http_request_t *r)
{
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_proxywasm_get_ctx(r);

    if (ctx) {
        ngx_http_proxywasm_finish(ctx);
    }

    return NGX_OK;
}


/*
 * Envoy's order for HTTP: log, done, delete.  All of it while the request still
 * has its memory: plugins may ask for properties and headers.
 */

void
ngx_http_proxywasm_finish(ngx_http_proxywasm_ctx_t *ctx)
{
    if (ctx->stream == NULL) {
        return;
    }

    ctx->logging = 1;

    proxywasm_stream_complete(ctx->stream);

    ctx->stream = NULL;

    if (ctx->held) {
        ctx->held = 0;
        ngx_proxywasm_release();
    }

    if (ctx->event.timer_set) {
        ngx_del_timer(&ctx->event);
    }

    if (ctx->event.posted) {
        ngx_delete_posted_event(&ctx->event);
    }
}


/* A subrequest that was cut off with its request has not ended before. */

static void
ngx_http_proxywasm_cleanup(void *data)
{
    ngx_http_proxywasm_finish(data);
}
