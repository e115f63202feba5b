/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * HTTP calls of plugins.
 */

#ifndef NGX_HTTP_PROXYWASM_CALLOUT_H_INCLUDED
#define NGX_HTTP_PROXYWASM_CALLOUT_H_INCLUDED


#include "ngx_http_proxywasm.h"


#define ngx_http_proxywasm_is(str, text)                                      \
    ((str).len == sizeof(text) - 1                                            \
     && ngx_strncasecmp((str).data, (u_char *) text, sizeof(text) - 1) == 0)


/* :dispatch_status of calls that fail, as in ngx_wasm_module */
#define NGX_HTTP_PROXYWASM_BROKEN    "broken connection"
#define NGX_HTTP_PROXYWASM_TIMEOUT   "timeout"
#define NGX_HTTP_PROXYWASM_TLS       "tls handshake failure"
#define NGX_HTTP_PROXYWASM_RESOLVER  "resolver failure"
#define NGX_HTTP_PROXYWASM_READER    "reader failure"


/* An answer as it comes in. */
typedef struct {
    /* what was read and not yet understood is from pos to last */
    ngx_buf_t                     buffer;
    ngx_uint_t                    state;
    ngx_uint_t                    status;
    size_t                        head_size;
    size_t                        body_size;
    /* of the body or the chunk; -1: until the connection ends */
    off_t                         rest;

    ngx_array_t                   headers;     /* of proxywasm_pair */
    ngx_array_t                   body;        /* of proxywasm_slice */
    ngx_array_t                   trailers;    /* of proxywasm_pair */

    unsigned                      head_request:1;
    unsigned                      has_length:1;
    unsigned                      chunked:1;
    unsigned                      keepalive:1;
} ngx_http_proxywasm_answer_t;


typedef struct {
    ngx_queue_t                   queue;
    proxywasm_token               token;
    ngx_pool_t                   *pool;

    /* what balancers want to see: a request, which is ours */
    ngx_http_request_t           *request;
    ngx_log_t                     log;

    ngx_str_t                     upstream;
    ngx_str_t                     method;
    ngx_str_t                     path;
    ngx_str_t                     authority;
    /* of the authority, for SNI and certificates */
    ngx_str_t                     tls_name;

    ngx_http_upstream_resolved_t  resolved;
    ngx_resolver_ctx_t           *resolving;

    ngx_proxywasm_socket_conf_t   conf;
    size_t                        max_body;
    /* of the whole call; 0: each step has its own */
    ngx_msec_t                    timeout;
    ngx_event_t                   timer;

    ngx_buf_t                     head;
    ngx_buf_t                     body;
    ngx_buf_t                     tail;
    ngx_chain_t                   links[3];
    ngx_chain_t                  *unsent;

    ngx_http_proxywasm_answer_t   answer;

    unsigned                      pooled:1;
    unsigned                      tls:1;
    unsigned                      connected:1;
    unsigned                      sent:1;
    unsigned                      received:1;
} ngx_http_proxywasm_call_t;


/* ngx_http_proxywasm_callout.c */

void ngx_http_proxywasm_call_done(ngx_http_proxywasm_call_t *call);
void ngx_cdecl ngx_http_proxywasm_call_failed(ngx_http_proxywasm_call_t *call,
    const char *status, const char *fmt, ...);

/* ngx_http_proxywasm_callout_target.c */

ngx_int_t ngx_http_proxywasm_call_target(
    ngx_http_proxywasm_call_t *call, ngx_str_t *reason);
ngx_int_t ngx_http_proxywasm_tls_name(ngx_http_proxywasm_call_t *call);
void ngx_http_proxywasm_call_resolve(ngx_http_proxywasm_call_t *call,
    ngx_http_request_t *r);
void ngx_http_proxywasm_call_balance(ngx_http_proxywasm_call_t *call);

/* ngx_http_proxywasm_callout_io.c */

void ngx_http_proxywasm_call_connect(ngx_http_proxywasm_call_t *call);
void ngx_http_proxywasm_call_timer(ngx_event_t *ev);
void ngx_http_proxywasm_call_release(ngx_http_proxywasm_call_t *call,
    ngx_uint_t state);

/* ngx_http_proxywasm_callout_request.c */

ngx_int_t ngx_http_proxywasm_call_create(ngx_http_proxywasm_call_t *call,
    const proxywasm_http_request *request);
void ngx_http_proxywasm_call_rewind(ngx_http_proxywasm_call_t *call);
ngx_uint_t ngx_http_proxywasm_valid_field(ngx_str_t *name, ngx_str_t *value);

/* ngx_http_proxywasm_callout_answer.c */

ngx_int_t ngx_http_proxywasm_answer_init(ngx_http_proxywasm_call_t *call);
ngx_int_t ngx_http_proxywasm_answer_room(ngx_http_proxywasm_call_t *call);
ngx_int_t ngx_http_proxywasm_answer_parse(ngx_http_proxywasm_call_t *call,
    const char **error);
ngx_uint_t ngx_http_proxywasm_answer_eof(ngx_http_proxywasm_call_t *call);


#endif /* NGX_HTTP_PROXYWASM_CALLOUT_H_INCLUDED */
