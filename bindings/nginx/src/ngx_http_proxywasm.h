/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Plugins in HTTP requests.
 */

#ifndef NGX_HTTP_PROXYWASM_H_INCLUDED
#define NGX_HTTP_PROXYWASM_H_INCLUDED


#include "ngx_proxywasm.h"
#include <ngx_http.h>


/* a bit of r->buffered: the response waits for a plugin */
#define NGX_HTTP_PROXYWASM_BUFFERED  0x08


typedef struct {
    ngx_proxywasm_place_t    place;
    ngx_flag_t               in_access;
    /* behind other modules */
    ngx_flag_t               late_rewrite;
    ngx_flag_t               late_access;
    /* of a response that plugins collect; num is 0: what their limits say */
    ngx_bufs_t               response_buffers;
    ngx_flag_t               subrequests;
    ngx_msec_t               pause_timeout;
    ngx_proxywasm_socket_conf_t  socket;
} ngx_http_proxywasm_loc_conf_t;


/* A response that a plugin made. */
typedef struct {
    ngx_uint_t               status;
    ngx_int_t                grpc_status;    /* -1: none given */
    ngx_str_t                details;
    ngx_str_t                body;
    ngx_array_t              headers;    /* of ngx_table_elt_t */
} ngx_http_proxywasm_local_t;


/* Without room for the path of a unix socket. */
typedef union {
    struct sockaddr          sockaddr;
    struct sockaddr_in       sockaddr_in;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6      sockaddr_in6;
#endif
} ngx_http_proxywasm_inet_t;


/* A request on its way through the plugins. */
typedef struct {
    ngx_proxywasm_stream_t       head;
    ngx_http_request_t          *request;
    ngx_proxywasm_chain_t       *chain;
    proxywasm_stream            *stream;

    /*
     * does what callbacks have noted, when the library has returned; the timer
     * of pauses
     */
    ngx_event_t                  event;
    /* by direction: nothing but a plugin lets it go on */
    unsigned                     paused[2];
    ngx_http_proxywasm_local_t  *local;
    /* why a local response was sent, for response.code_details */
    ngx_str_t                    details;
    unsigned                     resume_request:1;
    unsigned                     resume_response:1;
    unsigned                     close:1;
    unsigned                     logging:1;
    /* a plugin wants the location of what it has made of the path */
    unsigned                     reroute:1;

    /* the request */
    u_char                      *uri;    /* as plugins found it */
    unsigned                     request_shown:1;
    unsigned                     request_passed:1;
    unsigned                     request_waiting:1;
    /* it has waited: a worker that quits stays until it has ended */
    unsigned                     held:1;
    /* something was put into the headers that cannot be sent */
    unsigned                     request_spoiled:1;
    unsigned                     response_spoiled:1;
    /* pseudo headers that a plugin has removed */
    unsigned                     no_method:1;
    unsigned                     no_path:1;
    unsigned                     no_authority:1;
    unsigned                     no_scheme:1;
    unsigned                     no_status:1;
    /* what a plugin has written; it changes nothing here */
    ngx_str_t                    scheme;
    /* the server's name and port, for plugins of ngx_wasm_module */
    ngx_str_t                    server;
    unsigned                     has_body:1;
    /* the headers wait for the body */
    unsigned                     wants_body:1;
    unsigned                     body_reading:1;
    /* the content handler reads it, and sends on what there is */
    unsigned                     body_streams:1;
    unsigned                     body_read:1;
    unsigned                     body_ended:1;
    /* it has been answered without all plugins */
    unsigned                     request_over:1;
    off_t                        body_size;
    /* NGINX's, while all of the body waits for a plugin */
    ngx_http_event_handler_pt    read_handler;
    ngx_chain_t                 *request_free;
    ngx_chain_t                 *request_busy;

    /* the response */
    unsigned                     response_shown:1;
    unsigned                     response_passed:1;
    unsigned                     response_end_shown:1;
    /* plugins were told that more follows, and it does not */
    unsigned                     response_end_hidden:1;
    unsigned                     response_waiting:1;
    unsigned                     dropping:1;
    /* as plugins have left it: NGINX may put its own in its place */
    ngx_uint_t                   status;
    /* bytes of body that go on, before they are compressed */
    off_t                        response_size;
    /* bytes of body that plugins have been shown and hold back */
    off_t                        response_held;
    /* this end of the connection to the upstream */
    ngx_http_proxywasm_inet_t    upstream_local;
    socklen_t                    upstream_local_len;
    ngx_chain_t                 *response_free;
    ngx_chain_t                 *response_busy;

    /* a subrequest: its own path; how it ends, and what it was made for */
    ngx_str_t                    path;
    ngx_http_post_subrequest_t   done;
    ngx_http_post_subrequest_t  *after;
} ngx_http_proxywasm_ctx_t;


extern ngx_module_t  ngx_http_proxywasm_module;

/* ngx_http_proxywasm_ctx.c */

ngx_http_proxywasm_ctx_t *ngx_http_proxywasm_get_ctx(ngx_http_request_t *r);
ngx_http_proxywasm_ctx_t *ngx_http_proxywasm_create_ctx(ngx_http_request_t *r,
    ngx_proxywasm_chain_t *chain);
void ngx_http_proxywasm_pause(ngx_http_proxywasm_ctx_t *ctx, ngx_uint_t way,
    ngx_uint_t paused);
void ngx_http_proxywasm_leave_request(ngx_http_proxywasm_ctx_t *ctx);
void ngx_http_proxywasm_end(ngx_http_proxywasm_ctx_t *ctx, ngx_int_t rc);
ngx_int_t ngx_http_proxywasm_log_handler(ngx_http_request_t *r);
void ngx_http_proxywasm_finish(ngx_http_proxywasm_ctx_t *ctx);

/* ngx_http_proxywasm_subrequest.c */

ngx_int_t ngx_http_proxywasm_begin_subrequest(ngx_http_proxywasm_ctx_t *ctx);

/* ngx_http_proxywasm_request.c */

ngx_int_t ngx_http_proxywasm_request_handler(ngx_http_request_t *r);
void ngx_http_proxywasm_resume_request(ngx_http_proxywasm_ctx_t *ctx);
ngx_int_t ngx_http_proxywasm_request_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);

extern ngx_http_request_body_filter_pt  ngx_http_proxywasm_next_request_body;

/* ngx_http_proxywasm_unbuffered.c */

ngx_int_t ngx_http_proxywasm_find_unbuffered(ngx_conf_t *cf);
ngx_uint_t ngx_http_proxywasm_is_unbuffered(ngx_http_request_t *r);

/* ngx_http_proxywasm_response.c */

ngx_int_t ngx_http_proxywasm_header_filter(ngx_http_request_t *r);
ngx_int_t ngx_http_proxywasm_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
void ngx_http_proxywasm_resume_response(ngx_http_proxywasm_ctx_t *ctx);
void ngx_http_proxywasm_refuse_response(ngx_http_proxywasm_ctx_t *ctx,
    ngx_uint_t status);

extern ngx_http_output_header_filter_pt  ngx_http_proxywasm_next_header;
extern ngx_http_output_body_filter_pt    ngx_http_proxywasm_next_body;

/* ngx_http_proxywasm_local.c */

ngx_int_t ngx_http_proxywasm_send_local(ngx_http_request_t *r,
    ngx_http_proxywasm_ctx_t *ctx);
ngx_int_t ngx_http_proxywasm_replace(ngx_http_proxywasm_ctx_t *ctx,
    ngx_uint_t status);

/* ngx_http_proxywasm_grpc.c */

ngx_uint_t ngx_http_proxywasm_is_grpc(ngx_http_request_t *r);
ngx_uint_t ngx_http_proxywasm_grpc_status(ngx_uint_t status);
ngx_int_t ngx_http_proxywasm_to_grpc(ngx_http_request_t *r,
    ngx_http_proxywasm_local_t *local);

/* ngx_http_proxywasm_chain.c */

ngx_chain_t *ngx_http_proxywasm_to_chain(ngx_http_request_t *r,
    ngx_chain_t **free, proxywasm_outcome *outcome, ngx_uint_t last);

/* ngx_http_proxywasm_headers.c */

ngx_uint_t ngx_http_proxywasm_can_send(ngx_http_proxywasm_ctx_t *ctx,
    int32_t map);
ngx_uint_t ngx_http_proxywasm_count_headers(ngx_http_request_t *r,
    int32_t map);
size_t ngx_http_proxywasm_headers_size(ngx_http_request_t *r, int32_t map);
int32_t ngx_http_proxywasm_get_header(void *user_data, void *stream_data,
    int32_t map, proxywasm_slice name, proxywasm_slice *value);
int32_t ngx_http_proxywasm_get_headers(void *user_data, void *stream_data,
    int32_t map, proxywasm_pair *pairs, size_t capacity, size_t *count);
int32_t ngx_http_proxywasm_add_header(void *user_data, void *stream_data,
    int32_t map, proxywasm_slice name, proxywasm_slice value);
int32_t ngx_http_proxywasm_replace_header(void *user_data, void *stream_data,
    int32_t map, proxywasm_slice name, proxywasm_slice value);
int32_t ngx_http_proxywasm_remove_header(void *user_data, void *stream_data,
    int32_t map, proxywasm_slice name);
int32_t ngx_http_proxywasm_set_headers(void *user_data, void *stream_data,
    int32_t map, const proxywasm_pair *pairs, size_t count);
ngx_int_t ngx_http_proxywasm_push_response_header(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value);

/* ngx_http_proxywasm_properties.c */

int32_t ngx_http_proxywasm_get_property(ngx_proxywasm_stream_t *stream,
    proxywasm_slice path, proxywasm_slice *out);
int32_t ngx_http_proxywasm_set_property(ngx_proxywasm_stream_t *stream,
    proxywasm_slice path, proxywasm_slice value);

/* ngx_http_proxywasm_map.c */

ngx_int_t ngx_http_proxywasm_map_property(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_slice path, ngx_str_t *text);

/* ngx_http_proxywasm_upstream.c */

void ngx_http_proxywasm_note_upstream(ngx_http_proxywasm_ctx_t *ctx);
ngx_int_t ngx_http_proxywasm_upstream_property(ngx_http_proxywasm_ctx_t *ctx,
    proxywasm_slice path, ngx_proxywasm_value_t *value);
void ngx_http_proxywasm_code_details(ngx_http_proxywasm_ctx_t *ctx,
    ngx_str_t *details);
uint64_t ngx_http_proxywasm_response_flags(ngx_http_request_t *r);
ngx_int_t ngx_http_proxywasm_latency(ngx_http_request_t *r,
    ngx_proxywasm_value_t *value);

/* ngx_http_proxywasm_variables.c */

ngx_int_t ngx_http_proxywasm_get_variable(ngx_http_request_t *r,
    proxywasm_slice path, ngx_str_t *value);
int32_t ngx_http_proxywasm_set_variable(ngx_http_request_t *r,
    proxywasm_slice path, proxywasm_slice value);

/* ngx_http_proxywasm_status.c */

char *ngx_http_proxywasm_metrics(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_proxywasm_status(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* ngx_http_proxywasm_callout.c */

int32_t ngx_http_proxywasm_http_call(void *user_data, void *stream_data,
    proxywasm_token token, const proxywasm_http_request *request);
void ngx_http_proxywasm_cancel_call(void *user_data, proxywasm_token token);

/* ngx_http_proxywasm_host.c */

void ngx_http_proxywasm_fill_host(proxywasm_host *host);
void ngx_http_proxywasm_on_resume(ngx_proxywasm_stream_t *stream,
    int32_t direction);
void ngx_http_proxywasm_on_close(ngx_proxywasm_stream_t *stream);
void ngx_http_proxywasm_post(ngx_http_proxywasm_ctx_t *ctx);


/* NULL when a callback is about no request: a tick's, or a connection's. */

static ngx_inline ngx_http_proxywasm_ctx_t *
ngx_http_proxywasm_of(void *stream_data)
{
    ngx_proxywasm_stream_t *stream = stream_data;

    return stream && stream->kind == PROXYWASM_STREAM_KIND_HTTP ? stream_data
                                                                : NULL;
}


#endif /* NGX_HTTP_PROXYWASM_H_INCLUDED */
