/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Plugins in TCP connections.
 */

#ifndef NGX_STREAM_PROXYWASM_H_INCLUDED
#define NGX_STREAM_PROXYWASM_H_INCLUDED


#include "ngx_proxywasm.h"
#include <ngx_stream.h>


/* a bit of c->buffered: something for that end waits for a plugin */
#define NGX_STREAM_PROXYWASM_BUFFERED  0x20


typedef struct {
    ngx_proxywasm_place_t         place;
} ngx_stream_proxywasm_srv_conf_t;


/* What goes from one end to the other, numbered as proxywasm_direction. */
typedef struct {
    /* what plugins have not been shown yet; the buffers are NGINX's */
    ngx_chain_t                  *in;
    /* copies of what they have let go, on their way */
    ngx_chain_t                  *busy;

    unsigned                      begun:1;
    unsigned                      shown_end:1;
    unsigned                      passed_end:1;
    /* a plugin holds something back */
    unsigned                      waiting:1;
    /* and wants to see no more */
    unsigned                      stopped:1;
    unsigned                      resume:1;
    /* the end that sends has ended on its own */
    unsigned                      by_peer:1;
    unsigned                      close_told:1;
} ngx_stream_proxywasm_flow_t;


/* A session on its way through the plugins. */
typedef struct {
    ngx_proxywasm_stream_t        head;
    ngx_stream_session_t         *session;
    ngx_proxywasm_chain_t        *chain;
    proxywasm_stream             *stream;

    /* does what callbacks have noted; also the timer of a pause */
    ngx_event_t                   event;

    ngx_stream_proxywasm_flow_t   flows[2];
    ngx_chain_t                  *free;

    /* the new connection has passed */
    unsigned                      passed:1;
    /* what has passed is sent, then the connection ends */
    unsigned                      close:1;
} ngx_stream_proxywasm_ctx_t;


extern ngx_module_t  ngx_stream_proxywasm_module;

/* ngx_stream_proxywasm_session.c */

ngx_int_t ngx_stream_proxywasm_preread_handler(ngx_stream_session_t *s);
ngx_int_t ngx_stream_proxywasm_log_handler(ngx_stream_session_t *s);
void ngx_stream_proxywasm_on_resume(ngx_proxywasm_stream_t *stream,
    int32_t direction);
void ngx_stream_proxywasm_on_close(ngx_proxywasm_stream_t *stream);
ngx_int_t ngx_stream_proxywasm_apply(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_uint_t way, proxywasm_outcome *outcome);
void ngx_stream_proxywasm_tell_close(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_uint_t way);

/* ngx_stream_proxywasm_filter.c */

ngx_int_t ngx_stream_proxywasm_filter(ngx_stream_session_t *s,
    ngx_chain_t *in, ngx_uint_t from_upstream);
void ngx_stream_proxywasm_run_filter(ngx_stream_proxywasm_ctx_t *ctx,
    ngx_uint_t way);

extern ngx_stream_filter_pt  ngx_stream_proxywasm_next_filter;

/* ngx_stream_proxywasm_properties.c */

int32_t ngx_stream_proxywasm_get_property(ngx_proxywasm_stream_t *stream,
    proxywasm_slice path, proxywasm_slice *out);
int32_t ngx_stream_proxywasm_set_property(ngx_proxywasm_stream_t *stream,
    proxywasm_slice path, proxywasm_slice value);


/* The connections that a direction comes from and goes to; may be NULL. */

static ngx_inline ngx_connection_t *
ngx_stream_proxywasm_source(ngx_stream_session_t *s, ngx_uint_t way)
{
    if (way == PROXYWASM_DIRECTION_REQUEST) {
        return s->connection;
    }

    return s->upstream && s->upstream->connected ? s->upstream->peer.connection
                                                 : NULL;
}


static ngx_inline ngx_connection_t *
ngx_stream_proxywasm_target(ngx_stream_session_t *s, ngx_uint_t way)
{
    return ngx_stream_proxywasm_source(s, !way);
}


#endif /* NGX_STREAM_PROXYWASM_H_INCLUDED */
