/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The request on its way through the plugins: headers in the rewrite or access
 * phase, then the body as it is read, so that everything is decided before the
 * content handler runs.
 */


#include "ngx_http_proxywasm.h"


static void ngx_http_proxywasm_reroute(ngx_http_request_t *r,
    ngx_http_proxywasm_ctx_t *ctx);
static ngx_int_t ngx_http_proxywasm_show_headers(ngx_http_request_t *r,
    ngx_http_proxywasm_ctx_t *ctx);
static ngx_int_t ngx_http_proxywasm_apply_request(
    ngx_http_proxywasm_ctx_t *ctx, proxywasm_outcome *outcome);
static ngx_int_t ngx_http_proxywasm_wait(ngx_http_proxywasm_ctx_t *ctx);
static ngx_int_t ngx_http_proxywasm_read_body(ngx_http_proxywasm_ctx_t *ctx);
static void ngx_http_proxywasm_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_proxywasm_show_body(ngx_http_proxywasm_ctx_t *ctx,
    ngx_chain_t *in);
static ngx_int_t ngx_http_proxywasm_pass_body(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_outcome *outcome, ngx_chain_t *in, ngx_chain_t *end);
static ngx_int_t ngx_http_proxywasm_fix_length(ngx_http_proxywasm_ctx_t *ctx,
    ngx_uint_t last);


ngx_http_request_body_filter_pt  ngx_http_proxywasm_next_request_body;


/* ---- headers ---- */

ngx_int_t
ngx_http_proxywasm_request_handler(ngx_http_request_t *r)
{
    ngx_int_t                       rc;
    ngx_http_proxywasm_ctx_t       *ctx;
    ngx_http_proxywasm_loc_conf_t  *lcf;

    ctx = ngx_http_proxywasm_get_ctx(r);

    if (ctx == NULL) {
        lcf = ngx_http_get_module_loc_conf(r, ngx_http_proxywasm_module);

        if (lcf->place.chain->chain == NULL) {
            return lcf->place.chain->open ? NGX_DECLINED
                                          : NGX_HTTP_SERVICE_UNAVAILABLE;
        }

        ctx = ngx_http_proxywasm_create_ctx(r, lcf->place.chain);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (!ctx->request_shown) {
        rc = ngx_http_proxywasm_show_headers(r, ctx);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (ctx->request_over) {
        /* the location of an error's page */
        return NGX_DECLINED;
    }

    if (ctx->request_waiting && !ctx->request_passed && !ctx->wants_body) {
        return ngx_http_proxywasm_wait(ctx);
    }

    if ((ctx->chain->phases & PROXYWASM_PHASE_REQUEST_BODY)
        && ctx->has_body
        && !ctx->body_reading)
    {
        if (!ctx->request_passed || !ngx_http_proxywasm_is_unbuffered(r)) {
            return ngx_http_proxywasm_read_body(ctx);
        }

        ctx->body_reading = 1;
        ctx->body_streams = 1;
    }

    if (!ctx->request_passed) {
        return ngx_http_proxywasm_wait(ctx);
    }

    if (ctx->reroute && ctx->uri != r->uri.data) {
        ngx_http_proxywasm_reroute(r, ctx);
    }

    return NGX_DECLINED;
}


/*
 * As after `rewrite ... last`: NGINX looks for the location anew.  What else the
 * old one has in this phase does not concern the request any more.
 */

static void
ngx_http_proxywasm_reroute(ngx_http_request_t *r,
    ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_http_phase_handler_t       *ph;
    ngx_http_core_main_conf_t      *cmcf;
    ngx_http_proxywasm_loc_conf_t  *lcf;

    ctx->reroute = 0;
    lcf = ngx_http_get_module_loc_conf(r, ngx_http_proxywasm_module);

    if (lcf->in_access) {
        /* too late */
        return;
    }

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);
    ph = cmcf->phase_engine.handlers;

    r->uri_changed = 1;
    r->phase_handler = ph[r->phase_handler].next - 1;
}


static ngx_int_t
ngx_http_proxywasm_show_headers(ngx_http_request_t *r,
    ngx_http_proxywasm_ctx_t *ctx)
{
    int32_t            result;
    proxywasm_outcome  outcome;

    ctx->request_shown = 1;
    ctx->uri = r->uri.data;

    /* a subrequest has the headers of its request, and no body to read */
    ctx->has_body = r == r->main
                    && (r->headers_in.content_length_n > 0
                        || r->headers_in.chunked);

    outcome.struct_size = sizeof(proxywasm_outcome);

    result = proxywasm_stream_on_request_headers(ctx->stream,
                 ngx_http_proxywasm_count_headers(r,
                                                PROXYWASM_MAP_REQUEST_HEADERS),
                 !ctx->has_body && !ngx_proxywasm_compat(), &outcome);

    if (result != PROXYWASM_RESULT_OK) {
        ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                       "proxywasm request headers: %s",
                       proxywasm_result_name(result));
    }

    return ngx_http_proxywasm_apply_request(ctx, &outcome);
}


/*
 * NGX_OK: look at the flags.  NGX_DONE: the request has been answered.
 * Anything else is an answer for NGINX.
 */

static ngx_int_t
ngx_http_proxywasm_apply_request(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_outcome *outcome)
{
    switch (outcome->action) {

    case PROXYWASM_ACTION_LOCAL_RESPONSE:

        if (ctx->local) {
            ngx_http_proxywasm_end(ctx,
                            ngx_http_proxywasm_send_local(ctx->request, ctx));
            return NGX_DONE;
        }

        /* the library could not reach us */
        ctx->request_over = 1;
        return NGX_HTTP_SERVICE_UNAVAILABLE;

    case PROXYWASM_ACTION_CLOSE:
        ngx_http_proxywasm_end(ctx, NGX_HTTP_CLOSE);
        return NGX_DONE;

    case PROXYWASM_ACTION_CONTINUE:
        ctx->request_waiting = 0;
        break;

    default:
        ctx->request_waiting = 1;
        ctx->wants_body = outcome->action == PROXYWASM_ACTION_PAUSE_AND_BUFFER;
    }

    ngx_http_proxywasm_pause(ctx, PROXYWASM_DIRECTION_REQUEST,
                             ctx->request_waiting
                             && (!ctx->wants_body
                                 || !ctx->has_body
                                 || ctx->body_ended));

    if (outcome->ready & PROXYWASM_READY_HEADERS) {
        ctx->request_passed = 1;

        if (!ngx_http_proxywasm_can_send(ctx, PROXYWASM_MAP_REQUEST_HEADERS)) {
            ctx->request_over = 1;
            return NGX_HTTP_SERVICE_UNAVAILABLE;
        }
    }

    return NGX_OK;
}


/* Parks the request: an event of ours goes on. */

static ngx_int_t
ngx_http_proxywasm_wait(ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    /* a client that leaves is noticed */
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    if (ngx_handle_read_event(r->connection->read, 0) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_DONE;
}


void
ngx_http_proxywasm_resume_request(ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_int_t            rc;
    proxywasm_outcome    outcome;
    ngx_http_request_t  *r;

    r = ctx->request;
    ctx->resume_request = 0;

    if (ctx->request_over) {
        return;
    }

    outcome.struct_size = sizeof(proxywasm_outcome);

    (void) proxywasm_stream_resume(ctx->stream, PROXYWASM_DIRECTION_REQUEST,
                                   &outcome);

    rc = ngx_http_proxywasm_apply_request(ctx, &outcome);

    if (rc != NGX_OK) {
        if (rc != NGX_DONE) {
            ngx_http_proxywasm_end(ctx, rc);
        }

        return;
    }

    if (ctx->body_reading && !ctx->body_read) {
        rc = ngx_http_proxywasm_pass_body(ctx, &outcome, NULL, NULL);

        if (rc != NGX_OK) {
            ngx_http_proxywasm_end(ctx, rc == NGX_ERROR
                                        ? NGX_HTTP_INTERNAL_SERVER_ERROR : rc);
            return;
        }

        if (ctx->paused[PROXYWASM_DIRECTION_REQUEST]) {
            return;
        }

        if (ctx->read_handler) {
            r->read_event_handler = ctx->read_handler;
            ctx->read_handler = NULL;
        }

        if (r->request_body_no_buffering
            && (r->upstream == NULL || r->upstream->cleanup == NULL))
        {
            /* the upstream has had enough of it */
            return;
        }

        /* reading goes on, or finds that all is there */

        r->read_event_handler(r);
        return;
    }

    if (ctx->request_passed || ctx->wants_body) {
        r->read_event_handler = r == r->main ? ngx_http_block_reading
                                             : ngx_http_request_empty_handler;
        r->write_event_handler = ngx_http_core_run_phases;
        ngx_http_core_run_phases(r);
    }
}


/* ---- body ---- */

static ngx_int_t
ngx_http_proxywasm_read_body(ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = ctx->request;
    ctx->body_reading = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_proxywasm_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ngx_http_finalize_request(r, NGX_DONE);

    return NGX_DONE;
}


/* All of the body has been read, and has passed the plugins. */

static void
ngx_http_proxywasm_body_handler(ngx_http_request_t *r)
{
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_proxywasm_module);

    ctx->body_read = 1;
    r->preserve_body = 1;

    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
}


ngx_int_t
ngx_http_proxywasm_request_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_proxywasm_module);

    if (ctx == NULL || !ctx->body_reading || r != r->main || in == NULL) {
        return ngx_http_proxywasm_next_request_body(r, in);
    }

    return ngx_http_proxywasm_show_body(ctx, in);
}


static ngx_int_t
ngx_http_proxywasm_show_body(ngx_http_proxywasm_ctx_t *ctx, ngx_chain_t *in)
{
    ngx_int_t            rc;
    ngx_uint_t           n, last;
    ngx_chain_t         *cl;
    proxywasm_chunk      chunks[NGX_PROXYWASM_CHUNKS];
    proxywasm_outcome    outcome;

    for ( ;; ) {
        cl = ngx_proxywasm_to_chunks(in, chunks, &n, &last, 0);

        if (ctx->local || ctx->close || ctx->body_ended) {
            /* answered already: the rest is of no interest */
            ngx_proxywasm_consume(in, cl);

        } else if (n || last) {
            outcome.struct_size = sizeof(proxywasm_outcome);

            (void) proxywasm_stream_on_request_body(ctx->stream, chunks, n,
                                                    last, &outcome);
            ctx->body_ended = last;

            switch (outcome.action) {

            case PROXYWASM_ACTION_LOCAL_RESPONSE:
            case PROXYWASM_ACTION_CLOSE:

                /* an event answers, when reading has returned */
                ctx->close |= outcome.action == PROXYWASM_ACTION_CLOSE
                              || ctx->local == NULL;
                ngx_http_proxywasm_post(ctx);
                ngx_proxywasm_consume(in, cl);
                break;

            default:
                rc = ngx_http_proxywasm_apply_request(ctx, &outcome);

                if (rc == NGX_OK) {
                    rc = ngx_http_proxywasm_pass_body(ctx, &outcome, in, cl);
                }

                if (rc != NGX_OK) {
                    return rc == NGX_ERROR ? NGX_HTTP_INTERNAL_SERVER_ERROR
                                           : rc;
                }
            }
        }

        if (cl == NULL) {
            return NGX_OK;
        }

        in = cl;
    }
}


/* Sends on what plugins have let go; they were shown `in` until `end`. */

static ngx_int_t
ngx_http_proxywasm_pass_body(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_outcome *outcome, ngx_chain_t *in, ngx_chain_t *end)
{
    ngx_int_t            rc;
    ngx_uint_t           last;
    ngx_chain_t         *out;
    ngx_http_request_t  *r;

    r = ctx->request;
    last = (outcome->ready & PROXYWASM_READY_END_OF_STREAM) != 0;

    if (outcome->body_len == 0 && !last) {
        ngx_proxywasm_consume(in, end);

        /* the buffers that are busy may be free by now */
        return ngx_http_proxywasm_next_request_body(r, NULL);
    }

    ctx->body_size += outcome->body_len;

    rc = ngx_http_proxywasm_fix_length(ctx, last);
    if (rc != NGX_OK) {
        return rc;
    }

    if (in && end == NULL && ngx_proxywasm_same(in, outcome, last, 0)) {
        return ngx_http_proxywasm_next_request_body(r, in);
    }

    out = ngx_http_proxywasm_to_chain(r, &ctx->request_free, outcome, last);
    if (out == NULL) {
        return NGX_ERROR;
    }

    ngx_proxywasm_consume(in, end);

    rc = ngx_http_proxywasm_next_request_body(r, out);

    ngx_chain_update_chains(r->pool, &ctx->request_free, &ctx->request_busy,
                            &out, (ngx_buf_tag_t) &ngx_http_proxywasm_module);

    return rc;
}


/* The length that is sent on, or has been, is that of what plugins let go. */

static ngx_int_t
ngx_http_proxywasm_fix_length(ngx_http_proxywasm_ctx_t *ctx, ngx_uint_t last)
{
    ngx_uint_t           sent;
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ctx->body_streams) {
        ctx->body_read = last;
    }

    /* other modules may have had all of it read: "mirror" */

    if (r->request_body_no_buffering) {
        sent = r->upstream && r->upstream->request_bufs;

        if (!r->headers_in.chunked
            && (sent || !last)
            && (ctx->body_size > r->headers_in.content_length_n
                || (last && ctx->body_size < r->headers_in.content_length_n)))
        {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "[wasm] plugins left a request body of another "
                          "length than its content-length of %O",
                          r->headers_in.content_length_n);

            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        if (sent) {
            return NGX_OK;
        }
    }

    if (last) {
        r->headers_in.content_length_n = ctx->body_size;
    }

    return NGX_OK;
}
