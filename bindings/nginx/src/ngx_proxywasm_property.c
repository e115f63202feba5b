/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Properties: how paths and values are written, and those of connections, which
 * streams of both kinds have.
 */


#include "ngx_proxywasm.h"


static ngx_int_t ngx_proxywasm_address_property(ngx_proxywasm_value_t *value,
    struct sockaddr *sockaddr, socklen_t socklen, ngx_uint_t port);
#if (NGX_SSL)
static ngx_int_t ngx_proxywasm_tls_version(ngx_connection_t *c,
    ngx_pool_t *pool, ngx_str_t *s);
static ngx_int_t ngx_proxywasm_tls_property(ngx_connection_t *c,
    ngx_pool_t *pool, proxywasm_slice path, ngx_proxywasm_value_t *value);
#endif


/*
 * Whether a path is `name`, whose segments are written with dots.  In paths
 * they are joined by NUL, and ngx_wasm_module makes no difference.
 */

ngx_uint_t
ngx_proxywasm_is_path(proxywasm_slice path, ngx_str_t *name)
{
    return path.len == name->len && ngx_proxywasm_path_begins(path, name);
}


ngx_uint_t
ngx_proxywasm_path_begins(proxywasm_slice path, ngx_str_t *name)
{
    size_t      i;
    ngx_uint_t  compat;

    if (path.len < name->len) {
        return 0;
    }

    compat = ngx_proxywasm_compat();

    for (i = 0; i < name->len; i++) {

        if (name->data[i] == '.') {
            if (path.data[i] != '\0' && !(compat && path.data[i] == '.')) {
                return 0;
            }

        } else if (path.data[i] != name->data[i]) {
            return 0;
        }
    }

    return 1;
}


/*
 * Envoy's encoding: numbers have 8 bytes, little endian, times in nanoseconds;
 * booleans have one.  ngx_wasm_module writes all as text, times in seconds.
 */

void
ngx_proxywasm_encode(ngx_proxywasm_value_t *value, proxywasm_slice *out)
{
    u_char      *p;
    uint64_t     number;
    ngx_uint_t   i;

    /* the library copies a value before it asks for another */
    static u_char  buf[NGX_INT64_LEN + sizeof(".000")];

    p = buf;
    number = value->number;

    switch (value->type) {

    case NGX_PROXYWASM_TEXT:
        *out = ngx_proxywasm_slice(value->text);
        return;

    case NGX_PROXYWASM_BOOL:
        if (ngx_proxywasm_compat()) {
            p = ngx_sprintf(p, "%s", number ? "true" : "false");

        } else {
            *p++ = (u_char) (number != 0);
        }

        break;

    default:
        if (ngx_proxywasm_compat()) {
            p = value->type == NGX_PROXYWASM_MSEC
                ? ngx_sprintf(p, "%uL.%03uL", number / 1000, number % 1000)
                : ngx_sprintf(p, "%uL", number);
            break;
        }

        if (value->type == NGX_PROXYWASM_MSEC) {
            number *= 1000000;
        }

        for (i = 0; i < 8; i++) {
            *p++ = (u_char) (number & 0xff);
            number >>= 8;
        }
    }

    out->data = buf;
    out->len = p - buf;
}


ngx_int_t
ngx_proxywasm_connection_property(ngx_connection_t *c, ngx_pool_t *pool,
    proxywasm_slice path, ngx_proxywasm_value_t *value)
{
    static ngx_str_t  old_id = ngx_string("connection_id");
    static ngx_str_t  id = ngx_string("connection.id");
    static ngx_str_t  source_address = ngx_string("source.address");
    static ngx_str_t  source_port = ngx_string("source.port");
    static ngx_str_t  local_address = ngx_string("destination.address");
    static ngx_str_t  local_port = ngx_string("destination.port");

    switch (path.len ? path.data[0] : '\0') {

    case 's':

        if (ngx_proxywasm_is_path(path, &source_address)) {
            return ngx_proxywasm_address_property(value, c->sockaddr,
                                                  c->socklen, 0);
        }

        if (ngx_proxywasm_is_path(path, &source_port)) {
            return ngx_proxywasm_address_property(value, c->sockaddr,
                                                  c->socklen, 1);
        }

        break;

    case 'd':

        if (!ngx_proxywasm_is_path(path, &local_address)
            && !ngx_proxywasm_is_path(path, &local_port))
        {
            break;
        }

        /* a socket that listens on all addresses does not tell */

        if (ngx_connection_local_sockaddr(c, NULL, 0) != NGX_OK) {
            return NGX_DECLINED;
        }

        return ngx_proxywasm_address_property(value, c->local_sockaddr,
                                              c->local_socklen,
                                              path.len == local_port.len);

    case 'c':

        if (ngx_proxywasm_is_path(path, &id)
            || ngx_proxywasm_is_path(path, &old_id))
        {
            value->type = NGX_PROXYWASM_NUMBER;
            value->number = c->number;
            return NGX_OK;
        }

#if (NGX_SSL)
        return ngx_proxywasm_tls_property(c, pool, path, value);
#endif
    }

    return NGX_DECLINED;
}


/* An address as Envoy writes it, with the port, or the port alone. */

static ngx_int_t
ngx_proxywasm_address_property(ngx_proxywasm_value_t *value,
    struct sockaddr *sockaddr, socklen_t socklen, ngx_uint_t port)
{
    static u_char  buf[NGX_SOCKADDR_STRLEN];

    if (port) {
        value->type = NGX_PROXYWASM_NUMBER;
        value->number = ngx_inet_get_port(sockaddr);

        /* unix sockets have none */
        return value->number ? NGX_OK : NGX_DECLINED;
    }

    value->type = NGX_PROXYWASM_TEXT;
    value->text.data = buf;
    value->text.len = ngx_sock_ntop(sockaddr, socklen, buf,
                                    NGX_SOCKADDR_STRLEN,
                                    !ngx_proxywasm_compat());

    return value->text.len ? NGX_OK : NGX_DECLINED;
}


/* Of the server that NGINX has chosen, as it writes it: address, or port. */

ngx_int_t
ngx_proxywasm_server_property(ngx_str_t *server, proxywasm_slice path,
    ngx_proxywasm_value_t *value)
{
    u_char     *p, *colon, *end;
    ngx_int_t   number;

    static ngx_str_t  address = ngx_string("upstream.address");
    static ngx_str_t  port = ngx_string("upstream.port");

    colon = NULL;
    end = server->data + server->len;

    if (server->len < 5 || ngx_strncmp(server->data, "unix:", 5) != 0) {

        for (p = end; p > server->data && colon == NULL; /* void */ ) {
            if (*--p == ':') {
                colon = p;
            }
        }
    }

    if (ngx_proxywasm_is_path(path, &address)) {
        value->type = NGX_PROXYWASM_TEXT;
        value->text = *server;

        if (colon && ngx_proxywasm_compat()) {
            value->text.len = colon - server->data;
        }

        return NGX_OK;
    }

    if (ngx_proxywasm_is_path(path, &port)) {
        number = colon ? ngx_atoi(colon + 1, end - colon - 1) : NGX_ERROR;

        value->type = NGX_PROXYWASM_NUMBER;
        value->number = number;

        return number == NGX_ERROR ? NGX_DECLINED : NGX_OK;
    }

    return NGX_DECLINED;
}


/* Whether a path is that of one of NGINX's variables. */

ngx_uint_t
ngx_proxywasm_is_variable(proxywasm_slice path)
{
    return path.len > 4
           && ngx_memcmp(path.data, "ngx", 3) == 0
           && (path.data[3] == '\0' || path.data[3] == '.');
}


/* `name->data` has room for NGX_PROXYWASM_VARIABLE_LEN. */

ngx_int_t
ngx_proxywasm_variable_name(proxywasm_slice path, ngx_str_t *name,
    ngx_uint_t *hash)
{
    name->len = path.len - 4;

    if (name->len > NGX_PROXYWASM_VARIABLE_LEN) {
        return NGX_DECLINED;
    }

    *hash = ngx_hash_strlow(name->data, (u_char *) path.data + 4, name->len);

    return NGX_OK;
}


#if (NGX_SSL)

/* NGINX gives a string that ends with a NUL, and does not count it. */

static ngx_int_t
ngx_proxywasm_tls_version(ngx_connection_t *c, ngx_pool_t *pool, ngx_str_t *s)
{
    if (ngx_ssl_get_protocol(c, pool, s) != NGX_OK) {
        return NGX_ERROR;
    }

    s->len = ngx_strlen(s->data);

    return NGX_OK;
}


static ngx_int_t
ngx_proxywasm_tls_property(ngx_connection_t *c, ngx_pool_t *pool,
    proxywasm_slice path, ngx_proxywasm_value_t *value)
{
    ngx_str_t   verified;
    ngx_uint_t  i;

    static ngx_str_t  mtls = ngx_string("connection.mtls");

    static struct {
        ngx_str_t   name;
        ngx_int_t (*get)(ngx_connection_t *c, ngx_pool_t *pool, ngx_str_t *s);
    } attributes[] = {
        { ngx_string("connection.tls_version"), ngx_proxywasm_tls_version },
        { ngx_string("connection.requested_server_name"),
          ngx_ssl_get_server_name },
        { ngx_string("connection.subject_peer_certificate"),
          ngx_ssl_get_subject_dn },
        { ngx_string("connection.peer_certificate"),
          ngx_ssl_get_escaped_certificate },
    };

    if (ngx_proxywasm_is_path(path, &mtls)) {
        value->type = NGX_PROXYWASM_BOOL;
        value->number = 0;

        /* a certificate that was presented, and is good */

        if (c->ssl
            && ngx_ssl_get_client_verify(c, pool, &verified) == NGX_OK
            && verified.len == sizeof("SUCCESS") - 1
            && ngx_strncmp(verified.data, "SUCCESS", verified.len) == 0)
        {
            value->number = 1;
        }

        return NGX_OK;
    }

    if (c->ssl == NULL) {
        return NGX_DECLINED;
    }

    for (i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
        if (ngx_proxywasm_is_path(path, &attributes[i].name)) {
            value->type = NGX_PROXYWASM_TEXT;

            if (attributes[i].get(c, pool, &value->text) != NGX_OK
                || value->text.len == 0)
            {
                return NGX_DECLINED;
            }

            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}

#endif
