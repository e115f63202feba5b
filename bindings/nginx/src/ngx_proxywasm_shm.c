/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Zones of shared memory: the directives that declare them, and their locks.
 */


#include "ngx_proxywasm_shm.h"


/* Zones that nobody has declared. */
#define NGX_PROXYWASM_KV_SIZE       (16 * 1024 * 1024)
#define NGX_PROXYWASM_QUEUE_SIZE    (16 * 1024 * 1024)
#define NGX_PROXYWASM_METRICS_SIZE  (5 * 1024 * 1024)
#define NGX_PROXYWASM_MIN_PAGES     3
#define NGX_PROXYWASM_NAME_LENGTH   256
#define NGX_PROXYWASM_NAME_MIN      6


static void ngx_proxywasm_on_bell(ngx_event_t *ev);
static ngx_int_t ngx_proxywasm_check_size(ngx_conf_t *cf, size_t *size);
static ngx_int_t ngx_proxywasm_add_zone(ngx_conf_t *cf,
    ngx_proxywasm_conf_t *conf, ngx_uint_t type, ngx_str_t *name, size_t size,
    ngx_uint_t eviction);
static ngx_int_t ngx_proxywasm_init_zone(ngx_shm_zone_t *shm, void *data);
static ngx_int_t ngx_proxywasm_repair(ngx_proxywasm_zone_t *zone);


static ngx_str_t  ngx_proxywasm_evictions[] = {
    ngx_string("eviction=slru"),
    ngx_string("eviction=lru"),
    ngx_string("eviction=none")
};

static const char  *ngx_proxywasm_zone_types[] = { "kv", "queue", "metrics" };


/* ---- directives ---- */

/* shm_kv and shm_queue */

char *
ngx_proxywasm_shm_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    size_t       size;
    ssize_t      parsed;
    ngx_str_t   *value;
    ngx_uint_t   type, eviction;

    value = cf->args->elts;
    type = ngx_strcmp(cmd->name.data, "shm_kv") == 0
           ? NGX_PROXYWASM_ZONE_KV : NGX_PROXYWASM_ZONE_QUEUE;
    eviction = NGX_PROXYWASM_EVICT_SLRU;

    if (value[1].len == 0 || ngx_strlchr(value[1].data,
                                         value[1].data + value[1].len, '/'))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid zone name \"%V\": it must not be empty "
                           "and have no \"/\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    parsed = ngx_parse_size(&value[2]);
    if (parsed == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid zone size \"%V\"",
                           &value[2]);
        return NGX_CONF_ERROR;
    }

    size = parsed;
    if (ngx_proxywasm_check_size(cf, &size) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 4) {

        for (eviction = NGX_PROXYWASM_EVICT_SLRU;
             eviction <= NGX_PROXYWASM_EVICT_NONE; eviction++)
        {
            if (value[3].len == ngx_proxywasm_evictions[eviction].len
                && ngx_strncmp(value[3].data,
                               ngx_proxywasm_evictions[eviction].data,
                               value[3].len)
                   == 0)
            {
                break;
            }
        }

        if (eviction > NGX_PROXYWASM_EVICT_NONE) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": it must be "
                               "\"eviction=slru\", \"eviction=lru\" or "
                               "\"eviction=none\"", &value[3]);
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_proxywasm_add_zone(cf, conf, type, &value[1], size, eviction)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_proxywasm_metrics_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_proxywasm_conf_t  *pcf = conf;

    char        *rv;
    ngx_conf_t   save;

    if (pcf->metrics_block) {
        return "is duplicate";
    }

    pcf->metrics_block = 1;

    save = *cf;
    cf->cmd_type = NGX_WASM_METRICS_CONF;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (pcf->metrics_size != NGX_CONF_UNSET_SIZE
        && ngx_proxywasm_check_size(cf, &pcf->metrics_size) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (pcf->metrics_name_length != NGX_CONF_UNSET
        && pcf->metrics_name_length < NGX_PROXYWASM_NAME_MIN)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"max_metric_name_length\" must be at least %d",
                           NGX_PROXYWASM_NAME_MIN);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* At the end of wasm{}: plugins just work. */

ngx_int_t
ngx_proxywasm_default_zones(ngx_conf_t *cf, ngx_proxywasm_conf_t *conf)
{
    ngx_str_t  name = ngx_string("*");

    ngx_conf_init_size_value(conf->metrics_size, NGX_PROXYWASM_METRICS_SIZE);
    ngx_conf_init_value(conf->metrics_name_length, NGX_PROXYWASM_NAME_LENGTH);

    if (ngx_proxywasm_find_zone(conf, NGX_PROXYWASM_ZONE_KV, name.data, 1)
        == NULL
        && ngx_proxywasm_add_zone(cf, conf, NGX_PROXYWASM_ZONE_KV, &name,
                                  NGX_PROXYWASM_KV_SIZE,
                                  NGX_PROXYWASM_EVICT_SLRU)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_proxywasm_find_zone(conf, NGX_PROXYWASM_ZONE_QUEUE, name.data, 1)
        == NULL
        && ngx_proxywasm_add_zone(cf, conf, NGX_PROXYWASM_ZONE_QUEUE, &name,
                                  NGX_PROXYWASM_QUEUE_SIZE,
                                  NGX_PROXYWASM_EVICT_NONE)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_proxywasm_add_zone(cf, conf, NGX_PROXYWASM_ZONE_METRICS, &name,
                                  conf->metrics_size,
                                  NGX_PROXYWASM_EVICT_NONE);
}


/* Whole pages, and enough of them for NGINX's own head. */

static ngx_int_t
ngx_proxywasm_check_size(ngx_conf_t *cf, size_t *size)
{
    if (*size < NGX_PROXYWASM_MIN_PAGES * ngx_pagesize) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone size %uz is too small: it must be at least "
                           "%uz", *size,
                           (size_t) (NGX_PROXYWASM_MIN_PAGES * ngx_pagesize));
        return NGX_ERROR;
    }

    *size = ngx_align(*size, ngx_pagesize);

    return NGX_OK;
}


static ngx_int_t
ngx_proxywasm_add_zone(ngx_conf_t *cf, ngx_proxywasm_conf_t *conf,
    ngx_uint_t type, ngx_str_t *name, size_t size, ngx_uint_t eviction)
{
    u_char                 *p;
    ngx_str_t               full;
    ngx_proxywasm_zone_t   *zone, **slot;

    if (ngx_proxywasm_find_zone(conf, type, name->data, name->len)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone \"%V\" is defined already", name);
        return NGX_ERROR;
    }

    zone = ngx_pcalloc(cf->pool, sizeof(ngx_proxywasm_zone_t));
    slot = ngx_array_push(&conf->zones);
    full.len = sizeof("proxywasm metrics ") - 1 + name->len;
    full.data = ngx_pnalloc(cf->pool, full.len);
    if (zone == NULL || slot == NULL || full.data == NULL) {
        return NGX_ERROR;
    }

    /* others have zones too */

    p = ngx_sprintf(full.data, "proxywasm %s %V",
                    ngx_proxywasm_zone_types[type], name);
    full.len = p - full.data;

    zone->type = type;
    zone->index = conf->zones.nelts - 1;
    zone->name = *name;
    zone->eviction = eviction;
    zone->shm = ngx_shared_memory_add(cf, &full, size, &ngx_proxywasm_module);
    if (zone->shm == NULL) {
        return NGX_ERROR;
    }

    zone->shm->init = ngx_proxywasm_init_zone;
    zone->shm->data = zone;

    if (type == NGX_PROXYWASM_ZONE_METRICS) {
        conf->metrics = zone;
    }

    *slot = zone;

    return NGX_OK;
}


ngx_proxywasm_zone_t *
ngx_proxywasm_find_zone(ngx_proxywasm_conf_t *conf, ngx_uint_t type,
    const u_char *name, size_t len)
{
    ngx_uint_t              i;
    ngx_proxywasm_zone_t  **zones;

    zones = conf->zones.elts;

    for (i = 0; i < conf->zones.nelts; i++) {
        if (zones[i]->type == type
            && zones[i]->name.len == len
            && ngx_memcmp(zones[i]->name.data, name, len) == 0)
        {
            return zones[i];
        }
    }

    return NULL;
}


/* "data" is the zone of the configuration before: what it holds is kept. */

static ngx_int_t
ngx_proxywasm_init_zone(ngx_shm_zone_t *shm, void *data)
{
    ngx_proxywasm_zone_t *before = data;

    size_t                 size;
    ngx_int_t              rc;
    ngx_proxywasm_zone_t  *zone;

    zone = shm->data;
    zone->pool = (ngx_slab_pool_t *) shm->shm.addr;

    if (before) {
        zone->area = before->area;
        return NGX_OK;
    }

    if (shm->shm.exists) {
        zone->area = zone->pool->data;
        return NGX_OK;
    }

    /* all of it in one piece */

    size = zone->pool->pfree * ngx_pagesize;

    zone->area = ngx_slab_alloc(zone->pool, size);
    if (zone->area == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(zone->area, sizeof(ngx_proxywasm_area_t));
    zone->area->size = size;
    zone->area->seed = ((uint64_t) ngx_random() << 33)
                       ^ ((uint64_t) ngx_random() << 11) ^ ngx_random();

    switch (zone->type) {

    case NGX_PROXYWASM_ZONE_KV:
        rc = ngx_proxywasm_kv_init(zone->area);
        break;

    case NGX_PROXYWASM_ZONE_QUEUE:
        rc = ngx_proxywasm_queue_init(zone->area);
        break;

    default:
        rc = ngx_proxywasm_metrics_init(zone->area);
    }

    zone->pool->data = zone->area;

    return rc;
}


/* ---- workers ---- */

/*
 * Not for the master's trial of plugins: the library's own shared data and
 * metrics do for that, and go with it.
 */

void
ngx_proxywasm_shm_fill_host(proxywasm_host *host)
{
    ngx_proxywasm_kv_fill_host(host);
    ngx_proxywasm_queue_fill_host(host);
    ngx_proxywasm_metrics_fill_host(host);
}


ngx_int_t
ngx_proxywasm_shm_start(ngx_cycle_t *cycle)
{
    return ngx_proxywasm_bell_answer(cycle, ngx_proxywasm_on_bell);
}


static void
ngx_proxywasm_on_bell(ngx_event_t *ev)
{
    ngx_proxywasm_answer_stats();
    ngx_proxywasm_queue_deliver(ev);
}


/* ---- locks ---- */

ngx_int_t
ngx_proxywasm_lock(ngx_proxywasm_zone_t *zone)
{
    ngx_shmtx_lock(&zone->pool->mutex);

    if (zone->area->busy && ngx_proxywasm_repair(zone) != NGX_OK) {
        ngx_shmtx_unlock(&zone->pool->mutex);
        return NGX_ERROR;
    }

    ngx_proxywasm_publish(&zone->area->busy, 1);
    ngx_memory_barrier();

    return NGX_OK;
}


void
ngx_proxywasm_unlock(ngx_proxywasm_zone_t *zone)
{
    ngx_proxywasm_publish(&zone->area->busy, 0);

    ngx_shmtx_unlock(&zone->pool->mutex);
}


/* Whoever held the lock is gone without an unlock. */

static ngx_int_t
ngx_proxywasm_repair(ngx_proxywasm_zone_t *zone)
{
    u_char                *marks;
    uint32_t               n, used;
    ngx_proxywasm_area_t  *area;

    area = zone->area;

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "a process died while it used the zone \"%V\": "
                  "putting it in order", &zone->shm->shm.name);

    if (zone->type == NGX_PROXYWASM_ZONE_METRICS) {
        ngx_proxywasm_metrics_repair(area);
        return NGX_OK;
    }

    marks = ngx_calloc(area->blocks / 8 + 1, ngx_cycle->log);
    if (marks == NULL) {
        return NGX_ERROR;
    }

    if (zone->type == NGX_PROXYWASM_ZONE_KV) {
        ngx_proxywasm_kv_repair(area, marks);

    } else {
        ngx_proxywasm_queue_repair(area, marks);
    }

    /* free is what nothing uses */

    used = 0;
    area->free = 0;

    for (n = area->fresh; n; n--) {
        if (ngx_proxywasm_marked(marks, n)) {
            used++;

        } else {
            ngx_proxywasm_next_block(area, n) = area->free;
            area->free = n;
        }
    }

    area->nfree = area->blocks - used;

    ngx_free(marks);

    return NGX_OK;
}


/* Plugins may try again at once, and forever: a line a minute will do. */

void
ngx_proxywasm_full(ngx_proxywasm_zone_t *zone, const char *directive)
{
    if (zone->warned && ngx_time() - zone->warned < 60) {
        return;
    }

    zone->warned = ngx_time();

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "the zone \"%V\" is full: a larger size in \"%s\" helps",
                  &zone->shm->shm.name, directive);
}


/*
 * Names may come from requests: the seed keeps clients from choosing those
 * that meet in one place.  It is for finding only; names are compared whole.
 */

uint32_t
ngx_proxywasm_hash(ngx_proxywasm_area_t *area, proxywasm_slice a,
    proxywasm_slice b)
{
    size_t    i;
    uint64_t  h;

    h = area->seed ^ (a.len * 0x9e3779b97f4a7c15);

    for (i = 0; i < a.len; i++) {
        h = (h ^ a.data[i]) * 0x100000001b3;
        h ^= h >> 29;
    }

    for (i = 0; i < b.len; i++) {
        h = (h ^ b.data[i]) * 0x100000001b3;
        h ^= h >> 29;
    }

    h ^= h >> 33;
    h *= 0xff51afd7ed558ccd;

    return (uint32_t) (h >> 32);
}


/* Where values are copied to under the lock, for the library to read. */

u_char *
ngx_proxywasm_scratch(size_t len)
{
    u_char  *p;

    static u_char  *buffer;
    static size_t   capacity;

    if (buffer && len <= capacity) {
        return buffer;
    }

    len = ngx_max(len, 4096);

    p = ngx_alloc(len, ngx_cycle->log);
    if (p == NULL) {
        return NULL;
    }

    if (buffer) {
        ngx_free(buffer);
    }

    buffer = p;
    capacity = len;

    return buffer;
}
