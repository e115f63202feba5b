/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * What ngx_wasm_module's configurations say about the runtime: a core module of
 * its own, since its directives concern nobody else.
 *
 * All of its flags are understood.  One that would make a difference that the
 * library does not let us make says so when the configuration is read.
 */


#include "ngx_proxywasm.h"


#define NGX_WASM_RUNTIME_CONF  0x10000000


typedef struct {
    ngx_flag_t         backtraces;
    ngx_flag_t         interruption;
    ngx_flag_t         optimization;
    ngx_uint_t         compiler;
} ngx_proxywasm_runtime_conf_t;


typedef struct {
    ngx_str_t          name;
    /* the values that there are; NULL: a size */
    const char *const *values;
    /* that which holds here, if it is one of them */
    const char        *here;
    /* why another one has no effect */
    const char        *reason;
} ngx_proxywasm_flag_t;


static void *ngx_proxywasm_runtime_create_conf(ngx_cycle_t *cycle);
static char *ngx_proxywasm_compiler(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_proxywasm_wasmtime(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_proxywasm_flag(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_proxywasm_cache_config(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_proxywasm_other_runtime(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_proxywasm_skip(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_uint_t ngx_proxywasm_one_of(ngx_str_t *value,
    const char *const *values);
static void ngx_proxywasm_list(u_char *p, u_char *last,
    const char *const *values);


static ngx_command_t  ngx_proxywasm_runtime_commands[] = {

    { ngx_string("backtraces"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      0,
      offsetof(ngx_proxywasm_runtime_conf_t, backtraces),
      NULL },

    { ngx_string("compiler"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE1,
      ngx_proxywasm_compiler,
      0,
      0,
      NULL },

    { ngx_string("wasmtime"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_BLOCK|NGX_CONF_NOARGS,
      ngx_proxywasm_wasmtime,
      0,
      0,
      NULL },

    { ngx_string("flag"),
      NGX_WASM_RUNTIME_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE2,
      ngx_proxywasm_flag,
      0,
      0,
      NULL },

    { ngx_string("cache_config"),
      NGX_WASM_RUNTIME_CONF|NGX_DIRECT_CONF|NGX_CONF_TAKE1,
      ngx_proxywasm_cache_config,
      0,
      0,
      NULL },

    { ngx_string("wasmer"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_BLOCK|NGX_CONF_NOARGS,
      ngx_proxywasm_other_runtime,
      0,
      0,
      NULL },

    { ngx_string("v8"),
      NGX_WASM_CONF|NGX_DIRECT_CONF|NGX_CONF_BLOCK|NGX_CONF_NOARGS,
      ngx_proxywasm_other_runtime,
      0,
      0,
      NULL },

      ngx_null_command
};


static ngx_core_module_t  ngx_proxywasm_runtime_module_ctx = {
    ngx_string("proxywasm_runtime"),
    ngx_proxywasm_runtime_create_conf,
    NULL
};


ngx_module_t  ngx_proxywasm_runtime_module = {
    NGX_MODULE_V1,
    &ngx_proxywasm_runtime_module_ctx,     /* module context */
    ngx_proxywasm_runtime_commands,        /* module directives */
    NGX_CORE_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static const char *const  ngx_proxywasm_on_off[] = { "on", "off", NULL };

static const char *const  ngx_proxywasm_compilers[] = {
    "auto", "cranelift", NULL
};

static const char *const  ngx_proxywasm_opt_levels[] = {
    "none", "speed", "speed_and_size", NULL
};

static const char *const  ngx_proxywasm_profilers[] = {
    "none", "jitdump", "vtune", "perfmap", NULL
};

static const char  ngx_proxywasm_features[] =
    "plugins may use all that the runtime was built with, and a module that "
    "needs more is refused";

static const char  ngx_proxywasm_layout[] =
    "the runtime lays memory out by itself; \"max_memory\" in \"plugin\" says "
    "how much of it a plugin may have";


/* places in the table of those that have an effect */

#define NGX_PROXYWASM_INTERRUPTION  0
#define NGX_PROXYWASM_OPT_LEVEL     1


static ngx_proxywasm_flag_t  ngx_proxywasm_flags[] = {

    { ngx_string("epoch_interruption"), ngx_proxywasm_on_off, NULL, NULL },

    /* "speed" and "speed_and_size" are the same */
    { ngx_string("cranelift_opt_level"), ngx_proxywasm_opt_levels, NULL,
      NULL },

    { ngx_string("debug_info"), ngx_proxywasm_on_off, "off",
      "there is no support for debuggers" },

    { ngx_string("consume_fuel"), ngx_proxywasm_on_off, "off",
      "\"deadline\" in \"plugin\" says how long a plugin may run" },

    { ngx_string("max_wasm_stack"), NULL, NULL,
      "plugins have a stack of 512k" },

    { ngx_string("wasm_threads"), ngx_proxywasm_on_off, NULL,
      ngx_proxywasm_features },

    { ngx_string("wasm_reference_types"), ngx_proxywasm_on_off, NULL,
      ngx_proxywasm_features },

    { ngx_string("wasm_relaxed_simd"), ngx_proxywasm_on_off, NULL,
      ngx_proxywasm_features },

    { ngx_string("wasm_simd"), ngx_proxywasm_on_off, NULL,
      ngx_proxywasm_features },

    { ngx_string("wasm_bulk_memory"), ngx_proxywasm_on_off, NULL,
      ngx_proxywasm_features },

    { ngx_string("wasm_multi_value"), ngx_proxywasm_on_off, NULL,
      ngx_proxywasm_features },

    { ngx_string("wasm_multi_memory"), ngx_proxywasm_on_off, NULL,
      ngx_proxywasm_features },

    { ngx_string("wasm_memory64"), ngx_proxywasm_on_off, NULL,
      ngx_proxywasm_features },

    /* the two are the same */
    { ngx_string("strategy"), ngx_proxywasm_compilers, NULL, NULL },

    { ngx_string("parallel_compilation"), ngx_proxywasm_on_off, "off",
      "a master that has compiled with several threads, and was then forked "
      "into the background, would hang at the next reload" },

    { ngx_string("cranelift_debug_verifier"), ngx_proxywasm_on_off, "off",
      "it is for those who develop the compiler" },

    { ngx_string("cranelift_nan_canonicalization"), ngx_proxywasm_on_off,
      "off", "the bits of a NaN are those of the processor" },

    { ngx_string("profiler"), ngx_proxywasm_profilers, "none",
      "there is no support for profilers" },

    { ngx_string("static_memory_maximum_size"), NULL, NULL,
      ngx_proxywasm_layout },

    { ngx_string("static_memory_guard_size"), NULL, NULL,
      ngx_proxywasm_layout },

    { ngx_string("dynamic_memory_guard_size"), NULL, NULL,
      ngx_proxywasm_layout },

    { ngx_null_string, NULL, NULL, NULL }
};


static void *
ngx_proxywasm_runtime_create_conf(ngx_cycle_t *cycle)
{
    ngx_proxywasm_runtime_conf_t  *conf;

    conf = ngx_pcalloc(cycle->pool, sizeof(ngx_proxywasm_runtime_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->backtraces = NGX_CONF_UNSET;
    conf->interruption = 1;
    conf->optimization = 1;

    return conf;
}


/* ---- what others ask ---- */

/* Whether the log has the backtraces of plugins that fail. */

ngx_uint_t
ngx_proxywasm_backtraces(ngx_cycle_t *cycle)
{
    ngx_proxywasm_runtime_conf_t  *conf;

    conf = (ngx_proxywasm_runtime_conf_t *)
               ngx_get_conf(cycle->conf_ctx, ngx_proxywasm_runtime_module);

    return conf->backtraces != 0;
}


int32_t
ngx_proxywasm_set_runtime(ngx_cycle_t *cycle, proxywasm_engine_config *config)
{
    int32_t                        rc;
    ngx_proxywasm_runtime_conf_t  *conf;

    conf = (ngx_proxywasm_runtime_conf_t *)
               ngx_get_conf(cycle->conf_ctx, ngx_proxywasm_runtime_module);

    rc = proxywasm_engine_config_set_interruption(config, conf->interruption);
    if (rc != PROXYWASM_RESULT_OK) {
        return rc;
    }

    return proxywasm_engine_config_set_optimization(config,
                                                    conf->optimization);
}


/* ---- directives ---- */

static char *
ngx_proxywasm_compiler(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_proxywasm_runtime_conf_t  *rcf = conf;

    ngx_str_t  *value;
    u_char      list[NGX_MAX_CONF_ERRSTR];

    if (rcf->compiler) {
        return "is duplicate";
    }

    rcf->compiler = 1;
    value = cf->args->elts;

    if (!ngx_proxywasm_one_of(&value[1], ngx_proxywasm_compilers)) {
        ngx_proxywasm_list(list, list + sizeof(list),
                           ngx_proxywasm_compilers);
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "unknown compiler \"%V\": it must be %s",
                           &value[1], list);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_proxywasm_wasmtime(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char        *rv;
    ngx_conf_t   save;

    save = *cf;
    cf->cmd_type = NGX_WASM_RUNTIME_CONF;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    return rv;
}


/* Of a flag that is given several times, the last one counts. */

static char *
ngx_proxywasm_flag(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_proxywasm_runtime_conf_t  *rcf = conf;

    ngx_str_t             *value;
    ngx_proxywasm_flag_t  *flag;
    u_char                 list[NGX_MAX_CONF_ERRSTR];

    value = cf->args->elts;

    for (flag = ngx_proxywasm_flags; flag->name.len; flag++) {
        if (flag->name.len == value[1].len
            && ngx_strncmp(flag->name.data, value[1].data, value[1].len) == 0)
        {
            break;
        }
    }

    if (flag->name.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "unknown flag \"%V\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    if (flag->values == NULL) {
        if (ngx_parse_size(&value[2]) == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid value \"%V\" of the flag \"%V\": it "
                               "must be a size", &value[2], &value[1]);
            return NGX_CONF_ERROR;
        }

    } else if (!ngx_proxywasm_one_of(&value[2], flag->values)) {
        ngx_proxywasm_list(list, list + sizeof(list), flag->values);
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" of the flag \"%V\": it must "
                           "be %s", &value[2], &value[1], list);
        return NGX_CONF_ERROR;
    }

    if (flag == &ngx_proxywasm_flags[NGX_PROXYWASM_OPT_LEVEL]) {
        rcf->optimization = ngx_strcasecmp(value[2].data, (u_char *) "none")
                            != 0;

    } else if (flag == &ngx_proxywasm_flags[NGX_PROXYWASM_INTERRUPTION]) {
        rcf->interruption = ngx_strcasecmp(value[2].data, (u_char *) "on")
                            == 0;

        if (!rcf->interruption) {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "the flag \"%V\" is off: nothing ends plugins "
                               "that run for ever, \"deadline\" and "
                               "\"start_deadline\" have no effect",
                               &value[1]);
        }

    } else if (flag->reason
               && (flag->here == NULL
                   || ngx_strcasecmp(value[2].data, (u_char *) flag->here)
                      != 0))
    {
        ngx_conf_log_error(NGX_LOG_NOTICE, cf, 0,
                           "the flag \"%V\" has no effect: %s", &value[1],
                           flag->reason);
    }

    return NGX_CONF_OK;
}


static char *
ngx_proxywasm_cache_config(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_conf_log_error(NGX_LOG_NOTICE, cf, 0,
                       "\"cache_config\" has no effect: modules are compiled "
                       "once, for all workers");

    return NGX_CONF_OK;
}


/* wasmer{}, v8{} */

static char *
ngx_proxywasm_other_runtime(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char        *rv;
    ngx_conf_t   save;

    ngx_conf_log_error(NGX_LOG_NOTICE, cf, 0,
                       "\"%V\" is skipped: plugins run in wasmtime",
                       &cmd->name);

    save = *cf;
    cf->handler = ngx_proxywasm_skip;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    return rv;
}


static char *
ngx_proxywasm_skip(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return NGX_CONF_OK;
}


/* ---- values ---- */

static ngx_uint_t
ngx_proxywasm_one_of(ngx_str_t *value, const char *const *values)
{
    for ( /* void */ ; *values; values++) {
        if (ngx_strcasecmp(value->data, (u_char *) *values) == 0) {
            return 1;
        }
    }

    return 0;
}


/* For messages: "a", "b" or "c" */

static void
ngx_proxywasm_list(u_char *p, u_char *last, const char *const *values)
{
    const char *const  *v;

    for (v = values; *v; v++) {
        p = ngx_slprintf(p, last, "%s\"%s\"",
                         v == values ? "" : v[1] ? ", " : " or ", *v);
    }

    *p = '\0';
}
