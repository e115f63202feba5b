/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * NGINX's variables as properties: ngx.<variable>, of two segments or, as with
 * ngx_wasm_module, of one.
 */


#include "ngx_http_proxywasm.h"


static int32_t ngx_http_proxywasm_refuse(ngx_http_request_t *r,
    ngx_str_t *name, const char *why);


ngx_int_t
ngx_http_proxywasm_get_variable(ngx_http_request_t *r, proxywasm_slice path,
    ngx_str_t *value)
{
    ngx_str_t                   name;
    ngx_uint_t                  hash;
    ngx_http_variable_value_t  *v;
    u_char                      buf[NGX_PROXYWASM_VARIABLE_LEN];

    name.data = buf;

    if (ngx_proxywasm_variable_name(path, &name, &hash) != NGX_OK) {
        return NGX_DECLINED;
    }

    v = ngx_http_get_variable(r, &name, hash);

    if (v == NULL || v->not_found) {
        return NGX_DECLINED;
    }

    value->len = v->len;
    value->data = v->data;

    return NGX_OK;
}


/* Sets what the `set` directive could set. */

int32_t
ngx_http_proxywasm_set_variable(ngx_http_request_t *r, proxywasm_slice path,
    proxywasm_slice slice)
{
    u_char                     *p;
    ngx_str_t                   name, text;
    ngx_uint_t                  hash;
    ngx_http_variable_t        *v;
    ngx_http_variable_value_t   value, *vv;
    ngx_http_core_main_conf_t  *cmcf;
    u_char                      buf[NGX_PROXYWASM_VARIABLE_LEN];

    name.data = buf;

    if (ngx_proxywasm_variable_name(path, &name, &hash) != NGX_OK) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

    v = ngx_hash_find(&cmcf->variables_hash, hash, name.data, name.len);

    if (v == NULL) {
        return ngx_http_proxywasm_refuse(r, &name, "there is none: declare it "
                                         "with \"set\"");
    }

    if (!(v->flags & NGX_HTTP_VAR_CHANGEABLE)
        || (v->set_handler == NULL && !(v->flags & NGX_HTTP_VAR_INDEXED)))
    {
        return ngx_http_proxywasm_refuse(r, &name, "it cannot be changed");
    }

    text = ngx_proxywasm_str(slice);

    p = ngx_pstrdup(r->pool, &text);
    if (p == NULL) {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    vv = v->set_handler ? &value : &r->variables[v->index];

    ngx_memzero(vv, sizeof(ngx_http_variable_value_t));
    vv->valid = 1;
    vv->len = text.len;
    vv->data = p;

    if (v->set_handler) {
        v->set_handler(r, vv, v->data);
    }

    return PROXYWASM_STATUS_OK;
}


static int32_t
ngx_http_proxywasm_refuse(ngx_http_request_t *r, ngx_str_t *name,
    const char *why)
{
    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "[wasm] variable \"%V\" cannot be set by a plugin: %s",
                  name, why);

    return PROXYWASM_STATUS_BAD_ARGUMENT;
}
