/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The response on its way through the plugins, as filters behind the one that
 * reads files and before those that compress.
 */


#include "ngx_http_proxywasm.h"


static ngx_int_t ngx_http_proxywasm_apply_response(
    ngx_http_proxywasm_ctx_t *ctx, proxywasm_outcome *outcome);
static ngx_uint_t ngx_http_proxywasm_too_much(ngx_http_proxywasm_ctx_t *ctx);
static ngx_int_t ngx_http_proxywasm_go_further(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_outcome *outcome, ngx_chain_t *in, ngx_chain_t *end);
static ngx_int_t ngx_http_proxywasm_pass_header(ngx_http_proxywasm_ctx_t *ctx);
static ngx_int_t ngx_http_proxywasm_pass_response(
    ngx_http_proxywasm_ctx_t *ctx, proxywasm_outcome *outcome, ngx_chain_t *in,
    ngx_chain_t *end);
static ngx_int_t ngx_http_proxywasm_pass(ngx_http_proxywasm_ctx_t *ctx,
    ngx_chain_t *out);
static ngx_uint_t ngx_http_proxywasm_is_cut(ngx_http_request_t *r);
static ngx_int_t ngx_http_proxywasm_check_length(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_outcome *outcome, ngx_uint_t last);
static void ngx_http_proxywasm_go_on(ngx_http_request_t *r, ngx_int_t rc);


ngx_http_output_header_filter_pt  ngx_http_proxywasm_next_header;
ngx_http_output_body_filter_pt    ngx_http_proxywasm_next_body;


#define NGX_HTTP_PROXYWASM_RESPONSE                                           \
    (PROXYWASM_PHASE_RESPONSE_HEADERS|PROXYWASM_PHASE_RESPONSE_BODY           \
     |PROXYWASM_PHASE_RESPONSE_TRAILERS)

#define NGX_HTTP_PROXYWASM_RESPONSE_BODY                                      \
    (PROXYWASM_PHASE_RESPONSE_BODY|PROXYWASM_PHASE_RESPONSE_TRAILERS)


ngx_int_t
ngx_http_proxywasm_header_filter(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_uint_t                 end, compat;
    proxywasm_outcome          outcome;
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_proxywasm_get_ctx(r);

    if (ctx == NULL
        || ctx->stream == NULL
        || ctx->response_shown
        || !ctx->request_shown
        || r->connection->error)    /* the client has gone */
    {
        return ngx_http_proxywasm_next_header(r);
    }

    ctx->response_shown = 1;
    ctx->status = r->headers_out.status;
    ngx_http_proxywasm_leave_request(ctx);

    if (ctx->chain->phases & PROXYWASM_PHASE_LOG) {
        ngx_http_proxywasm_note_upstream(ctx);
    }

    if (!(ctx->chain->phases & NGX_HTTP_PROXYWASM_RESPONSE)) {
        ctx->response_passed = 1;
        return ngx_http_proxywasm_next_header(r);
    }

    /*
     * Plugins of ngx_wasm_module are told that more follows, and then of the
     * end of an empty body, but not of the end of what can have none.
     */

    compat = ngx_proxywasm_compat();

    end = r->header_only
          || r->method == NGX_HTTP_HEAD
          || (r->headers_out.content_length_n == 0 && !compat)
          || r->headers_out.status == NGX_HTTP_NO_CONTENT
          || r->headers_out.status == NGX_HTTP_NOT_MODIFIED;

    if (ctx->chain->phases & NGX_HTTP_PROXYWASM_RESPONSE_BODY) {
        r->filter_need_in_memory = 1;
    }

    if (ctx->chain->phases & PROXYWASM_PHASE_RESPONSE_BODY) {

        if (r->subrequest_ranges) {
            /*
             * "slice": of the body only the first part comes by here, and the
             * others would overtake what plugins hold back of it
             */
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "[wasm] plugins that take part in response bodies "
                          "do not go with \"slice\"");
            rc = ngx_http_proxywasm_replace(ctx,
                                            NGX_HTTP_INTERNAL_SERVER_ERROR);
            return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
        }

        /* plugins see all of the body, and may change its length */
        ngx_http_clear_accept_ranges(r);
        r->allow_ranges = 0;
    }

    outcome.struct_size = sizeof(proxywasm_outcome);

    (void) proxywasm_stream_on_response_headers(ctx->stream,
               ngx_http_proxywasm_count_headers(r,
                                               PROXYWASM_MAP_RESPONSE_HEADERS),
               end && !compat, &outcome);

    ctx->response_end_shown = end;
    ctx->response_end_hidden = end && compat;

    rc = ngx_http_proxywasm_apply_response(ctx, &outcome);

    if (rc == NGX_OK && ctx->response_passed) {
        return ngx_http_proxywasm_next_header(r);
    }

    if (rc == NGX_OK) {
        /*
         * The body comes before the header passes: not as parts of files, and
         * not cut to a range of which nothing is known yet.
         */
        r->filter_need_in_memory = 1;
        ngx_http_clear_accept_ranges(r);
    }

    return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


/* NGX_DONE: the response has been replaced. */

static ngx_int_t
ngx_http_proxywasm_apply_response(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_outcome *outcome)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = ctx->request;

    switch (outcome->action) {

    case PROXYWASM_ACTION_LOCAL_RESPONSE:
        return ngx_http_proxywasm_replace(ctx, NGX_HTTP_SERVICE_UNAVAILABLE);

    case PROXYWASM_ACTION_CLOSE:
        r->buffered &= ~NGX_HTTP_PROXYWASM_BUFFERED;
        ngx_http_proxywasm_pause(ctx, PROXYWASM_DIRECTION_RESPONSE, 0);
        return NGX_ERROR;

    case PROXYWASM_ACTION_CONTINUE:
        r->buffered &= ~NGX_HTTP_PROXYWASM_BUFFERED;
        ctx->response_held = 0;
        ngx_http_proxywasm_pause(ctx, PROXYWASM_DIRECTION_RESPONSE, 0);
        break;

    default:
        r->buffered |= NGX_HTTP_PROXYWASM_BUFFERED;
        ctx->response_held -= ngx_min(ctx->response_held,
                                      (off_t) outcome->body_len);

        if (outcome->action == PROXYWASM_ACTION_PAUSE_AND_BUFFER
            && ngx_http_proxywasm_too_much(ctx))
        {
            rc = ngx_http_proxywasm_replace(ctx,
                                            NGX_HTTP_INTERNAL_SERVER_ERROR);
            ngx_str_set(&ctx->details, "response_payload_too_large");
            return rc;
        }

        ngx_http_proxywasm_pause(ctx, PROXYWASM_DIRECTION_RESPONSE,
                                 outcome->action == PROXYWASM_ACTION_PAUSE
                                 || ctx->response_end_shown);
    }

    if (outcome->ready & PROXYWASM_READY_HEADERS) {

        if (ctx->response_end_hidden) {
            outcome->ready |= PROXYWASM_READY_END_OF_STREAM;
        }

        if (!ngx_http_proxywasm_can_send(ctx, PROXYWASM_MAP_RESPONSE_HEADERS))
        {
            return ngx_http_proxywasm_replace(ctx, NGX_HTTP_BAD_GATEWAY);
        }

        ctx->status = r->headers_out.status;
        ctx->response_passed = 1;
    }

    return NGX_OK;
}


/* Whether plugins collect more than the location lets them. */

static ngx_uint_t
ngx_http_proxywasm_too_much(ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_bufs_t                     *bufs;
    ngx_http_proxywasm_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(ctx->request,
                                       ngx_http_proxywasm_module);
    bufs = &lcf->response_buffers;

    if (bufs->num == 0
        || ctx->response_held <= (off_t) (bufs->num * bufs->size))
    {
        return 0;
    }

    ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                  "[wasm] plugins hold back more of the response than "
                  "\"wasm_response_body_buffers\" lets them");

    return 1;
}


ngx_int_t
ngx_http_proxywasm_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_int_t                  rc;
    ngx_uint_t                 n, last, trailers;
    ngx_chain_t               *cl;
    proxywasm_chunk            chunks[NGX_PROXYWASM_CHUNKS];
    proxywasm_outcome          outcome;
    ngx_http_proxywasm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_proxywasm_module);

    if (ctx == NULL || ctx->stream == NULL || !ctx->response_shown) {
        return ngx_http_proxywasm_next_body(r, in);
    }

    if (ctx->paused[PROXYWASM_DIRECTION_RESPONSE]) {
        /* NGINX sets timers */
        ngx_http_proxywasm_post(ctx);
    }

    if (in == NULL) {
        return ngx_http_proxywasm_next_body(r, in);
    }

    if (ctx->dropping) {
        ngx_proxywasm_consume(in, NULL);
        return NGX_OK;
    }

    if (ctx->response_passed
        && (ctx->response_end_shown
            || !(ctx->chain->phases & NGX_HTTP_PROXYWASM_RESPONSE_BODY)))
    {
        return ngx_http_proxywasm_pass(ctx, in);
    }

    for ( ;; ) {
        cl = ngx_proxywasm_to_chunks(in, chunks, &n, &last, r != r->main);

        if ((n == 0 && !last) || ctx->response_end_shown) {

            /* nothing but a wish to flush, or the end of what has none */

            if ((r->buffered & NGX_HTTP_PROXYWASM_BUFFERED)
                && !ctx->response_end_shown
                && ngx_http_proxywasm_is_cut(r))
            {
                /* nothing that plugins wait for will come */
                ngx_proxywasm_consume(in, NULL);
                return ngx_http_proxywasm_replace(ctx, NGX_HTTP_BAD_GATEWAY)
                       == NGX_ERROR ? NGX_ERROR : NGX_OK;
            }

            if (ctx->response_passed && cl == NULL) {
                return ngx_http_proxywasm_pass(ctx, in);
            }

            ngx_proxywasm_consume(in, cl);

        } else {
            /* those of an upstream: NGINX has them when the body ends */
            trailers = last && r == r->main
                       ? ngx_http_proxywasm_count_headers(r,
                                              PROXYWASM_MAP_RESPONSE_TRAILERS)
                       : 0;

            ctx->response_end_shown = last;
            outcome.struct_size = sizeof(proxywasm_outcome);

            (void) proxywasm_stream_on_response_body(ctx->stream, chunks, n,
                                                     last && !trailers,
                                                     &outcome);

            while (n) {
                ctx->response_held += chunks[--n].len;
            }

            rc = ngx_http_proxywasm_go_further(ctx, &outcome, in, cl);

            if (rc == NGX_OK && trailers) {
                outcome.struct_size = sizeof(proxywasm_outcome);

                (void) proxywasm_stream_on_response_trailers(ctx->stream,
                                                             trailers,
                                                             &outcome);

                rc = ngx_http_proxywasm_go_further(ctx, &outcome, NULL, NULL);
            }

            if (rc == NGX_DONE) {
                ngx_proxywasm_consume(in, NULL);
                return NGX_OK;
            }

            if (rc == NGX_ERROR) {
                return NGX_ERROR;
            }
        }

        if (cl == NULL) {
            return NGX_OK;
        }

        in = cl;
    }
}


/*
 * An upstream that has failed in the middle of its response: NGINX has let go of
 * it, and flushes what it has.
 */

static ngx_uint_t
ngx_http_proxywasm_is_cut(ngx_http_request_t *r)
{
    return r->upstream
           && r->upstream->header_sent
           && r->upstream->cleanup == NULL
           && !r->cached
           && !r->keepalive;
}


/* As NGX_DONE and the like of apply_response. */

static ngx_int_t
ngx_http_proxywasm_go_further(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_outcome *outcome, ngx_chain_t *in, ngx_chain_t *end)
{
    ngx_int_t   rc;
    ngx_uint_t  passed;

    passed = ctx->response_passed;

    rc = ngx_http_proxywasm_apply_response(ctx, outcome);

    if (rc == NGX_OK && !passed && ctx->response_passed) {
        rc = ngx_http_proxywasm_pass_header(ctx);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_proxywasm_pass_response(ctx, outcome, in, end);
    }

    return rc;
}


/* Everything that goes on is counted. */

static ngx_int_t
ngx_http_proxywasm_pass(ngx_http_proxywasm_ctx_t *ctx, ngx_chain_t *out)
{
    ngx_chain_t  *cl;

    for (cl = out; cl; cl = cl->next) {
        ctx->response_size += ngx_buf_size(cl->buf);
    }

    return ngx_http_proxywasm_next_body(ctx->request, out);
}


/* Sends a header that was held back. */

static ngx_int_t
ngx_http_proxywasm_pass_header(ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_proxywasm_next_header(ctx->request);

    return rc > NGX_OK ? NGX_ERROR : rc == NGX_AGAIN ? NGX_OK : rc;
}


static ngx_int_t
ngx_http_proxywasm_pass_response(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_outcome *outcome, ngx_chain_t *in, ngx_chain_t *end)
{
    ngx_int_t            rc;
    ngx_uint_t           last;
    ngx_chain_t         *out;
    ngx_http_request_t  *r;

    r = ctx->request;
    last = (outcome->ready & (PROXYWASM_READY_END_OF_STREAM
                              |PROXYWASM_READY_TRAILERS))
           != 0;

    if (outcome->body_len == 0 && !last) {
        ngx_proxywasm_consume(in, end);
        return NGX_OK;
    }

    if (ngx_http_proxywasm_check_length(ctx, outcome, last) != NGX_OK) {
        return NGX_ERROR;
    }

    if (in && end == NULL && ngx_proxywasm_same(in, outcome, last, r != r->main))
    {
        return ngx_http_proxywasm_pass(ctx, in);
    }

    out = ngx_http_proxywasm_to_chain(r, &ctx->response_free, outcome, last);
    if (out == NULL) {
        return NGX_ERROR;
    }

    ngx_proxywasm_consume(in, end);

    rc = ngx_http_proxywasm_pass(ctx, out);

    ngx_chain_update_chains(r->pool, &ctx->response_free, &ctx->response_busy,
                            &out, (ngx_buf_tag_t) &ngx_http_proxywasm_module);

    return rc;
}


/*
 * Bytes that go beyond a length that was sent would be taken for the next
 * response, and a client would wait for those that are missing.
 */

static ngx_int_t
ngx_http_proxywasm_check_length(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_outcome *outcome, ngx_uint_t last)
{
    off_t                length, size;
    ngx_http_request_t  *r;

    r = ctx->request;
    length = r->headers_out.content_length_n;

    if (ctx->response_spoiled) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "[wasm] plugins left response trailers that cannot be "
                      "sent");
        return NGX_ERROR;
    }

    if (length == -1 || r->header_only || r != r->main) {
        return NGX_OK;
    }

    size = ctx->response_size + outcome->body_len;

    if (size <= length && (size == length || !last)) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "[wasm] plugins left a response body of another length than "
                  "its content-length of %O", length);

    return NGX_ERROR;
}


void
ngx_http_proxywasm_resume_response(ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_int_t            rc;
    proxywasm_outcome    outcome;
    ngx_http_request_t  *r;

    r = ctx->request;
    ctx->resume_response = 0;

    if (ctx->dropping) {
        /* another one was sent in its place */
        return;
    }

    if (ctx->local && !ctx->response_passed) {
        rc = ngx_http_proxywasm_replace(ctx, NGX_HTTP_SERVICE_UNAVAILABLE);

    } else {
        outcome.struct_size = sizeof(proxywasm_outcome);

        (void) proxywasm_stream_resume(ctx->stream,
                                       PROXYWASM_DIRECTION_RESPONSE, &outcome);

        rc = ngx_http_proxywasm_go_further(ctx, &outcome, NULL, NULL);
    }

    ngx_http_proxywasm_go_on(r, rc);
}


/* In place of a response that waits. */

void
ngx_http_proxywasm_refuse_response(ngx_http_proxywasm_ctx_t *ctx,
    ngx_uint_t status)
{
    ngx_http_proxywasm_go_on(ctx->request,
                             ngx_http_proxywasm_replace(ctx, status));
}


static void
ngx_http_proxywasm_go_on(ngx_http_request_t *r, ngx_int_t rc)
{
    if (rc == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    /* whoever writes the response finds what has changed */
    r->write_event_handler(r);
}
