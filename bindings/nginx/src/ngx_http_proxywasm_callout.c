/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * HTTP calls of plugins (proxy_http_call), on the worker's event loop.
 *
 * A call belongs to nobody but the worker: it may come from a tick, and go on
 * when the request that it was made for has ended.  It has a request of its own
 * that no client has sent, with as much of an upstream as balancers need, so
 * that upstream{} blocks, their zones and their pools of connections do for
 * calls what they do for proxy_pass.
 *
 * The exchange itself is ours and not ngx_http_upstream's.  That one hands the
 * answer to the header and body filters of a location, ends a client's request
 * when it is done, takes an answer that comes before the call's body has been
 * sent for a failure, drops trailers, and has no time for the whole.
 *
 * gRPC calls are not here: NGINX's HTTP/2 towards servers is part of grpc_pass,
 * as static functions that answer a client's request; modules cannot use it.
 */


#include "ngx_http_proxywasm_callout.h"


static ngx_int_t ngx_http_proxywasm_call_request(
    ngx_http_proxywasm_call_t *call, ngx_http_request_t *r);
static void ngx_http_proxywasm_call_describe(ngx_http_proxywasm_call_t *call);
static void ngx_http_proxywasm_call_settings(ngx_http_proxywasm_call_t *call,
    ngx_http_request_t *r);
static u_char *ngx_http_proxywasm_call_log(ngx_log_t *log, u_char *buf,
    size_t len);
static void ngx_http_proxywasm_call_free(ngx_http_proxywasm_call_t *call);


/* in flight, in this worker */
static ngx_queue_t  ngx_http_proxywasm_calls;

/*
 * Pools that tell connections apart by who made them ("keepalive ... local" of
 * newer versions) have these for the callouts', with and without TLS.
 */
static ngx_http_upstream_conf_t  ngx_http_proxywasm_call_confs[2];

static struct sockaddr  ngx_http_proxywasm_nobody = { .sa_family = AF_UNIX };


/* ---- what the library asks for ---- */

int32_t
ngx_http_proxywasm_http_call(void *user_data, void *stream_data,
    proxywasm_token token, const proxywasm_http_request *request)
{
    ngx_proxywasm_stream_t *head = stream_data;

    size_t                      i;
    ngx_int_t                   rc;
    ngx_str_t                   name, value, reason;
    ngx_pool_t                 *pool;
    ngx_http_request_t         *r;
    ngx_http_proxywasm_call_t  *call;

    r = head && head->kind == PROXYWASM_STREAM_KIND_HTTP
        ? ((ngx_http_proxywasm_ctx_t *) head)->request : NULL;

    if (ngx_http_proxywasm_calls.next == NULL) {
        ngx_queue_init(&ngx_http_proxywasm_calls);
    }

    pool = ngx_create_pool(4096, ngx_cycle->log);
    if (pool == NULL) {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    call = ngx_pcalloc(pool, sizeof(ngx_http_proxywasm_call_t));
    if (call == NULL) {
        ngx_destroy_pool(pool);
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    call->pool = pool;
    call->token = token;
    call->timeout = request->timeout_ms;

    name = ngx_proxywasm_str(request->upstream);
    call->upstream.len = name.len;
    call->upstream.data = ngx_pstrdup(pool, &name);

    for (i = 0; i < request->header_count; i++) {
        name = ngx_proxywasm_str(request->headers[i].name);
        value = ngx_proxywasm_str(request->headers[i].value);

        if (name.len == sizeof(":scheme") - 1
            && ngx_strncmp(name.data, ":scheme", name.len) == 0)
        {
            call->tls = value.len == 5
                       && ngx_strncasecmp(value.data, (u_char *) "https", 5)
                          == 0;
        }
    }

    ngx_http_proxywasm_call_settings(call, r);

    if (call->upstream.data == NULL
        || ngx_http_proxywasm_call_request(call, r) != NGX_OK)
    {
        goto failed;
    }

    ngx_str_set(&reason, "it is no upstream{}, host:port, address or path of "
                         "a unix: socket");

    rc = ngx_http_proxywasm_call_target(call, &reason);

    if (rc == NGX_OK) {
        ngx_str_set(&reason, "its :method, :path or :authority cannot be sent");
        rc = ngx_http_proxywasm_call_create(call, request);
    }

    if (rc == NGX_OK && call->tls) {
        ngx_str_set(&reason, "this NGINX was built without TLS");
        rc = ngx_http_proxywasm_tls_name(call);
    }

    if (rc == NGX_DECLINED) {

        if (call->conf.log_errors) {
            ngx_log_error(NGX_LOG_ERR, &call->log, 0,
                          "dispatch failed: bad argument: %V", &reason);
        }

        ngx_destroy_pool(pool);

        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    if (rc != NGX_OK) {
        goto failed;
    }

    ngx_http_proxywasm_call_describe(call);

    ngx_queue_insert_tail(&ngx_http_proxywasm_calls, &call->queue);

    call->timer.handler = ngx_http_proxywasm_call_timer;
    call->timer.data = call;
    call->timer.log = &call->log;
    /* root contexts do not keep a worker that is to end */
    call->timer.cancelable = stream_data == NULL;

    if (call->timeout) {
        ngx_add_timer(&call->timer, call->timeout);
    }

    /* whatever becomes of it, is told by completions: also here */

    if (call->request->upstream->upstream == NULL
        && call->resolved.sockaddr == NULL)
    {
        ngx_http_proxywasm_call_resolve(call, r);

    } else {
        ngx_http_proxywasm_call_balance(call);
    }

    return PROXYWASM_STATUS_OK;

failed:

    ngx_destroy_pool(pool);

    return PROXYWASM_STATUS_INTERNAL_FAILURE;
}


void
ngx_http_proxywasm_cancel_call(void *user_data, proxywasm_token token)
{
    ngx_queue_t                *q;
    ngx_http_proxywasm_call_t  *call;

    if (ngx_http_proxywasm_calls.next == NULL) {
        return;
    }

    for (q = ngx_queue_head(&ngx_http_proxywasm_calls);
         q != ngx_queue_sentinel(&ngx_http_proxywasm_calls);
         q = ngx_queue_next(q))
    {
        call = ngx_queue_data(q, ngx_http_proxywasm_call_t, queue);

        if (call->token == token) {
            ngx_queue_remove(&call->queue);
            ngx_http_proxywasm_call_release(call, 0);
            ngx_http_proxywasm_call_free(call);
            return;
        }
    }
}


/* ---- ends ---- */

/* The connection goes back first: the plugin's next call may take it. */

void
ngx_http_proxywasm_call_done(ngx_http_proxywasm_call_t *call)
{
    proxywasm_http_response       response;
    ngx_http_proxywasm_answer_t  *answer;

    ngx_queue_remove(&call->queue);
    ngx_http_proxywasm_call_release(call, 0);

    answer = &call->answer;

    ngx_memzero(&response, sizeof(proxywasm_http_response));

    response.struct_size = sizeof(proxywasm_http_response);
    response.headers = answer->headers.elts;
    response.header_count = answer->headers.nelts;
    response.body = answer->body.elts;
    response.body_count = answer->body.nelts;
    response.trailers = answer->trailers.elts;
    response.trailer_count = answer->trailers.nelts;

    (void) proxywasm_http_call_complete(ngx_proxywasm_worker, call->token,
                                        &response);

    ngx_http_proxywasm_call_free(call);
}


void ngx_cdecl
ngx_http_proxywasm_call_failed(ngx_http_proxywasm_call_t *call,
    const char *status, const char *fmt, ...)
{
    u_char                   *p;
    int32_t                   rc;
    va_list                   args;
    proxywasm_pair            header;
    proxywasm_http_response   response;
    u_char                    text[NGX_MAX_CONF_ERRSTR];

    va_start(args, fmt);
    p = ngx_vslprintf(text, text + sizeof(text), fmt, args);
    va_end(args);

    if (call->conf.log_errors) {
        ngx_log_error(NGX_LOG_ERR, &call->log, 0, "dispatch failed: %*s",
                      p - text, text);
    }

    ngx_queue_remove(&call->queue);
    ngx_http_proxywasm_call_release(call, NGX_PEER_FAILED);

    header.name.data = (const uint8_t *) ":dispatch_status";
    header.name.len = sizeof(":dispatch_status") - 1;
    header.value.data = (const uint8_t *) status;
    header.value.len = ngx_strlen(status);

    ngx_memzero(&response, sizeof(proxywasm_http_response));

    response.struct_size = sizeof(proxywasm_http_response);
    response.headers = &header;
    response.header_count = 1;
    response.failed = 1;

    rc = proxywasm_http_call_complete(ngx_proxywasm_worker, call->token,
                                      &response);

    if (rc == PROXYWASM_RESULT_ABI_MISMATCH) {
        /* a library that does not tell reasons */
        (void) proxywasm_http_call_complete(ngx_proxywasm_worker, call->token,
                                            NULL);
    }

    ngx_http_proxywasm_call_free(call);
}


static void
ngx_http_proxywasm_call_free(ngx_http_proxywasm_call_t *call)
{
    ngx_http_cleanup_t  *cln;

    if (call->resolving) {
        ngx_resolve_name_done(call->resolving);
        call->resolving = NULL;
    }

    if (call->timer.timer_set) {
        ngx_del_timer(&call->timer);
    }

    /* what balancers have left */

    for (cln = call->request->cleanup; cln; cln = cln->next) {
        if (cln->handler) {
            cln->handler(cln->data);
        }
    }

    ngx_destroy_pool(call->pool);
}


/* ---- beginning ---- */

/* The sockets' settings: those of the location, or of wasm{}. */

static void
ngx_http_proxywasm_call_settings(ngx_http_proxywasm_call_t *call,
    ngx_http_request_t *r)
{
    ngx_log_t                      *log;
    ngx_proxywasm_conf_t           *pcf;
    ngx_http_core_loc_conf_t       *clcf;
    ngx_proxywasm_socket_conf_t     conf;
    ngx_http_proxywasm_loc_conf_t  *lcf;

    log = ngx_cycle->log;

    pcf = (ngx_proxywasm_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                ngx_proxywasm_module);
    call->max_body = pcf->callouts.max_body;
    call->conf = pcf->callouts.socket;

    if (r) {
        lcf = ngx_http_get_module_loc_conf(r, ngx_http_proxywasm_module);

        conf = lcf->socket;
        ngx_proxywasm_merge_socket_conf(&pcf->callouts.socket, &conf);
        call->conf = conf;

        clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
        log = clcf->error_log;
    }

    call->log = *log;
    call->log.connection = 0;
    call->log.handler = ngx_http_proxywasm_call_log;
    call->log.data = call;
    call->log.action = NULL;

    if (!call->conf.log_errors) {
        /* nor what NGINX says of sockets */
        call->log.log_level = ngx_min(call->log.log_level, NGX_LOG_CRIT);
    }
}


/* The request that balancers see, and variables of theirs. */

static ngx_int_t
ngx_http_proxywasm_call_request(ngx_http_proxywasm_call_t *call,
    ngx_http_request_t *r)
{
    ngx_pool_t                 *pool;
    ngx_connection_t           *c;
    ngx_http_request_t         *fr;
    ngx_http_conf_ctx_t        *ctx;
    ngx_http_core_main_conf_t  *cmcf;

    pool = call->pool;

    c = ngx_pcalloc(pool, sizeof(ngx_connection_t));
    fr = ngx_pcalloc(pool, sizeof(ngx_http_request_t));
    if (c == NULL || fr == NULL) {
        return NGX_ERROR;
    }

    c->fd = (ngx_socket_t) -1;
    c->type = SOCK_STREAM;
    c->data = fr;
    c->pool = pool;
    c->log = &call->log;
    c->sockaddr = &ngx_http_proxywasm_nobody;
    c->socklen = sizeof(ngx_http_proxywasm_nobody);
    c->local_sockaddr = &ngx_http_proxywasm_nobody;
    c->local_socklen = sizeof(ngx_http_proxywasm_nobody);
    ngx_str_set(&c->addr_text, "unix:");

    fr->signature = NGX_HTTP_MODULE;
    fr->connection = c;
    fr->pool = pool;
    fr->main = fr;
    fr->count = 1;
    fr->http_version = NGX_HTTP_VERSION_11;
    fr->start_sec = ngx_time();
    fr->internal = 1;
    fr->headers_in.content_length_n = -1;
    fr->headers_out.content_length_n = -1;

    if (r) {
        fr->main_conf = r->main_conf;
        fr->srv_conf = r->srv_conf;
        fr->loc_conf = r->loc_conf;

    } else {
        ctx = (ngx_http_conf_ctx_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                   ngx_http_module);
        if (ctx == NULL) {
            return NGX_ERROR;
        }

        fr->main_conf = ctx->main_conf;
        fr->srv_conf = ctx->srv_conf;
        fr->loc_conf = ctx->loc_conf;
    }

    cmcf = ngx_http_get_module_main_conf(fr, ngx_http_core_module);

    fr->ctx = ngx_pcalloc(pool, sizeof(void *) * ngx_http_max_module);
    fr->variables = ngx_pcalloc(pool, cmcf->variables.nelts
                                      * sizeof(ngx_http_variable_value_t));

    if (fr->ctx == NULL || fr->variables == NULL
        || ngx_list_init(&fr->headers_in.headers, pool, 1,
                         sizeof(ngx_table_elt_t))
           != NGX_OK
        || ngx_list_init(&fr->headers_out.headers, pool, 1,
                         sizeof(ngx_table_elt_t))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    call->request = fr;

    if (ngx_http_upstream_create(fr) != NGX_OK) {
        return NGX_ERROR;
    }

    fr->upstream->conf = &ngx_http_proxywasm_call_confs[call->tls];
    fr->upstream->peer.log = &call->log;
    fr->upstream->peer.log_error = NGX_ERROR_ERR;

    return NGX_OK;
}


/* What balancers may hash by. */

static void
ngx_http_proxywasm_call_describe(ngx_http_proxywasm_call_t *call)
{
    u_char              *p;
    ngx_http_request_t  *r;

    r = call->request;

    r->method_name = call->method;
    r->unparsed_uri = call->path;
    r->uri = call->path;
    r->headers_in.server = call->authority;

    p = ngx_strlchr(r->uri.data, r->uri.data + r->uri.len, '?');

    if (p) {
        r->args.data = p + 1;
        r->args.len = r->uri.data + r->uri.len - p - 1;
        r->uri.len = p - r->uri.data;
    }

    /* those that must not be sent twice are told from the others */

    if (call->method.len == 4
        && ngx_strncmp(call->method.data, "POST", 4) == 0)
    {
        r->method = NGX_HTTP_POST;

    } else if (call->method.len == 5
               && ngx_strncmp(call->method.data, "PATCH", 5) == 0)
    {
        r->method = NGX_HTTP_PATCH;

    } else if (call->method.len == 4
               && ngx_strncmp(call->method.data, "LOCK", 4) == 0)
    {
        r->method = NGX_HTTP_LOCK;

    } else {
        r->method = NGX_HTTP_GET;
    }
}


/* ---- logs ---- */

static u_char *
ngx_http_proxywasm_call_log(ngx_log_t *log, u_char *buf, size_t len)
{
    u_char                     *p;
    ngx_http_proxywasm_call_t  *call;

    call = log->data;

    p = ngx_snprintf(buf, len, ", callout: \"%V %V%V\", upstream: \"%V\"",
                     &call->method, &call->authority, &call->path,
                     &call->upstream);

    return p;
}
