/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Modules, plugins and chains as the configuration names them, and how the
 * library gets them.
 */


#include "ngx_proxywasm.h"


/* max_body_buffer where nothing says otherwise: the library's default */
#define NGX_PROXYWASM_BODY_BUFFER  (1024 * 1024)

/* most VMs of a worker, where requests have VMs of their own */
#define NGX_PROXYWASM_VMS          4096


static ngx_proxywasm_chain_t *ngx_proxywasm_add_chain(ngx_conf_t *cf,
    ngx_proxywasm_place_t *place);
static int32_t ngx_proxywasm_create_engine(ngx_cycle_t *cycle,
    ngx_proxywasm_conf_t *conf);
static ngx_uint_t ngx_proxywasm_isolated(ngx_proxywasm_conf_t *conf);
static ngx_int_t ngx_proxywasm_compile(ngx_cycle_t *cycle,
    ngx_proxywasm_conf_t *conf, ngx_proxywasm_code_t *code);
static ngx_int_t ngx_proxywasm_configure(ngx_cycle_t *cycle,
    ngx_proxywasm_conf_t *conf, ngx_proxywasm_plugin_t *plugin);
static int32_t ngx_proxywasm_set_limits(proxywasm_plugin_config *config,
    ngx_proxywasm_plugin_t *plugin, ngx_proxywasm_options_t *options);
static int32_t ngx_proxywasm_set_options(proxywasm_plugin_config *config,
    ngx_proxywasm_options_t *options);
static void ngx_proxywasm_conf_error(ngx_cycle_t *cycle, const char *what,
    ngx_str_t *name, ngx_str_t *file, ngx_uint_t line);


ngx_conf_enum_t  ngx_proxywasm_isolations[] = {
    { ngx_string("none"), PROXYWASM_ISOLATION_SHARED },
    { ngx_string("stream"), PROXYWASM_ISOLATION_STREAM },
    { ngx_string("filter"), PROXYWASM_ISOLATION_PLUGIN },
    { ngx_null_string, 0 }
};


ngx_proxywasm_code_t *
ngx_proxywasm_find_code(ngx_proxywasm_conf_t *conf, ngx_str_t *name)
{
    ngx_uint_t              i;
    ngx_proxywasm_code_t  **codes;

    codes = conf->codes.elts;

    for (i = 0; i < conf->codes.nelts; i++) {
        if (codes[i]->name.len == name->len
            && ngx_strncmp(codes[i]->name.data, name->data, name->len) == 0)
        {
            return codes[i];
        }
    }

    return NULL;
}


ngx_proxywasm_options_t *
ngx_proxywasm_find_options(ngx_proxywasm_conf_t *conf, ngx_str_t *name)
{
    ngx_uint_t                 i;
    ngx_proxywasm_options_t  **options;

    options = conf->options.elts;

    for (i = 0; i < conf->options.nelts; i++) {
        if (options[i]->name.len == name->len
            && ngx_strncmp(options[i]->name.data, name->data, name->len) == 0)
        {
            return options[i];
        }
    }

    return NULL;
}


/* The plugin that a directive asks for; equal ones are one. */

ngx_proxywasm_plugin_t *
ngx_proxywasm_add_plugin(ngx_conf_t *cf, ngx_str_t *name, ngx_str_t *config)
{
    ngx_uint_t                i;
    ngx_proxywasm_conf_t     *conf;
    ngx_proxywasm_plugin_t   *plugin, **plugins, **slot;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                                 ngx_proxywasm_module);
    plugins = conf->plugins.elts;

    for (i = 0; i < conf->plugins.nelts; i++) {
        plugin = plugins[i];

        if (plugin->name.len == name->len
            && plugin->config.len == config->len
            && ngx_strncmp(plugin->name.data, name->data, name->len) == 0
            && (config->len == 0
                || ngx_memcmp(plugin->config.data, config->data, config->len)
                   == 0))
        {
            plugin->service = 0;
            return plugin;
        }
    }

    plugin = ngx_pcalloc(cf->pool, sizeof(ngx_proxywasm_plugin_t));
    slot = ngx_array_push(&conf->plugins);
    if (plugin == NULL || slot == NULL) {
        return NULL;
    }

    plugin->name = *name;
    plugin->config = *config;
    plugin->file = cf->conf_file->file.name;
    plugin->line = cf->conf_file->line;

    *slot = plugin;

    return plugin;
}


static ngx_proxywasm_chain_t *
ngx_proxywasm_add_chain(ngx_conf_t *cf, ngx_proxywasm_place_t *place)
{
    ngx_proxywasm_conf_t   *conf;
    ngx_proxywasm_chain_t  *chain, **slot;

    conf = (ngx_proxywasm_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                                 ngx_proxywasm_module);

    chain = ngx_pcalloc(cf->pool, sizeof(ngx_proxywasm_chain_t));
    slot = ngx_array_push(&conf->chains);
    if (chain == NULL || slot == NULL) {
        return NULL;
    }

    chain->plugins = *place->plugins;
    chain->isolation = place->isolation;
    *slot = chain;

    return chain;
}


/* Directives in a row make a chain. */

char *
ngx_proxywasm_set_plugin_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t                *value, config;
    ngx_proxywasm_place_t    *place;
    ngx_proxywasm_plugin_t  **slot;

    value = cf->args->elts;
    place = (ngx_proxywasm_place_t *) (p + cmd->offset);

    if (cf->args->nelts == 3) {
        config = value[2];

    } else {
        ngx_str_null(&config);
    }

    if (place->plugins == NULL) {
        place->plugins = ngx_array_create(cf->pool, 2,
                                          sizeof(ngx_proxywasm_plugin_t *));
        if (place->plugins == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    slot = ngx_array_push(place->plugins);
    if (slot == NULL) {
        return NGX_CONF_ERROR;
    }

    *slot = ngx_proxywasm_add_plugin(cf, &value[1], &config);

    return *slot ? NGX_CONF_OK : NGX_CONF_ERROR;
}


void
ngx_proxywasm_create_place(ngx_proxywasm_place_t *place)
{
    place->isolation = NGX_CONF_UNSET_UINT;
}


/*
 * A block with plugins of its own has those alone; one with another isolation
 * needs a chain of its own.
 */

ngx_int_t
ngx_proxywasm_merge_plugins(ngx_conf_t *cf, ngx_proxywasm_place_t *prev,
    ngx_proxywasm_place_t *conf)
{
    /* of the outermost block */
    ngx_conf_init_uint_value(prev->isolation, PROXYWASM_ISOLATION_SHARED);

    ngx_conf_init_uint_value(conf->isolation, prev->isolation);

    if (prev->plugins && prev->chain == NULL) {
        prev->chain = ngx_proxywasm_add_chain(cf, prev);
        if (prev->chain == NULL) {
            return NGX_ERROR;
        }
    }

    if (conf->plugins == NULL) {
        conf->plugins = prev->plugins;

        if (conf->plugins == NULL || conf->isolation == prev->isolation) {
            conf->chain = prev->chain;
            return NGX_OK;
        }
    }

    conf->chain = ngx_proxywasm_add_chain(cf, conf);

    return conf->chain ? NGX_OK : NGX_ERROR;
}


/*
 * The library's limit is that of a plugin; a location whose own is lower sees
 * to it itself.
 */

void
ngx_proxywasm_want_body_buffer(ngx_proxywasm_chain_t *chain, size_t size)
{
    ngx_uint_t                i;
    ngx_proxywasm_plugin_t  **plugins;

    plugins = chain->plugins.elts;

    for (i = 0; i < chain->plugins.nelts; i++) {
        plugins[i]->body_buffer = ngx_max(plugins[i]->body_buffer, size);
    }
}


/* Compiles what the configuration names, and tries each plugin. */

char *
ngx_proxywasm_load(ngx_cycle_t *cycle, ngx_proxywasm_conf_t *conf)
{
    ngx_uint_t                i;
    ngx_proxywasm_code_t    **codes;
    ngx_proxywasm_plugin_t  **plugins;

    codes = conf->codes.elts;
    plugins = conf->plugins.elts;

    if (conf->plugins.nelts && !conf->block) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "\"proxy_wasm\" is specified but config has no "
                      "\"wasm\" section in %V:%ui",
                      &plugins[0]->file, plugins[0]->line);
        return NGX_CONF_ERROR;
    }

    if (conf->codes.nelts == 0 && conf->plugins.nelts == 0) {
        return NGX_CONF_OK;
    }

    if (ngx_proxywasm_create_engine(cycle, conf) != PROXYWASM_RESULT_OK) {
        ngx_proxywasm_conf_error(cycle, "engine", NULL, NULL, 0);
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < conf->codes.nelts; i++) {
        if (ngx_proxywasm_compile(cycle, conf, codes[i]) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_proxywasm_trial_begin(cycle) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < conf->plugins.nelts; i++) {
        if (ngx_proxywasm_configure(cycle, conf, plugins[i]) != NGX_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static int32_t
ngx_proxywasm_create_engine(ngx_cycle_t *cycle, ngx_proxywasm_conf_t *conf)
{
    int32_t                   rc;
    ngx_uint_t                pooled;
    proxywasm_engine_config  *config;

    rc = proxywasm_engine_config_new(&config);
    if (rc != PROXYWASM_RESULT_OK) {
        return rc;
    }

    rc = proxywasm_engine_config_set_log(config, PROXYWASM_LOG_LEVEL_INFO,
                                         ngx_proxywasm_diagnostic, NULL);

    if (rc == PROXYWASM_RESULT_OK) {
        rc = ngx_proxywasm_set_runtime(cycle, config);
    }

    pooled = ngx_proxywasm_isolated(conf);

    if (rc == PROXYWASM_RESULT_OK && pooled) {
        rc = proxywasm_engine_config_set_pooling(config, NGX_PROXYWASM_VMS);
    }

    if (rc == PROXYWASM_RESULT_OK) {
        rc = proxywasm_engine_new(config, &conf->engine);
    }

    if (rc == PROXYWASM_RESULT_NO_MEMORY && pooled) {

        /* the address space is limited: slower, and it works */

        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "no address space for %d VMs of requests: each will be "
                      "reserved by itself", NGX_PROXYWASM_VMS);

        rc = proxywasm_engine_config_set_pooling(config, 0);

        if (rc == PROXYWASM_RESULT_OK) {
            rc = proxywasm_engine_new(config, &conf->engine);
        }
    }

    proxywasm_engine_config_free(config);

    return rc;
}


/* Whether requests or connections anywhere have VMs of their own. */

static ngx_uint_t
ngx_proxywasm_isolated(ngx_proxywasm_conf_t *conf)
{
    ngx_uint_t               i;
    ngx_proxywasm_chain_t  **chains;

    chains = conf->chains.elts;

    for (i = 0; i < conf->chains.nelts; i++) {
        if (chains[i]->isolation != PROXYWASM_ISOLATION_SHARED) {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_proxywasm_compile(ngx_cycle_t *cycle, ngx_proxywasm_conf_t *conf,
    ngx_proxywasm_code_t *code)
{
    int32_t      rc;
    ngx_str_t    bytes;
    ngx_pool_t  *pool;

    /* the text of a module is of no use afterwards */

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    if (ngx_proxywasm_read_file(pool, cycle->log, &code->path, &bytes)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "module \"%V\": \"%V\" cannot be read in %V:%ui",
                      &code->name, &code->path, &code->file, code->line);
        ngx_destroy_pool(pool);
        return NGX_ERROR;
    }

    rc = proxywasm_module_compile(conf->engine, ngx_proxywasm_slice(bytes),
                                  &code->module);
    ngx_destroy_pool(pool);

    if (rc != PROXYWASM_RESULT_OK) {
        ngx_proxywasm_conf_error(cycle, "module", &code->name, &code->file,
                                 code->line);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_proxywasm_read_file(ngx_pool_t *pool, ngx_log_t *log, ngx_str_t *path,
    ngx_str_t *bytes)
{
    ssize_t          n;
    ngx_err_t        err;
    ngx_file_t       file;
    ngx_file_info_t  fi;

    ngx_memzero(&file, sizeof(ngx_file_t));

    file.name = *path;
    file.log = log;
    file.fd = ngx_open_file(path->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (file.fd == NGX_INVALID_FILE) {
        return NGX_ERROR;
    }

    n = NGX_ERROR;

    if (ngx_fd_info(file.fd, &fi) != NGX_FILE_ERROR && ngx_is_file(&fi)) {
        bytes->len = (size_t) ngx_file_size(&fi);
        bytes->data = ngx_palloc(pool, bytes->len ? bytes->len : 1);

        if (bytes->data) {
            n = ngx_read_file(&file, bytes->data, bytes->len, 0);
        }
    }

    err = ngx_errno;
    (void) ngx_close_file(file.fd);
    ngx_set_errno(err);

    return n >= 0 && (size_t) n == bytes->len ? NGX_OK : NGX_ERROR;
}


/* A name is that of a plugin{}, or, with defaults for all, of a module. */

static ngx_int_t
ngx_proxywasm_configure(ngx_cycle_t *cycle, ngx_proxywasm_conf_t *conf,
    ngx_proxywasm_plugin_t *plugin)
{
    int32_t                   rc;
    ngx_str_t                *module;
    ngx_proxywasm_code_t     *code;
    ngx_proxywasm_options_t  *options;
    proxywasm_plugin_config  *config;

    options = ngx_proxywasm_find_options(conf, &plugin->name);
    module = options ? &options->module : &plugin->name;
    code = ngx_proxywasm_find_code(conf, module);

    plugin->policy = options ? options->policy
                             : (ngx_uint_t) PROXYWASM_FAILURE_POLICY_RELOAD;

    if (code == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "no \"%V\" module defined in %V:%ui",
                      module, &plugin->file, plugin->line);
        return NGX_ERROR;
    }

    rc = proxywasm_plugin_config_new(ngx_proxywasm_slice(plugin->name),
                                     &config);

    if (rc == PROXYWASM_RESULT_OK) {
        rc = proxywasm_plugin_config_set_configuration(config,
                 ngx_proxywasm_slice(plugin->config.len || options == NULL
                                     ? plugin->config : options->config));
    }

    if (rc == PROXYWASM_RESULT_OK) {
        rc = proxywasm_plugin_config_set_vm_configuration(config,
                 ngx_proxywasm_slice(options && options->vm_config.len
                                     ? options->vm_config : code->config));
    }

    if (rc == PROXYWASM_RESULT_OK) {
        rc = ngx_proxywasm_set_limits(config, plugin, options);
    }

    if (rc == PROXYWASM_RESULT_OK && options) {
        rc = ngx_proxywasm_set_options(config, options);
    }

    if (rc == PROXYWASM_RESULT_OK) {
        rc = proxywasm_plugin_new(code->module, config, &plugin->plugin);
    }

    if (rc == PROXYWASM_RESULT_OK) {
        rc = ngx_proxywasm_trial(plugin->plugin, conf->engine, cycle);
    }

    if (rc != PROXYWASM_RESULT_OK) {
        ngx_proxywasm_conf_error(cycle, "plugin", &plugin->name, &plugin->file,
                                 plugin->line);
    }

    proxywasm_plugin_config_free(config);

    return rc == PROXYWASM_RESULT_OK ? NGX_OK : NGX_ERROR;
}


static int32_t
ngx_proxywasm_set_limits(proxywasm_plugin_config *config,
    ngx_proxywasm_plugin_t *plugin, ngx_proxywasm_options_t *options)
{
    proxywasm_limits  limits;

    ngx_memzero(&limits, sizeof(proxywasm_limits));

    limits.struct_size = sizeof(proxywasm_limits);

    if (options) {
        limits.deadline_ns = (uint64_t) options->deadline * 1000000;
        limits.start_deadline_ns = (uint64_t) options->start_deadline
                                   * 1000000;
        limits.max_memory = options->max_memory;
        limits.max_body_buffer = options->max_body_buffer;
        limits.max_callouts = options->max_callouts;
    }

    if (plugin->body_buffer > (limits.max_body_buffer
                               ? limits.max_body_buffer
                               : NGX_PROXYWASM_BODY_BUFFER))
    {
        limits.max_body_buffer = plugin->body_buffer;
    }

    return proxywasm_plugin_config_set_limits(config, &limits);
}


static int32_t
ngx_proxywasm_set_options(proxywasm_plugin_config *config,
    ngx_proxywasm_options_t *options)
{
    int32_t        rc;
    ngx_str_t     *capability;
    ngx_uint_t     i;
    ngx_keyval_t  *variable;

    rc = proxywasm_plugin_config_set_root_id(config,
                                       ngx_proxywasm_slice(options->root_id));

    if (rc == PROXYWASM_RESULT_OK) {
        rc = proxywasm_plugin_config_set_vm_id(config,
                                         ngx_proxywasm_slice(options->vm_id));
    }

    if (rc == PROXYWASM_RESULT_OK) {
        rc = proxywasm_plugin_config_set_failure_policy(config,
                                                        options->policy);
    }

    if (rc == PROXYWASM_RESULT_OK) {
        rc = proxywasm_plugin_config_set_allow_on_headers_stop_iteration(
                 config, options->stop_iteration);
    }

    if (options->environment) {
        variable = options->environment->elts;

        for (i = 0; rc == PROXYWASM_RESULT_OK
                    && i < options->environment->nelts; i++)
        {
            rc = proxywasm_plugin_config_add_environment(config,
                     ngx_proxywasm_slice(variable[i].key),
                     ngx_proxywasm_slice(variable[i].value));
        }
    }

    if (options->capabilities) {
        capability = options->capabilities->elts;

        for (i = 0; rc == PROXYWASM_RESULT_OK
                    && i < options->capabilities->nelts; i++)
        {
            rc = proxywasm_plugin_config_allow(config,
                                           ngx_proxywasm_slice(capability[i]));
        }
    }

    return rc;
}


/* Logs what the library says of its last error. */

static void
ngx_proxywasm_conf_error(ngx_cycle_t *cycle, const char *what, ngx_str_t *name,
    ngx_str_t *file, ngx_uint_t line)
{
    char  *end, text[1024];

    (void) proxywasm_last_error(text, sizeof(text));

    /* a backtrace may follow the first line */

    end = strchr(text, '\n');
    if (end) {
        *end = '\0';
    }

    if (name) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "%s \"%V\": %s in %V:%ui",
                      what, name, text, file, line);

    } else {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "proxywasm %s: %s",
                      what, text);
    }
}
