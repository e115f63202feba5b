/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Where NGINX sends the body of a request on as it comes: as a rule all of it
 * is read, and has passed the plugins, before the content handler runs.
 */


#include "ngx_http_proxywasm.h"


/* A directive such as "proxy_request_buffering". */
typedef struct {
    ngx_uint_t   module;     /* its ctx_index */
    ngx_uint_t   offset;
} ngx_http_proxywasm_buffering_t;


/* of the configuration that is in use */
static ngx_array_t  ngx_http_proxywasm_buffering;


/* These modules keep their configurations to themselves, but not directives. */

ngx_int_t
ngx_http_proxywasm_find_unbuffered(ngx_conf_t *cf)
{
    ngx_uint_t                       i;
    ngx_command_t                   *cmd;
    ngx_module_t                   **modules;
    ngx_http_proxywasm_buffering_t  *found;

    static ngx_str_t  suffix = ngx_string("_request_buffering");

    if (ngx_array_init(&ngx_http_proxywasm_buffering, cf->pool, 4,
                       sizeof(ngx_http_proxywasm_buffering_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    modules = cf->cycle->modules;

    for (i = 0; modules[i]; i++) {

        if (modules[i]->type != NGX_HTTP_MODULE) {
            continue;
        }

        for (cmd = modules[i]->commands; cmd && cmd->name.len; cmd++) {

            if (cmd->set != ngx_conf_set_flag_slot
                || cmd->conf != NGX_HTTP_LOC_CONF_OFFSET
                || cmd->name.len <= suffix.len
                || ngx_strncmp(cmd->name.data + cmd->name.len - suffix.len,
                               suffix.data, suffix.len)
                   != 0)
            {
                continue;
            }

            found = ngx_array_push(&ngx_http_proxywasm_buffering);
            if (found == NULL) {
                return NGX_ERROR;
            }

            found->module = modules[i]->ctx_index;
            found->offset = cmd->offset;
        }
    }

    return NGX_OK;
}


/*
 * Plugins that have left a length to which they may not keep would break the
 * message: with a length that is not the client's, or none where there was one,
 * all of the body is waited for.
 */

ngx_uint_t
ngx_http_proxywasm_is_unbuffered(ngx_http_request_t *r)
{
    u_char                          *conf;
    ngx_uint_t                       i;
    ngx_table_elt_t                 *length;
    ngx_http_core_loc_conf_t        *clcf;
    ngx_http_proxywasm_buffering_t  *buffering;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (clcf->handler == NULL) {
        return 0;
    }

    if (!r->headers_in.chunked) {
        length = r->headers_in.content_length;

        if (length == NULL
            || ngx_atoof(length->value.data, length->value.len)
               != r->headers_in.content_length_n)
        {
            return 0;
        }
    }

    if (ngx_http_proxywasm_is_grpc(r)) {
        /* its calls go both ways at once; grpc_pass knows no other way */
        return 1;
    }

    buffering = ngx_http_proxywasm_buffering.elts;

    for (i = 0; i < ngx_http_proxywasm_buffering.nelts; i++) {
        conf = r->loc_conf[buffering[i].module];

        if (*(ngx_flag_t *) (conf + buffering[i].offset) == 0) {
            return 1;
        }
    }

    return 0;
}
