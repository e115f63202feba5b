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
static ngx_int_t ngx_http_proxywasm_call_target(
    ngx_http_proxywasm_call_t *call, ngx_str_t *reason);
static ngx_http_upstream_srv_conf_t *ngx_http_proxywasm_find_upstream(
    ngx_http_request_t *r, ngx_url_t *u);
static ngx_int_t ngx_http_proxywasm_known_address(
    ngx_http_proxywasm_call_t *call);
static ngx_int_t ngx_http_proxywasm_use_address(
    ngx_http_proxywasm_call_t *call, struct sockaddr *sockaddr,
    socklen_t socklen);
static void ngx_http_proxywasm_call_settings(ngx_http_proxywasm_call_t *call,
    ngx_http_request_t *r);
static ngx_int_t ngx_http_proxywasm_tls_name(ngx_http_proxywasm_call_t *call);
static void ngx_http_proxywasm_call_resolve(ngx_http_proxywasm_call_t *call,
    ngx_http_request_t *r);
static void ngx_http_proxywasm_call_resolved(ngx_resolver_ctx_t *ctx);
static void ngx_http_proxywasm_call_balance(ngx_http_proxywasm_call_t *call);
static u_char *ngx_http_proxywasm_call_log(ngx_log_t *log, u_char *buf,
    size_t len);
static void ngx_http_proxywasm_call_free(ngx_http_proxywasm_call_t *call);


/* in flight, in this worker */
static ngx_queue_t  ngx_http_proxywasm_calls;

/*
 * Pools of connections that are told apart by who made them (1.29.7) have these
 * for the callouts', with and without TLS.
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
    const char *fmt, ...)
{
    u_char   *p;
    va_list   args;
    u_char    text[NGX_MAX_CONF_ERRSTR];

    va_start(args, fmt);
    p = ngx_vslprintf(text, text + sizeof(text), fmt, args);
    va_end(args);

    if (call->conf.log_errors) {
        ngx_log_error(NGX_LOG_ERR, &call->log, 0, "dispatch failed: %*s",
                      p - text, text);
    }

    ngx_queue_remove(&call->queue);
    ngx_http_proxywasm_call_release(call, NGX_PEER_FAILED);

    (void) proxywasm_http_call_complete(ngx_proxywasm_worker, call->token,
                                        NULL);

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


/* ---- where to ---- */

/* NGX_DECLINED: there is no such place. */

static ngx_int_t
ngx_http_proxywasm_call_target(ngx_http_proxywasm_call_t *call,
    ngx_str_t *reason)
{
    size_t                i;
    u_char                ch;
    ngx_url_t             u;
    ngx_uint_t            dots;
    ngx_http_upstream_t  *up;

    up = call->request->upstream;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = call->upstream;
    u.default_port = call->tls ? 443 : 80;
    u.no_resolve = 1;

    /* a name of an upstream{} may be what no URL has in its place */

    u.host = call->upstream;
    u.no_port = 1;

    up->upstream = ngx_http_proxywasm_find_upstream(call->request, &u);

    if (up->upstream) {
        call->pooled = 1;
        return NGX_OK;
    }

    ngx_str_null(&u.host);
    u.no_port = 0;

    if (u.url.len == 0 || ngx_parse_url(call->pool, &u) != NGX_OK) {
        return u.err || u.url.len == 0 ? NGX_DECLINED : NGX_ERROR;
    }

    if (u.uri.len) {
        return NGX_DECLINED;
    }

    /* also those that a proxy_pass has made by the way */

    up->upstream = ngx_http_proxywasm_find_upstream(call->request, &u);

    if (up->upstream) {
        return NGX_OK;
    }

    call->resolved.host = u.host;
    call->resolved.port = u.port;
    call->resolved.no_port = u.no_port;

    if (u.naddrs) {
        call->resolved.sockaddr = u.addrs[0].sockaddr;
        call->resolved.socklen = u.addrs[0].socklen;
        call->resolved.name = u.addrs[0].name;
        call->resolved.naddrs = 1;

        return NGX_OK;
    }

    dots = 0;

    for (i = 0; i < u.host.len; i++) {
        ch = u.host.data[i];

        if (ch == '.') {
            dots++;

        } else if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
                     || (ch >= '0' && ch <= '9') || ch == '-' || ch == '_'))
        {
            return NGX_DECLINED;
        }
    }

    if (ngx_http_proxywasm_known_address(call) == NGX_OK) {
        return NGX_OK;
    }

    if (dots == 0 && u.no_port) {

        /* rather a cluster that somebody has forgotten */

        ngx_str_set(reason, "there is no upstream{} of that name; a host "
                            "without a dot needs a port");
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_http_upstream_srv_conf_t *
ngx_http_proxywasm_find_upstream(ngx_http_request_t *r, ngx_url_t *u)
{
    ngx_uint_t                       i;
    ngx_http_upstream_srv_conf_t   **uscfp;
    ngx_http_upstream_main_conf_t   *umcf;

    umcf = ngx_http_get_module_main_conf(r, ngx_http_upstream_module);
    uscfp = umcf->upstreams.elts;

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        if (uscfp[i]->peer.init
            && uscfp[i]->host.len == u->host.len
            && ((uscfp[i]->port == 0 && u->no_port)
                || uscfp[i]->port == u->port)
            && ngx_strncasecmp(uscfp[i]->host.data, u->host.data, u->host.len)
               == 0)
        {
            return uscfp[i];
        }
    }

    return NULL;
}


/* Names that need no question: of "resolver_add", and our own. */

static ngx_int_t
ngx_http_proxywasm_known_address(ngx_http_proxywasm_call_t *call)
{
    ngx_uint_t                   i;
    ngx_str_t                   *name;
    ngx_proxywasm_conf_t        *pcf;
    struct sockaddr_in           sin;
    ngx_proxywasm_known_host_t  *hosts;

    pcf = (ngx_proxywasm_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                ngx_proxywasm_module);
    hosts = pcf->callouts.hosts.elts;
    name = &call->resolved.host;

    for (i = 0; i < pcf->callouts.hosts.nelts; i++) {

        if (hosts[i].name.len == name->len
            && ngx_strncasecmp(hosts[i].name.data, name->data, name->len) == 0)
        {
            return ngx_http_proxywasm_use_address(call, hosts[i].addr.sockaddr,
                                                  hosts[i].addr.socklen);
        }
    }

    if (name->len == sizeof("localhost") - 1
        && ngx_strncasecmp(name->data, (u_char *) "localhost", name->len) == 0)
    {
        ngx_memzero(&sin, sizeof(struct sockaddr_in));
        sin.sin_family = AF_INET;
        sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

        return ngx_http_proxywasm_use_address(call, (struct sockaddr *) &sin,
                                              sizeof(struct sockaddr_in));
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_proxywasm_use_address(ngx_http_proxywasm_call_t *call,
    struct sockaddr *sockaddr, socklen_t socklen)
{
    u_char  *p;

    call->resolved.sockaddr = ngx_palloc(call->pool, socklen);
    p = ngx_pnalloc(call->pool, NGX_SOCKADDR_STRLEN);
    if (call->resolved.sockaddr == NULL || p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(call->resolved.sockaddr, sockaddr, socklen);
    call->resolved.socklen = socklen;
    call->resolved.naddrs = 1;

    ngx_inet_set_port(call->resolved.sockaddr, call->resolved.port);

    call->resolved.name.len = ngx_sock_ntop(call->resolved.sockaddr, socklen,
                                            p, NGX_SOCKADDR_STRLEN, 1);
    call->resolved.name.data = p;

    return NGX_OK;
}


/* Whose certificate it has to be: the authority's, without the port. */

static ngx_int_t
ngx_http_proxywasm_tls_name(ngx_http_proxywasm_call_t *call)
{
#if (NGX_HTTP_SSL)

    u_char     *p, *end;
    ngx_str_t   name;

    name = call->authority.len ? call->authority : call->upstream;
    end = name.data + name.len;

    if (name.len && name.data[0] == '[') {
        name.data++;
        p = ngx_strlchr(name.data, end, ']');

    } else {
        p = ngx_strlchr(name.data, end, ':');
    }

    name.len = (p ? p : end) - name.data;

    call->tls_name.data = ngx_pnalloc(call->pool, name.len + 1);
    if (call->tls_name.data == NULL) {
        return NGX_ERROR;
    }

    *ngx_copy(call->tls_name.data, name.data, name.len) = '\0';
    call->tls_name.len = name.len;

    return NGX_OK;

#else

    return NGX_DECLINED;

#endif
}


/* ---- names ---- */

static void
ngx_http_proxywasm_call_resolve(ngx_http_proxywasm_call_t *call,
    ngx_http_request_t *r)
{
    ngx_msec_t                     timeout;
    ngx_resolver_t                *resolver;
    ngx_resolver_ctx_t            *ctx, temp;
    ngx_proxywasm_conf_t          *pcf;
    ngx_http_core_loc_conf_t      *clcf;
    ngx_proxywasm_callout_conf_t  *conf;

    pcf = (ngx_proxywasm_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                ngx_proxywasm_module);
    clcf = ngx_http_get_module_loc_conf(call->request, ngx_http_core_module);

    conf = &pcf->callouts;

    resolver = conf->resolver;
    timeout = conf->resolver_timeout;

    /* the location's; of root contexts wasm{}'s; that of http{}; the machine's */

    if ((r || resolver == NULL)
        && clcf->resolver && clcf->resolver->connections.nelts)
    {
        resolver = clcf->resolver;

        if (clcf->resolver_timeout != NGX_CONF_UNSET_MSEC) {
            timeout = clcf->resolver_timeout;
        }
    }

    if (resolver == NULL) {
        resolver = conf->system_resolver;
    }

    temp.name = call->resolved.host;

    ctx = resolver ? ngx_resolve_start(resolver, &temp) : NGX_NO_RESOLVER;

    if (ctx == NGX_NO_RESOLVER) {
        ngx_http_proxywasm_call_failed(call,
                                       "no resolver defined to resolve \"%V\"",
                                       &call->resolved.host);
        return;
    }

    if (ctx == NULL) {
        ngx_http_proxywasm_call_failed(call, "no memory");
        return;
    }

    ctx->name = call->resolved.host;
    ctx->handler = ngx_http_proxywasm_call_resolved;
    ctx->data = call;
    ctx->timeout = timeout;
    ctx->cancelable = call->timer.cancelable;

    call->resolving = ctx;

    if (ngx_resolve_name(ctx) != NGX_OK) {
        call->resolving = NULL;
        ngx_http_proxywasm_call_failed(call, "\"%V\" could not be resolved",
                                       &call->resolved.host);
    }
}


static void
ngx_http_proxywasm_call_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_http_proxywasm_call_t  *call;

    call = ctx->data;

    if (ctx->state) {
        ngx_http_proxywasm_call_failed(call,
                                    "\"%V\" could not be resolved (%i: %s)",
                                    &ctx->name, ctx->state,
                                    ngx_resolver_strerror(ctx->state));
        return;
    }

    call->resolved.naddrs = ctx->naddrs;
    call->resolved.addrs = ctx->addrs;

    ngx_http_proxywasm_call_balance(call);
}


/* ---- which server ---- */

static void
ngx_http_proxywasm_call_balance(ngx_http_proxywasm_call_t *call)
{
    ngx_int_t                      rc;
    ngx_http_request_t            *r;
    ngx_http_upstream_t           *u;
    ngx_http_upstream_srv_conf_t  *uscf;

    r = call->request;
    u = r->upstream;
    uscf = u->upstream;

    if (uscf) {
#if (NGX_HTTP_SSL)
        u->ssl_name = uscf->host;
#endif
        rc = uscf->peer.init(r, uscf);

    } else {
        rc = ngx_http_upstream_create_round_robin_peer(r, &call->resolved);
    }

    if (call->resolving) {
        ngx_resolve_name_done(call->resolving);
        call->resolving = NULL;
    }

    if (rc != NGX_OK) {
        ngx_http_proxywasm_call_failed(call, "no balancer");
        return;
    }

    u->peer.start_time = ngx_current_msec;

    ngx_http_proxywasm_call_connect(call);
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
