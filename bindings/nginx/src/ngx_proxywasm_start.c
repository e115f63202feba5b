/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Plugins and chains of this worker, and what becomes of plugins that do not
 * start.  All have started in the master a moment ago, so that is rare: memory
 * is short, or a plugin asks for something that has changed.
 *
 * A worker that cannot start ends NGINX's service: it is not made anew, and
 * that may be the fate of all workers.  So they start in any case, and requests
 * are treated as the policy of the plugin says for one that has failed: passed
 * by ("open"), or refused ("closed", and "reload" until an attempt succeeds).
 */


#include "ngx_proxywasm.h"


/* between attempts: twice as long each time */
#define NGX_PROXYWASM_RETRY_FIRST  1000
#define NGX_PROXYWASM_RETRY_LAST   60000


static void ngx_proxywasm_try(ngx_cycle_t *cycle);
static ngx_uint_t ngx_proxywasm_add_plugins(ngx_cycle_t *cycle,
    ngx_proxywasm_conf_t *conf);
static ngx_uint_t ngx_proxywasm_make_chains(ngx_cycle_t *cycle,
    ngx_proxywasm_conf_t *conf);
static ngx_int_t ngx_proxywasm_make_chain(ngx_cycle_t *cycle,
    ngx_proxywasm_chain_t *chain);
static void ngx_proxywasm_retry(ngx_event_t *ev);


static ngx_event_t       ngx_proxywasm_retry_event;
static ngx_msec_t        ngx_proxywasm_retry_wait;
/* logs of timers want the number of a connection */
static ngx_connection_t  ngx_proxywasm_retry_connection;


void
ngx_proxywasm_start_plugins(ngx_cycle_t *cycle)
{
    ngx_proxywasm_retry_connection.fd = (ngx_socket_t) -1;
    ngx_proxywasm_retry_connection.data = cycle;
    ngx_proxywasm_retry_event.handler = ngx_proxywasm_retry;
    ngx_proxywasm_retry_event.data = &ngx_proxywasm_retry_connection;
    ngx_proxywasm_retry_event.log = cycle->log;
    ngx_proxywasm_retry_event.cancelable = 1;
    ngx_proxywasm_retry_wait = NGX_PROXYWASM_RETRY_FIRST;

    ngx_proxywasm_try(cycle);
}


void
ngx_proxywasm_stop_plugins(ngx_cycle_t *cycle)
{
    ngx_uint_t                i;
    ngx_proxywasm_conf_t     *conf;
    ngx_proxywasm_chain_t   **chains;
    ngx_proxywasm_plugin_t  **plugins;

    if (ngx_proxywasm_retry_event.timer_set) {
        ngx_del_timer(&ngx_proxywasm_retry_event);
    }

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cycle->conf_ctx,
                                                 ngx_proxywasm_module);
    chains = conf->chains.elts;
    plugins = conf->plugins.elts;

    for (i = 0; i < conf->chains.nelts; i++) {
        proxywasm_chain_free(chains[i]->chain);
        chains[i]->chain = NULL;
    }

    for (i = 0; i < conf->plugins.nelts; i++) {
        (void) proxywasm_instance_remove(plugins[i]->instance);
        plugins[i]->instance = NULL;
    }
}


static void
ngx_proxywasm_retry(ngx_event_t *ev)
{
    ngx_connection_t  *c;

    c = ev->data;

    ngx_proxywasm_try(c->data);
}


static void
ngx_proxywasm_try(ngx_cycle_t *cycle)
{
    ngx_uint_t             missing;
    ngx_proxywasm_conf_t  *conf;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cycle->conf_ctx,
                                                 ngx_proxywasm_module);
    missing = 1;

    if (ngx_proxywasm_start_library(cycle) == NGX_OK) {
        missing = ngx_proxywasm_add_plugins(cycle, conf);
    }

    missing += ngx_proxywasm_make_chains(cycle, conf);

    if (missing) {
        ngx_add_timer(&ngx_proxywasm_retry_event, ngx_proxywasm_retry_wait);
        ngx_proxywasm_retry_wait = ngx_min(2 * ngx_proxywasm_retry_wait,
                                           NGX_PROXYWASM_RETRY_LAST);
    }
}


/* Returns how many are to be tried again. */

static ngx_uint_t
ngx_proxywasm_add_plugins(ngx_cycle_t *cycle, ngx_proxywasm_conf_t *conf)
{
    int32_t                  rc;
    ngx_uint_t               i, missing;
    ngx_proxywasm_plugin_t  *plugin, **plugins;

    static const char  *fates[] = {
        "its requests are refused until it does",
        "its requests are refused",
        "its requests pass without it"
    };

    plugins = conf->plugins.elts;
    missing = 0;

    for (i = 0; i < conf->plugins.nelts; i++) {
        plugin = plugins[i];

        if (plugin->instance
            || (plugin->service && ngx_worker != 0)
            || (plugin->tried
                && plugin->policy != PROXYWASM_FAILURE_POLICY_RELOAD))
        {
            continue;
        }

        rc = proxywasm_worker_add_plugin(ngx_proxywasm_worker, plugin->plugin,
                                         &plugin->instance);

        if (rc == PROXYWASM_RESULT_OK) {
            if (plugin->tried) {
                ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                              "plugin \"%V\" has started at last",
                              &plugin->name);
            }

            continue;
        }

        plugin->instance = NULL;
        plugin->tried = 1;
        plugin->last_failure = rc;
        plugin->failures++;

        ngx_log_error(NGX_LOG_CRIT, cycle->log, 0,
                      "plugin \"%V\" of %V:%ui could not start: %s: %s",
                      &plugin->name, &plugin->file, plugin->line,
                      proxywasm_result_name(rc), fates[plugin->policy]);

        if (plugin->policy == PROXYWASM_FAILURE_POLICY_RELOAD) {
            missing++;
        }
    }

    return missing;
}


/* Returns how many should be there by what has started, and are not. */

static ngx_uint_t
ngx_proxywasm_make_chains(ngx_cycle_t *cycle, ngx_proxywasm_conf_t *conf)
{
    ngx_uint_t               i, k, missing;
    ngx_proxywasm_chain_t   *chain, **chains;
    ngx_proxywasm_plugin_t  **members;

    chains = conf->chains.elts;
    missing = 0;

    for (i = 0; i < conf->chains.nelts; i++) {
        chain = chains[i];

        if (chain->chain) {
            continue;
        }

        members = chain->plugins.elts;
        chain->open = 1;

        for (k = 0; k < chain->plugins.nelts; k++) {
            if (members[k]->instance == NULL
                && members[k]->policy != PROXYWASM_FAILURE_POLICY_OPEN)
            {
                chain->open = 0;
            }
        }

        if (ngx_proxywasm_worker == NULL || !chain->open) {
            continue;
        }

        if (ngx_proxywasm_make_chain(cycle, chain) != NGX_OK) {
            chain->open = 0;
            missing++;
        }
    }

    return missing;
}


/* Of those that have started: the others are of policy "open". */

static ngx_int_t
ngx_proxywasm_make_chain(ngx_cycle_t *cycle, ngx_proxywasm_chain_t *chain)
{
    int32_t                     rc;
    ngx_uint_t                  i, n;
    ngx_proxywasm_plugin_t    **members;
    const proxywasm_instance  **instances;

    members = chain->plugins.elts;

    instances = ngx_alloc(chain->plugins.nelts * sizeof(proxywasm_instance *),
                          cycle->log);
    if (instances == NULL) {
        return NGX_ERROR;
    }

    n = 0;

    for (i = 0; i < chain->plugins.nelts; i++) {
        if (members[i]->instance) {
            instances[n++] = members[i]->instance;
        }
    }

    rc = proxywasm_chain_new(ngx_proxywasm_worker, instances, n,
                             &chain->chain);

    ngx_free(instances);

    if (rc == PROXYWASM_RESULT_OK) {
        rc = proxywasm_chain_set_isolation(chain->chain, chain->isolation);
    }

    if (rc != PROXYWASM_RESULT_OK) {
        ngx_log_error(NGX_LOG_CRIT, cycle->log, 0,
                      "proxywasm: chain failed: %s",
                      proxywasm_result_name(rc));
        proxywasm_chain_free(chain->chain);
        chain->chain = NULL;
        return NGX_ERROR;
    }

    chain->phases = proxywasm_chain_phases(chain->chain);

    return NGX_OK;
}
