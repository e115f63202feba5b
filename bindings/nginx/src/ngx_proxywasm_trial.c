/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The master tries plugins.  There are no zones yet, and nothing that a trial
 * does may last; but which queues plugins register is noted, so that these
 * exist before any worker does: a worker that starts early finds the queue of a
 * plugin that another one is still about to start.
 */


#include "ngx_proxywasm_shm.h"


/* as in workers, in nanoseconds */
#define NGX_PROXYWASM_TRIAL_TICK  10000000


typedef struct {
    ngx_str_t     vm_id;
    ngx_str_t     name;
} ngx_proxywasm_trial_queue_t;


typedef struct {
    uint32_t      token;      /* 0 when it was taken */
    ngx_str_t     value;
} ngx_proxywasm_trial_item_t;


static void ngx_proxywasm_trial_tick(int signo);
static int32_t ngx_proxywasm_trial_register(void *user_data,
    proxywasm_slice vm_id, proxywasm_slice name, uint32_t *out_queue);
static int32_t ngx_proxywasm_trial_resolve(void *user_data,
    proxywasm_slice vm_id, proxywasm_slice name, uint32_t *out_queue);
static int32_t ngx_proxywasm_trial_push(void *user_data, uint32_t token,
    proxywasm_slice value);
static int32_t ngx_proxywasm_trial_pop(void *user_data, uint32_t token,
    proxywasm_slice *out_value);


/* of the configuration that is being read */
static ngx_array_t  ngx_proxywasm_trial_queues;
static ngx_array_t  ngx_proxywasm_trial_items;

static proxywasm_engine  *ngx_proxywasm_trial_engine;


ngx_int_t
ngx_proxywasm_trial_begin(ngx_cycle_t *cycle)
{
    if (ngx_array_init(&ngx_proxywasm_trial_queues, cycle->pool, 4,
                       sizeof(ngx_proxywasm_trial_queue_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_array_init(&ngx_proxywasm_trial_items, cycle->pool, 4,
                          sizeof(ngx_proxywasm_trial_item_t));
}


/*
 * The clock of deadlines is a signal here: there must be no thread before a
 * fork.  NGINX uses SIGALRM itself.
 */

int32_t
ngx_proxywasm_trial(proxywasm_plugin *plugin, proxywasm_engine *engine,
    ngx_cycle_t *cycle)
{
    int32_t            rc;
    timer_t            timer;
    proxywasm_host     host;
    struct sigevent    event;
    struct sigaction   action, before;
    struct itimerspec  period;

    ngx_proxywasm_init_host(&host);
    host.register_queue = ngx_proxywasm_trial_register;
    host.resolve_queue = ngx_proxywasm_trial_resolve;
    host.enqueue = ngx_proxywasm_trial_push;
    host.dequeue = ngx_proxywasm_trial_pop;

    ngx_proxywasm_trial_engine = engine;

    ngx_memzero(&action, sizeof(struct sigaction));
    action.sa_handler = ngx_proxywasm_trial_tick;
    action.sa_flags = SA_RESTART;
    (void) sigemptyset(&action.sa_mask);

    ngx_memzero(&event, sizeof(struct sigevent));
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGPROF;

    ngx_memzero(&period, sizeof(struct itimerspec));
    period.it_interval.tv_nsec = NGX_PROXYWASM_TRIAL_TICK;
    period.it_value.tv_nsec = NGX_PROXYWASM_TRIAL_TICK;

    if (sigaction(SIGPROF, &action, &before) == -1
        || timer_create(CLOCK_MONOTONIC, &event, &timer) == -1
        || timer_settime(timer, 0, &period, NULL) == -1)
    {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_errno,
                      "proxywasm: no timer for deadlines");
        return PROXYWASM_RESULT_INTERNAL;
    }

    rc = proxywasm_plugin_validate(plugin, &host, cycle);

    (void) timer_delete(timer);
    (void) sigaction(SIGPROF, &before, NULL);

    return rc;
}


static void
ngx_proxywasm_trial_tick(int signo)
{
    proxywasm_engine_tick(ngx_proxywasm_trial_engine);
}


/* The configuration is accepted, and its zones are there. */

void
ngx_proxywasm_trial_end(ngx_cycle_t *cycle)
{
    ngx_uint_t                    i;
    ngx_proxywasm_trial_queue_t  *queues;

    queues = ngx_proxywasm_trial_queues.elts;

    for (i = 0; i < ngx_proxywasm_trial_queues.nelts; i++) {

        /* where there is no room the plugin is told when it asks */

        (void) ngx_proxywasm_queue_declare(cycle,
                                        ngx_proxywasm_slice(queues[i].vm_id),
                                        ngx_proxywasm_slice(queues[i].name));
    }
}


static ngx_int_t
ngx_proxywasm_trial_copy(ngx_array_t *array, proxywasm_slice from,
    ngx_str_t *to)
{
    to->len = from.len;
    to->data = ngx_pnalloc(array->pool, from.len ? from.len : 1);

    if (to->data == NULL) {
        return NGX_ERROR;
    }

    if (from.len) {
        ngx_memcpy(to->data, from.data, from.len);
    }

    return NGX_OK;
}


static int32_t
ngx_proxywasm_trial_resolve(void *user_data, proxywasm_slice vm_id,
    proxywasm_slice name, uint32_t *out_queue)
{
    ngx_uint_t                    i;
    ngx_proxywasm_trial_queue_t  *queue;

    queue = ngx_proxywasm_trial_queues.elts;

    for (i = 0; i < ngx_proxywasm_trial_queues.nelts; i++) {

        if (queue[i].vm_id.len == vm_id.len
            && queue[i].name.len == name.len
            && ngx_memcmp(queue[i].vm_id.data, vm_id.data, vm_id.len) == 0
            && ngx_memcmp(queue[i].name.data, name.data, name.len) == 0)
        {
            *out_queue = i + 1;
            return PROXYWASM_STATUS_OK;
        }
    }

    return PROXYWASM_STATUS_NOT_FOUND;
}


static int32_t
ngx_proxywasm_trial_register(void *user_data, proxywasm_slice vm_id,
    proxywasm_slice name, uint32_t *out_queue)
{
    ngx_proxywasm_trial_queue_t  *queue;

    if (ngx_proxywasm_trial_resolve(user_data, vm_id, name, out_queue)
        == PROXYWASM_STATUS_OK)
    {
        return PROXYWASM_STATUS_OK;
    }

    queue = ngx_array_push(&ngx_proxywasm_trial_queues);

    if (queue == NULL
        || ngx_proxywasm_trial_copy(&ngx_proxywasm_trial_queues, vm_id,
                                    &queue->vm_id)
           != NGX_OK
        || ngx_proxywasm_trial_copy(&ngx_proxywasm_trial_queues, name,
                                    &queue->name)
           != NGX_OK)
    {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    *out_queue = ngx_proxywasm_trial_queues.nelts;

    return PROXYWASM_STATUS_OK;
}


static int32_t
ngx_proxywasm_trial_push(void *user_data, uint32_t token,
    proxywasm_slice value)
{
    ngx_proxywasm_trial_item_t  *item;

    if (token == 0 || token > ngx_proxywasm_trial_queues.nelts) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    item = ngx_array_push(&ngx_proxywasm_trial_items);

    if (item == NULL
        || ngx_proxywasm_trial_copy(&ngx_proxywasm_trial_items, value,
                                    &item->value)
           != NGX_OK)
    {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    item->token = token;

    return PROXYWASM_STATUS_OK;
}


static int32_t
ngx_proxywasm_trial_pop(void *user_data, uint32_t token,
    proxywasm_slice *out_value)
{
    ngx_uint_t                   i;
    ngx_proxywasm_trial_item_t  *item;

    if (token == 0 || token > ngx_proxywasm_trial_queues.nelts) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    item = ngx_proxywasm_trial_items.elts;

    for (i = 0; i < ngx_proxywasm_trial_items.nelts; i++) {

        if (item[i].token == token) {
            item[i].token = 0;
            *out_value = ngx_proxywasm_slice(item[i].value);
            return PROXYWASM_STATUS_OK;
        }
    }

    return PROXYWASM_STATUS_EMPTY;
}
