/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Where callouts go: an upstream{}, an address, or a name to be resolved; and
 * the balancer for it.
 */


#include "ngx_http_proxywasm_callout.h"


static ngx_http_upstream_srv_conf_t *ngx_http_proxywasm_find_upstream(
    ngx_http_request_t *r, ngx_url_t *u);
static ngx_int_t ngx_http_proxywasm_known_address(
    ngx_http_proxywasm_call_t *call);
static ngx_int_t ngx_http_proxywasm_use_address(
    ngx_http_proxywasm_call_t *call, struct sockaddr *sockaddr,
    socklen_t socklen);
static void ngx_http_proxywasm_call_resolved(ngx_resolver_ctx_t *ctx);


/* NGX_DECLINED: there is no such place. */

ngx_int_t
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

ngx_int_t
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

void
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

    /* the location's; for root contexts wasm{}'s; http{}'s; the machine's */

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
        ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_RESOLVER,
                                       "no resolver defined to resolve \"%V\"",
                                       &call->resolved.host);
        return;
    }

    if (ctx == NULL) {
        ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_BROKEN,
                                       "no memory");
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
        ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_RESOLVER,
                                       "\"%V\" could not be resolved",
                                       &call->resolved.host);
    }
}


static void
ngx_http_proxywasm_call_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_http_proxywasm_call_t  *call;

    call = ctx->data;

    if (ctx->state) {
        ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_RESOLVER,
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

void
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
        ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_BROKEN,
                                       "no balancer");
        return;
    }

    u->peer.start_time = ngx_current_msec;

    ngx_http_proxywasm_call_connect(call);
}
