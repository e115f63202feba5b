/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * From NGINX's buffers to the library's chunks.
 */


#include "ngx_proxywasm.h"


/* What a subrequest puts out does not end with the last buffer of all. */

#define ngx_proxywasm_is_last(b, sub)                                         \
    ((sub) ? (b)->last_in_chain : (b)->last_buf)


/*
 * As many buffers as there is room for; `n` of them have bytes.  Returns the
 * link that comes next; NULL when that was all.
 */

ngx_chain_t *
ngx_proxywasm_to_chunks(ngx_chain_t *in, proxywasm_chunk *chunks,
    ngx_uint_t *n, ngx_uint_t *last, ngx_uint_t sub)
{
    ngx_chain_t  *cl;

    *n = 0;
    *last = 0;

    for (cl = in; cl; cl = cl->next) {

        if (ngx_buf_in_memory(cl->buf) && cl->buf->pos != cl->buf->last) {

            if (*n == NGX_PROXYWASM_CHUNKS) {
                return cl;
            }

            chunks[*n].data = cl->buf->pos;
            chunks[*n].len = cl->buf->last - cl->buf->pos;
            chunks[*n].release = NULL;
            chunks[*n].release_ctx = NULL;
            (*n)++;
        }

        if (ngx_proxywasm_is_last(cl->buf, sub)) {
            *last = 1;
        }
    }

    return NULL;
}


void
ngx_proxywasm_consume(ngx_chain_t *in, ngx_chain_t *end)
{
    for ( /* void */ ; in != end; in = in->next) {
        in->buf->pos = in->buf->last;
        in->buf->file_pos = in->buf->file_last;
    }
}


/* Whether the library gives back just what it was shown. */

ngx_uint_t
ngx_proxywasm_same(ngx_chain_t *in, proxywasm_outcome *outcome,
    ngx_uint_t last, ngx_uint_t sub)
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

        ended |= ngx_proxywasm_is_last(in->buf, sub);
    }

    return i == outcome->body_count && ended == last;
}
