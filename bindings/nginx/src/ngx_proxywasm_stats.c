/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * How the workers are.  Each has a place in memory that all share, with the
 * number of its bell, and writes there how it is when another one asks: a
 * question is a number that counts up, and a ring.  What a place says of a
 * worker that is dead is not read: its bell has another owner, or none.
 */


#include "ngx_proxywasm_shm.h"
#include <sys/resource.h>


typedef struct {
    /* the last question */
    ngx_atomic_t             asked;
    ngx_proxywasm_stats_t    places[NGX_PROXYWASM_BELLS];
} ngx_proxywasm_stats_zone_t;


static void ngx_proxywasm_write_stats(ngx_proxywasm_stats_t *stats);


static ngx_proxywasm_stats_zone_t  *ngx_proxywasm_stats_zone;
static ngx_atomic_uint_t            ngx_proxywasm_answered;


/* In the master, once: the memory outlives configurations. */

ngx_int_t
ngx_proxywasm_stats_init(ngx_cycle_t *cycle)
{
    ngx_shm_t  shm;

    if (ngx_proxywasm_stats_zone) {
        return NGX_OK;
    }

    ngx_memzero(&shm, sizeof(ngx_shm_t));
    shm.size = sizeof(ngx_proxywasm_stats_zone_t);
    ngx_str_set(&shm.name, "proxywasm stats");
    shm.log = cycle->log;

    if (ngx_shm_alloc(&shm) != NGX_OK) {
        return NGX_ERROR;
    }

    /* all zero, and what is never written takes no memory */
    ngx_proxywasm_stats_zone = (ngx_proxywasm_stats_zone_t *) shm.addr;

    return NGX_OK;
}


/* Asks all other workers; returns the number of the question. */

ngx_atomic_uint_t
ngx_proxywasm_ask_stats(void)
{
    uint32_t           place;
    ngx_pid_t          pid;
    ngx_atomic_uint_t  number;

    if (ngx_proxywasm_stats_zone == NULL) {
        return 0;
    }

    number = ngx_atomic_fetch_add(&ngx_proxywasm_stats_zone->asked, 1) + 1;

    for (place = 0; ngx_proxywasm_bell_owner(place, &pid) == NGX_OK; place++) {
        if (pid && pid != ngx_pid) {
            ngx_proxywasm_bell_ring(place, pid);
        }
    }

    return number;
}


/* The bell of this worker has rung, perhaps for this. */

void
ngx_proxywasm_answer_stats(void)
{
    uint32_t                place;
    ngx_atomic_uint_t       asked;
    ngx_proxywasm_stats_t  *stats;

    asked = ngx_proxywasm_stats_zone->asked;

    if (asked == ngx_proxywasm_answered) {
        return;
    }

    ngx_proxywasm_answered = asked;

    place = ngx_proxywasm_bell_place();
    stats = &ngx_proxywasm_stats_zone->places[place];

    ngx_proxywasm_write_stats(stats);
    ngx_proxywasm_publish(&stats->answered, asked);
}


/*
 * Copies what is known of the next worker, this one first; `place` begins with
 * 0.  NGX_OK: that is from after the question.  NGX_AGAIN: it is older, or all
 * zero.  NGX_DONE: there are no more workers.
 */

ngx_int_t
ngx_proxywasm_next_stats(uint32_t *place, ngx_atomic_uint_t number,
    ngx_proxywasm_stats_t *copy)
{
    ngx_pid_t               pid;
    ngx_proxywasm_stats_t  *stats;

    if (*place == 0) {
        (*place)++;
        ngx_proxywasm_write_stats(copy);
        return NGX_OK;
    }

    if (ngx_proxywasm_stats_zone == NULL) {
        return NGX_DONE;
    }

    while (ngx_proxywasm_bell_owner((*place)++ - 1, &pid) == NGX_OK) {

        if (pid == 0 || pid == ngx_pid) {
            continue;
        }

        stats = &ngx_proxywasm_stats_zone->places[*place - 2];

        if (stats->pid == pid) {
            *copy = *stats;
            return (ngx_atomic_int_t) (copy->answered - number) >= 0
                   ? NGX_OK : NGX_AGAIN;
        }

        ngx_memzero(copy, sizeof(ngx_proxywasm_stats_t));
        copy->pid = pid;

        return NGX_AGAIN;
    }

    return NGX_DONE;
}


static void
ngx_proxywasm_write_stats(ngx_proxywasm_stats_t *stats)
{
    ngx_uint_t                i;
    struct rusage             usage;
    ngx_proxywasm_conf_t     *conf;
    ngx_proxywasm_plugin_t  **plugins;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                 ngx_proxywasm_module);
    plugins = conf->plugins.elts;

    stats->cycle = ngx_proxywasm_bell_cycle;
    stats->quitting = ngx_exiting || ngx_terminate || ngx_quit;
    stats->time = ngx_current_msec;

    ngx_memzero(&stats->worker, sizeof(proxywasm_worker_stats));
    stats->worker.struct_size = sizeof(proxywasm_worker_stats);

    if (ngx_proxywasm_worker) {
        (void) proxywasm_worker_get_stats(ngx_proxywasm_worker,
                                          &stats->worker);
    }

    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        stats->cpu_msec = (uint64_t) (usage.ru_utime.tv_sec
                                      + usage.ru_stime.tv_sec) * 1000
                          + (uint64_t) (usage.ru_utime.tv_usec
                                        + usage.ru_stime.tv_usec) / 1000;
    }

    stats->plugins = ngx_min(conf->plugins.nelts, NGX_PROXYWASM_STATS_PLUGINS);

    for (i = 0; i < stats->plugins; i++) {
        stats->failures[i] = plugins[i]->failures;
        stats->last_failure[i] = plugins[i]->last_failure;
    }

    stats->pid = ngx_pid;
}
