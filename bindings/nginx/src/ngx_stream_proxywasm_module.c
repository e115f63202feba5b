/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The stream module: directives, and where plugins come into sessions.
 *
 * Plugins meet a connection in the preread phase, when TLS is done with, and
 * its data in the filter that all data passes, once there is an upstream.
 */


#include "ngx_stream_proxywasm.h"


static ngx_int_t ngx_stream_proxywasm_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_stream_proxywasm_postconfiguration(ngx_conf_t *cf);
static void *ngx_stream_proxywasm_create_srv_conf(ngx_conf_t *cf);
static char *ngx_stream_proxywasm_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child);


static ngx_command_t  ngx_stream_proxywasm_commands[] = {

    { ngx_string("proxy_wasm"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE12,
      ngx_proxywasm_set_plugin_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_stream_proxywasm_srv_conf_t, place),
      NULL },

    { ngx_string("proxy_wasm_isolation"),
      NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_STREAM_SRV_CONF_OFFSET,
      offsetof(ngx_stream_proxywasm_srv_conf_t, place.isolation),
      ngx_proxywasm_isolations },

      ngx_null_command
};


static ngx_stream_module_t  ngx_stream_proxywasm_module_ctx = {
    ngx_stream_proxywasm_preconfiguration,   /* preconfiguration */
    ngx_stream_proxywasm_postconfiguration,  /* postconfiguration */

    NULL,                                    /* create main configuration */
    NULL,                                    /* init main configuration */

    ngx_stream_proxywasm_create_srv_conf,    /* create server configuration */
    ngx_stream_proxywasm_merge_srv_conf      /* merge server configuration */
};


ngx_module_t  ngx_stream_proxywasm_module = {
    NGX_MODULE_V1,
    &ngx_stream_proxywasm_module_ctx,      /* module context */
    ngx_stream_proxywasm_commands,         /* module directives */
    NGX_STREAM_MODULE,                     /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_proxywasm_side_t  ngx_stream_proxywasm_side = {
    NULL,
    ngx_stream_proxywasm_get_property,
    ngx_stream_proxywasm_set_property,
    ngx_stream_proxywasm_on_resume,
    ngx_stream_proxywasm_on_close
};


static ngx_int_t
ngx_stream_proxywasm_preconfiguration(ngx_conf_t *cf)
{
    ngx_proxywasm_sides[PROXYWASM_STREAM_KIND_TCP] =
                                                 &ngx_stream_proxywasm_side;

    return NGX_OK;
}


static ngx_int_t
ngx_stream_proxywasm_postconfiguration(ngx_conf_t *cf)
{
    ngx_stream_handler_pt        *h;
    ngx_stream_core_main_conf_t  *cmcf;

    cmcf = ngx_stream_conf_get_module_main_conf(cf, ngx_stream_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_STREAM_PREREAD_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_stream_proxywasm_preread_handler;

    h = ngx_array_push(&cmcf->phases[NGX_STREAM_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_stream_proxywasm_log_handler;

    ngx_stream_proxywasm_next_filter = ngx_stream_top_filter;
    ngx_stream_top_filter = ngx_stream_proxywasm_filter;

    return NGX_OK;
}


static void *
ngx_stream_proxywasm_create_srv_conf(ngx_conf_t *cf)
{
    ngx_stream_proxywasm_srv_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_stream_proxywasm_srv_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    ngx_proxywasm_create_place(&conf->place);

    return conf;
}


static char *
ngx_stream_proxywasm_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_stream_proxywasm_srv_conf_t *prev = parent;
    ngx_stream_proxywasm_srv_conf_t *conf = child;

    return ngx_proxywasm_merge_plugins(cf, &prev->place, &conf->place)
           == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
}
