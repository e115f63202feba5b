/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * How a worker wakes another one: a pipe for each, made by the master before
 * it forks, so that all have both ends of all.  Pipes outlive configurations;
 * workers of an old one that still finish requests can ring at new ones.
 * A worker takes a place that is free, or whose last owner is dead.
 */


#include "ngx_proxywasm_shm.h"
#include <ngx_channel.h>


static void ngx_proxywasm_bell_on_ring(ngx_event_t *ev);


static int                   ngx_proxywasm_bells[NGX_PROXYWASM_BELLS][2];
static ngx_uint_t            ngx_proxywasm_bell_count;
/* of how many configurations there were workers */
uint32_t                     ngx_proxywasm_bell_cycle;
/* shared: who has each place, 0 for nobody */
static ngx_atomic_t         *ngx_proxywasm_bell_pids;

/* of this process */
static uint32_t              ngx_proxywasm_bell_mine = NGX_PROXYWASM_BELLS;
static ngx_event_handler_pt  ngx_proxywasm_bell_handler;


/* In the master. */

ngx_int_t
ngx_proxywasm_bell_hang(ngx_cycle_t *cycle)
{
    int              *fds;
    ngx_shm_t         shm;
    ngx_uint_t        n;
    ngx_core_conf_t  *ccf;

    ngx_proxywasm_bell_cycle++;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    /* for the workers of three configurations at a time */

    n = 3 * ngx_max(ccf->worker_processes, 1) + 2;
    n = ngx_min(n, NGX_PROXYWASM_BELLS);

    if (ngx_proxywasm_bell_pids == NULL) {

        ngx_memzero(&shm, sizeof(ngx_shm_t));
        shm.size = NGX_PROXYWASM_BELLS * sizeof(ngx_atomic_t);
        ngx_str_set(&shm.name, "proxywasm bells");
        shm.log = cycle->log;

        if (ngx_shm_alloc(&shm) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_memzero(shm.addr, shm.size);
        ngx_proxywasm_bell_pids = (ngx_atomic_t *) shm.addr;
    }

    while (ngx_proxywasm_bell_count < n) {
        fds = ngx_proxywasm_bells[ngx_proxywasm_bell_count];

        if (pipe(fds) == -1) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                          "proxywasm: pipe() failed");
            return NGX_ERROR;
        }

        /* a new binary hangs up its own */

        if (ngx_nonblocking(fds[0]) == -1
            || ngx_nonblocking(fds[1]) == -1
            || fcntl(fds[0], F_SETFD, FD_CLOEXEC) == -1
            || fcntl(fds[1], F_SETFD, FD_CLOEXEC) == -1)
        {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                          "proxywasm: fcntl() of a pipe failed");
            (void) close(fds[0]);
            (void) close(fds[1]);
            return NGX_ERROR;
        }

        ngx_proxywasm_bell_count++;
    }

    return NGX_OK;
}


/* In a worker: from now on it hears its bell, if one is left. */

ngx_int_t
ngx_proxywasm_bell_answer(ngx_cycle_t *cycle, ngx_event_handler_pt handler)
{
    ngx_uint_t         i;
    ngx_atomic_uint_t  pid;

    for (i = 0; i < ngx_proxywasm_bell_count; i++) {
        pid = ngx_proxywasm_bell_pids[i];

        if (pid && (kill((ngx_pid_t) pid, 0) == 0 || ngx_errno != NGX_ESRCH)) {
            continue;
        }

        if (ngx_atomic_cmp_set(&ngx_proxywasm_bell_pids[i], pid, ngx_pid)) {
            break;
        }
    }

    if (i == ngx_proxywasm_bell_count) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "proxywasm: too many workers, some that shut down still "
                      "live: this one is not told of what others put into its "
                      "queues");
        return NGX_OK;
    }

    ngx_proxywasm_bell_mine = i;
    ngx_proxywasm_bell_handler = handler;

    return ngx_add_channel_event(cycle, ngx_proxywasm_bells[i][0],
                                 NGX_READ_EVENT, ngx_proxywasm_bell_on_ring);
}


void
ngx_proxywasm_bell_leave(void)
{
    if (ngx_proxywasm_bell_mine < ngx_proxywasm_bell_count) {
        ngx_proxywasm_bell_pids[ngx_proxywasm_bell_mine] = 0;
        ngx_proxywasm_bell_mine = NGX_PROXYWASM_BELLS;
    }
}


uint32_t
ngx_proxywasm_bell_place(void)
{
    return ngx_proxywasm_bell_mine;
}


/* Who has a place, 0 for nobody that lives.  NGX_DONE: there is no such place. */

ngx_int_t
ngx_proxywasm_bell_owner(uint32_t place, ngx_pid_t *pid)
{
    if (place >= ngx_proxywasm_bell_count) {
        return NGX_DONE;
    }

    *pid = (ngx_pid_t) ngx_proxywasm_bell_pids[place];

    if (*pid && kill(*pid, 0) == -1 && ngx_errno == NGX_ESRCH) {
        *pid = 0;
    }

    return NGX_OK;
}


/* Whether a process is there that has a place. */

ngx_uint_t
ngx_proxywasm_bell_heard(uint32_t place, ngx_pid_t pid)
{
    return place < ngx_proxywasm_bell_count
           && pid
           && (ngx_pid_t) ngx_proxywasm_bell_pids[place] == pid
           && (kill(pid, 0) == 0 || ngx_errno != NGX_ESRCH);
}


void
ngx_proxywasm_bell_ring(uint32_t place, ngx_pid_t pid)
{
    if (place >= ngx_proxywasm_bell_count
        || (ngx_pid_t) ngx_proxywasm_bell_pids[place] != pid)
    {
        return;
    }

    /* a full pipe rings just as well */

    if (write(ngx_proxywasm_bells[place][1], "", 1) == -1) {
        return;
    }
}


static void
ngx_proxywasm_bell_on_ring(ngx_event_t *ev)
{
    char  buf[256];

    while (read(ngx_proxywasm_bells[ngx_proxywasm_bell_mine][0], buf,
                sizeof(buf))
           > 0)
    {
        /* void */
    }

    ngx_proxywasm_bell_handler(ev);
}
