/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * A session: its new connection, which plugins may keep waiting, what they ask
 * for later, and its end.
 */


#include "ngx_stream_proxywasm.h"


static ngx_stream_proxywasm_ctx_t *ngx_stream_proxywasm_create_ctx(
    ngx_stream_session_t *s, ngx_proxywasm_chain_t *chain);
static void ngx_stream_proxywasm_cleanup(void *data);
static ngx_int_t ngx_stream_proxywasm_wait(ngx_stream_proxywasm_ctx_t *ctx);
static void ngx_stream_proxywasm_wait_handler(ngx_event_t *rev);
static void ngx_stream_proxywasm_on_event(ngx_event_t *ev);
static void ngx_stream_proxywasm_resume_connection(
    ngx_stream_proxywasm_ctx_t *ctx);
static void ngx_stream_proxywasm_end(ngx_stream_proxywasm_ctx_t *ctx);


/* ---- the new connection ---- */

ngx_int_t
ngx_stream_proxywasm_preread_handler(ngx_stream_session_t *s)
{
    proxywasm_outcome                 outcome;
    ngx_proxywasm_chain_t            *chain;
    ngx_stream_proxywasm_ctx_t       *ctx;
    ngx_stream_proxywasm_srv_conf_t  *scf;

    scf = ngx_stream_get_module_srv_conf(s, ngx_stream_proxywasm_module);
    chain = scf->place.chain;

    /* Proxy-Wasm has no callbacks for UDP */

    if (chain == NULL || s->connection->type != SOCK_STREAM) {
        return NGX_DECLINED;
    }

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_proxywasm_module);

    if (ctx == NULL) {

        if (chain->chain == NULL) {
            return chain->open ? NGX_DECLINED : NGX_STREAM_SERVICE_UNAVAILABLE;
        }

        ctx = ngx_stream_proxywasm_create_ctx(s, chain);
        if (ctx == NULL) {
            return NGX_ERROR;
        }

        outcome.struct_size = sizeof(proxywasm_outcome);

        (void) proxywasm_stream_on_new_connection(ctx->stream, &outcome);

        (void) ngx_stream_proxywasm_apply(ctx, PROXYWASM_DIRECTION_REQUEST,
                                          &outcome);
    }

    if (ctx->close) {
        return NGX_STREAM_FORBIDDEN;
    }

    return ctx->passed ? NGX_DECLINED : ngx_stream_proxywasm_wait(ctx);
}


static ngx_stream_proxywasm_ctx_t *
ngx_stream_proxywasm_create_ctx(ngx_stream_session_t *s,
    ngx_proxywasm_chain_t *chain)
{
    ngx_pool_cleanup_t          *cln;
    ngx_stream_proxywasm_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(s->connection->pool,
                               sizeof(ngx_stream_proxywasm_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_stream_proxywasm_ctx_t));

    ctx->head.kind = PROXYWASM_STREAM_KIND_TCP;
    ctx->head.connection = s->connection;
    ctx->session = s;
    ctx->chain = chain;
    ctx->event.handler = ngx_stream_proxywasm_on_event;
    ctx->event.data = ctx;
    ctx->event.log = s->connection->log;

    if (proxywasm_stream_new(chain->chain, PROXYWASM_STREAM_KIND_TCP, ctx,
                             &ctx->stream)
        != PROXYWASM_RESULT_OK)
    {
        return NULL;
    }

    cln->handler = ngx_stream_proxywasm_cleanup;
    ngx_stream_set_ctx(s, ctx, ngx_stream_proxywasm_module);

    return ctx;
}


/*
 * Notes what the library says of a direction.  NGX_DONE: the connection ends,
 * and there is nothing to forward.
 */

ngx_int_t
ngx_stream_proxywasm_apply(ngx_stream_proxywasm_ctx_t *ctx, ngx_uint_t way,
    proxywasm_outcome *outcome)
{
    ngx_stream_proxywasm_flow_t  *flow;

    flow = &ctx->flows[way];

    switch (outcome->action) {

    case PROXYWASM_ACTION_CONTINUE:
        flow->waiting = 0;
        flow->stopped = 0;
        break;

    case PROXYWASM_ACTION_PAUSE:
        flow->waiting = 1;
        flow->stopped = 1;
        break;

    case PROXYWASM_ACTION_PAUSE_AND_BUFFER:
        flow->waiting = 1;
        flow->stopped = 0;
        break;

    default:
        ctx->close = 1;
        return NGX_DONE;
    }

    if (outcome->ready & PROXYWASM_READY_HEADERS) {
        ctx->passed = 1;
    }

    return NGX_OK;
}


/* Parks the session: an event of ours goes on. */

static ngx_int_t
ngx_stream_proxywasm_wait(ngx_stream_proxywasm_ctx_t *ctx)
{
    ngx_connection_t            *c;
    ngx_stream_core_srv_conf_t  *cscf;

    c = ctx->session->connection;
    cscf = ngx_stream_get_module_srv_conf(ctx->session,
                                          ngx_stream_core_module);

    /* not the timer of c->read, which this phase deletes */

    if (!ctx->event.timer_set) {
        ngx_add_timer(&ctx->event, cscf->preread_timeout);
    }

    c->read->handler = ngx_stream_proxywasm_wait_handler;

    if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    return NGX_DONE;
}


/*
 * The client says something, or is gone.  One that has only ended its own
 * direction may still want to hear the upstream.
 */

static void
ngx_stream_proxywasm_wait_handler(ngx_event_t *rev)
{
    char                         byte[1];
    ngx_err_t                    err;
    ngx_connection_t            *c;
    ngx_stream_session_t        *s;
    ngx_stream_proxywasm_ctx_t  *ctx;

    c = rev->data;
    s = c->data;

    if (c->close) {
        /* the worker has been told to end */
        ngx_stream_finalize_session(s, NGX_STREAM_OK);
        return;
    }

    if (recv(c->fd, byte, 1, MSG_PEEK) == -1) {
        err = ngx_socket_errno;

        if (err != NGX_EAGAIN && err != NGX_EINTR) {
            ctx = ngx_stream_get_module_ctx(s, ngx_stream_proxywasm_module);
            ctx->flows[PROXYWASM_DIRECTION_REQUEST].by_peer = 1;

            (void) ngx_connection_error(c, err, "recv() failed");
            ngx_stream_finalize_session(s, NGX_STREAM_OK);
            return;
        }
    }

    /* what has come stays where it is */

    if ((ngx_event_flags & NGX_USE_LEVEL_EVENT)
        && rev->active
        && ngx_del_event(rev, NGX_READ_EVENT, 0) != NGX_OK)
    {
        ngx_stream_finalize_session(s, NGX_STREAM_INTERNAL_SERVER_ERROR);
    }
}


static void
ngx_stream_proxywasm_resume_connection(ngx_stream_proxywasm_ctx_t *ctx)
{
    proxywasm_outcome      outcome;
    ngx_stream_session_t  *s;

    s = ctx->session;
    ctx->flows[PROXYWASM_DIRECTION_REQUEST].resume = 0;

    outcome.struct_size = sizeof(proxywasm_outcome);

    (void) proxywasm_stream_resume(ctx->stream, PROXYWASM_DIRECTION_REQUEST,
                                   &outcome);
    (void) ngx_stream_proxywasm_apply(ctx, PROXYWASM_DIRECTION_REQUEST,
                                      &outcome);

    if (ctx->close) {
        ngx_stream_finalize_session(s, NGX_STREAM_FORBIDDEN);
        return;
    }

    if (!ctx->passed) {
        return;
    }

    if (ctx->event.timer_set) {
        ngx_del_timer(&ctx->event);
    }

    s->connection->read->handler = ngx_stream_session_handler;
    ngx_stream_core_run_phases(s);
}


/* ---- what plugins ask for ---- */

/* In callbacks of the library: noted, and done by an event. */

void
ngx_stream_proxywasm_on_resume(ngx_proxywasm_stream_t *stream,
    int32_t direction)
{
    ngx_stream_proxywasm_ctx_t *ctx = (ngx_stream_proxywasm_ctx_t *) stream;

    ctx->flows[direction].resume = 1;
    ngx_post_event(&ctx->event, &ngx_posted_events);
}


void
ngx_stream_proxywasm_on_close(ngx_proxywasm_stream_t *stream)
{
    ngx_stream_proxywasm_ctx_t *ctx = (ngx_stream_proxywasm_ctx_t *) stream;

    ctx->close = 1;
    ngx_post_event(&ctx->event, &ngx_posted_events);
}


/* NGINX has come back to its loop.  What is done here may end the session. */

static void
ngx_stream_proxywasm_on_event(ngx_event_t *ev)
{
    ngx_connection_t             *c;
    ngx_stream_session_t         *s;
    ngx_stream_proxywasm_ctx_t   *ctx;
    ngx_stream_proxywasm_flow_t  *flows;

    ctx = ev->data;
    s = ctx->session;
    c = s->connection;
    flows = ctx->flows;

    if (ev->timedout) {
        ngx_log_error(NGX_LOG_WARN, c->log, NGX_ETIMEDOUT,
                      "a plugin kept a new connection waiting for too long");
        ngx_stream_finalize_session(s, NGX_STREAM_SERVICE_UNAVAILABLE);
        return;
    }

    if (ctx->close) {
        ngx_log_error(NGX_LOG_INFO, c->log, 0,
                      "a plugin closes the connection");

        if (!ctx->passed) {
            ngx_stream_finalize_session(s, NGX_STREAM_FORBIDDEN);
            return;
        }

        if (s->upstream && !s->upstream->connected) {
            /*
             * No filter is run before there is an upstream.  This is how
             * a worker that ends makes the proxy let go.
             */
            c->close = 1;
            c->read->handler(c->read);
            return;
        }

        ngx_stream_proxywasm_run_filter(ctx, PROXYWASM_DIRECTION_RESPONSE);
        return;
    }

    if (!ctx->passed) {
        if (flows[PROXYWASM_DIRECTION_REQUEST].resume) {
            ngx_stream_proxywasm_resume_connection(ctx);
        }

        return;
    }

    if (flows[PROXYWASM_DIRECTION_REQUEST].resume) {

        if (flows[PROXYWASM_DIRECTION_RESPONSE].resume) {
            /* one at a time: the session may not outlive the first */
            ngx_post_event(ev, &ngx_posted_events);
        }

        ngx_stream_proxywasm_run_filter(ctx, PROXYWASM_DIRECTION_REQUEST);

    } else if (flows[PROXYWASM_DIRECTION_RESPONSE].resume) {
        ngx_stream_proxywasm_run_filter(ctx, PROXYWASM_DIRECTION_RESPONSE);
    }
}


/* ---- the end ---- */

/* The end that a direction comes from has closed: each is told of once. */

void
ngx_stream_proxywasm_tell_close(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_uint_t way)
{
    ngx_connection_t             *c;
    ngx_stream_session_t         *s;
    ngx_stream_proxywasm_flow_t  *flow;

    s = ctx->session;
    flow = &ctx->flows[way];

    if (flow->close_told) {
        return;
    }

    if (way == PROXYWASM_DIRECTION_REQUEST) {
        c = s->connection;

        /* NGINX could not write to it; c->close sets c->error too */

        if (c->error && !c->close) {
            flow->by_peer = 1;
        }

    } else if (s->upstream == NULL || !s->upstream->connected) {
        return;
    }

    flow->close_told = 1;

    (void) proxywasm_stream_on_close(ctx->stream, way,
                                     flow->by_peer ? PROXYWASM_PEER_REMOTE
                                                   : PROXYWASM_PEER_LOCAL);
}


ngx_int_t
ngx_stream_proxywasm_log_handler(ngx_stream_session_t *s)
{
    ngx_stream_proxywasm_ctx_t  *ctx;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_proxywasm_module);

    if (ctx) {
        ngx_stream_proxywasm_end(ctx);
    }

    return NGX_OK;
}


/* Envoy's order for TCP: done, log, delete. */

static void
ngx_stream_proxywasm_end(ngx_stream_proxywasm_ctx_t *ctx)
{
    ngx_stream_proxywasm_tell_close(ctx, PROXYWASM_DIRECTION_REQUEST);
    ngx_stream_proxywasm_tell_close(ctx, PROXYWASM_DIRECTION_RESPONSE);

    (void) proxywasm_stream_done(ctx->stream);
    (void) proxywasm_stream_log(ctx->stream);
}


static void
ngx_stream_proxywasm_cleanup(void *data)
{
    ngx_stream_proxywasm_ctx_t *ctx = data;

    proxywasm_stream_free(ctx->stream);

    if (ctx->event.posted) {
        ngx_delete_posted_event(&ctx->event);
    }

    if (ctx->event.timer_set) {
        ngx_del_timer(&ctx->event);
    }
}
