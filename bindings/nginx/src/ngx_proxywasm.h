/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * What the http and the stream module share: plugins as the configuration names
 * them, and the worker that runs them.
 */


#ifndef NGX_PROXYWASM_H_INCLUDED
#define NGX_PROXYWASM_H_INCLUDED


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include <proxywasm.h>


/* commands of wasm{}, and of plugin{} in it */
#define NGX_WASM_CONF         0x02000000
#define NGX_WASM_PLUGIN_CONF  0x04000000
#define NGX_WASM_METRICS_CONF 0x08000000

/* buffers that go to the library at a time */
#define NGX_PROXYWASM_CHUNKS  32

/* A module of wasm{}: code, and the configuration of its VMs. */
typedef struct {
    ngx_str_t                name;
    ngx_str_t                path;
    ngx_str_t                config;
    ngx_str_t                file;
    ngx_uint_t               line;

    proxywasm_module        *module;
} ngx_proxywasm_code_t;


/* plugin{}: a module under a name of its own, with what it may do. */
typedef struct {
    ngx_str_t                name;
    ngx_str_t                module;
    ngx_str_t                config;
    ngx_str_t                vm_config;
    ngx_str_t                root_id;
    ngx_str_t                vm_id;
    ngx_uint_t               policy;
    ngx_msec_t               deadline;
    ngx_msec_t               start_deadline;
    size_t                   max_memory;
    size_t                   max_body_buffer;
    ngx_int_t                max_callouts;
    ngx_flag_t               stop_iteration;
    ngx_array_t             *environment;    /* of ngx_keyval_t */
    ngx_array_t             *capabilities;   /* of ngx_str_t */
} ngx_proxywasm_options_t;


/*
 * A plugin with a configuration.  One for each proxy_wasm directive that is
 * unlike all others.
 */
typedef struct {
    ngx_str_t                name;
    ngx_str_t                config;
    ngx_str_t                file;
    ngx_uint_t               line;

    /* without requests, in the first worker alone */
    ngx_uint_t               service;
    /* what some location wants max_body_buffer to be at least */
    size_t                   body_buffer;

    proxywasm_plugin        *plugin;
    ngx_uint_t               policy;
    /* in this worker; NULL when it could not start */
    proxywasm_instance      *instance;
    ngx_uint_t               tried;
    /* of all plugins of that name, in this worker */
    ngx_uint_t               failures;
    int32_t                  last_failure;   /* a proxywasm_result */
} ngx_proxywasm_plugin_t;


/* A chain: the plugins of one place of the configuration, in order. */
typedef struct {
    ngx_array_t              plugins;    /* of ngx_proxywasm_plugin_t * */
    ngx_uint_t               isolation;  /* a proxywasm_isolation */

    /* in this worker */
    proxywasm_chain         *chain;
    uint32_t                 phases;
    /* without a chain: pass by; otherwise refuse */
    ngx_uint_t               open;
} ngx_proxywasm_chain_t;


/* What proxy_wasm and proxy_wasm_isolation make of a block. */
typedef struct {
    ngx_array_t             *plugins;    /* of ngx_proxywasm_plugin_t * */
    ngx_uint_t               isolation;  /* a proxywasm_isolation */
    ngx_proxywasm_chain_t   *chain;
} ngx_proxywasm_place_t;


/* Sockets of callouts: of wasm{}, and of a location. */
typedef struct {
    ngx_msec_t               connect_timeout;
    ngx_msec_t               send_timeout;
    ngx_msec_t               read_timeout;
    size_t                   buffer_size;
    ngx_bufs_t               large_buffers;
    ngx_flag_t               buffer_reuse;
    ngx_flag_t               log_errors;
} ngx_proxywasm_socket_conf_t;


typedef struct {
    ngx_str_t                name;
    ngx_addr_t               addr;
} ngx_proxywasm_known_host_t;


typedef struct {
    ngx_proxywasm_socket_conf_t  socket;
    size_t                       max_body;
    ngx_resolver_t              *resolver;
    ngx_resolver_t              *system_resolver;
    ngx_msec_t                   resolver_timeout;
    ngx_array_t                  hosts;  /* of ngx_proxywasm_known_host_t */
    ngx_str_t                    trusted_certificate;
    ngx_flag_t                   verify_cert;
    ngx_flag_t                   verify_host;
    ngx_flag_t                   no_verify_warn;
#if (NGX_SSL)
    ngx_ssl_t                   *ssl;
#endif
} ngx_proxywasm_callout_conf_t;


typedef struct ngx_proxywasm_zone_s  ngx_proxywasm_zone_t;


typedef struct {
    ngx_array_t              codes;      /* of ngx_proxywasm_code_t * */
    ngx_array_t              options;    /* of ngx_proxywasm_options_t * */
    ngx_array_t              plugins;    /* of ngx_proxywasm_plugin_t * */
    ngx_array_t              chains;     /* of ngx_proxywasm_chain_t * */
    ngx_array_t              zones;      /* of ngx_proxywasm_zone_t * */

    ngx_proxywasm_zone_t    *metrics;
    size_t                   metrics_size;
    ngx_int_t                metrics_name_length;
    ngx_uint_t               metrics_block;

    proxywasm_engine        *engine;
    ngx_uint_t               block;      /* there is a wasm{} */
    ngx_uint_t               compat;     /* with ngx_wasm_module's quirks */
    ngx_proxywasm_callout_conf_t  callouts;
    ngx_log_t               *log;
} ngx_proxywasm_conf_t;


/* plugins of a configuration, of which a worker tells others */
#define NGX_PROXYWASM_STATS_PLUGINS  256


/* How a worker is. */
typedef struct {
    ngx_pid_t                pid;
    /* the question that this answers */
    ngx_atomic_t             answered;
    ngx_msec_t               time;
    uint32_t                 cycle;      /* of which configuration */
    ngx_uint_t               quitting;
    uint64_t                 cpu_msec;
    proxywasm_worker_stats   worker;
    /* by plugin of the configuration */
    ngx_uint_t               plugins;
    uint32_t                 failures[NGX_PROXYWASM_STATS_PLUGINS];
    int32_t                  last_failure[NGX_PROXYWASM_STATS_PLUGINS];
} ngx_proxywasm_stats_t;


/*
 * What the context of each stream, http or not, begins with: callbacks about
 * streams get nothing else.
 */
typedef struct {
    int32_t                  kind;       /* a proxywasm_stream_kind */
    ngx_connection_t        *connection; /* of the client */
} ngx_proxywasm_stream_t;


/* the longest name of a variable that plugins can ask for */
#define NGX_PROXYWASM_VARIABLE_LEN  128


/* A property, before it is written as plugins get it. */
typedef enum {
    NGX_PROXYWASM_TEXT = 0,
    NGX_PROXYWASM_NUMBER,
    NGX_PROXYWASM_BOOL,
    NGX_PROXYWASM_MSEC      /* a time, or a duration */
} ngx_proxywasm_type_e;


typedef struct {
    ngx_proxywasm_type_e     type;
    ngx_str_t                text;
    uint64_t                 number;
} ngx_proxywasm_value_t;


/*
 * What a module on top of the core does for its kind of streams.  `fill` sets
 * the host's callbacks that no other kind has.
 */
typedef struct {
    void                   (*fill)(proxywasm_host *host);
    int32_t                (*get_property)(ngx_proxywasm_stream_t *stream,
                               proxywasm_slice path, proxywasm_slice *value);
    int32_t                (*set_property)(ngx_proxywasm_stream_t *stream,
                               proxywasm_slice path, proxywasm_slice value);
    void                   (*resume)(ngx_proxywasm_stream_t *stream,
                               int32_t direction);
    void                   (*close)(ngx_proxywasm_stream_t *stream);
} ngx_proxywasm_side_t;


/* ngx_proxywasm_module.c */

extern ngx_module_t  ngx_proxywasm_module;

/* ngx_proxywasm_runtime_conf.c */

ngx_uint_t ngx_proxywasm_backtraces(ngx_cycle_t *cycle);
int32_t ngx_proxywasm_set_runtime(ngx_cycle_t *cycle,
    proxywasm_engine_config *config);

extern ngx_module_t  ngx_proxywasm_runtime_module;

/* ngx_proxywasm_plugin.c */

extern ngx_conf_enum_t  ngx_proxywasm_isolations[];

ngx_proxywasm_code_t *ngx_proxywasm_find_code(ngx_proxywasm_conf_t *conf,
    ngx_str_t *name);
ngx_proxywasm_options_t *ngx_proxywasm_find_options(
    ngx_proxywasm_conf_t *conf, ngx_str_t *name);
ngx_proxywasm_plugin_t *ngx_proxywasm_add_plugin(ngx_conf_t *cf,
    ngx_str_t *name, ngx_str_t *config);
void ngx_proxywasm_create_place(ngx_proxywasm_place_t *place);
char *ngx_proxywasm_set_plugin_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_proxywasm_merge_plugins(ngx_conf_t *cf,
    ngx_proxywasm_place_t *prev, ngx_proxywasm_place_t *conf);
void ngx_proxywasm_want_body_buffer(ngx_proxywasm_chain_t *chain, size_t size);
ngx_int_t ngx_proxywasm_read_file(ngx_pool_t *pool, ngx_log_t *log,
    ngx_str_t *path, ngx_str_t *bytes);
char *ngx_proxywasm_load(ngx_cycle_t *cycle, ngx_proxywasm_conf_t *conf);

/* ngx_proxywasm_worker.c */

void ngx_proxywasm_start_worker(ngx_cycle_t *cycle);
ngx_int_t ngx_proxywasm_start_library(ngx_cycle_t *cycle);
void ngx_proxywasm_stop_worker(ngx_cycle_t *cycle);
void ngx_proxywasm_init_host(proxywasm_host *host);
void ngx_proxywasm_hold(void);
void ngx_proxywasm_release(void);

/* ngx_proxywasm_callout_conf.c */

void ngx_proxywasm_create_socket_conf(ngx_proxywasm_socket_conf_t *conf);
void ngx_proxywasm_merge_socket_conf(ngx_proxywasm_socket_conf_t *prev,
    ngx_proxywasm_socket_conf_t *conf);
ngx_int_t ngx_proxywasm_create_callout_conf(ngx_pool_t *pool,
    ngx_proxywasm_callout_conf_t *conf);
ngx_int_t ngx_proxywasm_init_callout_conf(ngx_cycle_t *cycle,
    ngx_proxywasm_callout_conf_t *conf, ngx_uint_t used);
char *ngx_proxywasm_set_resolver(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_proxywasm_add_host(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_proxywasm_no_lua(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_proxywasm_set_buffer_size(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* ngx_proxywasm_shm.c */

char *ngx_proxywasm_shm_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_proxywasm_metrics_directive(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_proxywasm_default_zones(ngx_conf_t *cf,
    ngx_proxywasm_conf_t *conf);
void ngx_proxywasm_shm_fill_host(proxywasm_host *host);
ngx_int_t ngx_proxywasm_shm_start(ngx_cycle_t *cycle);

/* ngx_proxywasm_trial.c */

ngx_int_t ngx_proxywasm_trial_begin(ngx_cycle_t *cycle);
int32_t ngx_proxywasm_trial(proxywasm_plugin *plugin,
    proxywasm_engine *engine, ngx_cycle_t *cycle);
void ngx_proxywasm_trial_end(ngx_cycle_t *cycle);

/* ngx_proxywasm_stats.c */

ngx_int_t ngx_proxywasm_stats_init(ngx_cycle_t *cycle);
ngx_atomic_uint_t ngx_proxywasm_ask_stats(void);
ngx_int_t ngx_proxywasm_next_stats(uint32_t *place, ngx_atomic_uint_t number,
    ngx_proxywasm_stats_t *copy);

/* ngx_proxywasm_bell.c */

ngx_int_t ngx_proxywasm_bell_hang(ngx_cycle_t *cycle);
void ngx_proxywasm_bell_leave(void);

/* ngx_proxywasm_metrics_text.c */

ngx_int_t ngx_proxywasm_render_metrics(ngx_proxywasm_conf_t *conf,
    ngx_pool_t *pool, proxywasm_sink_fn sink, void *data);

/* ngx_proxywasm_start.c */

void ngx_proxywasm_start_plugins(ngx_cycle_t *cycle);
void ngx_proxywasm_stop_plugins(ngx_cycle_t *cycle);

/* ngx_proxywasm_log.c */

void ngx_proxywasm_log(void *user_data, void *stream_data,
    const proxywasm_log_record *record);
int32_t ngx_proxywasm_log_level(void *user_data);
void ngx_proxywasm_diagnostic(void *user_data, int32_t level,
    proxywasm_slice message);

/* ngx_proxywasm_property.c */

ngx_uint_t ngx_proxywasm_is_path(proxywasm_slice path, ngx_str_t *name);
ngx_uint_t ngx_proxywasm_path_begins(proxywasm_slice path, ngx_str_t *name);
void ngx_proxywasm_encode(ngx_proxywasm_value_t *value, proxywasm_slice *out);
ngx_int_t ngx_proxywasm_connection_property(ngx_connection_t *c,
    ngx_pool_t *pool, proxywasm_slice path, ngx_proxywasm_value_t *value);

ngx_int_t ngx_proxywasm_server_property(ngx_str_t *server,
    proxywasm_slice path, ngx_proxywasm_value_t *value);
ngx_uint_t ngx_proxywasm_is_variable(proxywasm_slice path);
ngx_int_t ngx_proxywasm_variable_name(proxywasm_slice path, ngx_str_t *name,
    ngx_uint_t *hash);

/* ngx_proxywasm_chain.c */

ngx_chain_t *ngx_proxywasm_to_chunks(ngx_chain_t *in, proxywasm_chunk *chunks,
    ngx_uint_t *n, ngx_uint_t *last, ngx_uint_t sub);
void ngx_proxywasm_consume(ngx_chain_t *in, ngx_chain_t *end);
ngx_uint_t ngx_proxywasm_same(ngx_chain_t *in, proxywasm_outcome *outcome,
    ngx_uint_t last, ngx_uint_t sub);

/* ngx_proxywasm_side.c */

void ngx_proxywasm_fill_sides(proxywasm_host *host);

/* The worker of this process; NULL where there is none. */
extern proxywasm_worker      *ngx_proxywasm_worker;
/* By kind of stream; set by the modules on top before the worker starts. */
extern ngx_proxywasm_side_t  *ngx_proxywasm_sides[2];


/* whether to have ngx_wasm_module's quirks; when the configuration is read */
#define ngx_proxywasm_compat()                                                \
    (((ngx_proxywasm_conf_t *)                                                \
     ngx_get_conf(ngx_cycle->conf_ctx, ngx_proxywasm_module))->compat)

#define ngx_proxywasm_slice(str)                                              \
    (proxywasm_slice) { (str).data, (str).len }

static ngx_inline ngx_str_t
ngx_proxywasm_str(proxywasm_slice slice)
{
    ngx_str_t  str;

    str.data = (u_char *) slice.data;
    str.len = slice.len;

    return str;
}


#endif /* NGX_PROXYWASM_H_INCLUDED */
