/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Bodies: from NGINX's buffers to the library's chunks, and back.
 */


#include "ngx_http_proxywasm.h"


/*
 * As many buffers as there is room for; `n` of them have bytes.  Returns the
 * link that comes next; NULL when that was all.
 */

ngx_chain_t *
ngx_http_proxywasm_to_chunks(ngx_chain_t *in, proxywasm_chunk *chunks,
    ngx_uint_t *n, ngx_uint_t *last)
{
    ngx_chain_t  *cl;

    *n = 0;
    *last = 0;

    for (cl = in; cl; cl = cl->next) {

        if (ngx_buf_in_memory(cl->buf) && cl->buf->pos != cl->buf->last) {

            if (*n == NGX_HTTP_PROXYWASM_CHUNKS) {
                return cl;
            }

            chunks[*n].data = cl->buf->pos;
            chunks[*n].len = cl->buf->last - cl->buf->pos;
            chunks[*n].release = NULL;
            chunks[*n].release_ctx = NULL;
            (*n)++;
        }

        if (cl->buf->last_buf || cl->buf->last_in_chain) {
            *last = cl->buf->last_buf;
        }
    }

    return NULL;
}


void
ngx_http_proxywasm_consume(ngx_chain_t *in, ngx_chain_t *end)
{
    for ( /* void */ ; in != end; in = in->next) {
        in->buf->pos = in->buf->last;
        in->buf->file_pos = in->buf->file_last;
    }
}


/* Whether the library gives back just what it was shown. */

ngx_uint_t
ngx_http_proxywasm_same(ngx_chain_t *in, proxywasm_outcome *outcome,
    ngx_uint_t last)
{
    size_t      i;
    ngx_uint_t  ended;

    i = 0;
    ended = 0;

    for ( /* void */ ; in; in = in->next) {

        if (ngx_buf_in_memory(in->buf) && in->buf->pos != in->buf->last) {

            if (i == outcome->body_count
                || outcome->body[i].data != in->buf->pos
                || outcome->body[i].len
                   != (size_t) (in->buf->last - in->buf->pos))
            {
                return 0;
            }

            i++;
        }

        ended |= in->buf->last_buf;
    }

    return i == outcome->body_count && ended == last;
}


/* Copies: what the library gives lives until it is called again. */

ngx_chain_t *
ngx_http_proxywasm_to_chain(ngx_http_request_t *r, ngx_chain_t **free,
    proxywasm_outcome *outcome, ngx_uint_t last)
{
    size_t        i;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    cl = ngx_chain_get_free_buf(r->pool, free);
    if (cl == NULL) {
        return NULL;
    }

    b = cl->buf;

    if ((size_t) (b->end - b->start) < outcome->body_len) {
        b->start = ngx_palloc(r->pool, outcome->body_len);
        if (b->start == NULL) {
            return NULL;
        }

        b->end = b->start + outcome->body_len;
    }

    b->pos = b->start;
    b->last = b->start;

    for (i = 0; i < outcome->body_count; i++) {
        b->last = ngx_cpymem(b->last, outcome->body[i].data,
                             outcome->body[i].len);
    }

    b->tag = (ngx_buf_tag_t) &ngx_http_proxywasm_module;
    b->temporary = b->last != b->pos;
    b->memory = 0;
    b->flush = 0;
    b->sync = !b->temporary && !last;
    b->last_buf = last;
    b->last_in_chain = 0;

    cl->next = NULL;

    return cl;
}
