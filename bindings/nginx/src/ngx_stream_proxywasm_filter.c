/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Data on its way through the plugins, in the filter through which NGINX sends
 * it on, in both directions.
 *
 * NGINX reads no more into a buffer that has not been sent, so what is not
 * taken here holds its sender up: while plugins want no more, and while what
 * they have made of the data is still being sent.  NGINX runs the filter when
 * there is something to send, or when its connection is marked as buffered.
 */


#include "ngx_stream_proxywasm.h"


/* what plugins have changed is sent in pieces, so that buffers fit again */
#define NGX_STREAM_PROXYWASM_PIECE  16384


static ngx_int_t ngx_stream_proxywasm_pump(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_chain_t *in, ngx_uint_t way);
static ngx_int_t ngx_stream_proxywasm_pass_header(
    ngx_stream_proxywasm_ctx_t *ctx, ngx_chain_t **in);
static ngx_int_t ngx_stream_proxywasm_offer(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_uint_t way);
static ngx_int_t ngx_stream_proxywasm_send(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_uint_t way, proxywasm_outcome *outcome, ngx_chain_t *shown);
static ngx_int_t ngx_stream_proxywasm_send_unchanged(
    ngx_stream_proxywasm_ctx_t *ctx, ngx_uint_t way, ngx_chain_t *shown);
static ngx_int_t ngx_stream_proxywasm_copy(ngx_stream_proxywasm_ctx_t *ctx,
    proxywasm_outcome *outcome, ngx_uint_t last, ngx_chain_t **out);
static ngx_int_t ngx_stream_proxywasm_next(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_uint_t way, ngx_chain_t *out);
static ngx_int_t ngx_stream_proxywasm_flush(ngx_stream_proxywasm_ctx_t *ctx);
static ngx_chain_t *ngx_stream_proxywasm_take(ngx_stream_proxywasm_flow_t *flow,
    ngx_chain_t *end);
static void ngx_stream_proxywasm_free(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_chain_t *cl);


ngx_stream_filter_pt  ngx_stream_proxywasm_next_filter;


ngx_int_t
ngx_stream_proxywasm_filter(ngx_stream_session_t *s, ngx_chain_t *in,
    ngx_uint_t from_upstream)
{
    ngx_int_t                     rc;
    ngx_connection_t             *c;
    ngx_stream_proxywasm_ctx_t   *ctx;
    ngx_stream_proxywasm_flow_t  *flow;

    ctx = ngx_stream_get_module_ctx(s, ngx_stream_proxywasm_module);

    if (ctx == NULL) {
        return ngx_stream_proxywasm_next_filter(s, in, from_upstream);
    }

    rc = ctx->close ? ngx_stream_proxywasm_flush(ctx)
                    : ngx_stream_proxywasm_pump(ctx, in, from_upstream);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    /* what is held back keeps NGINX from ending this direction */

    c = ngx_stream_proxywasm_target(s, from_upstream);
    flow = &ctx->flows[from_upstream];

    if (flow->in || flow->busy || flow->waiting || ctx->close) {
        c->buffered |= NGX_STREAM_PROXYWASM_BUFFERED;
        return NGX_AGAIN;
    }

    c->buffered &= ~NGX_STREAM_PROXYWASM_BUFFERED;

    return c->buffered ? NGX_AGAIN : NGX_OK;
}


/* Makes NGINX run the filter, and do what follows.  May end the session. */

void
ngx_stream_proxywasm_run_filter(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_uint_t way)
{
    ngx_connection_t  *c;

    c = ngx_stream_proxywasm_target(ctx->session, way);

    if (c) {
        c->buffered |= NGX_STREAM_PROXYWASM_BUFFERED;
        c->write->handler(c->write);
    }
}


static ngx_int_t
ngx_stream_proxywasm_pump(ngx_stream_proxywasm_ctx_t *ctx, ngx_chain_t *in,
    ngx_uint_t way)
{
    proxywasm_outcome             outcome;
    ngx_connection_t             *c;
    ngx_stream_proxywasm_flow_t  *flow;

    flow = &ctx->flows[way];
    c = ngx_stream_proxywasm_target(ctx->session, way);

    if (c->buffered & ~NGX_STREAM_PROXYWASM_BUFFERED) {
        if (ngx_stream_proxywasm_next(ctx, way, NULL) == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    if (way == PROXYWASM_DIRECTION_REQUEST
        && !flow->begun
        && ngx_stream_proxywasm_pass_header(ctx, &in) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (in && ngx_chain_add_copy(ctx->session->connection->pool, &flow->in, in)
              != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (flow->resume) {
        flow->resume = 0;
        outcome.struct_size = sizeof(proxywasm_outcome);

        (void) proxywasm_stream_resume(ctx->stream, way, &outcome);

        if (ngx_stream_proxywasm_send(ctx, way, &outcome, NULL) == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    while (flow->in && !flow->busy && !flow->stopped && !ctx->close) {
        if (ngx_stream_proxywasm_offer(ctx, way) == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    return ctx->close ? ngx_stream_proxywasm_flush(ctx) : NGX_OK;
}


/*
 * The header of the PROXY protocol is NGINX's, not the client's, and goes
 * before all data.  It is known by what all data has: flush, or last_buf.
 */

static ngx_int_t
ngx_stream_proxywasm_pass_header(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_chain_t **in)
{
    ngx_int_t     rc;
    ngx_chain_t  *cl, header;

    cl = *in;

    if (cl == NULL) {
        return NGX_OK;
    }

    ctx->flows[PROXYWASM_DIRECTION_REQUEST].begun = 1;

    if (cl->buf->flush || cl->buf->last_buf) {
        return NGX_OK;
    }

    header.buf = cl->buf;
    header.next = NULL;
    *in = cl->next;

    rc = ngx_stream_proxywasm_next_filter(ctx->session, &header, 0);

    return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


/* Shows plugins what has come, or as much of it as can be shown at once. */

static ngx_int_t
ngx_stream_proxywasm_offer(ngx_stream_proxywasm_ctx_t *ctx, ngx_uint_t way)
{
    int32_t                       result;
    uint32_t                      phase;
    ngx_uint_t                    n, last, lost;
    ngx_chain_t                  *end, *shown;
    proxywasm_chunk               chunks[NGX_PROXYWASM_CHUNKS];
    ngx_connection_t             *c;
    proxywasm_outcome             outcome;
    ngx_stream_proxywasm_flow_t  *flow;

    flow = &ctx->flows[way];

    end = ngx_proxywasm_to_chunks(flow->in, chunks, &n, &last, 0);

    /* to NGINX a connection that breaks has ended */

    c = ngx_stream_proxywasm_source(ctx->session, way);
    lost = last && c && c->read->error;

    if (lost) {
        last = 0;
    }

    if (last || lost) {
        flow->by_peer |= lost || !ctx->flows[!way].passed_end;
    }

    phase = way == PROXYWASM_DIRECTION_REQUEST ? PROXYWASM_PHASE_DOWNSTREAM_DATA
                                               : PROXYWASM_PHASE_UPSTREAM_DATA;

    if (!(ctx->chain->phases & phase) || flow->shown_end) {
        flow->shown_end |= last;
        flow->passed_end |= last;
        ctx->close |= lost;

        return ngx_stream_proxywasm_send_unchanged(ctx, way,
                                        ngx_stream_proxywasm_take(flow, end));
    }

    if (n || last) {
        outcome.struct_size = sizeof(proxywasm_outcome);

        result = way == PROXYWASM_DIRECTION_REQUEST
                 ? proxywasm_stream_on_downstream_data(ctx->stream, chunks, n,
                                                       last, &outcome)
                 : proxywasm_stream_on_upstream_data(ctx->stream, chunks, n,
                                                     last, &outcome);

        if (result == PROXYWASM_RESULT_BUSY) {
            /* offered again after a resume */
            flow->waiting = 1;
            flow->stopped = 1;
            return NGX_OK;
        }

        flow->shown_end = last;
        shown = ngx_stream_proxywasm_take(flow, end);

        if (ngx_stream_proxywasm_send(ctx, way, &outcome, shown) == NGX_ERROR)
        {
            return NGX_ERROR;
        }

    } else {
        shown = ngx_stream_proxywasm_take(flow, end);
        ngx_proxywasm_consume(shown, NULL);
        ngx_stream_proxywasm_free(ctx, shown);
    }

    if (last && way == PROXYWASM_DIRECTION_RESPONSE) {
        /* as in Envoy plugins hear of it now, though it may read on */
        ngx_stream_proxywasm_tell_close(ctx, way);
    }

    /* then the other end goes too, once it has what there is for it */
    ctx->close |= lost;

    return NGX_OK;
}


/* Sends what has passed the plugins, who have been shown `shown`. */

static ngx_int_t
ngx_stream_proxywasm_send(ngx_stream_proxywasm_ctx_t *ctx, ngx_uint_t way,
    proxywasm_outcome *outcome, ngx_chain_t *shown)
{
    ngx_uint_t    last;
    ngx_chain_t  *out;

    last = (outcome->ready & PROXYWASM_READY_END_OF_STREAM) != 0;
    out = NULL;

    if (ngx_stream_proxywasm_apply(ctx, way, outcome) == NGX_OK) {
        ctx->flows[way].passed_end |= last;

        if (shown && ngx_proxywasm_same(shown, outcome, last, 0)) {
            return ngx_stream_proxywasm_send_unchanged(ctx, way, shown);
        }

        if ((outcome->body_len || last)
            && ngx_stream_proxywasm_copy(ctx, outcome, last, &out) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    ngx_proxywasm_consume(shown, NULL);
    ngx_stream_proxywasm_free(ctx, shown);

    return out ? ngx_stream_proxywasm_next(ctx, way, out) : NGX_OK;
}


static ngx_int_t
ngx_stream_proxywasm_send_unchanged(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_uint_t way, ngx_chain_t *shown)
{
    ngx_int_t  rc;

    rc = ngx_stream_proxywasm_next_filter(ctx->session, shown, way);

    if (rc == NGX_ERROR) {
        ctx->flows[!way].by_peer = 1;
    }

    /* the next filter has links of its own */
    ngx_stream_proxywasm_free(ctx, shown);

    return rc;
}


/* What the library gives lives until it is called again. */

static ngx_int_t
ngx_stream_proxywasm_copy(ngx_stream_proxywasm_ctx_t *ctx,
    proxywasm_outcome *outcome, ngx_uint_t last, ngx_chain_t **out)
{
    size_t         i, n, rest;
    ngx_buf_t     *b;
    ngx_pool_t    *pool;
    ngx_chain_t   *cl, **ll;
    const u_char  *p;

    pool = ctx->session->connection->pool;
    ll = out;
    b = NULL;
    i = 0;
    p = NULL;
    rest = 0;

    for ( ;; ) {

        while (rest == 0 && i < outcome->body_count) {
            p = outcome->body[i].data;
            rest = outcome->body[i].len;
            i++;
        }

        if (b && (rest == 0 || b->last == b->end)) {
            if (rest == 0) {
                break;
            }

            b = NULL;
        }

        if (b == NULL) {
            cl = ngx_chain_get_free_buf(pool, &ctx->free);
            if (cl == NULL) {
                return NGX_ERROR;
            }

            b = cl->buf;

            if (b->start == NULL) {
                b->start = ngx_palloc(pool, NGX_STREAM_PROXYWASM_PIECE);
                if (b->start == NULL) {
                    return NGX_ERROR;
                }

                b->end = b->start + NGX_STREAM_PROXYWASM_PIECE;
            }

            b->pos = b->start;
            b->last = b->start;
            b->tag = (ngx_buf_tag_t) &ngx_stream_proxywasm_module;
            b->temporary = rest != 0;
            b->flush = 1;
            b->last_buf = 0;

            cl->next = NULL;
            *ll = cl;
            ll = &cl->next;
        }

        n = ngx_min(rest, (size_t) (b->end - b->last));

        if (n) {
            b->last = ngx_cpymem(b->last, p, n);
            p += n;
            rest -= n;
        }
    }

    b->last_buf = last;

    return NGX_OK;
}


/* Sends copies; with none, what could not be sent before. */

static ngx_int_t
ngx_stream_proxywasm_next(ngx_stream_proxywasm_ctx_t *ctx, ngx_uint_t way,
    ngx_chain_t *out)
{
    ngx_int_t                     rc;
    ngx_stream_proxywasm_flow_t  *flow;

    flow = &ctx->flows[way];

    rc = ngx_stream_proxywasm_next_filter(ctx->session, out, way);

    if (rc == NGX_ERROR) {
        ctx->flows[!way].by_peer = 1;
    }

    ngx_chain_update_chains(ctx->session->connection->pool, &ctx->free,
                            &flow->busy, &out,
                            (ngx_buf_tag_t) &ngx_stream_proxywasm_module);

    return rc;
}


/*
 * The connection ends when both ends have what has passed.  Nothing is taken
 * any more.  NGX_ERROR makes NGINX close both.
 */

static ngx_int_t
ngx_stream_proxywasm_flush(ngx_stream_proxywasm_ctx_t *ctx)
{
    ngx_uint_t         way, pending;
    ngx_connection_t  *c;

    pending = 0;

    for (way = 0; way < 2; way++) {
        c = ngx_stream_proxywasm_target(ctx->session, way);

        if (c
            && !c->error
            && (c->buffered & ~NGX_STREAM_PROXYWASM_BUFFERED)
            && ngx_stream_proxywasm_next(ctx, way, NULL) == NGX_AGAIN)
        {
            pending = 1;
        }
    }

    return pending ? NGX_AGAIN : NGX_ERROR;
}


/* Takes what comes before `end` from what plugins are to be shown. */

static ngx_chain_t *
ngx_stream_proxywasm_take(ngx_stream_proxywasm_flow_t *flow, ngx_chain_t *end)
{
    ngx_chain_t  *taken, **ll;

    taken = flow->in;
    flow->in = end;

    for (ll = &taken; *ll != end; ll = &(*ll)->next) { /* void */ }

    *ll = NULL;

    return taken;
}


static void
ngx_stream_proxywasm_free(ngx_stream_proxywasm_ctx_t *ctx, ngx_chain_t *cl)
{
    ngx_chain_t  *next;

    for ( /* void */ ; cl; cl = next) {
        next = cl->next;
        ngx_free_chain(ctx->session->connection->pool, cl);
    }
}
