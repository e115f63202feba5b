/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The core module: the wasm{} block, and when things begin and end.
 *
 * Code is compiled and plugins are validated when the configuration has been
 * read, in the master, so that errors stop `nginx -t`, and workers share the
 * pages.  VMs are made in the workers.
 */


#include "ngx_proxywasm.h"

#if (__GLIBC__)
#include <malloc.h>
#endif


static void *ngx_proxywasm_create_conf(ngx_cycle_t *cycle);
static char *ngx_proxywasm_init_conf(ngx_cycle_t *cycle, void *conf);
static char *ngx_proxywasm_block(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_proxywasm_code(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_proxywasm_plugin(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_proxywasm_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_proxywasm_service(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_proxywasm_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_proxywasm_init_process(ngx_cycle_t *cycle);
static void ngx_proxywasm_exit_process(ngx_cycle_t *cycle);
static void ngx_proxywasm_cleanup(void *data);
static void ngx_proxywasm_trim(void);


static ngx_conf_enum_t  ngx_proxywasm_policies[] = {
    { ngx_string("reload"), PROXYWASM_FAILURE_POLICY_RELOAD },
    { ngx_string("closed"), PROXYWASM_FAILURE_POLICY_CLOSED },
    { ngx_string("open"), PROXYWASM_FAILURE_POLICY_OPEN },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_proxywasm_compats[] = {
    { ngx_string("ngx_wasm_module"), 1 },
    { ngx_null_string, 0 }
};


#define ngx_proxywasm_option(name, args, set, field)                          \
    { ngx_string(name),                                                       \
      NGX_WASM_PLUGIN_CONF|NGX_DIRECT_CONF|args,                              \
      set,                                                                    \
      0,                                                                      \
      offsetof(ngx_proxywasm_options_t, field),                               \
      NULL }


#define ngx_proxywasm_callout(name, args, set, field)                         \
    { ngx_string(name),                                                       \
      NGX_WASM_CONF|NGX_DIRECT_CONF|args,                                     \
      set,                                                                    \
      0,                                                                      \
      offsetof(ngx_proxywasm_conf_t, callouts.field),                         \
      NULL }


static ngx_command_t  ngx_proxywasm_commands[] = {

    { ngx_string("wasm"),
      NGX_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_NOARGS,
      ngx_proxywasm_block,
      0,
      0,
      NULL },

    { ngx_string("module"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE23,
      ngx_proxywasm_code,
      0,
      0,
      NULL },

    { ngx_string("service"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE12,
      ngx_proxywasm_service,
      0,
      0,
      NULL },

    { ngx_string("compat"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      0,
      offsetof(ngx_proxywasm_conf_t, compat),
      ngx_proxywasm_compats },

    ngx_proxywasm_callout("resolver", NGX_CONF_1MORE,
                          ngx_proxywasm_set_resolver, socket),

    ngx_proxywasm_callout("resolver_timeout", NGX_CONF_TAKE1,
                          ngx_conf_set_msec_slot, resolver_timeout),

    ngx_proxywasm_callout("resolver_add", NGX_CONF_TAKE2,
                          ngx_proxywasm_add_host, socket),

    ngx_proxywasm_callout("socket_connect_timeout", NGX_CONF_TAKE1,
                          ngx_conf_set_msec_slot, socket.connect_timeout),

    ngx_proxywasm_callout("socket_send_timeout", NGX_CONF_TAKE1,
                          ngx_conf_set_msec_slot, socket.send_timeout),

    ngx_proxywasm_callout("socket_read_timeout", NGX_CONF_TAKE1,
                          ngx_conf_set_msec_slot, socket.read_timeout),

    ngx_proxywasm_callout("socket_buffer_size", NGX_CONF_TAKE1,
                          ngx_proxywasm_set_buffer_size, socket.buffer_size),

    ngx_proxywasm_callout("socket_large_buffers", NGX_CONF_TAKE2,
                          ngx_conf_set_bufs_slot, socket.large_buffers),

    ngx_proxywasm_callout("socket_buffer_reuse", NGX_CONF_FLAG,
                          ngx_conf_set_flag_slot, socket.buffer_reuse),

    ngx_proxywasm_callout("max_callout_body", NGX_CONF_TAKE1,
                          ngx_conf_set_size_slot, max_body),

    ngx_proxywasm_callout("tls_trusted_certificate", NGX_CONF_TAKE1,
                          ngx_conf_set_str_slot, trusted_certificate),

    ngx_proxywasm_callout("tls_verify_cert", NGX_CONF_FLAG,
                          ngx_conf_set_flag_slot, verify_cert),

    ngx_proxywasm_callout("tls_verify_host", NGX_CONF_FLAG,
                          ngx_conf_set_flag_slot, verify_host),

    ngx_proxywasm_callout("tls_no_verify_warn", NGX_CONF_FLAG,
                          ngx_conf_set_flag_slot, no_verify_warn),

    ngx_proxywasm_callout("proxy_wasm_log_dispatch_errors", NGX_CONF_FLAG,
                          ngx_conf_set_flag_slot, socket.log_errors),

    ngx_proxywasm_callout("proxy_wasm_lua_resolver", NGX_CONF_FLAG,
                          ngx_proxywasm_no_lua, socket),

    { ngx_string("shm_kv"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE23,
      ngx_proxywasm_shm_directive,
      0,
      0,
      NULL },

    { ngx_string("shm_queue"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE2,
      ngx_proxywasm_shm_directive,
      0,
      0,
      NULL },

    { ngx_string("metrics"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_BLOCK|NGX_CONF_NOARGS,
      ngx_proxywasm_metrics_directive,
      0,
      0,
      NULL },

    { ngx_string("slab_size"),
      NGX_WASM_METRICS_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      0,
      offsetof(ngx_proxywasm_conf_t, metrics_size),
      NULL },

    { ngx_string("max_metric_name_length"),
      NGX_WASM_METRICS_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      0,
      offsetof(ngx_proxywasm_conf_t, metrics_name_length),
      NULL },

    { ngx_string("plugin"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_proxywasm_plugin,
      0,
      0,
      NULL },

    ngx_proxywasm_option("module", NGX_CONF_TAKE1, ngx_conf_set_str_slot,
                         module),

    ngx_proxywasm_option("configuration", NGX_CONF_TAKE1,
                         ngx_conf_set_str_slot, config),

    ngx_proxywasm_option("vm_configuration", NGX_CONF_TAKE1,
                         ngx_conf_set_str_slot, vm_config),

    ngx_proxywasm_option("configuration_file", NGX_CONF_TAKE1,
                         ngx_proxywasm_file, config),

    ngx_proxywasm_option("vm_configuration_file", NGX_CONF_TAKE1,
                         ngx_proxywasm_file, vm_config),

    ngx_proxywasm_option("root_id", NGX_CONF_TAKE1, ngx_conf_set_str_slot,
                         root_id),

    ngx_proxywasm_option("vm_id", NGX_CONF_TAKE1, ngx_conf_set_str_slot,
                         vm_id),

    ngx_proxywasm_option("deadline", NGX_CONF_TAKE1, ngx_conf_set_msec_slot,
                         deadline),

    ngx_proxywasm_option("start_deadline", NGX_CONF_TAKE1,
                         ngx_conf_set_msec_slot, start_deadline),

    ngx_proxywasm_option("max_memory", NGX_CONF_TAKE1, ngx_conf_set_size_slot,
                         max_memory),

    ngx_proxywasm_option("max_body_buffer", NGX_CONF_TAKE1,
                         ngx_conf_set_size_slot, max_body_buffer),

    ngx_proxywasm_option("max_callouts", NGX_CONF_TAKE1, ngx_conf_set_num_slot,
                         max_callouts),

    ngx_proxywasm_option("allow_on_headers_stop_iteration", NGX_CONF_FLAG,
                         ngx_conf_set_flag_slot, stop_iteration),

    ngx_proxywasm_option("environment", NGX_CONF_TAKE2,
                         ngx_conf_set_keyval_slot, environment),

    ngx_proxywasm_option("allow", NGX_CONF_TAKE1,
                         ngx_conf_set_str_array_slot, capabilities),

    { ngx_string("failure_policy"),
      NGX_WASM_PLUGIN_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      0,
      offsetof(ngx_proxywasm_options_t, policy),
      ngx_proxywasm_policies },

      ngx_null_command
};


static ngx_core_module_t  ngx_proxywasm_module_ctx = {
    ngx_string("proxywasm"),
    ngx_proxywasm_create_conf,
    ngx_proxywasm_init_conf
};


ngx_module_t  ngx_proxywasm_module = {
    NGX_MODULE_V1,
    &ngx_proxywasm_module_ctx,             /* module context */
    ngx_proxywasm_commands,                /* module directives */
    NGX_CORE_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_proxywasm_init_module,             /* init module */
    ngx_proxywasm_init_process,            /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_proxywasm_exit_process,            /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static void *
ngx_proxywasm_create_conf(ngx_cycle_t *cycle)
{
    ngx_pool_cleanup_t    *cln;
    ngx_proxywasm_conf_t  *conf;

    conf = ngx_pcalloc(cycle->pool, sizeof(ngx_proxywasm_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&conf->codes, cycle->pool, 4,
                       sizeof(ngx_proxywasm_code_t *))
        != NGX_OK
        || ngx_array_init(&conf->options, cycle->pool, 4,
                          sizeof(ngx_proxywasm_options_t *))
           != NGX_OK
        || ngx_array_init(&conf->plugins, cycle->pool, 4,
                          sizeof(ngx_proxywasm_plugin_t *))
           != NGX_OK
        || ngx_array_init(&conf->chains, cycle->pool, 4,
                          sizeof(ngx_proxywasm_chain_t *))
           != NGX_OK
        || ngx_array_init(&conf->zones, cycle->pool, 4,
                          sizeof(ngx_proxywasm_zone_t *))
           != NGX_OK)
    {
        return NULL;
    }

    conf->log = cycle->log;
    conf->compat = NGX_CONF_UNSET_UINT;
    conf->metrics_size = NGX_CONF_UNSET_SIZE;
    conf->metrics_name_length = NGX_CONF_UNSET;

    if (ngx_proxywasm_create_callout_conf(cycle->pool, &conf->callouts)
        != NGX_OK)
    {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cycle->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_proxywasm_cleanup;
    cln->data = conf;

    return conf;
}


/* The whole file has been read: blocks may stand in any order. */

static char *
ngx_proxywasm_init_conf(ngx_cycle_t *cycle, void *conf)
{
    ngx_proxywasm_conf_t  *pcf = conf;

    ngx_conf_init_uint_value(pcf->compat, 0);

    if (ngx_proxywasm_init_callout_conf(cycle, &pcf->callouts,
                                        pcf->plugins.nelts)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return ngx_proxywasm_load(cycle, conf);
}


static char *
ngx_proxywasm_block(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char                  *rv;
    ngx_conf_t             save;
    ngx_proxywasm_conf_t  *pcf;

    pcf = *(ngx_proxywasm_conf_t **) conf;

    if (pcf->block) {
        return "is duplicate";
    }

    pcf->block = 1;

    save = *cf;
    cf->cmd_type = NGX_WASM_CONF;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv == NGX_CONF_OK
        && ngx_proxywasm_default_zones(cf, pcf) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    return rv;
}


static char *
ngx_proxywasm_code(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_proxywasm_conf_t  *pcf = conf;

    ngx_str_t             *value;
    ngx_proxywasm_code_t  *code, **slot;

    value = cf->args->elts;

    if (value[1].len == 0) {
        return "has an empty name";
    }

    if (ngx_proxywasm_find_code(pcf, &value[1]) != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "module \"%V\" is defined already", &value[1]);
        return NGX_CONF_ERROR;
    }

    code = ngx_pcalloc(cf->pool, sizeof(ngx_proxywasm_code_t));
    slot = ngx_array_push(&pcf->codes);
    if (code == NULL || slot == NULL) {
        return NGX_CONF_ERROR;
    }

    code->name = value[1];
    code->path = value[2];
    code->file = cf->conf_file->file.name;
    code->line = cf->conf_file->line;

    if (cf->args->nelts == 4) {
        code->config = value[3];
    }

    if (ngx_conf_full_name(cf->cycle, &code->path, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    *slot = code;

    return NGX_CONF_OK;
}


static char *
ngx_proxywasm_plugin(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_proxywasm_conf_t  *pcf = conf;

    char                      *rv;
    void                     **ctx;
    ngx_str_t                 *value;
    ngx_conf_t                 save;
    ngx_proxywasm_options_t   *options, **slot;

    value = cf->args->elts;

    if (ngx_proxywasm_find_options(pcf, &value[1]) != NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "plugin \"%V\" is defined already", &value[1]);
        return NGX_CONF_ERROR;
    }

    options = ngx_pcalloc(cf->pool, sizeof(ngx_proxywasm_options_t));
    slot = ngx_array_push(&pcf->options);
    ctx = ngx_pcalloc(cf->pool, sizeof(void *) * ngx_max_module);
    if (options == NULL || slot == NULL || ctx == NULL) {
        return NGX_CONF_ERROR;
    }

    options->name = value[1];
    options->policy = NGX_CONF_UNSET_UINT;
    options->deadline = NGX_CONF_UNSET_MSEC;
    options->start_deadline = NGX_CONF_UNSET_MSEC;
    options->max_memory = NGX_CONF_UNSET_SIZE;
    options->max_body_buffer = NGX_CONF_UNSET_SIZE;
    options->max_callouts = NGX_CONF_UNSET;
    options->stop_iteration = NGX_CONF_UNSET;
    options->capabilities = NGX_CONF_UNSET_PTR;

    save = *cf;
    cf->cmd_type = NGX_WASM_PLUGIN_CONF;
    ctx[ngx_proxywasm_module.index] = options;
    cf->ctx = ctx;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (options->module.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "plugin \"%V\" has no \"module\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    ngx_conf_init_uint_value(options->policy, PROXYWASM_FAILURE_POLICY_RELOAD);
    ngx_conf_init_msec_value(options->deadline, 0);
    ngx_conf_init_msec_value(options->start_deadline, 0);
    ngx_conf_init_size_value(options->max_memory, 0);
    ngx_conf_init_size_value(options->max_body_buffer, 0);
    ngx_conf_init_value(options->max_callouts, 0);
    ngx_conf_init_value(options->stop_iteration, 0);
    ngx_conf_init_ptr_value(options->capabilities, NULL);

    *slot = options;

    return NGX_CONF_OK;
}


/* A plugin that no request passes: it ticks, and listens to queues. */

static char *
ngx_proxywasm_service(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_proxywasm_conf_t  *pcf = conf;

    ngx_str_t                *value, config;
    ngx_uint_t                n;
    ngx_proxywasm_plugin_t   *plugin;

    value = cf->args->elts;

    if (cf->args->nelts == 3) {
        config = value[2];

    } else {
        ngx_str_null(&config);
    }

    n = pcf->plugins.nelts;

    plugin = ngx_proxywasm_add_plugin(cf, &value[1], &config);
    if (plugin == NULL) {
        return NGX_CONF_ERROR;
    }

    if (pcf->plugins.nelts == n) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "plugin \"%V\" is in use with the same "
                           "configuration in %V:%ui, and needs no service",
                           &value[1], &plugin->file, plugin->line);
        return NGX_CONF_ERROR;
    }

    plugin->service = 1;

    return NGX_CONF_OK;
}


/* A string as what a file holds: parameters have a limit of 4 KiB. */

static char *
ngx_proxywasm_file(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t  *field, *value;

    value = cf->args->elts;
    field = (ngx_str_t *) (p + cmd->offset);

    if (field->data) {
        return "is duplicate";
    }

    if (ngx_conf_full_name(cf->cycle, &value[1], 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (ngx_proxywasm_read_file(cf->pool, cf->log, &value[1], field)
        != NGX_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "\"%V\" cannot be read", &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_proxywasm_init_module(ngx_cycle_t *cycle)
{
    ngx_proxywasm_conf_t  *conf;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cycle->conf_ctx,
                                                 ngx_proxywasm_module);

    if (ngx_test_config || conf->plugins.nelts == 0) {
        return NGX_OK;
    }

    ngx_proxywasm_trial_end(cycle);
    ngx_proxywasm_trim();

    return ngx_proxywasm_bell_hang(cycle) == NGX_OK
           ? ngx_proxywasm_stats_init(cycle) : NGX_ERROR;
}


static ngx_int_t
ngx_proxywasm_init_process(ngx_cycle_t *cycle)
{
    /* the cache's helpers come by here too */

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    ngx_proxywasm_start_worker(cycle);

    return NGX_OK;
}


static void
ngx_proxywasm_exit_process(ngx_cycle_t *cycle)
{
    ngx_proxywasm_stop_worker(cycle);
}


/* The end of a cycle: of a configuration that was replaced, or refused. */

static void
ngx_proxywasm_cleanup(void *data)
{
    ngx_proxywasm_conf_t  *conf = data;

    ngx_uint_t                i;
    ngx_proxywasm_code_t    **codes;
    ngx_proxywasm_plugin_t  **plugins;

    plugins = conf->plugins.elts;

    for (i = 0; i < conf->plugins.nelts; i++) {
        proxywasm_plugin_free(plugins[i]->plugin);
    }

    codes = conf->codes.elts;

    for (i = 0; i < conf->codes.nelts; i++) {
        proxywasm_module_free(codes[i]->module);
    }

    proxywasm_engine_free(conf->engine);

    if (conf->engine) {
        ngx_proxywasm_trim();
    }
}


/*
 * Compiling leaves much free memory behind, which the C library keeps, and
 * which workers would have from the master.
 */

static void
ngx_proxywasm_trim(void)
{
#if (__GLIBC__)
    (void) malloc_trim(0);
#endif
}
