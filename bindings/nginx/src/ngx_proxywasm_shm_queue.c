/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Shared queues.  Each is a chain of items, linked from the oldest on, and a
 * number of notices that the worker which registered it has yet to get.
 */


#include "ngx_proxywasm_shm.h"


#define NGX_PROXYWASM_QUEUES         4096
/* notices in a row before the worker looks after its connections again */
#define NGX_PROXYWASM_QUEUE_NOTICES  64

/* A token is the number of a zone, and that of a queue in it. */
#define NGX_PROXYWASM_QUEUE_BITS     20


typedef struct {
    ngx_proxywasm_area_t  area;
    uint32_t              max;
    uint32_t              count;
    uint32_t              queues[1];
} ngx_proxywasm_queues_t;


/* In front of VM id and name in a queue's first block. */
typedef struct {
    uint32_t              block;       /* the next one */
    uint32_t              hash;
    uint32_t              vm_len;
    uint32_t              name_len;
    uint32_t              first;       /* items */
    uint32_t              last;
    uint32_t              count;
    uint32_t              notices;
    uint32_t              place;       /* who gets them */
    uint32_t              pid;
    uint32_t              cycle;       /* of whose configuration */
} ngx_proxywasm_queue_t;


typedef struct {
    uint32_t              block;
    uint32_t              next;        /* item */
    uint32_t              len;
} ngx_proxywasm_item_t;


#define ngx_proxywasm_queue(q, n)                                             \
    ((ngx_proxywasm_queue_t *) ngx_proxywasm_block_at(&(q)->area, n))

#define ngx_proxywasm_item(q, n)                                              \
    ((ngx_proxywasm_item_t *) ngx_proxywasm_block_at(&(q)->area, n))


static int32_t ngx_proxywasm_queue_register(void *user_data,
    proxywasm_slice vm_id, proxywasm_slice name, uint32_t *out_queue);
static int32_t ngx_proxywasm_queue_resolve(void *user_data,
    proxywasm_slice vm_id, proxywasm_slice name, uint32_t *out_queue);
static int32_t ngx_proxywasm_queue_push(void *user_data, uint32_t token,
    proxywasm_slice value);
static int32_t ngx_proxywasm_queue_pop(void *user_data, uint32_t token,
    proxywasm_slice *out_value);


static ngx_event_t  ngx_proxywasm_queue_event;


void
ngx_proxywasm_queue_fill_host(proxywasm_host *host)
{
    ngx_proxywasm_queue_event.handler = ngx_proxywasm_queue_deliver;
    ngx_proxywasm_queue_event.log = ngx_cycle->log;

    host->register_queue = ngx_proxywasm_queue_register;
    host->resolve_queue = ngx_proxywasm_queue_resolve;
    host->enqueue = ngx_proxywasm_queue_push;
    host->dequeue = ngx_proxywasm_queue_pop;
}


ngx_int_t
ngx_proxywasm_queue_init(ngx_proxywasm_area_t *area)
{
    ngx_proxywasm_queues_t  *q;

    q = (ngx_proxywasm_queues_t *) area;

    q->max = ngx_min(NGX_PROXYWASM_QUEUES,
                     area->size / NGX_PROXYWASM_BLOCK / 2);
    q->count = 0;

    ngx_proxywasm_init_blocks(area, offsetof(ngx_proxywasm_queues_t, queues)
                                    + q->max * sizeof(uint32_t));

    return NGX_OK;
}


/* A queue that is called as a zone is in that one, all others in "*". */

static ngx_proxywasm_zone_t *
ngx_proxywasm_queue_zone(ngx_cycle_t *cycle, proxywasm_slice name)
{
    ngx_proxywasm_conf_t  *conf;
    ngx_proxywasm_zone_t  *zone;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cycle->conf_ctx,
                                                 ngx_proxywasm_module);

    zone = ngx_proxywasm_find_zone(conf, NGX_PROXYWASM_ZONE_QUEUE, name.data,
                                   name.len);

    return zone ? zone : ngx_proxywasm_find_zone(conf,
                                                 NGX_PROXYWASM_ZONE_QUEUE,
                                                 (const u_char *) "*", 1);
}


/* The zone of a token, locked, and the queue; NULL without a lock. */

static ngx_proxywasm_queue_t *
ngx_proxywasm_queue_of(ngx_cycle_t *cycle, uint32_t token,
    ngx_proxywasm_zone_t **out_zone)
{
    uint32_t                  number;
    ngx_uint_t                index;
    ngx_proxywasm_conf_t     *conf;
    ngx_proxywasm_zone_t    **zones;
    ngx_proxywasm_queues_t   *q;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cycle->conf_ctx,
                                                 ngx_proxywasm_module);
    zones = conf->zones.elts;

    index = token >> NGX_PROXYWASM_QUEUE_BITS;
    number = token & ((1 << NGX_PROXYWASM_QUEUE_BITS) - 1);

    if (index >= conf->zones.nelts
        || zones[index]->type != NGX_PROXYWASM_ZONE_QUEUE
        || ngx_proxywasm_lock(zones[index]) != NGX_OK)
    {
        return NULL;
    }

    q = (ngx_proxywasm_queues_t *) zones[index]->area;

    if (number == 0 || number > q->count) {
        ngx_proxywasm_unlock(zones[index]);
        return NULL;
    }

    *out_zone = zones[index];

    return ngx_proxywasm_queue(q, q->queues[number - 1]);
}


#define ngx_proxywasm_queue_token(zone, number)                               \
    ((uint32_t) (zone)->index << NGX_PROXYWASM_QUEUE_BITS | (number))


/* The number of a queue; 0 for none. */

static uint32_t
ngx_proxywasm_queue_find(ngx_proxywasm_queues_t *q, uint32_t hash,
    proxywasm_slice vm_id, proxywasm_slice name)
{
    uint32_t                 i;
    ngx_proxywasm_queue_t   *queue;
    ngx_proxywasm_cursor_t   cursor;

    for (i = 0; i < q->count; i++) {
        queue = ngx_proxywasm_queue(q, q->queues[i]);

        if (queue->hash != hash
            || queue->vm_len != vm_id.len
            || queue->name_len != name.len)
        {
            continue;
        }

        cursor.area = &q->area;
        cursor.block = q->queues[i];
        cursor.offset = sizeof(ngx_proxywasm_queue_t);

        if (ngx_proxywasm_equal(&cursor, vm_id)
            && ngx_proxywasm_equal(&cursor, name))
        {
            return i + 1;
        }
    }

    return 0;
}


static uint32_t
ngx_proxywasm_queue_make(ngx_proxywasm_queues_t *q, uint32_t hash,
    proxywasm_slice vm_id, proxywasm_slice name)
{
    uint32_t                 n;
    ngx_proxywasm_queue_t   *queue;
    ngx_proxywasm_cursor_t   cursor;

    if (q->count == q->max) {
        return 0;
    }

    n = ngx_proxywasm_alloc_blocks(&q->area,
            ngx_proxywasm_count_blocks(sizeof(ngx_proxywasm_queue_t),
                                       vm_id.len + name.len));
    if (n == 0) {
        return 0;
    }

    queue = ngx_proxywasm_queue(q, n);

    queue->hash = hash;
    queue->vm_len = vm_id.len;
    queue->name_len = name.len;
    queue->first = 0;
    queue->last = 0;
    queue->count = 0;
    queue->notices = 0;
    queue->place = 0;
    queue->pid = 0;
    queue->cycle = 0;

    cursor.area = &q->area;
    cursor.block = n;
    cursor.offset = sizeof(ngx_proxywasm_queue_t);

    ngx_proxywasm_write(&cursor, vm_id);
    ngx_proxywasm_write(&cursor, name);

    q->queues[q->count] = n;
    ngx_proxywasm_publish(&q->count, q->count + 1);

    return q->count;
}


/* ---- callbacks ---- */

/* The number of a queue that is found or made, and its zone, locked. */

static uint32_t
ngx_proxywasm_queue_open(ngx_cycle_t *cycle, proxywasm_slice vm_id,
    proxywasm_slice name, ngx_proxywasm_zone_t **out_zone)
{
    uint32_t                 number, hash;
    ngx_proxywasm_zone_t    *zone;
    ngx_proxywasm_queues_t  *q;

    zone = ngx_proxywasm_queue_zone(cycle, name);
    q = (ngx_proxywasm_queues_t *) zone->area;
    hash = ngx_proxywasm_hash(&q->area, vm_id, name);

    if (ngx_proxywasm_lock(zone) != NGX_OK) {
        return 0;
    }

    number = ngx_proxywasm_queue_find(q, hash, vm_id, name);

    if (number == 0) {
        number = ngx_proxywasm_queue_make(q, hash, vm_id, name);
    }

    if (number == 0) {
        ngx_proxywasm_unlock(zone);
        ngx_proxywasm_full(zone, "shm_queue");
        return 0;
    }

    *out_zone = zone;

    return number;
}


ngx_int_t
ngx_proxywasm_queue_declare(ngx_cycle_t *cycle, proxywasm_slice vm_id,
    proxywasm_slice name)
{
    ngx_proxywasm_zone_t  *zone;

    if (ngx_proxywasm_queue_open(cycle, vm_id, name, &zone) == 0) {
        return NGX_ERROR;
    }

    ngx_proxywasm_unlock(zone);

    return NGX_OK;
}


static int32_t
ngx_proxywasm_queue_register(void *user_data, proxywasm_slice vm_id,
    proxywasm_slice name, uint32_t *out_queue)
{
    uint32_t                 number;
    ngx_proxywasm_zone_t    *zone;
    ngx_proxywasm_queue_t   *queue;
    ngx_proxywasm_queues_t  *q;

    number = ngx_proxywasm_queue_open(user_data, vm_id, name, &zone);

    if (number == 0) {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    q = (ngx_proxywasm_queues_t *) zone->area;
    queue = ngx_proxywasm_queue(q, q->queues[number - 1]);

    /*
     * Of what came when nobody was there, what was lost with who was, and what
     * the workers of the configuration before may leave behind.
     */

    if (queue->cycle != ngx_proxywasm_bell_cycle
        || ((ngx_pid_t) queue->pid != ngx_pid
            && !ngx_proxywasm_bell_heard(queue->place, queue->pid)))
    {
        queue->notices = queue->count;
    }

    queue->place = ngx_proxywasm_bell_place();
    queue->pid = ngx_pid;
    queue->cycle = ngx_proxywasm_bell_cycle;

    if (queue->notices) {
        ngx_post_event(&ngx_proxywasm_queue_event, &ngx_posted_next_events);
    }

    ngx_proxywasm_unlock(zone);

    *out_queue = ngx_proxywasm_queue_token(zone, number);

    return PROXYWASM_STATUS_OK;
}


static int32_t
ngx_proxywasm_queue_resolve(void *user_data, proxywasm_slice vm_id,
    proxywasm_slice name, uint32_t *out_queue)
{
    uint32_t                 number, hash;
    ngx_proxywasm_zone_t    *zone;
    ngx_proxywasm_queues_t  *q;

    zone = ngx_proxywasm_queue_zone(user_data, name);
    q = (ngx_proxywasm_queues_t *) zone->area;
    hash = ngx_proxywasm_hash(&q->area, vm_id, name);

    if (ngx_proxywasm_lock(zone) != NGX_OK) {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    number = ngx_proxywasm_queue_find(q, hash, vm_id, name);

    ngx_proxywasm_unlock(zone);

    if (number == 0) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    *out_queue = ngx_proxywasm_queue_token(zone, number);

    return PROXYWASM_STATUS_OK;
}


static int32_t
ngx_proxywasm_queue_push(void *user_data, uint32_t token,
    proxywasm_slice value)
{
    uint32_t                 n, place;
    ngx_pid_t                pid;
    ngx_proxywasm_item_t    *item;
    ngx_proxywasm_zone_t    *zone;
    ngx_proxywasm_queue_t   *queue;
    ngx_proxywasm_queues_t  *q;
    ngx_proxywasm_cursor_t   cursor;

    queue = ngx_proxywasm_queue_of(user_data, token, &zone);
    if (queue == NULL) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    q = (ngx_proxywasm_queues_t *) zone->area;

    n = ngx_proxywasm_alloc_blocks(&q->area,
            ngx_proxywasm_count_blocks(sizeof(ngx_proxywasm_item_t),
                                       value.len));
    if (n == 0) {
        ngx_proxywasm_unlock(zone);
        ngx_proxywasm_full(zone, "shm_queue");
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    item = ngx_proxywasm_item(q, n);
    item->next = 0;
    item->len = value.len;

    cursor.area = &q->area;
    cursor.block = n;
    cursor.offset = sizeof(ngx_proxywasm_item_t);

    ngx_proxywasm_write(&cursor, value);

    if (queue->first) {
        ngx_proxywasm_publish(&ngx_proxywasm_item(q, queue->last)->next, n);

    } else {
        ngx_proxywasm_publish(&queue->first, n);
    }

    queue->last = n;
    queue->count++;
    queue->notices++;

    place = queue->place;
    pid = queue->pid;

    ngx_proxywasm_unlock(zone);

    if (pid == ngx_pid) {
        ngx_post_event(&ngx_proxywasm_queue_event, &ngx_posted_events);

    } else {
        ngx_proxywasm_bell_ring(place, pid);
    }

    return PROXYWASM_STATUS_OK;
}


static int32_t
ngx_proxywasm_queue_pop(void *user_data, uint32_t token,
    proxywasm_slice *out_value)
{
    u_char                  *p;
    uint32_t                 n;
    ngx_proxywasm_item_t    *item;
    ngx_proxywasm_zone_t    *zone;
    ngx_proxywasm_queue_t   *queue;
    ngx_proxywasm_queues_t  *q;
    ngx_proxywasm_cursor_t   cursor;

    queue = ngx_proxywasm_queue_of(user_data, token, &zone);
    if (queue == NULL) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    q = (ngx_proxywasm_queues_t *) zone->area;
    n = queue->first;

    if (n == 0) {
        ngx_proxywasm_unlock(zone);
        return PROXYWASM_STATUS_EMPTY;
    }

    item = ngx_proxywasm_item(q, n);

    p = ngx_proxywasm_scratch(item->len);
    if (p == NULL) {
        ngx_proxywasm_unlock(zone);
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    cursor.area = &q->area;
    cursor.block = n;
    cursor.offset = sizeof(ngx_proxywasm_item_t);

    ngx_proxywasm_read(&cursor, p, item->len);

    out_value->data = p;
    out_value->len = item->len;

    ngx_proxywasm_publish(&queue->first, item->next);

    if (queue->first == 0) {
        queue->last = 0;
    }

    queue->count--;
    ngx_proxywasm_free_blocks(&q->area, n);

    ngx_proxywasm_unlock(zone);

    return PROXYWASM_STATUS_OK;
}


/* ---- notices ---- */

/* Takes one notice for this worker; 0 when there is none. */

static uint32_t
ngx_proxywasm_queue_notice(ngx_proxywasm_zone_t *zone)
{
    uint32_t                 i, token;
    ngx_proxywasm_queue_t   *queue;
    ngx_proxywasm_queues_t  *q;

    if (ngx_proxywasm_lock(zone) != NGX_OK) {
        return 0;
    }

    q = (ngx_proxywasm_queues_t *) zone->area;
    token = 0;

    for (i = 0; i < q->count; i++) {
        queue = ngx_proxywasm_queue(q, q->queues[i]);

        if (queue->notices && (ngx_pid_t) queue->pid == ngx_pid) {
            queue->notices--;
            token = ngx_proxywasm_queue_token(zone, i + 1);
            break;
        }
    }

    ngx_proxywasm_unlock(zone);

    return token;
}


/* One at a time: guests run without a lock, and may trap. */

void
ngx_proxywasm_queue_deliver(ngx_event_t *ev)
{
    uint32_t                token;
    ngx_uint_t              i, budget;
    ngx_proxywasm_conf_t   *conf;
    ngx_proxywasm_zone_t  **zones;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                 ngx_proxywasm_module);
    zones = conf->zones.elts;
    budget = NGX_PROXYWASM_QUEUE_NOTICES;

    for (i = 0; i < conf->zones.nelts; i++) {

        if (zones[i]->type != NGX_PROXYWASM_ZONE_QUEUE) {
            continue;
        }

        while (ngx_proxywasm_worker) {

            if (budget == 0) {
                ngx_post_event(&ngx_proxywasm_queue_event,
                               &ngx_posted_next_events);
                return;
            }

            token = ngx_proxywasm_queue_notice(zones[i]);
            if (token == 0) {
                break;
            }

            (void) proxywasm_worker_queue_ready(ngx_proxywasm_worker, token);
            budget--;
        }
    }
}


/* Items are linked from the first on: all else is counted anew. */

void
ngx_proxywasm_queue_repair(ngx_proxywasm_area_t *area, u_char *marks)
{
    uint32_t                 i, n;
    ngx_proxywasm_queue_t   *queue;
    ngx_proxywasm_queues_t  *q;

    q = (ngx_proxywasm_queues_t *) area;

    for (i = 0; i < q->count; i++) {
        ngx_proxywasm_mark_blocks(area, marks, q->queues[i]);

        queue = ngx_proxywasm_queue(q, q->queues[i]);
        queue->count = 0;
        queue->last = 0;

        for (n = queue->first; n; n = ngx_proxywasm_item(q, n)->next) {
            ngx_proxywasm_mark_blocks(area, marks, n);
            queue->last = n;
            queue->count++;
        }

        /* one too many finds nothing, one too few leaves something behind */

        queue->notices = ngx_max(queue->notices, queue->count);
    }
}
