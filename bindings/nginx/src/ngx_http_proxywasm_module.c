/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The http module: directives, and where plugins come into requests.
 */


#include "ngx_http_proxywasm.h"


static ngx_int_t ngx_http_proxywasm_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_proxywasm_postconfiguration(ngx_conf_t *cf);
static void *ngx_http_proxywasm_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_proxywasm_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static char *ngx_http_proxywasm_no_call(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_proxywasm_add_handler(ngx_conf_t *cf,
    ngx_uint_t phase, ngx_http_handler_pt handler, ngx_uint_t last);
static ngx_uint_t ngx_http_proxywasm_in_rewrite(ngx_http_request_t *r,
    ngx_http_proxywasm_loc_conf_t *lcf);
static ngx_int_t ngx_http_proxywasm_rewrite_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_proxywasm_late_rewrite_handler(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_proxywasm_access_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_proxywasm_precontent_handler(ngx_http_request_t *r);


#define ngx_http_proxywasm_callout(name, args, set, field)                    \
    { ngx_string(name),                                                       \
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|args,            \
      set,                                                                    \
      NGX_HTTP_LOC_CONF_OFFSET,                                               \
      offsetof(ngx_http_proxywasm_loc_conf_t, field),                         \
      NULL }


static ngx_command_t  ngx_http_proxywasm_commands[] = {

    { ngx_string("proxy_wasm"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_proxywasm_set_plugin_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_proxywasm_loc_conf_t, place),
      NULL },

    { ngx_string("proxy_wasm_isolation"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_proxywasm_loc_conf_t, place.isolation),
      ngx_proxywasm_isolations },

    { ngx_string("proxy_wasm_request_headers_in_access"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_proxywasm_loc_conf_t, in_access),
      NULL },

    { ngx_string("wasm_postpone_rewrite"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_proxywasm_loc_conf_t, late_rewrite),
      NULL },

    { ngx_string("wasm_postpone_access"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_proxywasm_loc_conf_t, late_access),
      NULL },

    { ngx_string("wasm_response_body_buffers"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE2,
      ngx_conf_set_bufs_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_proxywasm_loc_conf_t, response_buffers),
      NULL },

    { ngx_string("wasm_call"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_ANY,
      ngx_http_proxywasm_no_call,
      0,
      0,
      NULL },

    { ngx_string("proxy_wasm_subrequests"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_proxywasm_loc_conf_t, subrequests),
      NULL },

    { ngx_string("proxy_wasm_pause_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_proxywasm_loc_conf_t, pause_timeout),
      NULL },

    ngx_http_proxywasm_callout("resolver_add", NGX_CONF_TAKE2,
                               ngx_proxywasm_add_host, socket),

    ngx_http_proxywasm_callout("wasm_socket_connect_timeout", NGX_CONF_TAKE1,
                               ngx_conf_set_msec_slot, socket.connect_timeout),

    ngx_http_proxywasm_callout("wasm_socket_send_timeout", NGX_CONF_TAKE1,
                               ngx_conf_set_msec_slot, socket.send_timeout),

    ngx_http_proxywasm_callout("wasm_socket_read_timeout", NGX_CONF_TAKE1,
                               ngx_conf_set_msec_slot, socket.read_timeout),

    ngx_http_proxywasm_callout("wasm_socket_buffer_size", NGX_CONF_TAKE1,
                               ngx_proxywasm_set_buffer_size,
                               socket.buffer_size),

    ngx_http_proxywasm_callout("wasm_socket_large_buffers", NGX_CONF_TAKE2,
                               ngx_conf_set_bufs_slot, socket.large_buffers),

    ngx_http_proxywasm_callout("wasm_socket_buffer_reuse", NGX_CONF_FLAG,
                               ngx_conf_set_flag_slot, socket.buffer_reuse),

    ngx_http_proxywasm_callout("proxy_wasm_log_dispatch_errors", NGX_CONF_FLAG,
                               ngx_conf_set_flag_slot, socket.log_errors),

    ngx_http_proxywasm_callout("proxy_wasm_lua_resolver", NGX_CONF_FLAG,
                               ngx_proxywasm_no_lua, socket),

    { ngx_string("proxy_wasm_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_proxywasm_metrics,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("proxy_wasm_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_proxywasm_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_proxywasm_module_ctx = {
    ngx_http_proxywasm_preconfiguration,   /* preconfiguration */
    ngx_http_proxywasm_postconfiguration,  /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_proxywasm_create_loc_conf,    /* create location configuration */
    ngx_http_proxywasm_merge_loc_conf      /* merge location configuration */
};


ngx_module_t  ngx_http_proxywasm_module = {
    NGX_MODULE_V1,
    &ngx_http_proxywasm_module_ctx,        /* module context */
    ngx_http_proxywasm_commands,           /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_proxywasm_side_t  ngx_http_proxywasm_side = {
    ngx_http_proxywasm_fill_host,
    ngx_http_proxywasm_get_property,
    ngx_http_proxywasm_set_property,
    ngx_http_proxywasm_on_resume,
    ngx_http_proxywasm_on_close
};


static ngx_int_t
ngx_http_proxywasm_preconfiguration(ngx_conf_t *cf)
{
    ngx_proxywasm_sides[PROXYWASM_STREAM_KIND_HTTP] =
                                                   &ngx_http_proxywasm_side;

    return NGX_OK;
}


static ngx_int_t
ngx_http_proxywasm_postconfiguration(ngx_conf_t *cf)
{
    if (ngx_http_proxywasm_add_handler(cf, NGX_HTTP_REWRITE_PHASE,
                                       ngx_http_proxywasm_rewrite_handler, 0)
        != NGX_OK
        || ngx_http_proxywasm_add_handler(cf, NGX_HTTP_REWRITE_PHASE,
                                     ngx_http_proxywasm_late_rewrite_handler,
                                          1)
           != NGX_OK
        || ngx_http_proxywasm_add_handler(cf, NGX_HTTP_ACCESS_PHASE,
                                          ngx_http_proxywasm_access_handler, 0)
           != NGX_OK
        || ngx_http_proxywasm_add_handler(cf, NGX_HTTP_PRECONTENT_PHASE,
                                       ngx_http_proxywasm_precontent_handler,
                                          0)
           != NGX_OK
        || ngx_http_proxywasm_add_handler(cf, NGX_HTTP_LOG_PHASE,
                                          ngx_http_proxywasm_log_handler, 0)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_proxywasm_find_unbuffered(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_proxywasm_next_header = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_proxywasm_header_filter;

    ngx_http_proxywasm_next_body = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_proxywasm_body_filter;

    ngx_http_proxywasm_next_request_body = ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = ngx_http_proxywasm_request_body_filter;

    return NGX_OK;
}


/*
 * NGINX goes through the handlers of a phase backwards.  So what stands at the
 * end runs before those of modules that were loaded earlier, NGINX's own among
 * them; and what stands at the beginning runs behind all, whenever they come.
 */

static ngx_int_t
ngx_http_proxywasm_add_handler(ngx_conf_t *cf, ngx_uint_t phase,
    ngx_http_handler_pt handler, ngx_uint_t last)
{
    ngx_array_t                *handlers;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    handlers = &cmcf->phases[phase].handlers;

    h = ngx_array_push(handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    if (last) {
        h = handlers->elts;
        ngx_memmove(h + 1, h,
                    (handlers->nelts - 1) * sizeof(ngx_http_handler_pt));
    }

    *h = handler;

    return NGX_OK;
}


static void *
ngx_http_proxywasm_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_proxywasm_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_proxywasm_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    ngx_proxywasm_create_place(&conf->place);
    conf->in_access = NGX_CONF_UNSET;
    conf->late_rewrite = NGX_CONF_UNSET;
    conf->late_access = NGX_CONF_UNSET;
    conf->subrequests = NGX_CONF_UNSET;
    conf->pause_timeout = NGX_CONF_UNSET_MSEC;
    ngx_proxywasm_create_socket_conf(&conf->socket);

    return conf;
}


static char *
ngx_http_proxywasm_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_proxywasm_loc_conf_t *prev = parent;
    ngx_http_proxywasm_loc_conf_t *conf = child;

    ngx_conf_merge_value(conf->in_access, prev->in_access, 0);
    ngx_conf_merge_value(conf->late_rewrite, prev->late_rewrite, 0);
    ngx_conf_merge_value(conf->late_access, prev->late_access, 0);
    ngx_conf_merge_bufs_value(conf->response_buffers, prev->response_buffers,
                              0, 0);
    ngx_conf_merge_value(conf->subrequests, prev->subrequests, 1);
    ngx_conf_merge_msec_value(conf->pause_timeout, prev->pause_timeout, 60000);
    ngx_proxywasm_merge_socket_conf(&prev->socket, &conf->socket);

    if (ngx_proxywasm_merge_plugins(cf, &prev->place, &conf->place) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (conf->place.chain && conf->response_buffers.num) {
        ngx_proxywasm_want_body_buffer(conf->place.chain,
                                       conf->response_buffers.num
                                       * conf->response_buffers.size);
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_proxywasm_no_call(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    return "is not supported, since modules are Proxy-Wasm plugins here: "
           "give them to \"proxy_wasm\", which calls them in all phases";
}


/* Subrequests have no access phase. */

static ngx_uint_t
ngx_http_proxywasm_in_rewrite(ngx_http_request_t *r,
    ngx_http_proxywasm_loc_conf_t *lcf)
{
    return lcf->place.chain
           && (r == r->main ? !lcf->in_access : lcf->subrequests);
}


static ngx_int_t
ngx_http_proxywasm_rewrite_handler(ngx_http_request_t *r)
{
    ngx_http_proxywasm_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_proxywasm_module);

    if (!ngx_http_proxywasm_in_rewrite(r, lcf) || lcf->late_rewrite) {
        return NGX_DECLINED;
    }

    return ngx_http_proxywasm_request_handler(r);
}


static ngx_int_t
ngx_http_proxywasm_late_rewrite_handler(ngx_http_request_t *r)
{
    ngx_http_proxywasm_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_proxywasm_module);

    /* after a "rewrite" it is up to the location that comes now */

    if (!ngx_http_proxywasm_in_rewrite(r, lcf)
        || !lcf->late_rewrite
        || r->uri_changed)
    {
        return NGX_DECLINED;
    }

    return ngx_http_proxywasm_request_handler(r);
}


static ngx_int_t
ngx_http_proxywasm_access_handler(ngx_http_request_t *r)
{
    ngx_http_proxywasm_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_proxywasm_module);

    if (lcf->place.chain == NULL || !lcf->in_access || lcf->late_access) {
        return NGX_DECLINED;
    }

    return ngx_http_proxywasm_request_handler(r);
}


/*
 * Behind the access phase, not at its end: with "satisfy any", whoever is
 * satisfied first ends that phase, and plugins would be passed by.  This goes
 * for those that are not postponed too, behind modules that were loaded later.
 */

static ngx_int_t
ngx_http_proxywasm_precontent_handler(ngx_http_request_t *r)
{
    ngx_http_proxywasm_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_proxywasm_module);

    /* subrequests have no access phase, and none behind it */

    if (lcf->place.chain == NULL || !lcf->in_access || r != r->main) {
        return NGX_DECLINED;
    }

    return ngx_http_proxywasm_request_handler(r);
}
