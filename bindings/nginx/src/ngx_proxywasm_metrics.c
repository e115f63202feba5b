/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Metrics of all workers: values that each changes with atomic operations.
 * Metrics are never removed, and stand in memory in the order in which they
 * were defined.  Only definitions take the lock.
 */


#include "ngx_proxywasm_metrics.h"


/* An id is the number of a metric, then its type. */
#define NGX_PROXYWASM_METRIC_TYPE_BITS  2


typedef struct {
    ngx_proxywasm_area_t  area;
    uint32_t              max;
    uint32_t              count;
    uint32_t              mask;
    size_t                places;      /* of the hash table: where it is */
    size_t                used;
    uint32_t              metrics[1];  /* where they are, in units of 8 */
} ngx_proxywasm_metrics_t;


#define ngx_proxywasm_metric_at(m, unit)                                      \
    ((ngx_proxywasm_metric_t *) ((u_char *) (m) + (size_t) (unit) * 8))

#define ngx_proxywasm_metric_places(m)                                        \
    ((uint32_t *) ((u_char *) (m) + (m)->places))


static int32_t ngx_proxywasm_metric_define(void *user_data, int32_t type,
    proxywasm_slice name, uint32_t *out_id);
static int32_t ngx_proxywasm_metric_increment(void *user_data, uint32_t id,
    int64_t delta);
static int32_t ngx_proxywasm_metric_record(void *user_data, uint32_t id,
    uint64_t value);
static int32_t ngx_proxywasm_metric_get(void *user_data, uint32_t id,
    uint64_t *out_value);


/*
 * The highest value of each bucket; another one takes what is above.  They are
 * those of the library's own registry: Envoy's, and decades above them.  Values
 * are integers, so the first one is Envoy's 0.5.
 */
const uint64_t  ngx_proxywasm_buckets[NGX_PROXYWASM_BUCKETS] = {
    0, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000,
    300000, 600000, 1800000, 3600000, 10000000, 100000000, 1000000000,
    10000000000
};


void
ngx_proxywasm_metrics_fill_host(proxywasm_host *host)
{
    host->define_metric = ngx_proxywasm_metric_define;
    host->increment_metric = ngx_proxywasm_metric_increment;
    host->record_metric = ngx_proxywasm_metric_record;
    host->get_metric = ngx_proxywasm_metric_get;
}


ngx_int_t
ngx_proxywasm_metrics_init(ngx_proxywasm_area_t *area)
{
    size_t                    places;
    ngx_proxywasm_metrics_t  *m;

    m = (ngx_proxywasm_metrics_t *) area;

    /* a counter with a name of medium length takes 64 bytes */

    m->max = area->size / 64;
    m->count = 0;

    for (places = 16; places < m->max / 2; places *= 2) { /* void */ }

    m->mask = places - 1;
    m->places = ngx_align(offsetof(ngx_proxywasm_metrics_t, metrics)
                          + m->max * sizeof(uint32_t), 8);
    m->used = ngx_align(m->places + places * sizeof(uint32_t), 8);

    ngx_memzero(ngx_proxywasm_metric_places(m), places * sizeof(uint32_t));

    return m->used < area->size ? NGX_OK : NGX_ERROR;
}


/* A place of the hash table that was not written is written again. */

void
ngx_proxywasm_metrics_repair(ngx_proxywasm_area_t *area)
{
    uint32_t                  i, *place;
    ngx_proxywasm_metric_t   *metric;
    ngx_proxywasm_metrics_t  *m;

    m = (ngx_proxywasm_metrics_t *) area;

    ngx_memzero(ngx_proxywasm_metric_places(m),
                ((size_t) m->mask + 1) * sizeof(uint32_t));

    for (i = 0; i < m->count; i++) {
        metric = ngx_proxywasm_metric_at(m, m->metrics[i]);
        place = &ngx_proxywasm_metric_places(m)[metric->hash & m->mask];

        metric->link = *place;
        *place = i + 1;
    }
}


static ngx_proxywasm_zone_t *
ngx_proxywasm_metrics_zone(ngx_cycle_t *cycle)
{
    ngx_proxywasm_conf_t  *conf;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cycle->conf_ctx,
                                                 ngx_proxywasm_module);
    return conf->metrics;
}


/* For the order of definition: NULL behind the last one. */

ngx_proxywasm_metric_t *
ngx_proxywasm_metric(ngx_proxywasm_conf_t *conf, ngx_uint_t n)
{
    ngx_proxywasm_metrics_t  *m;

    m = (ngx_proxywasm_metrics_t *) conf->metrics->area;

    if (n >= __atomic_load_n(&m->count, __ATOMIC_ACQUIRE)) {
        return NULL;
    }

    return ngx_proxywasm_metric_at(m, m->metrics[n]);
}


static ngx_proxywasm_metric_t *
ngx_proxywasm_metric_of(ngx_cycle_t *cycle, uint32_t id)
{
    uint32_t                  number;
    ngx_proxywasm_metric_t   *metric;
    ngx_proxywasm_metrics_t  *m;

    m = (ngx_proxywasm_metrics_t *) ngx_proxywasm_metrics_zone(cycle)->area;

    number = id >> NGX_PROXYWASM_METRIC_TYPE_BITS;

    if (number == 0
        || number > __atomic_load_n(&m->count, __ATOMIC_ACQUIRE))
    {
        return NULL;
    }

    metric = ngx_proxywasm_metric_at(m, m->metrics[number - 1]);

    if (metric->type != (id & ((1 << NGX_PROXYWASM_METRIC_TYPE_BITS) - 1))) {
        return NULL;
    }

    return metric;
}


/* The number of a new metric; 0 if there is no room. */

static uint32_t
ngx_proxywasm_metric_make(ngx_proxywasm_metrics_t *m, uint32_t hash,
    int32_t type, proxywasm_slice name)
{
    size_t                   size;
    uint32_t                *place, number;
    ngx_proxywasm_metric_t  *metric;

    size = sizeof(ngx_proxywasm_metric_t)
           + ngx_proxywasm_metric_values(type) * sizeof(uint64_t) + name.len;
    size = ngx_align(size, 8);

    if (m->count == m->max || size > m->area.size - m->used) {
        return 0;
    }

    number = m->count + 1;
    place = &ngx_proxywasm_metric_places(m)[hash & m->mask];
    metric = (ngx_proxywasm_metric_t *) ((u_char *) m + m->used);

    ngx_memzero(metric, size);

    metric->link = *place;
    metric->hash = hash;
    metric->type = type;
    metric->name_len = name.len;

    if (name.len) {
        ngx_memcpy(ngx_proxywasm_metric_name(metric), name.data, name.len);
    }

    /* repair makes the table of what is counted */

    m->metrics[m->count] = m->used / 8;
    m->used += size;
    ngx_proxywasm_publish(&m->count, number);

    *place = number;

    return number;
}


/* ---- callbacks ---- */

static int32_t
ngx_proxywasm_metric_define(void *user_data, int32_t type,
    proxywasm_slice name, uint32_t *out_id)
{
    u_char                    kind;
    uint32_t                  hash, number;
    ngx_proxywasm_conf_t     *conf;
    ngx_proxywasm_zone_t     *zone;
    ngx_proxywasm_metric_t   *metric;
    ngx_proxywasm_metrics_t  *m;

    conf = (ngx_proxywasm_conf_t *)
               ngx_get_conf(((ngx_cycle_t *) user_data)->conf_ctx,
                            ngx_proxywasm_module);
    zone = conf->metrics;
    m = (ngx_proxywasm_metrics_t *) zone->area;

    if (name.len > (size_t) conf->metrics_name_length) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "a metric's name has %uz bytes, and "
                      "\"max_metric_name_length\" is %i",
                      name.len, conf->metrics_name_length);
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    kind = (u_char) type;
    hash = ngx_proxywasm_hash(&m->area, (proxywasm_slice) { &kind, 1 },
                              name);

    if (ngx_proxywasm_lock(zone) != NGX_OK) {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    number = ngx_proxywasm_metric_places(m)[hash & m->mask];

    while (number) {
        metric = ngx_proxywasm_metric_at(m, m->metrics[number - 1]);

        if (metric->hash == hash
            && metric->type == (uint32_t) type
            && metric->name_len == name.len
            && ngx_memcmp(ngx_proxywasm_metric_name(metric), name.data,
                          name.len)
               == 0)
        {
            break;
        }

        number = metric->link;
    }

    if (number == 0) {
        number = ngx_proxywasm_metric_make(m, hash, type, name);
    }

    ngx_proxywasm_unlock(zone);

    if (number == 0) {
        ngx_proxywasm_full(zone, "slab_size");
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    *out_id = number << NGX_PROXYWASM_METRIC_TYPE_BITS | (uint32_t) type;

    return PROXYWASM_STATUS_OK;
}


static int32_t
ngx_proxywasm_metric_increment(void *user_data, uint32_t id, int64_t delta)
{
    ngx_proxywasm_metric_t  *metric;

    metric = ngx_proxywasm_metric_of(user_data, id);

    if (metric == NULL) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    if (metric->type == PROXYWASM_METRIC_TYPE_HISTOGRAM
        || (metric->type == PROXYWASM_METRIC_TYPE_COUNTER && delta <= 0))
    {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    (void) __atomic_fetch_add(&metric->values[0], (uint64_t) delta,
                              __ATOMIC_RELAXED);

    return PROXYWASM_STATUS_OK;
}


static int32_t
ngx_proxywasm_metric_record(void *user_data, uint32_t id, uint64_t value)
{
    ngx_uint_t               i;
    ngx_proxywasm_metric_t  *metric;

    metric = ngx_proxywasm_metric_of(user_data, id);

    if (metric == NULL) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    switch (metric->type) {

    case PROXYWASM_METRIC_TYPE_COUNTER:
        (void) __atomic_fetch_add(&metric->values[0], value, __ATOMIC_RELAXED);
        break;

    case PROXYWASM_METRIC_TYPE_GAUGE:
        __atomic_store_n(&metric->values[0], value, __ATOMIC_RELAXED);
        break;

    default:

        for (i = 0; i < NGX_PROXYWASM_BUCKETS; i++) {
            if (value <= ngx_proxywasm_buckets[i]) {
                break;
            }
        }

        /* the sum, then a count for each bucket */

        (void) __atomic_fetch_add(&metric->values[0], value, __ATOMIC_RELAXED);
        (void) __atomic_fetch_add(&metric->values[1 + i], 1, __ATOMIC_RELAXED);
    }

    return PROXYWASM_STATUS_OK;
}


static int32_t
ngx_proxywasm_metric_get(void *user_data, uint32_t id, uint64_t *out_value)
{
    ngx_proxywasm_metric_t  *metric;

    metric = ngx_proxywasm_metric_of(user_data, id);

    if (metric == NULL) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    if (metric->type == PROXYWASM_METRIC_TYPE_HISTOGRAM) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    *out_value = __atomic_load_n(&metric->values[0], __ATOMIC_RELAXED);

    return PROXYWASM_STATUS_OK;
}
