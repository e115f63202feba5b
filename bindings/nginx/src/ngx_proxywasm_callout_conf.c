/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * What wasm{} says about callouts: resolver, sockets, TLS.
 */


#include "ngx_proxywasm.h"


#define NGX_PROXYWASM_RESOLV_CONF  "/etc/resolv.conf"


static ngx_int_t ngx_proxywasm_system_resolver(ngx_conf_t *cf,
    ngx_proxywasm_callout_conf_t *conf);
#if (NGX_SSL)
static ngx_int_t ngx_proxywasm_callout_ssl(ngx_conf_t *cf,
    ngx_proxywasm_callout_conf_t *conf);
#endif


void
ngx_proxywasm_create_socket_conf(ngx_proxywasm_socket_conf_t *conf)
{
    ngx_memzero(conf, sizeof(ngx_proxywasm_socket_conf_t));

    conf->connect_timeout = NGX_CONF_UNSET_MSEC;
    conf->send_timeout = NGX_CONF_UNSET_MSEC;
    conf->read_timeout = NGX_CONF_UNSET_MSEC;
    conf->buffer_size = NGX_CONF_UNSET_SIZE;
    conf->buffer_reuse = NGX_CONF_UNSET;
    conf->log_errors = NGX_CONF_UNSET;
}


/* What is unset in a location comes from around it, in the end from wasm{}. */

void
ngx_proxywasm_merge_socket_conf(ngx_proxywasm_socket_conf_t *prev,
    ngx_proxywasm_socket_conf_t *conf)
{
    ngx_conf_merge_msec_value(conf->connect_timeout, prev->connect_timeout,
                              NGX_CONF_UNSET_MSEC);
    ngx_conf_merge_msec_value(conf->send_timeout, prev->send_timeout,
                              NGX_CONF_UNSET_MSEC);
    ngx_conf_merge_msec_value(conf->read_timeout, prev->read_timeout,
                              NGX_CONF_UNSET_MSEC);
    ngx_conf_merge_size_value(conf->buffer_size, prev->buffer_size,
                              NGX_CONF_UNSET_SIZE);
    ngx_conf_merge_value(conf->buffer_reuse, prev->buffer_reuse,
                         NGX_CONF_UNSET);
    ngx_conf_merge_value(conf->log_errors, prev->log_errors, NGX_CONF_UNSET);

    if (conf->large_buffers.num == 0) {
        conf->large_buffers = prev->large_buffers;
    }
}


ngx_int_t
ngx_proxywasm_create_callout_conf(ngx_pool_t *pool,
    ngx_proxywasm_callout_conf_t *conf)
{
    ngx_proxywasm_create_socket_conf(&conf->socket);

    conf->resolver_timeout = NGX_CONF_UNSET_MSEC;
    conf->max_body = NGX_CONF_UNSET_SIZE;
    conf->verify_cert = NGX_CONF_UNSET;
    conf->verify_host = NGX_CONF_UNSET;
    conf->no_verify_warn = NGX_CONF_UNSET;

    return ngx_array_init(&conf->hosts, pool, 2,
                          sizeof(ngx_proxywasm_known_host_t));
}


/* The whole file has been read.  `used`: there are plugins, who may call. */

ngx_int_t
ngx_proxywasm_init_callout_conf(ngx_cycle_t *cycle,
    ngx_proxywasm_callout_conf_t *conf, ngx_uint_t used)
{
    ngx_conf_t                    cf;
    ngx_proxywasm_socket_conf_t  *socket;

    socket = &conf->socket;

    ngx_conf_init_msec_value(socket->connect_timeout, 60000);
    ngx_conf_init_msec_value(socket->send_timeout, 60000);
    ngx_conf_init_msec_value(socket->read_timeout, 60000);
    ngx_conf_init_size_value(socket->buffer_size, 1024);
    ngx_conf_init_value(socket->buffer_reuse, 1);
    ngx_conf_init_value(socket->log_errors, 1);

    if (socket->large_buffers.num == 0) {
        socket->large_buffers.num = 4;
        socket->large_buffers.size = 8192;
    }

    ngx_conf_init_msec_value(conf->resolver_timeout, 30000);
    ngx_conf_init_size_value(conf->max_body, 4 * 1024 * 1024);
    ngx_conf_init_value(conf->verify_cert, 1);
    ngx_conf_init_value(conf->verify_host, 1);
    ngx_conf_init_value(conf->no_verify_warn, 0);

    if (!used) {
        return NGX_OK;
    }

    ngx_memzero(&cf, sizeof(ngx_conf_t));

    cf.cycle = cycle;
    cf.pool = cycle->pool;
    cf.log = cycle->log;

    if (conf->resolver == NULL
        && ngx_proxywasm_system_resolver(&cf, conf) != NGX_OK)
    {
        return NGX_ERROR;
    }

#if (NGX_SSL)

    if (ngx_proxywasm_callout_ssl(&cf, conf) != NGX_OK) {
        return NGX_ERROR;
    }

#endif

    return NGX_OK;
}


char *
ngx_proxywasm_set_resolver(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_proxywasm_conf_t *pcf = conf;

    ngx_str_t  *value;

    if (pcf->callouts.resolver) {
        return "is duplicate";
    }

    value = cf->args->elts;

    pcf->callouts.resolver = ngx_resolver_create(cf, &value[1],
                                                 cf->args->nelts - 1);

    return pcf->callouts.resolver ? NGX_CONF_OK : NGX_CONF_ERROR;
}


/* A name whose address is known, to callouts of all places. */

char *
ngx_proxywasm_add_host(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t                   *value;
    ngx_proxywasm_conf_t        *pcf;
    ngx_proxywasm_known_host_t  *host;

    pcf = (ngx_proxywasm_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                                ngx_proxywasm_module);
    value = cf->args->elts;

    host = ngx_array_push(&pcf->callouts.hosts);
    if (host == NULL) {
        return NGX_CONF_ERROR;
    }

    host->name = value[2];

    if (ngx_parse_addr(cf->pool, &host->addr, value[1].data, value[1].len)
        != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is not an address in \"resolver_add\", "
                           "whose parameters are an address and a name",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* There is no Lua here whose resolver could be used. */

char *
ngx_proxywasm_no_lua(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    if (ngx_strcasecmp(value[1].data, (u_char *) "off") == 0) {
        return NGX_CONF_OK;
    }

    return ngx_strcasecmp(value[1].data, (u_char *) "on") == 0
           ? "requires Lua: use \"resolver\"" : "must be \"off\"";
}


/* Nothing could be read into no buffer. */

char *
ngx_proxywasm_set_buffer_size(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    char    *rv;
    size_t  *size;

    size = (size_t *) (p + cmd->offset);

    rv = ngx_conf_set_size_slot(cf, cmd, conf);

    return rv == NGX_CONF_OK && *size == 0 ? "must not be 0" : rv;
}


/*
 * Without "resolver": that of the machine.  Its file is read now, since workers
 * do not read files.
 */

static ngx_int_t
ngx_proxywasm_system_resolver(ngx_conf_t *cf,
    ngx_proxywasm_callout_conf_t *conf)
{
    u_char       *p, *end, *word;
    ngx_str_t     path, text, *name;
    ngx_addr_t    addr;
    ngx_array_t   names;

    ngx_str_set(&path, NGX_PROXYWASM_RESOLV_CONF);

    if (ngx_proxywasm_read_file(cf->pool, cf->log, &path, &text) != NGX_OK) {
        /* names cannot be resolved, until "resolver" says by whom */
        return NGX_OK;
    }

    if (ngx_array_init(&names, cf->pool, 4, sizeof(ngx_str_t)) != NGX_OK) {
        return NGX_ERROR;
    }

    p = text.data;
    end = text.data + text.len;

    while (p < end) {
        word = p;
        p = ngx_strlchr(p, end, '\n');
        p = p ? p + 1 : end;

        if (p - word < 12
            || ngx_strncmp(word, "nameserver", 10) != 0
            || (word[10] != ' ' && word[10] != '\t'))
        {
            continue;
        }

        word += 11;

        while (word < p && (*word == ' ' || *word == '\t')) {
            word++;
        }

        path.data = word;

        while (word < p && *word > ' ') {
            word++;
        }

        path.len = word - path.data;

        /* addresses with a scope are not for NGINX */

        if (ngx_parse_addr(cf->pool, &addr, path.data, path.len) != NGX_OK) {
            continue;
        }

        name = ngx_array_push(&names);
        if (name == NULL) {
            return NGX_ERROR;
        }

        name->data = ngx_pnalloc(cf->pool, path.len + 2);
        if (name->data == NULL) {
            return NGX_ERROR;
        }

        name->len = ngx_sprintf(name->data,
                                addr.sockaddr->sa_family == AF_INET ? "%V"
                                                                    : "[%V]",
                                &path)
                    - name->data;
    }

    if (names.nelts == 0) {
        return NGX_OK;
    }

    conf->system_resolver = ngx_resolver_create(cf, names.elts, names.nelts);

    return conf->system_resolver ? NGX_OK : NGX_ERROR;
}


#if (NGX_SSL)

static ngx_int_t
ngx_proxywasm_callout_ssl(ngx_conf_t *cf, ngx_proxywasm_callout_conf_t *conf)
{
    ngx_pool_cleanup_t  *cln;

    conf->ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (conf->ssl == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    conf->ssl->log = cf->log;

    if (ngx_ssl_create(conf->ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = conf->ssl;

    if (conf->trusted_certificate.len) {

        if (ngx_ssl_trusted_certificate(cf, conf->ssl,
                                        &conf->trusted_certificate, 9)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

    } else if (SSL_CTX_set_default_verify_paths(conf->ssl->ctx) == 0) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "SSL_CTX_set_default_verify_paths() failed");
        return NGX_ERROR;
    }

    if ((!conf->verify_cert || !conf->verify_host) && !conf->no_verify_warn) {
        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "tls certificates of callouts are not verified%s, since "
                      "\"tls_verify_%s\" is off",
                      conf->verify_cert ? " to be the host's" : "",
                      conf->verify_cert ? "host" : "cert");
    }

    return NGX_OK;
}

#endif
