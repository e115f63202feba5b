/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Bodies that plugins have changed, as NGINX's buffers.
 */


#include "ngx_http_proxywasm.h"


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
    b->last_buf = last && r == r->main;
    b->last_in_chain = last;
    b->sync = !b->temporary && !b->last_buf;

    cl->next = NULL;

    return cl;
}
