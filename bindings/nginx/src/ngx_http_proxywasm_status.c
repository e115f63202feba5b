/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * proxy_wasm_metrics and proxy_wasm_status: what plugins count, and how they
 * are.
 */


#include "ngx_http_proxywasm.h"
#include <sys/resource.h>


/* A text that grows. */
typedef struct {
    ngx_pool_t     *pool;
    ngx_chain_t    *first;
    ngx_chain_t   **next;
    ngx_buf_t      *buf;
    off_t           len;
    ngx_uint_t      failed;
} ngx_http_proxywasm_text_t;


static ngx_int_t ngx_http_proxywasm_metrics_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_proxywasm_status_handler(ngx_http_request_t *r);
static void ngx_http_proxywasm_status_plugins(ngx_http_proxywasm_text_t *text,
    ngx_proxywasm_conf_t *conf);
static ngx_int_t ngx_http_proxywasm_begin_text(ngx_http_request_t *r,
    ngx_http_proxywasm_text_t *text);
static void ngx_http_proxywasm_append(void *data, proxywasm_slice bytes);
static void ngx_http_proxywasm_print(ngx_http_proxywasm_text_t *text,
    const char *fmt, ...);
static void ngx_http_proxywasm_print_string(ngx_http_proxywasm_text_t *text,
    ngx_str_t *string);
static ngx_int_t ngx_http_proxywasm_send_text(ngx_http_request_t *r,
    ngx_http_proxywasm_text_t *text, ngx_str_t *type);


/* ---- directives ---- */

char *
ngx_http_proxywasm_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_proxywasm_metrics_handler;

    return NGX_CONF_OK;
}


char *
ngx_http_proxywasm_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_proxywasm_status_handler;

    return NGX_CONF_OK;
}


/* ---- handlers ---- */

/* In the text format of Prometheus. */

static ngx_int_t
ngx_http_proxywasm_metrics_handler(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    ngx_proxywasm_conf_t       *conf;
    ngx_http_proxywasm_text_t   text;

    static ngx_str_t  type = ngx_string("text/plain; version=0.0.4");

    rc = ngx_http_proxywasm_begin_text(r, &text);
    if (rc != NGX_OK) {
        return rc;
    }

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                 ngx_proxywasm_module);

    if (ngx_proxywasm_render_metrics(conf, r->pool, ngx_http_proxywasm_append,
                                     &text)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_proxywasm_send_text(r, &text, &type);
}


/* Tells of the worker that answers. */

static ngx_int_t
ngx_http_proxywasm_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                   rc;
    struct rusage               usage;
    ngx_proxywasm_conf_t       *conf;
    proxywasm_worker_stats      stats;
    ngx_http_proxywasm_text_t   text;

    static ngx_str_t  type = ngx_string("application/json");

    rc = ngx_http_proxywasm_begin_text(r, &text);
    if (rc != NGX_OK) {
        return rc;
    }

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                 ngx_proxywasm_module);

    ngx_memzero(&stats, sizeof(proxywasm_worker_stats));
    stats.struct_size = sizeof(proxywasm_worker_stats);

    if (ngx_proxywasm_worker
        && proxywasm_worker_get_stats(ngx_proxywasm_worker, &stats)
           != PROXYWASM_RESULT_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (getrusage(RUSAGE_SELF, &usage) == -1) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_proxywasm_print(&text, "{\"version\":\"%s\",\"nginx\":\"%s\","
                             "\"workers\":[{\"pid\":%P,",
                             proxywasm_version(), NGINX_VERSION, ngx_pid);

    ngx_http_proxywasm_print(&text, "\"cpu_ms\":%uL,\"vms\":%uL,"
                             "\"vms_created\":%uL,\"vms_failed\":%uL,"
                             "\"streams\":%uL,\"streams_created\":%uL,"
                             "\"callouts\":%uL,\"memory\":%uL,",
                             (uint64_t) (usage.ru_utime.tv_sec
                                         + usage.ru_stime.tv_sec) * 1000
                             + (uint64_t) (usage.ru_utime.tv_usec
                                           + usage.ru_stime.tv_usec) / 1000,
                             stats.vms, stats.vms_created, stats.vms_failed,
                             stats.streams, stats.streams_created,
                             stats.callouts, stats.memory);

    ngx_http_proxywasm_status_plugins(&text, conf);

    ngx_http_proxywasm_print(&text, "}]}\n");

    return ngx_http_proxywasm_send_text(r, &text, &type);
}


static void
ngx_http_proxywasm_status_plugins(ngx_http_proxywasm_text_t *text,
    ngx_proxywasm_conf_t *conf)
{
    ngx_str_t                 *module;
    ngx_uint_t                 i;
    ngx_proxywasm_plugin_t   **plugins;
    ngx_proxywasm_options_t   *options;

    plugins = conf->plugins.elts;

    ngx_http_proxywasm_print(text, "\"plugins\":[");

    for (i = 0; i < conf->plugins.nelts; i++) {
        options = ngx_proxywasm_find_options(conf, &plugins[i]->name);
        module = options ? &options->module : &plugins[i]->name;

        ngx_http_proxywasm_print(text, "%s{\"name\":\"", i ? "," : "");
        ngx_http_proxywasm_print_string(text, &plugins[i]->name);
        ngx_http_proxywasm_print(text, "\",\"module\":\"");
        ngx_http_proxywasm_print_string(text, module);
        ngx_http_proxywasm_print(text, "\",\"file\":\"");
        ngx_http_proxywasm_print_string(text, &plugins[i]->file);
        ngx_http_proxywasm_print(text, "\",\"line\":%ui,\"failures\":%ui,"
                                 "\"last_failure\":",
                                 plugins[i]->line, plugins[i]->failures);

        if (plugins[i]->failures) {
            ngx_http_proxywasm_print(text, "\"%s\"}",
                             proxywasm_result_name(plugins[i]->last_failure));

        } else {
            ngx_http_proxywasm_print(text, "null}");
        }
    }

    ngx_http_proxywasm_print(text, "]");
}


/* ---- texts ---- */

static ngx_int_t
ngx_http_proxywasm_begin_text(ngx_http_request_t *r,
    ngx_http_proxywasm_text_t *text)
{
    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    ngx_memzero(text, sizeof(ngx_http_proxywasm_text_t));
    text->pool = r->pool;
    text->next = &text->first;

    return ngx_http_discard_request_body(r);
}


static void
ngx_http_proxywasm_append(void *data, proxywasm_slice bytes)
{
    ngx_http_proxywasm_text_t *text = data;

    size_t         n;
    ngx_chain_t   *cl;
    const u_char  *p;

    p = bytes.data;

    while (bytes.len && !text->failed) {

        if (text->buf == NULL || text->buf->last == text->buf->end) {
            cl = ngx_alloc_chain_link(text->pool);
            text->buf = ngx_create_temp_buf(text->pool, ngx_pagesize);

            if (cl == NULL || text->buf == NULL) {
                text->failed = 1;
                return;
            }

            cl->buf = text->buf;
            cl->next = NULL;
            *text->next = cl;
            text->next = &cl->next;
        }

        n = ngx_min(bytes.len, (size_t) (text->buf->end - text->buf->last));
        text->buf->last = ngx_cpymem(text->buf->last, p, n);
        text->len += n;

        p += n;
        bytes.len -= n;
    }
}


static void
ngx_http_proxywasm_print(ngx_http_proxywasm_text_t *text, const char *fmt, ...)
{
    u_char           *end;
    va_list           args;
    u_char            buf[512];
    proxywasm_slice   bytes;

    va_start(args, fmt);
    end = ngx_vslprintf(buf, buf + sizeof(buf), fmt, args);
    va_end(args);

    bytes.data = buf;
    bytes.len = end - buf;

    ngx_http_proxywasm_append(text, bytes);
}


/* As the inside of a string of JSON. */

static void
ngx_http_proxywasm_print_string(ngx_http_proxywasm_text_t *text,
    ngx_str_t *string)
{
    size_t     extra;
    ngx_str_t  escaped;

    extra = ngx_escape_json(NULL, string->data, string->len);

    escaped.len = string->len + extra;
    escaped.data = ngx_pnalloc(text->pool, escaped.len);
    if (escaped.data == NULL) {
        text->failed = 1;
        return;
    }

    (void) ngx_escape_json(escaped.data, string->data, string->len);

    ngx_http_proxywasm_append(text, ngx_proxywasm_slice(escaped));
}


static ngx_int_t
ngx_http_proxywasm_send_text(ngx_http_request_t *r,
    ngx_http_proxywasm_text_t *text, ngx_str_t *type)
{
    ngx_int_t  rc;

    if (text->failed) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = text->len;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    if (text->first == NULL) {
        return ngx_http_send_special(r, NGX_HTTP_LAST);
    }

    text->buf->last_buf = r == r->main;
    text->buf->last_in_chain = 1;

    return ngx_http_output_filter(r, text->first);
}
