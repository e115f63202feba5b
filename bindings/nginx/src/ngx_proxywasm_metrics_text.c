/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Metrics in the text exposition format of Prometheus, version 0.0.4, with the
 * rules of the library's own registry for names that Prometheus does not
 * allow, or that become equal.
 */


#include "ngx_proxywasm_metrics.h"


typedef struct {
    ngx_proxywasm_metric_t  *metric;
    ngx_uint_t               number;     /* in the order of definition */
    ngx_str_t                name;       /* as Prometheus allows it */
    ngx_uint_t               written;
} ngx_proxywasm_series_t;


typedef struct {
    ngx_pool_t              *pool;
    ngx_proxywasm_series_t **sorted;     /* by name, type and number */
    ngx_uint_t               count;
    proxywasm_sink_fn        sink;
    void                    *data;
} ngx_proxywasm_text_t;


static int ngx_libc_cdecl ngx_proxywasm_cmp_series(const void *one,
    const void *two);
static void ngx_proxywasm_print(ngx_proxywasm_text_t *text, const char *fmt,
    ...);
static ngx_int_t ngx_proxywasm_render_family(ngx_proxywasm_text_t *text,
    ngx_uint_t from);
static void ngx_proxywasm_render_one(ngx_proxywasm_text_t *text,
    ngx_proxywasm_metric_t *metric, ngx_str_t *name, ngx_str_t *label);


static const char  *ngx_proxywasm_metric_types[] = {
    "counter", "gauge", "histogram"
};


/* Names stand in the order in which they were defined first. */

ngx_int_t
ngx_proxywasm_render_metrics(ngx_proxywasm_conf_t *conf, ngx_pool_t *pool,
    proxywasm_sink_fn sink, void *data)
{
    u_char                  *p;
    ngx_int_t                rc;
    ngx_uint_t               i, k, n, *places;
    ngx_proxywasm_text_t     text;
    ngx_proxywasm_metric_t  *metric;
    ngx_proxywasm_series_t  *series;

    if (conf->metrics == NULL) {
        return NGX_OK;
    }

    for (n = 0; ngx_proxywasm_metric(conf, n); n++) { /* void */ }

    if (n == 0) {
        return NGX_OK;
    }

    series = ngx_palloc(pool, n * sizeof(ngx_proxywasm_series_t));
    places = ngx_palloc(pool, n * sizeof(ngx_uint_t));
    text.sorted = ngx_palloc(pool, n * sizeof(ngx_proxywasm_series_t *));
    if (series == NULL || places == NULL || text.sorted == NULL) {
        return NGX_ERROR;
    }

    text.pool = pool;
    text.count = n;
    text.sink = sink;
    text.data = data;

    for (i = 0; i < n; i++) {
        metric = ngx_proxywasm_metric(conf, i);

        series[i].metric = metric;
        series[i].number = i;
        series[i].written = 0;
        text.sorted[i] = &series[i];

        series[i].name.data = ngx_pnalloc(pool, metric->name_len + 1);
        if (series[i].name.data == NULL) {
            return NGX_ERROR;
        }

        p = series[i].name.data;
        ngx_memcpy(p, ngx_proxywasm_metric_name(metric), metric->name_len);

        for (k = 0; k < metric->name_len; k++) {
            if (!((p[k] >= 'a' && p[k] <= 'z') || (p[k] >= 'A' && p[k] <= 'Z')
                  || (p[k] >= '0' && p[k] <= '9') || p[k] == ':'))
            {
                p[k] = '_';
            }
        }

        series[i].name.len = metric->name_len;

        if (metric->name_len == 0 || (p[0] >= '0' && p[0] <= '9')) {
            ngx_memmove(p + 1, p, metric->name_len);
            p[0] = '_';
            series[i].name.len++;
        }
    }

    ngx_qsort(text.sorted, n, sizeof(ngx_proxywasm_series_t *),
              ngx_proxywasm_cmp_series);

    for (i = 0; i < n; i++) {
        places[text.sorted[i]->number] = i;
    }

    for (i = 0; i < n; i++) {
        if (series[i].written) {
            continue;
        }

        /* its family's first one is it: the order within is that of numbers */

        rc = ngx_proxywasm_render_family(&text, places[i]);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


static int ngx_libc_cdecl
ngx_proxywasm_cmp_series(const void *one, const void *two)
{
    ngx_int_t                rc;
    ngx_proxywasm_series_t  *a, *b;

    a = *(ngx_proxywasm_series_t **) one;
    b = *(ngx_proxywasm_series_t **) two;

    rc = ngx_memn2cmp(a->name.data, b->name.data, a->name.len, b->name.len);
    if (rc) {
        return rc;
    }

    if (a->metric->type != b->metric->type) {
        return a->metric->type < b->metric->type ? -1 : 1;
    }

    return a->number < b->number ? -1 : 1;
}


/* The first of a name in the sorted order, NULL when there is none. */

static ngx_proxywasm_series_t **
ngx_proxywasm_find_series(ngx_proxywasm_text_t *text, u_char *name, size_t len)
{
    ngx_int_t                 rc;
    ngx_uint_t                low, high, middle;
    ngx_proxywasm_series_t   *series;

    low = 0;
    high = text->count;

    while (low < high) {
        middle = (low + high) / 2;
        series = text->sorted[middle];
        rc = ngx_memn2cmp(series->name.data, name, series->name.len, len);

        if (rc < 0) {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    if (low == text->count) {
        return NULL;
    }

    series = text->sorted[low];

    return ngx_memn2cmp(series->name.data, name, series->name.len, len) == 0
           ? &text->sorted[low] : NULL;
}


/*
 * A name that another type has before this one, or that is a line of some
 * histogram, is that of another family.
 */

static ngx_uint_t
ngx_proxywasm_is_taken(ngx_proxywasm_text_t *text,
    ngx_proxywasm_series_t *series)
{
    size_t                    len;
    ngx_uint_t                i;
    ngx_proxywasm_series_t  **found, **end;

    static ngx_str_t  suffixes[] = {
        ngx_string("_bucket"), ngx_string("_sum"), ngx_string("_count")
    };

    found = ngx_proxywasm_find_series(text, series->name.data,
                                      series->name.len);

    if (found && (*found)->metric->type != series->metric->type) {
        return 1;
    }

    end = text->sorted + text->count;

    for (i = 0; i < 3; i++) {
        if (series->name.len <= suffixes[i].len) {
            continue;
        }

        len = series->name.len - suffixes[i].len;

        if (ngx_memcmp(series->name.data + len, suffixes[i].data,
                       suffixes[i].len)
            != 0)
        {
            continue;
        }

        for (found = ngx_proxywasm_find_series(text, series->name.data, len);
             found && found < end
             && (*found)->name.len == len
             && ngx_memcmp((*found)->name.data, series->name.data, len) == 0;
             found++)
        {
            if ((*found)->metric->type == PROXYWASM_METRIC_TYPE_HISTOGRAM) {
                return 1;
            }
        }
    }

    return 0;
}


static ngx_int_t
ngx_proxywasm_family_name(ngx_proxywasm_text_t *text,
    ngx_proxywasm_series_t *series, ngx_str_t *name)
{
    u_char      *p;
    ngx_uint_t   i;

    *name = series->name;

    if (!ngx_proxywasm_is_taken(text, series)) {
        return NGX_OK;
    }

    name->data = ngx_pnalloc(text->pool, series->name.len
                                         + sizeof("_histogram_") - 1
                                         + NGX_INT_T_LEN);
    if (name->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(name->data, "%V_%s", &series->name,
                    ngx_proxywasm_metric_types[series->metric->type]);
    name->len = p - name->data;

    for (i = 2; ngx_proxywasm_find_series(text, name->data, name->len); i++) {
        name->len = ngx_sprintf(p, "_%ui", i) - name->data;
    }

    return NGX_OK;
}


/* The name as the plugin gave it, in bytes that are text. */

static ngx_int_t
ngx_proxywasm_label(ngx_pool_t *pool, ngx_proxywasm_metric_t *metric,
    ngx_str_t *label)
{
    u_char   *p, *name;
    size_t    i;

    label->data = ngx_pnalloc(pool, sizeof("raw_name=\"\"") - 1
                                    + metric->name_len * 5);
    if (label->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(label->data, "raw_name=\"", sizeof("raw_name=\"") - 1);
    name = ngx_proxywasm_metric_name(metric);

    /* escaped as bytes first, then once more as Prometheus wants it */

    for (i = 0; i < metric->name_len; i++) {
        if (name[i] == '"') {
            p = ngx_cpymem(p, "\\\\\\\"", 4);

        } else if (name[i] == '\\') {
            p = ngx_cpymem(p, "\\\\\\\\", 4);

        } else if (name[i] < 0x20 || name[i] > 0x7e) {
            p = ngx_sprintf(p, "\\\\x%02xi", (ngx_int_t) name[i]);

        } else {
            *p++ = name[i];
        }
    }

    *p++ = '"';
    label->len = p - label->data;

    return NGX_OK;
}


static ngx_int_t
ngx_proxywasm_render_family(ngx_proxywasm_text_t *text, ngx_uint_t from)
{
    ngx_str_t                name, label;
    ngx_uint_t               i, to;
    ngx_proxywasm_series_t  *first, *series;

    first = text->sorted[from];

    for (to = from + 1; to < text->count; to++) {
        series = text->sorted[to];

        if (series->metric->type != first->metric->type
            || series->name.len != first->name.len
            || ngx_memcmp(series->name.data, first->name.data, first->name.len)
               != 0)
        {
            break;
        }
    }

    if (ngx_proxywasm_family_name(text, first, &name) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_proxywasm_print(text, "# TYPE %V %s\n", &name,
                        ngx_proxywasm_metric_types[first->metric->type]);

    for (i = from; i < to; i++) {
        series = text->sorted[i];
        ngx_str_null(&label);

        if (to - from > 1
            && ngx_proxywasm_label(text->pool, series->metric, &label)
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_proxywasm_render_one(text, series->metric, &name, &label);
        series->written = 1;
    }

    return NGX_OK;
}


static void
ngx_proxywasm_render_one(ngx_proxywasm_text_t *text,
    ngx_proxywasm_metric_t *metric, ngx_str_t *name, ngx_str_t *label)
{
    char        *open, *close, *comma;
    uint64_t     value, sum;
    ngx_uint_t   i;

    open = label->len ? "{" : "";
    close = label->len ? "}" : "";
    comma = label->len ? "," : "";
    value = __atomic_load_n(&metric->values[0], __ATOMIC_RELAXED);

    switch (metric->type) {

    case PROXYWASM_METRIC_TYPE_COUNTER:
        ngx_proxywasm_print(text, "%V%s%V%s %uL\n", name, open, label, close,
                            value);
        return;

    case PROXYWASM_METRIC_TYPE_GAUGE:
        ngx_proxywasm_print(text, "%V%s%V%s %L\n", name, open, label, close,
                            (int64_t) value);
        return;
    }

    sum = value;
    value = 0;

    for (i = 0; i <= NGX_PROXYWASM_BUCKETS; i++) {
        value += __atomic_load_n(&metric->values[1 + i], __ATOMIC_RELAXED);

        ngx_proxywasm_print(text, "%V_bucket{%V%sle=\"", name, label, comma);

        if (i == 0) {
            ngx_proxywasm_print(text, "0.5");

        } else if (i < NGX_PROXYWASM_BUCKETS) {
            ngx_proxywasm_print(text, "%uL", ngx_proxywasm_buckets[i]);

        } else {
            ngx_proxywasm_print(text, "+Inf");
        }

        ngx_proxywasm_print(text, "\"} %uL\n", value);
    }

    /* the count is what the buckets add up to, while others go on recording */

    ngx_proxywasm_print(text, "%V_sum%s%V%s %uL\n", name, open, label, close,
                        sum);
    ngx_proxywasm_print(text, "%V_count%s%V%s %uL\n", name, open, label, close,
                        value);
}


/* Names have no limit but the zone's, so strings go out as they are. */

static void
ngx_proxywasm_print(ngx_proxywasm_text_t *text, const char *fmt, ...)
{
    u_char          *end;
    va_list          args;
    ngx_str_t       *str;
    const char      *p, *s;
    u_char           number[NGX_INT64_LEN];
    proxywasm_slice  bytes;

    va_start(args, fmt);

    for (p = fmt; *p; ) {

        if (*p != '%') {
            bytes.data = (const uint8_t *) p;
            while (*p && *p != '%') {
                p++;
            }
            bytes.len = (const uint8_t *) p - bytes.data;

        } else if (p[1] == 'V') {
            str = va_arg(args, ngx_str_t *);
            bytes = ngx_proxywasm_slice(*str);
            p += 2;

        } else if (p[1] == 's') {
            s = va_arg(args, const char *);
            bytes.data = (const uint8_t *) s;
            bytes.len = ngx_strlen(s);
            p += 2;

        } else {
            if (p[1] == 'u') {
                end = ngx_sprintf(number, "%uL", va_arg(args, uint64_t));
                p += 3;

            } else {
                end = ngx_sprintf(number, "%L", va_arg(args, int64_t));
                p += 2;
            }

            bytes.data = number;
            bytes.len = end - number;
        }

        if (bytes.len) {
            text->sink(text->data, bytes);
        }
    }

    va_end(args);
}
