/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Shared data.  Entries hang in chains, one for each place of a hash table; a
 * write makes a new entry and puts it into the place of the old one with a
 * single store.
 */


#include "ngx_proxywasm_shm.h"


/*
 * With eviction=slru there is a list for each size, in powers of two, so that
 * room for a small value does not cost a large one, nor many small ones.
 */
#define NGX_PROXYWASM_KV_LISTS  16


typedef struct {
    uint32_t              newest;
    uint32_t              oldest;
} ngx_proxywasm_kv_list_t;


typedef struct {
    ngx_proxywasm_area_t     area;
    uint32_t                 cas;      /* the last one given */
    uint32_t                 mask;
    ngx_proxywasm_kv_list_t  lists[NGX_PROXYWASM_KV_LISTS];
    uint32_t                 places[1];
} ngx_proxywasm_kv_t;


/* In front of VM id, key and value in an entry's first block. */
typedef struct {
    uint32_t              block;       /* the next one */
    uint32_t              link;        /* the next entry of this place */
    uint32_t              hash;
    uint32_t              cas;
    uint32_t              vm_len;
    uint32_t              key_len;
    uint32_t              value_len;
    uint32_t              newer;       /* in the list */
    uint32_t              older;
    uint32_t              list;
} ngx_proxywasm_kv_entry_t;


#define ngx_proxywasm_kv_entry(kv, n)                                         \
    ((ngx_proxywasm_kv_entry_t *) ngx_proxywasm_block_at(&(kv)->area, n))


static int32_t ngx_proxywasm_kv_get(void *user_data, proxywasm_slice vm_id,
    proxywasm_slice key, proxywasm_slice *out_value, uint32_t *out_cas);
static int32_t ngx_proxywasm_kv_set(void *user_data, proxywasm_slice vm_id,
    proxywasm_slice key, proxywasm_slice value, uint32_t cas);


void
ngx_proxywasm_kv_fill_host(proxywasm_host *host)
{
    host->get_shared_data = ngx_proxywasm_kv_get;
    host->set_shared_data = ngx_proxywasm_kv_set;
}


ngx_int_t
ngx_proxywasm_kv_init(ngx_proxywasm_area_t *area)
{
    size_t               places;
    ngx_proxywasm_kv_t  *kv;

    kv = (ngx_proxywasm_kv_t *) area;

    /* a place for two blocks or up to four: few entries are of one block */

    for (places = 8; places < area->size / NGX_PROXYWASM_BLOCK / 4; ) {
        places *= 2;
    }

    kv->cas = 0;
    kv->mask = places - 1;

    ngx_memzero(kv->lists, sizeof(kv->lists));
    ngx_memzero(kv->places, places * sizeof(uint32_t));

    ngx_proxywasm_init_blocks(area, offsetof(ngx_proxywasm_kv_t, places)
                                    + places * sizeof(uint32_t));

    return NGX_OK;
}


/* "zone/key" is in that zone, if there is one, all else in the zone "*". */

static ngx_proxywasm_zone_t *
ngx_proxywasm_kv_zone(ngx_cycle_t *cycle, proxywasm_slice key)
{
    const u_char          *slash;
    ngx_proxywasm_conf_t  *conf;
    ngx_proxywasm_zone_t  *zone;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cycle->conf_ctx,
                                                 ngx_proxywasm_module);

    slash = key.len ? memchr(key.data, '/', key.len) : NULL;

    if (slash) {
        zone = ngx_proxywasm_find_zone(conf, NGX_PROXYWASM_ZONE_KV, key.data,
                                       slash - key.data);
        if (zone) {
            return zone;
        }
    }

    return ngx_proxywasm_find_zone(conf, NGX_PROXYWASM_ZONE_KV,
                                   (const u_char *) "*", 1);
}


/* Where the number of an entry is, or would be. */

static uint32_t *
ngx_proxywasm_kv_find(ngx_proxywasm_kv_t *kv, uint32_t hash,
    proxywasm_slice vm_id, proxywasm_slice key)
{
    uint32_t                  *place;
    ngx_proxywasm_cursor_t     cursor;
    ngx_proxywasm_kv_entry_t  *entry;

    for (place = &kv->places[hash & kv->mask]; *place; place = &entry->link) {
        entry = ngx_proxywasm_kv_entry(kv, *place);

        if (entry->hash != hash
            || entry->vm_len != vm_id.len
            || entry->key_len != key.len)
        {
            continue;
        }

        cursor.area = &kv->area;
        cursor.block = *place;
        cursor.offset = sizeof(ngx_proxywasm_kv_entry_t);

        if (ngx_proxywasm_equal(&cursor, vm_id)
            && ngx_proxywasm_equal(&cursor, key))
        {
            break;
        }
    }

    return place;
}


/* ---- lists ---- */

static void
ngx_proxywasm_kv_list_add(ngx_proxywasm_kv_t *kv, uint32_t n)
{
    ngx_proxywasm_kv_list_t   *list;
    ngx_proxywasm_kv_entry_t  *entry;

    entry = ngx_proxywasm_kv_entry(kv, n);
    list = &kv->lists[entry->list];

    entry->newer = 0;
    entry->older = list->newest;

    if (list->newest) {
        ngx_proxywasm_kv_entry(kv, list->newest)->newer = n;

    } else {
        list->oldest = n;
    }

    list->newest = n;
}


static void
ngx_proxywasm_kv_list_remove(ngx_proxywasm_kv_t *kv, uint32_t n)
{
    ngx_proxywasm_kv_list_t   *list;
    ngx_proxywasm_kv_entry_t  *entry;

    entry = ngx_proxywasm_kv_entry(kv, n);
    list = &kv->lists[entry->list];

    if (entry->newer) {
        ngx_proxywasm_kv_entry(kv, entry->newer)->older = entry->older;

    } else {
        list->newest = entry->older;
    }

    if (entry->older) {
        ngx_proxywasm_kv_entry(kv, entry->older)->newer = entry->newer;

    } else {
        list->oldest = entry->newer;
    }
}


static uint32_t
ngx_proxywasm_kv_list_of(ngx_proxywasm_zone_t *zone, size_t blocks)
{
    uint32_t  list;

    if (zone->eviction != NGX_PROXYWASM_EVICT_SLRU) {
        return 0;
    }

    for (list = 0; blocks > 1 && list < NGX_PROXYWASM_KV_LISTS - 1; list++) {
        blocks = (blocks + 1) / 2;
    }

    return list;
}


/*
 * The next one to go for something that would be in a list: the oldest of the
 * same size, then of larger ones, then of smaller ones.  One stays.
 */

static uint32_t
ngx_proxywasm_kv_victim(ngx_proxywasm_kv_t *kv, uint32_t list, uint32_t stays)
{
    uint32_t    n;
    ngx_uint_t  i;

    for (i = list; i < NGX_PROXYWASM_KV_LISTS + list; i++) {

        n = kv->lists[i < NGX_PROXYWASM_KV_LISTS
                      ? i : NGX_PROXYWASM_KV_LISTS + list - 1 - i].oldest;

        if (n && n == stays) {
            n = ngx_proxywasm_kv_entry(kv, n)->newer;
        }

        if (n) {
            return n;
        }
    }

    return 0;
}


static void
ngx_proxywasm_kv_remove(ngx_proxywasm_kv_t *kv, uint32_t n)
{
    uint32_t                  *place;
    ngx_proxywasm_kv_entry_t  *entry;

    entry = ngx_proxywasm_kv_entry(kv, n);

    for (place = &kv->places[entry->hash & kv->mask];
         *place && *place != n;
         place = &ngx_proxywasm_kv_entry(kv, *place)->link)
    {
        /* void */
    }

    if (*place) {
        ngx_proxywasm_publish(place, entry->link);
    }

    ngx_proxywasm_kv_list_remove(kv, n);
    ngx_proxywasm_free_blocks(&kv->area, n);
}


/* ---- callbacks ---- */

static int32_t
ngx_proxywasm_kv_get(void *user_data, proxywasm_slice vm_id,
    proxywasm_slice key, proxywasm_slice *out_value, uint32_t *out_cas)
{
    u_char                    *p;
    uint32_t                   n, hash;
    ngx_proxywasm_kv_t        *kv;
    ngx_proxywasm_zone_t      *zone;
    ngx_proxywasm_cursor_t     cursor;
    ngx_proxywasm_kv_entry_t  *entry;

    zone = ngx_proxywasm_kv_zone(user_data, key);
    kv = (ngx_proxywasm_kv_t *) zone->area;
    hash = ngx_proxywasm_hash(&kv->area, vm_id, key);

    if (ngx_proxywasm_lock(zone) != NGX_OK) {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    n = *ngx_proxywasm_kv_find(kv, hash, vm_id, key);

    if (n == 0) {
        ngx_proxywasm_unlock(zone);
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    entry = ngx_proxywasm_kv_entry(kv, n);

    p = ngx_proxywasm_scratch(vm_id.len + key.len + entry->value_len);
    if (p == NULL) {
        ngx_proxywasm_unlock(zone);
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    cursor.area = &kv->area;
    cursor.block = n;
    cursor.offset = sizeof(ngx_proxywasm_kv_entry_t);

    ngx_proxywasm_read(&cursor, p,
                       vm_id.len + key.len + (size_t) entry->value_len);

    out_value->data = p + vm_id.len + key.len;
    out_value->len = entry->value_len;
    *out_cas = entry->cas;

    if (kv->lists[entry->list].newest != n) {
        ngx_proxywasm_kv_list_remove(kv, n);
        ngx_proxywasm_kv_list_add(kv, n);
    }

    ngx_proxywasm_unlock(zone);

    return PROXYWASM_STATUS_OK;
}


/* A new entry in no list and no chain; 0 if there is no room. */

static uint32_t
ngx_proxywasm_kv_make(ngx_proxywasm_zone_t *zone, proxywasm_slice vm_id,
    proxywasm_slice key, proxywasm_slice value, uint32_t old)
{
    size_t                     len, need, kept;
    uint32_t                   n, list, victim;
    ngx_proxywasm_kv_t        *kv;
    ngx_proxywasm_cursor_t     cursor;
    ngx_proxywasm_kv_entry_t  *entry;

    kv = (ngx_proxywasm_kv_t *) zone->area;

    len = vm_id.len + key.len + value.len;
    need = ngx_proxywasm_count_blocks(sizeof(ngx_proxywasm_kv_entry_t), len);
    list = ngx_proxywasm_kv_list_of(zone, need);
    kept = 0;

    if (old) {
        entry = ngx_proxywasm_kv_entry(kv, old);
        kept = ngx_proxywasm_count_blocks(sizeof(ngx_proxywasm_kv_entry_t),
                                          (size_t) entry->vm_len
                                          + entry->key_len
                                          + entry->value_len);
    }

    /* what cannot succeed must not cost all the others their places */

    if (need + kept > kv->area.blocks) {
        return 0;
    }

    while (need > kv->area.nfree) {

        if (zone->eviction == NGX_PROXYWASM_EVICT_NONE) {
            return 0;
        }

        victim = ngx_proxywasm_kv_victim(kv, list, old);
        if (victim == 0) {
            return 0;
        }

        ngx_proxywasm_kv_remove(kv, victim);
    }

    n = ngx_proxywasm_alloc_blocks(&kv->area, need);
    if (n == 0) {
        return 0;
    }

    entry = ngx_proxywasm_kv_entry(kv, n);

    entry->link = 0;
    entry->vm_len = vm_id.len;
    entry->key_len = key.len;
    entry->value_len = value.len;
    entry->list = list;

    cursor.area = &kv->area;
    cursor.block = n;
    cursor.offset = sizeof(ngx_proxywasm_kv_entry_t);

    ngx_proxywasm_write(&cursor, vm_id);
    ngx_proxywasm_write(&cursor, key);
    ngx_proxywasm_write(&cursor, value);

    return n;
}


static int32_t
ngx_proxywasm_kv_set(void *user_data, proxywasm_slice vm_id,
    proxywasm_slice key, proxywasm_slice value, uint32_t cas)
{
    uint32_t                   n, old, hash, *place;
    ngx_proxywasm_kv_t        *kv;
    ngx_proxywasm_conf_t      *conf;
    ngx_proxywasm_zone_t      *zone;
    ngx_proxywasm_kv_entry_t  *entry;

    conf = (ngx_proxywasm_conf_t *)
               ngx_get_conf(((ngx_cycle_t *) user_data)->conf_ctx,
                            ngx_proxywasm_module);
    zone = ngx_proxywasm_kv_zone(user_data, key);
    kv = (ngx_proxywasm_kv_t *) zone->area;
    hash = ngx_proxywasm_hash(&kv->area, vm_id, key);

    if (ngx_proxywasm_lock(zone) != NGX_OK) {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    old = *ngx_proxywasm_kv_find(kv, hash, vm_id, key);

    /* ngx_wasm_module takes 0 for a number like the others */

    if (old && (cas || conf->compat)
        && ngx_proxywasm_kv_entry(kv, old)->cas != cas)
    {
        ngx_proxywasm_unlock(zone);
        return PROXYWASM_STATUS_CAS_MISMATCH;
    }

    n = ngx_proxywasm_kv_make(zone, vm_id, key, value, old);

    if (n == 0) {
        ngx_proxywasm_unlock(zone);
        ngx_proxywasm_full(zone, "shm_kv");
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    entry = ngx_proxywasm_kv_entry(kv, n);

    if (++kv->cas == 0) {
        kv->cas = 1;
    }

    entry->cas = kv->cas;
    entry->hash = hash;

    /* others may have gone from the chain for it */

    place = ngx_proxywasm_kv_find(kv, hash, vm_id, key);

    if (old) {
        entry->link = ngx_proxywasm_kv_entry(kv, old)->link;
    }

    ngx_proxywasm_publish(place, n);

    if (old) {
        ngx_proxywasm_kv_list_remove(kv, old);
        ngx_proxywasm_free_blocks(&kv->area, old);
    }

    ngx_proxywasm_kv_list_add(kv, n);

    ngx_proxywasm_unlock(zone);

    return PROXYWASM_STATUS_OK;
}


/* The chains are good; the lists' order is lost with no harm. */

void
ngx_proxywasm_kv_repair(ngx_proxywasm_area_t *area, u_char *marks)
{
    uint32_t             i, n;
    ngx_proxywasm_kv_t  *kv;

    kv = (ngx_proxywasm_kv_t *) area;

    ngx_memzero(kv->lists, sizeof(kv->lists));

    for (i = 0; i <= kv->mask; i++) {
        for (n = kv->places[i]; n; n = ngx_proxywasm_kv_entry(kv, n)->link) {
            ngx_proxywasm_mark_blocks(area, marks, n);
            ngx_proxywasm_kv_list_add(kv, n);
        }
    }
}
