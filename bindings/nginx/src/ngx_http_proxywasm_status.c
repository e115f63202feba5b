/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * proxy_wasm_metrics and proxy_wasm_status: what plugins count, and how they
 * are.
 */


#include "ngx_http_proxywasm.h"


/* how long other workers are waited for, and how often one looks */
#define NGX_HTTP_PROXYWASM_ANSWER_TIME  300
#define NGX_HTTP_PROXYWASM_ANSWER_STEP  2


/* A text that grows. */
typedef struct {
    ngx_pool_t     *pool;
    ngx_chain_t    *first;
    ngx_chain_t   **next;
    ngx_buf_t      *buf;
    off_t           len;
    ngx_uint_t      failed;
} ngx_http_proxywasm_text_t;


/* A request for the status, which waits for workers. */
typedef struct {
    ngx_http_request_t  *request;
    ngx_event_t          timer;
    ngx_msec_t           end;
    ngx_atomic_uint_t    number;
} ngx_http_proxywasm_asker_t;


static ngx_int_t ngx_http_proxywasm_metrics_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_proxywasm_status_handler(ngx_http_request_t *r);
static void ngx_http_proxywasm_stop_asking(void *data);
static void ngx_http_proxywasm_on_answers(ngx_event_t *ev);
static ngx_uint_t ngx_http_proxywasm_answered(
    ngx_http_proxywasm_asker_t *asker);
static ngx_int_t ngx_http_proxywasm_send_status(
    ngx_http_proxywasm_asker_t *asker);
static void ngx_http_proxywasm_add_stats(ngx_proxywasm_stats_t *sum,
    ngx_proxywasm_stats_t *stats);
static void ngx_http_proxywasm_status_counts(ngx_http_proxywasm_text_t *text,
    ngx_proxywasm_stats_t *stats);
static void ngx_http_proxywasm_status_plugins(ngx_http_proxywasm_text_t *text,
    ngx_proxywasm_conf_t *conf, ngx_proxywasm_stats_t *stats,
    ngx_uint_t whole);
static ngx_int_t ngx_http_proxywasm_accept(ngx_http_request_t *r);
static void ngx_http_proxywasm_begin_text(ngx_http_request_t *r,
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

    rc = ngx_http_proxywasm_accept(r);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_http_proxywasm_begin_text(r, &text);

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


/*
 * Other workers are asked, and given a moment to answer.  What is told of one that
 * has not, since a plugin keeps it busy, is older.
 */

static ngx_int_t
ngx_http_proxywasm_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                    rc;
    ngx_pool_cleanup_t          *cln;
    ngx_http_proxywasm_asker_t  *asker;

    rc = ngx_http_proxywasm_accept(r);
    if (rc != NGX_OK) {
        return rc;
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_proxywasm_asker_t));
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    asker = cln->data;
    ngx_memzero(asker, sizeof(ngx_http_proxywasm_asker_t));

    asker->request = r;
    asker->end = ngx_current_msec + NGX_HTTP_PROXYWASM_ANSWER_TIME;
    asker->number = ngx_proxywasm_ask_stats();

    if (ngx_http_proxywasm_answered(asker)) {
        return ngx_http_proxywasm_send_status(asker);
    }

    cln->handler = ngx_http_proxywasm_stop_asking;

    asker->timer.handler = ngx_http_proxywasm_on_answers;
    asker->timer.data = asker;
    asker->timer.log = r->connection->log;

    ngx_add_timer(&asker->timer, NGX_HTTP_PROXYWASM_ANSWER_STEP);

    r->main->count++;
    r->read_event_handler = r == r->main ? ngx_http_test_reading
                                         : ngx_http_request_empty_handler;
    r->write_event_handler = ngx_http_request_empty_handler;

    return NGX_DONE;
}


static void
ngx_http_proxywasm_stop_asking(void *data)
{
    ngx_http_proxywasm_asker_t *asker = data;

    if (asker->timer.timer_set) {
        ngx_del_timer(&asker->timer);
    }
}


static void
ngx_http_proxywasm_on_answers(ngx_event_t *ev)
{
    ngx_connection_t            *c;
    ngx_http_request_t          *r;
    ngx_http_proxywasm_asker_t  *asker;

    asker = ev->data;
    r = asker->request;
    c = r->connection;

    if ((ngx_msec_int_t) (asker->end - ngx_current_msec) > 0
        && !ngx_http_proxywasm_answered(asker))
    {
        ngx_add_timer(ev, NGX_HTTP_PROXYWASM_ANSWER_STEP);
        return;
    }

    ngx_http_set_log_request(c->log, r);

    ngx_http_finalize_request(r, ngx_http_proxywasm_send_status(asker));

    ngx_http_run_posted_requests(c);
}


static ngx_uint_t
ngx_http_proxywasm_answered(ngx_http_proxywasm_asker_t *asker)
{
    uint32_t               place;
    ngx_int_t              rc;
    ngx_proxywasm_stats_t  stats;

    place = 0;

    do {
        rc = ngx_proxywasm_next_stats(&place, asker->number, &stats);
    } while (rc == NGX_OK);

    return rc == NGX_DONE;
}


static ngx_int_t
ngx_http_proxywasm_send_status(ngx_http_proxywasm_asker_t *asker)
{
    uint32_t                    place;
    ngx_uint_t                  workers;
    ngx_http_request_t         *r;
    ngx_proxywasm_conf_t       *conf;
    ngx_proxywasm_stats_t       stats, sum;
    ngx_http_proxywasm_text_t   text;

    static ngx_str_t  type = ngx_string("application/json");

    r = asker->request;

    ngx_http_proxywasm_begin_text(r, &text);

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                 ngx_proxywasm_module);

    ngx_http_proxywasm_print(&text, "{\"version\":\"%s\",\"nginx\":\"%s\","
                             "\"workers\":[",
                             proxywasm_version(), NGINX_VERSION);

    ngx_memzero(&sum, sizeof(ngx_proxywasm_stats_t));
    workers = 0;
    place = 0;

    while (ngx_proxywasm_next_stats(&place, asker->number, &stats) != NGX_DONE)
    {
        if (workers == 0) {
            sum.cycle = stats.cycle;
            sum.plugins = stats.plugins;
        }

        ngx_http_proxywasm_print(&text, "%s{\"pid\":%P,\"quitting\":%s,"
                                 "\"age_ms\":%M,",
                                 workers++ ? "," : "", stats.pid,
                                 stats.quitting ? "true" : "false",
                                 stats.time ? ngx_current_msec - stats.time
                                            : 0);

        ngx_http_proxywasm_status_counts(&text, &stats);

        if (stats.cycle != sum.cycle) {
            /* one of another configuration, with plugins of its own */
            stats.plugins = 0;
        }

        ngx_http_proxywasm_print(&text, ",\"plugins\":");
        ngx_http_proxywasm_status_plugins(&text, conf, &stats, 0);
        ngx_http_proxywasm_print(&text, "}");

        ngx_http_proxywasm_add_stats(&sum, &stats);
    }

    ngx_http_proxywasm_print(&text, "],\"total\":{\"workers\":%ui,", workers);
    ngx_http_proxywasm_status_counts(&text, &sum);
    ngx_http_proxywasm_print(&text, "},\"plugins\":");
    ngx_http_proxywasm_status_plugins(&text, conf, &sum, 1);
    ngx_http_proxywasm_print(&text, "}\n");

    return ngx_http_proxywasm_send_text(r, &text, &type);
}


static void
ngx_http_proxywasm_add_stats(ngx_proxywasm_stats_t *sum,
    ngx_proxywasm_stats_t *stats)
{
    ngx_uint_t  i;

    sum->cpu_msec += stats->cpu_msec;
    sum->worker.vms += stats->worker.vms;
    sum->worker.vms_created += stats->worker.vms_created;
    sum->worker.vms_failed += stats->worker.vms_failed;
    sum->worker.streams += stats->worker.streams;
    sum->worker.streams_created += stats->worker.streams_created;
    sum->worker.callouts += stats->worker.callouts;
    sum->worker.memory += stats->worker.memory;

    for (i = 0; i < stats->plugins; i++) {
        sum->failures[i] += stats->failures[i];

        if (stats->failures[i]) {
            sum->last_failure[i] = stats->last_failure[i];
        }
    }
}


static void
ngx_http_proxywasm_status_counts(ngx_http_proxywasm_text_t *text,
    ngx_proxywasm_stats_t *stats)
{
    ngx_http_proxywasm_print(text, "\"cpu_ms\":%uL,\"vms\":%uL,"
                             "\"vms_created\":%uL,\"vms_failed\":%uL,"
                             "\"streams\":%uL,\"streams_created\":%uL,"
                             "\"callouts\":%uL,\"memory\":%uL",
                             stats->cpu_msec, stats->worker.vms,
                             stats->worker.vms_created,
                             stats->worker.vms_failed, stats->worker.streams,
                             stats->worker.streams_created,
                             stats->worker.callouts, stats->worker.memory);
}


/* With where they come from, or their names alone. */

static void
ngx_http_proxywasm_status_plugins(ngx_http_proxywasm_text_t *text,
    ngx_proxywasm_conf_t *conf, ngx_proxywasm_stats_t *stats,
    ngx_uint_t whole)
{
    ngx_str_t                 *module;
    ngx_uint_t                 i;
    ngx_proxywasm_plugin_t   **plugins;
    ngx_proxywasm_options_t   *options;

    plugins = conf->plugins.elts;

    ngx_http_proxywasm_print(text, "[");

    for (i = 0; i < stats->plugins; i++) {

        ngx_http_proxywasm_print(text, "%s{\"name\":\"", i ? "," : "");
        ngx_http_proxywasm_print_string(text, &plugins[i]->name);

        if (whole) {
            options = ngx_proxywasm_find_options(conf, &plugins[i]->name);
            module = options ? &options->module : &plugins[i]->name;

            ngx_http_proxywasm_print(text, "\",\"module\":\"");
            ngx_http_proxywasm_print_string(text, module);
            ngx_http_proxywasm_print(text, "\",\"file\":\"");
            ngx_http_proxywasm_print_string(text, &plugins[i]->file);
            ngx_http_proxywasm_print(text, "\",\"line\":%ui",
                                     plugins[i]->line);

        } else {
            ngx_http_proxywasm_print(text, "\"");
        }

        ngx_http_proxywasm_print(text, ",\"failures\":%uD,\"last_failure\":",
                                 stats->failures[i]);

        if (stats->failures[i]) {
            ngx_http_proxywasm_print(text, "\"%s\"}",
                             proxywasm_result_name(stats->last_failure[i]));

        } else {
            ngx_http_proxywasm_print(text, "null}");
        }
    }

    ngx_http_proxywasm_print(text, "]");
}


/* ---- texts ---- */

static ngx_int_t
ngx_http_proxywasm_accept(ngx_http_request_t *r)
{
    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    return ngx_http_discard_request_body(r);
}


static void
ngx_http_proxywasm_begin_text(ngx_http_request_t *r,
    ngx_http_proxywasm_text_t *text)
{
    ngx_memzero(text, sizeof(ngx_http_proxywasm_text_t));
    text->pool = r->pool;
    text->next = &text->first;
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
