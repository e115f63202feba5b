/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The library's worker of this process: its beginning and end, the timer, and
 * what other threads want.
 */


#include "ngx_proxywasm.h"
#include <ngx_channel.h>


static void ngx_proxywasm_drain(ngx_cycle_t *cycle);
static void ngx_proxywasm_on_drained(ngx_event_t *ev);
static ngx_int_t ngx_proxywasm_open_wake(ngx_cycle_t *cycle);
static void ngx_proxywasm_rearm(ngx_event_t *ev);
static void ngx_proxywasm_on_timer(ngx_event_t *ev);
static void ngx_proxywasm_on_wake(ngx_event_t *ev);
static void ngx_proxywasm_on_hold(ngx_event_t *ev);

static void ngx_proxywasm_vm_failed(void *user_data, proxywasm_slice name,
    int32_t result);
static void ngx_proxywasm_timeout_changed(void *user_data);
static void ngx_proxywasm_wake(void *user_data);


proxywasm_worker      *ngx_proxywasm_worker;

/* how long plugins may take to end when NGINX stops, or quits */
#define NGX_PROXYWASM_STOP_TIME  1000
#define NGX_PROXYWASM_QUIT_TIME  5000

/* of no meaning: a timer that is set is all that matters */
#define NGX_PROXYWASM_HOLD_TIME  3600000

static ngx_event_t     ngx_proxywasm_timer;
static ngx_event_t     ngx_proxywasm_hold_event;
static ngx_uint_t      ngx_proxywasm_held;
/* logs of timers want the number of a connection */
static ngx_connection_t  ngx_proxywasm_no_connection;
static ngx_event_t     ngx_proxywasm_rearm_event;
static int             ngx_proxywasm_wake_fds[2] = { -1, -1 };


void
ngx_proxywasm_start_worker(ngx_cycle_t *cycle)
{
    ngx_proxywasm_conf_t  *conf;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cycle->conf_ctx,
                                                 ngx_proxywasm_module);

    if (conf->plugins.nelts == 0) {
        return;
    }

    ngx_proxywasm_no_connection.fd = (ngx_socket_t) -1;
    ngx_proxywasm_timer.handler = ngx_proxywasm_on_timer;
    ngx_proxywasm_timer.log = cycle->log;
    ngx_proxywasm_timer.data = &ngx_proxywasm_no_connection;
    ngx_proxywasm_timer.cancelable = 1;
    ngx_proxywasm_rearm_event.handler = ngx_proxywasm_rearm;
    ngx_proxywasm_rearm_event.log = cycle->log;
    ngx_proxywasm_hold_event.handler = ngx_proxywasm_on_hold;
    ngx_proxywasm_hold_event.log = cycle->log;
    ngx_proxywasm_hold_event.data = &ngx_proxywasm_no_connection;

    if (proxywasm_engine_fork_child(conf->engine) == PROXYWASM_RESULT_OK) {
        ngx_proxywasm_start_plugins(cycle);
    }

    if (ngx_proxywasm_worker) {
        /* not by a posted event: NGINX waits for others before it runs it */
        ngx_proxywasm_rearm(&ngx_proxywasm_rearm_event);
    }
}


/* Once, in spite of many attempts. */

ngx_int_t
ngx_proxywasm_start_library(ngx_cycle_t *cycle)
{
    char                   text[256];
    int32_t                rc;
    proxywasm_host         host;
    ngx_proxywasm_conf_t  *conf;

    static ngx_uint_t  woken;

    if (ngx_proxywasm_worker) {
        return NGX_OK;
    }

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cycle->conf_ctx,
                                                 ngx_proxywasm_module);

    if (!woken) {

        if (ngx_proxywasm_open_wake(cycle) != NGX_OK
            || ngx_proxywasm_shm_start(cycle) != NGX_OK)
        {
            return NGX_ERROR;
        }

        woken = 1;
    }

    ngx_proxywasm_init_host(&host);
    ngx_proxywasm_shm_fill_host(&host);

    rc = proxywasm_engine_start_ticker(conf->engine);

    if (rc == PROXYWASM_RESULT_OK) {
        rc = proxywasm_worker_new(conf->engine, &host, cycle,
                                  &ngx_proxywasm_worker);
    }

    if (rc != PROXYWASM_RESULT_OK) {
        (void) proxywasm_last_error(text, sizeof(text));
        ngx_log_error(NGX_LOG_CRIT, cycle->log, 0,
                      "proxywasm: no plugin can start: %s: %s",
                      proxywasm_result_name(rc), text);
        ngx_proxywasm_worker = NULL;
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* Requests are over: plugins may end, in order. */

void
ngx_proxywasm_stop_worker(ngx_cycle_t *cycle)
{
    ngx_proxywasm_conf_t  *conf;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cycle->conf_ctx,
                                                 ngx_proxywasm_module);

    if (conf->engine == NULL) {
        return;
    }

    ngx_proxywasm_stop_plugins(cycle);

    if (ngx_proxywasm_worker == NULL) {
        return;
    }

    ngx_proxywasm_drain(cycle);

    proxywasm_worker_free(ngx_proxywasm_worker);
    ngx_proxywasm_worker = NULL;
    ngx_proxywasm_bell_leave();

    (void) proxywasm_engine_stop_ticker(conf->engine);
}


/*
 * A plugin may have something left to do, such as to send what it has
 * collected.  That needs NGINX's loop, which is over: it goes on for a while.
 */

static void
ngx_proxywasm_drain(ngx_cycle_t *cycle)
{
    bool                    idle;
    ngx_event_t             end;
    proxywasm_worker_stats  stats;

    stats.struct_size = sizeof(proxywasm_worker_stats);

    if (proxywasm_worker_is_idle(ngx_proxywasm_worker, &idle)
        != PROXYWASM_RESULT_OK
        || idle
        || proxywasm_worker_get_stats(ngx_proxywasm_worker, &stats)
           != PROXYWASM_RESULT_OK
        || stats.streams)
    {
        /* requests that live are cut off: their plugins will not end */
        return;
    }

    ngx_close_listening_sockets(cycle);

    ngx_memzero(&end, sizeof(ngx_event_t));
    end.handler = ngx_proxywasm_on_drained;
    end.log = cycle->log;
    end.data = &ngx_proxywasm_no_connection;

    ngx_add_timer(&end, ngx_terminate ? NGX_PROXYWASM_STOP_TIME
                                      : NGX_PROXYWASM_QUIT_TIME);

    ngx_proxywasm_rearm(&ngx_proxywasm_rearm_event);

    while (!idle && !end.timedout) {
        ngx_process_events_and_timers(cycle);

        if (proxywasm_worker_is_idle(ngx_proxywasm_worker, &idle)
            != PROXYWASM_RESULT_OK)
        {
            break;
        }
    }

    if (end.timer_set) {
        ngx_del_timer(&end);
    }
}


static void
ngx_proxywasm_on_drained(ngx_event_t *ev)
{
    /* the loop looks at ev->timedout */
}


/*
 * What the library may ask for.  A member that stays NULL is not supported, and
 * the guest is told so, or the library has an implementation of its own.
 */

void
ngx_proxywasm_init_host(proxywasm_host *host)
{
    ngx_memzero(host, sizeof(proxywasm_host));

    host->struct_size = sizeof(proxywasm_host);
    host->log = ngx_proxywasm_log;
    host->log_level = ngx_proxywasm_log_level;
    host->vm_failed = ngx_proxywasm_vm_failed;
    host->timeout_changed = ngx_proxywasm_timeout_changed;
    host->wake = ngx_proxywasm_wake;

    ngx_proxywasm_fill_sides(host);
}


/* Is counted only: the log has a record of it. */

static void
ngx_proxywasm_vm_failed(void *user_data, proxywasm_slice name, int32_t result)
{
    ngx_uint_t                i;
    ngx_proxywasm_conf_t     *conf;
    ngx_proxywasm_plugin_t  **plugins;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(ngx_cycle->conf_ctx,
                                                 ngx_proxywasm_module);
    plugins = conf->plugins.elts;

    for (i = 0; i < conf->plugins.nelts; i++) {
        if (plugins[i]->name.len == name.len
            && ngx_strncmp(plugins[i]->name.data, name.data, name.len) == 0)
        {
            plugins[i]->failures++;
            plugins[i]->last_failure = result;
        }
    }
}


/* ---- timer ---- */

/* In a callback of the library, which must not be called from there. */

static void
ngx_proxywasm_timeout_changed(void *user_data)
{
    if (ngx_proxywasm_worker) {
        ngx_post_event(&ngx_proxywasm_rearm_event, &ngx_posted_events);
    }
}


static void
ngx_proxywasm_rearm(ngx_event_t *ev)
{
    uint64_t  wait;

    if (proxywasm_worker_timeout_ns(ngx_proxywasm_worker, &wait)
        != PROXYWASM_RESULT_OK)
    {
        return;
    }

    if (ngx_proxywasm_timer.timer_set) {
        ngx_del_timer(&ngx_proxywasm_timer);
    }

    if (wait != UINT64_MAX) {
        ngx_add_timer(&ngx_proxywasm_timer,
                      (ngx_msec_t) (wait / 1000000 + 1));
    }
}


static void
ngx_proxywasm_on_timer(ngx_event_t *ev)
{
    (void) proxywasm_worker_on_timeout(ngx_proxywasm_worker);

    ngx_proxywasm_rearm(ev);
}


/*
 * A worker that quits goes when no timer is left, and a request that waits for
 * a plugin has none: this one stands for all of them.
 */

void
ngx_proxywasm_hold(void)
{
    if (ngx_proxywasm_held++ == 0) {
        ngx_add_timer(&ngx_proxywasm_hold_event, NGX_PROXYWASM_HOLD_TIME);
    }
}


void
ngx_proxywasm_release(void)
{
    if (--ngx_proxywasm_held == 0 && ngx_proxywasm_hold_event.timer_set) {
        ngx_del_timer(&ngx_proxywasm_hold_event);
    }
}


static void
ngx_proxywasm_on_hold(ngx_event_t *ev)
{
    ngx_add_timer(ev, NGX_PROXYWASM_HOLD_TIME);
}


/* ---- other threads ---- */

static ngx_int_t
ngx_proxywasm_open_wake(ngx_cycle_t *cycle)
{
    if (ngx_proxywasm_wake_fds[0] != -1) {
        return NGX_OK;
    }

    if (pipe(ngx_proxywasm_wake_fds) == -1
        || ngx_nonblocking(ngx_proxywasm_wake_fds[0]) == -1
        || ngx_nonblocking(ngx_proxywasm_wake_fds[1]) == -1)
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "proxywasm: pipe() failed");
        return NGX_ERROR;
    }

    return ngx_add_channel_event((ngx_cycle_t *) cycle,
                                 ngx_proxywasm_wake_fds[0], NGX_READ_EVENT,
                                 ngx_proxywasm_on_wake);
}


/* On any thread. */

static void
ngx_proxywasm_wake(void *user_data)
{
    /* a full pipe wakes just as well */
    if (write(ngx_proxywasm_wake_fds[1], "", 1) == -1) {
        return;
    }
}


static void
ngx_proxywasm_on_wake(ngx_event_t *ev)
{
    char  buf[64];

    while (read(ngx_proxywasm_wake_fds[0], buf, sizeof(buf)) > 0) {
        /* void */
    }

    if (ngx_proxywasm_worker) {
        (void) proxywasm_worker_run_pending(ngx_proxywasm_worker);
    }
}
