/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * What workers share: zones of memory, each under a lock.
 *
 * A worker may be killed at any instruction.  The master then unlocks what it
 * held, and the next one to come finds the zone marked as busy.  So in each
 * zone some part is good after each single store (chains of entries that were
 * written before they were linked), and all else (free memory, orders, ends of
 * lists) can be made anew from it.
 */


#ifndef NGX_PROXYWASM_SHM_H_INCLUDED
#define NGX_PROXYWASM_SHM_H_INCLUDED


#include "ngx_proxywasm.h"


#define NGX_PROXYWASM_ZONE_KV       0
#define NGX_PROXYWASM_ZONE_QUEUE    1
#define NGX_PROXYWASM_ZONE_METRICS  2

/* places of workers */
#define NGX_PROXYWASM_BELLS         1024

#define NGX_PROXYWASM_EVICT_SLRU    0
#define NGX_PROXYWASM_EVICT_LRU     1
#define NGX_PROXYWASM_EVICT_NONE    2

/*
 * Memory is given in blocks, a chain of them for each thing: nothing needs
 * memory in one piece, so none is lost to fragments.  A block begins with the
 * number of the next one; numbers begin with 1.
 */
#define NGX_PROXYWASM_BLOCK         128
#define NGX_PROXYWASM_BLOCK_DATA    (NGX_PROXYWASM_BLOCK - sizeof(uint32_t))


/* What the memory of each zone begins with. */
typedef struct {
    volatile ngx_uint_t      busy;
    size_t                   size;      /* of it all */
    uint64_t                 seed;

    size_t                   first;     /* where blocks begin */
    uint32_t                 blocks;
    uint32_t                 fresh;     /* blocks that were in use ever */
    uint32_t                 free;      /* the first of those that were freed */
    uint32_t                 nfree;     /* with those that are not fresh */
} ngx_proxywasm_area_t;


/* A zone of the configuration. */
struct ngx_proxywasm_zone_s {
    ngx_uint_t               type;
    ngx_uint_t               index;     /* in the configuration */
    ngx_str_t                name;
    ngx_uint_t               eviction;

    ngx_shm_zone_t          *shm;
    ngx_slab_pool_t         *pool;
    ngx_proxywasm_area_t    *area;

    time_t                   warned;
};


/* A place in a chain of blocks. */
typedef struct {
    ngx_proxywasm_area_t    *area;
    uint32_t                 block;
    size_t                   offset;
} ngx_proxywasm_cursor_t;


#define ngx_proxywasm_block_at(area, n)                                       \
    ((u_char *) (area) + (area)->first                                        \
     + (size_t) ((n) - 1) * NGX_PROXYWASM_BLOCK)

#define ngx_proxywasm_next_block(area, n)                                     \
    (*(uint32_t *) ngx_proxywasm_block_at(area, n))

/* The compiler must not move stores, and not cut them. */
#define ngx_proxywasm_publish(place, value)                                   \
    __atomic_store_n(place, value, __ATOMIC_RELEASE)

#define ngx_proxywasm_marked(marks, n)                                        \
    ((marks)[(n) >> 3] & (1 << ((n) & 7)))


/* ngx_proxywasm_shm.c */

ngx_proxywasm_zone_t *ngx_proxywasm_find_zone(ngx_proxywasm_conf_t *conf,
    ngx_uint_t type, const u_char *name, size_t len);

ngx_int_t ngx_proxywasm_lock(ngx_proxywasm_zone_t *zone);
void ngx_proxywasm_unlock(ngx_proxywasm_zone_t *zone);
void ngx_proxywasm_full(ngx_proxywasm_zone_t *zone, const char *directive);

uint32_t ngx_proxywasm_hash(ngx_proxywasm_area_t *area, proxywasm_slice a,
    proxywasm_slice b);
u_char *ngx_proxywasm_scratch(size_t len);

/* ngx_proxywasm_shm_blocks.c */

void ngx_proxywasm_init_blocks(ngx_proxywasm_area_t *area, size_t head);
size_t ngx_proxywasm_count_blocks(size_t head, size_t len);
uint32_t ngx_proxywasm_alloc_blocks(ngx_proxywasm_area_t *area, size_t n);
void ngx_proxywasm_free_blocks(ngx_proxywasm_area_t *area, uint32_t first);
void ngx_proxywasm_mark_blocks(ngx_proxywasm_area_t *area, u_char *marks,
    uint32_t first);

void ngx_proxywasm_write(ngx_proxywasm_cursor_t *cursor,
    proxywasm_slice bytes);
void ngx_proxywasm_read(ngx_proxywasm_cursor_t *cursor, u_char *p, size_t len);
ngx_uint_t ngx_proxywasm_equal(ngx_proxywasm_cursor_t *cursor,
    proxywasm_slice bytes);

/*
 * Of each kind of zone: its empty state, and making good what a worker left
 * that was killed.  "marks" has a bit for each block, of those in use.
 */

/* ngx_proxywasm_shm_kv.c */

ngx_int_t ngx_proxywasm_kv_init(ngx_proxywasm_area_t *area);
void ngx_proxywasm_kv_repair(ngx_proxywasm_area_t *area, u_char *marks);
void ngx_proxywasm_kv_fill_host(proxywasm_host *host);

/* ngx_proxywasm_shm_queue.c */

ngx_int_t ngx_proxywasm_queue_init(ngx_proxywasm_area_t *area);
void ngx_proxywasm_queue_repair(ngx_proxywasm_area_t *area, u_char *marks);
void ngx_proxywasm_queue_fill_host(proxywasm_host *host);
void ngx_proxywasm_queue_deliver(ngx_event_t *ev);
ngx_int_t ngx_proxywasm_queue_declare(ngx_cycle_t *cycle,
    proxywasm_slice vm_id, proxywasm_slice name);

/* ngx_proxywasm_metrics.c */

ngx_int_t ngx_proxywasm_metrics_init(ngx_proxywasm_area_t *area);
void ngx_proxywasm_metrics_repair(ngx_proxywasm_area_t *area);
void ngx_proxywasm_metrics_fill_host(proxywasm_host *host);

/* ngx_proxywasm_bell.c */

ngx_int_t ngx_proxywasm_bell_answer(ngx_cycle_t *cycle,
    ngx_event_handler_pt handler);
uint32_t ngx_proxywasm_bell_place(void);
ngx_int_t ngx_proxywasm_bell_owner(uint32_t place, ngx_pid_t *pid);
ngx_uint_t ngx_proxywasm_bell_heard(uint32_t place, ngx_pid_t pid);
void ngx_proxywasm_bell_ring(uint32_t place, ngx_pid_t pid);

extern uint32_t  ngx_proxywasm_bell_cycle;

/* ngx_proxywasm_stats.c */

void ngx_proxywasm_answer_stats(void);


#endif /* NGX_PROXYWASM_SHM_H_INCLUDED */
