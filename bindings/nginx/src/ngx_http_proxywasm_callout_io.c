/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Connections of callouts: from the balancer or the pool, TLS, sending and
 * reading, and the next server when one fails.
 */


#include "ngx_http_proxywasm_callout.h"


static void ngx_http_proxywasm_call_handler(ngx_event_t *ev);
static void ngx_http_proxywasm_call_begin(ngx_http_proxywasm_call_t *call);
static void ngx_http_proxywasm_call_send(ngx_http_proxywasm_call_t *call);
static void ngx_http_proxywasm_call_read(ngx_http_proxywasm_call_t *call);
static ngx_uint_t ngx_http_proxywasm_call_next(ngx_http_proxywasm_call_t *call);
static void ngx_http_proxywasm_call_retry(ngx_http_proxywasm_call_t *call,
    const char *status, const char *what);
static void ngx_http_proxywasm_call_wait(ngx_http_proxywasm_call_t *call,
    ngx_msec_t timeout);
static ngx_int_t ngx_http_proxywasm_test_connect(ngx_connection_t *c);
static ngx_uint_t ngx_http_proxywasm_call_suits(
    ngx_http_proxywasm_call_t *call, ngx_connection_t *c);
static void ngx_http_proxywasm_call_close(ngx_connection_t *c);
#if (NGX_HTTP_SSL)
static void ngx_http_proxywasm_call_handshake(ngx_http_proxywasm_call_t *call);
static void ngx_http_proxywasm_call_handshaked(ngx_connection_t *c);
#endif


/* ---- connecting ---- */

void
ngx_http_proxywasm_call_connect(ngx_http_proxywasm_call_t *call)
{
    ngx_int_t               rc;
    ngx_connection_t       *c;
    ngx_peer_connection_t  *pc;
    ngx_event_get_peer_pt   get;

    pc = &call->request->upstream->peer;

    for ( ;; ) {
        call->connected = 0;
        call->sent = 0;
        call->request->upstream->request_body_sent = 0;
        call->request->upstream->keepalive = 0;

        ngx_http_proxywasm_call_rewind(call);

        if (ngx_http_proxywasm_answer_init(call) != NGX_OK) {
            ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_BROKEN,
                                           "no memory");
            return;
        }

        pc->cached = 0;
        pc->connection = NULL;

        rc = ngx_event_connect_peer(pc);

        if (rc == NGX_DONE
            && !ngx_http_proxywasm_call_suits(call, pc->connection))
        {
            /* one of the pool's, made for somebody else: a new one it is */

            ngx_http_proxywasm_call_close(pc->connection);

            pc->cached = 0;
            pc->connection = NULL;

            get = pc->get;
            pc->get = ngx_event_get_peer;
            rc = ngx_event_connect_peer(pc);
            pc->get = get;
        }

        if (rc == NGX_BUSY) {
            ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_BROKEN,
                                           "no live upstreams in \"%V\"",
                                           &call->upstream);
            return;
        }

        if (rc == NGX_ERROR) {
            ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_BROKEN,
                                           "cannot connect to \"%V\"",
                                           pc->name ? pc->name
                                                    : &call->upstream);
            return;
        }

        if (rc != NGX_DECLINED) {
            break;
        }

        /* refused at once */

        if (!ngx_http_proxywasm_call_next(call)) {
            ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_BROKEN,
                                           "connection refused");
            return;
        }
    }

    c = pc->connection;

    c->data = call;
    c->requests++;
    c->read->handler = ngx_http_proxywasm_call_handler;
    c->write->handler = ngx_http_proxywasm_call_handler;
    c->sendfile = 0;

    if (c->pool == NULL) {

        /* lives as long as the connection: longer than we in the pool */

        c->pool = ngx_create_pool(128, &call->log);
        if (c->pool == NULL) {
            ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_BROKEN,
                                           "no memory");
            return;
        }
    }

    c->log = &call->log;
    c->pool->log = c->log;
    c->read->log = c->log;
    c->write->log = c->log;

    if (rc == NGX_AGAIN) {
        ngx_http_proxywasm_call_wait(call, call->conf.connect_timeout);
        return;
    }

    ngx_http_proxywasm_call_begin(call);
}


static void
ngx_http_proxywasm_call_handler(ngx_event_t *ev)
{
    ngx_connection_t           *c;
    ngx_http_proxywasm_call_t  *call;

    c = ev->data;
    call = c->data;

    if (!call->connected) {

        if (ngx_http_proxywasm_test_connect(c) != NGX_OK) {
            ngx_http_proxywasm_call_retry(call, NGX_HTTP_PROXYWASM_BROKEN,
                                          "connection refused");
            return;
        }

        ngx_http_proxywasm_call_begin(call);
        return;
    }

    if (ev->write) {
        ngx_http_proxywasm_call_send(call);

    } else {
        ngx_http_proxywasm_call_read(call);
    }
}


/* There is a connection. */

static void
ngx_http_proxywasm_call_begin(ngx_http_proxywasm_call_t *call)
{
    ngx_connection_t       *c;
    ngx_peer_connection_t  *pc;

    pc = &call->request->upstream->peer;
    c = pc->connection;

    call->connected = 1;

    if (!pc->cached && pc->sockaddr->sa_family != AF_UNIX) {
        /* the end of the request does not wait for an acknowledgement */
        (void) ngx_tcp_nodelay(c);
    }

#if (NGX_HTTP_SSL)

    if (call->tls && c->ssl == NULL) {
        ngx_http_proxywasm_call_handshake(call);
        return;
    }

#endif

    ngx_http_proxywasm_call_send(call);
}


#if (NGX_HTTP_SSL)

static void
ngx_http_proxywasm_call_handshake(ngx_http_proxywasm_call_t *call)
{
    ngx_int_t              rc;
    ngx_str_t             *name;
    ngx_connection_t      *c;
    ngx_proxywasm_conf_t  *conf;

    c = call->request->upstream->peer.connection;
    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                 ngx_proxywasm_module);

    if (ngx_ssl_create_connection(conf->callouts.ssl, c, NGX_SSL_CLIENT)
        != NGX_OK)
    {
        ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_BROKEN,
                                       "no memory");
        return;
    }

#ifdef SSL_CTRL_SET_TLSEXT_HOSTNAME

    name = &call->tls_name;

    /* is terminated; addresses have no place there */

    if (ngx_inet_addr(name->data, name->len) == INADDR_NONE
        && ngx_strlchr(name->data, name->data + name->len, ':') == NULL
        && SSL_set_tlsext_host_name(c->ssl->connection, (char *) name->data)
           == 0)
    {
        ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_TLS,
                                       "tls server name \"%V\" failed",
                                       name);
        return;
    }

#endif

    ngx_http_proxywasm_call_wait(call, call->conf.connect_timeout);

    rc = ngx_ssl_handshake(c);

    if (rc == NGX_AGAIN) {
        c->ssl->handler = ngx_http_proxywasm_call_handshaked;
        return;
    }

    ngx_http_proxywasm_call_handshaked(c);
}


static void
ngx_http_proxywasm_call_handshaked(ngx_connection_t *c)
{
    long                        rc;
    ngx_http_proxywasm_call_t  *call;

    call = c->data;

    if (!c->ssl->handshaked) {
        ngx_http_proxywasm_call_retry(call, NGX_HTTP_PROXYWASM_TLS,
                                      "tls handshake failed");
        return;
    }

    if (!ngx_http_proxywasm_call_suits(call, c)) {
        rc = SSL_get_verify_result(c->ssl->connection);

        if (rc != X509_V_OK) {
            ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_TLS,
                            "tls certificate verify error: (%l:%s)",
                            rc, X509_verify_cert_error_string(rc));
            return;
        }

        ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_TLS,
                                       "tls certificate does not match \"%V\"",
                                       &call->tls_name);
        return;
    }

    c->read->handler = ngx_http_proxywasm_call_handler;
    c->write->handler = ngx_http_proxywasm_call_handler;

    ngx_http_proxywasm_call_send(call);
}

#endif


/*
 * Whether a connection is one that this call would have made.  Those in a pool
 * may have been made by "proxy_pass", with other demands on certificates, or by
 * a call to another name.
 */

static ngx_uint_t
ngx_http_proxywasm_call_suits(ngx_http_proxywasm_call_t *call,
    ngx_connection_t *c)
{
#if (NGX_HTTP_SSL)

    X509                          *cert;
    ngx_uint_t                     matches;
    ngx_proxywasm_conf_t          *pcf;
    ngx_proxywasm_callout_conf_t  *conf;

    if (!call->tls || c->ssl == NULL) {
        return !call->tls && c->ssl == NULL;
    }

    pcf = (ngx_proxywasm_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                ngx_proxywasm_module);
    conf = &pcf->callouts;

    if (SSL_get_SSL_CTX(c->ssl->connection) != conf->ssl->ctx) {
        return 0;
    }

    if (conf->verify_cert
        && SSL_get_verify_result(c->ssl->connection) != X509_V_OK)
    {
        return 0;
    }

    if (!conf->verify_cert || !conf->verify_host
        || ngx_ssl_check_host(c, &call->tls_name) == NGX_OK)
    {
        return 1;
    }

    /* NGINX does not look for addresses */

    cert = SSL_get_peer_certificate(c->ssl->connection);
    matches = cert != NULL
              && X509_check_ip_asc(cert, (char *) call->tls_name.data, 0) == 1;
    X509_free(cert);

    return matches;

#else

    return 1;

#endif
}


static ngx_int_t
ngx_http_proxywasm_test_connect(ngx_connection_t *c)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    if (err) {
        (void) ngx_connection_error(c, err, "connect() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* ---- exchange ---- */

static void
ngx_http_proxywasm_call_send(ngx_http_proxywasm_call_t *call)
{
    ngx_chain_t       *rest;
    ngx_connection_t  *c;

    c = call->request->upstream->peer.connection;

    if (!call->sent) {
        rest = c->send_chain(c, call->unsent, 0);

        if (rest == NGX_CHAIN_ERROR) {

            /* an answer may have come all the same, before the end */

            call->sent = 1;
            ngx_http_proxywasm_call_read(call);
            return;
        }

        call->unsent = rest;

        if (rest == NULL) {
            call->sent = 1;
            call->request->upstream->request_body_sent = 1;
        }

        ngx_http_proxywasm_call_wait(call, rest ? call->conf.send_timeout
                                                : call->conf.read_timeout);
    }

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_BROKEN,
                                       "no memory");
        return;
    }

    if (c->read->ready) {
        ngx_http_proxywasm_call_read(call);
    }
}


static void
ngx_http_proxywasm_call_read(ngx_http_proxywasm_call_t *call)
{
    ssize_t            n;
    ngx_int_t          rc;
    ngx_buf_t         *b;
    const char        *error;
    ngx_connection_t  *c;

    c = call->request->upstream->peer.connection;
    b = &call->answer.buffer;

    for ( ;; ) {

        if (ngx_http_proxywasm_answer_room(call) != NGX_OK) {
            ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_BROKEN,
                                           "no memory");
            return;
        }

        n = c->recv(c, b->last, b->end - b->last);

        if (n == NGX_AGAIN) {

            if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
                ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_BROKEN,
                                               "no memory");
                return;
            }

            if (call->sent && !call->request->upstream->request_body_sent) {
                /* the other side hears no more, and has said nothing */
                ngx_http_proxywasm_call_retry(call, NGX_HTTP_PROXYWASM_BROKEN,
                                              "broken connection");
                return;
            }

            return;
        }

        if (n == NGX_ERROR || n == 0) {

            if (n == 0 && ngx_http_proxywasm_answer_eof(call)) {
                ngx_http_proxywasm_call_done(call);
                return;
            }

            ngx_http_proxywasm_call_retry(call, NGX_HTTP_PROXYWASM_BROKEN,
                                 n == 0 ? "connection closed before the answer "
                                          "was complete"
                                        : "broken connection");
            return;
        }

        call->received = 1;
        b->last += n;

        if (call->sent) {
            ngx_http_proxywasm_call_wait(call, call->conf.read_timeout);
        }

        rc = ngx_http_proxywasm_answer_parse(call, &error);

        if (rc == NGX_OK) {
            call->request->upstream->keepalive = call->answer.keepalive
                                                 && b->pos == b->last;
            ngx_http_proxywasm_call_done(call);
            return;
        }

        if (rc == NGX_ERROR) {
            ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_READER,
                                           "invalid answer: %s", error);
            return;
        }
    }
}


/* ---- failures ---- */

/* The whole call is over, or a step of it, when steps have times. */

void
ngx_http_proxywasm_call_timer(ngx_event_t *ev)
{
    ngx_connection_t           *c;
    ngx_peer_connection_t      *pc;
    ngx_http_proxywasm_call_t  *call;

    call = ev->data;

    pc = &call->request->upstream->peer;
    c = pc->connection;

    if (c == NULL) {
        ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_TIMEOUT,
                                       "timed out resolving \"%V\"",
                                       &call->resolved.host);
        return;
    }

    c->read->timedout = 1;

    if (call->timeout) {

        /* the plugin's impatience is not the server's failure */

        ngx_http_proxywasm_call_release(call, 0);

    } else if (!call->connected && ngx_http_proxywasm_call_next(call)) {
        ngx_http_proxywasm_call_connect(call);
        return;
    }

    ngx_http_proxywasm_call_failed(call, NGX_HTTP_PROXYWASM_TIMEOUT,
                                   "timed out %s \"%V\"",
                                   call->connected
                                   ? (call->sent ? "reading from"
                                                 : "writing to")
                                   : "connecting to",
                                   pc->name ? pc->name : &call->upstream);
}


static void
ngx_http_proxywasm_call_wait(ngx_http_proxywasm_call_t *call,
    ngx_msec_t timeout)
{
    if (call->timeout == 0) {
        ngx_add_timer(&call->timer, timeout);
    }
}


static void
ngx_http_proxywasm_call_retry(ngx_http_proxywasm_call_t *call,
    const char *status, const char *what)
{
    if (!call->received && ngx_http_proxywasm_call_next(call)) {
        ngx_http_proxywasm_call_connect(call);
        return;
    }

    ngx_http_proxywasm_call_failed(call, status, "%s", what);
}


/*
 * Gives the failed connection back; whether there is another server to ask.
 * What may have been carried out is not asked twice.
 */

static ngx_uint_t
ngx_http_proxywasm_call_next(ngx_http_proxywasm_call_t *call)
{
    ngx_uint_t              cached;
    ngx_peer_connection_t  *pc;

    pc = &call->request->upstream->peer;
    cached = pc->cached;

    if (pc->connection && pc->connection->sent
        && (call->request->method & (NGX_HTTP_POST|NGX_HTTP_LOCK
                                     |NGX_HTTP_PATCH)))
    {
        return 0;
    }

    ngx_http_proxywasm_call_release(call, NGX_PEER_FAILED);

    /* one of the pool's that had been closed is no failure of the server */

    return pc->tries != 0 || cached;
}


void
ngx_http_proxywasm_call_release(ngx_http_proxywasm_call_t *call,
    ngx_uint_t state)
{
    ngx_peer_connection_t  *pc;

    if (call->request->upstream == NULL) {
        return;
    }

    pc = &call->request->upstream->peer;

    if (pc->cached && (state & NGX_PEER_FAILED)) {
        pc->tries++;
    }

    if (pc->free && pc->sockaddr) {
        pc->free(pc, pc->data, state);
        pc->sockaddr = NULL;
    }

    if (pc->connection) {
        ngx_http_proxywasm_call_close(pc->connection);
        pc->connection = NULL;
    }

    if (call->timeout == 0 && call->timer.timer_set) {
        ngx_del_timer(&call->timer);
    }
}


static void
ngx_http_proxywasm_call_close(ngx_connection_t *c)
{
#if (NGX_HTTP_SSL)

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;

        (void) ngx_ssl_shutdown(c);
    }

#endif

    if (c->pool) {
        ngx_destroy_pool(c->pool);
    }

    ngx_close_connection(c);
}
