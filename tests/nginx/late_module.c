/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * For tests: somebody else's module that is loaded behind ours.  In the rewrite
 * phase it gives a request the header x-late; in the access phase it lets
 * requests pass that ask for it.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


static ngx_int_t ngx_http_late_init(ngx_conf_t *cf);


static ngx_http_module_t  ngx_http_late_module_ctx = {
    NULL, ngx_http_late_init, NULL, NULL, NULL, NULL, NULL, NULL
};


ngx_module_t  ngx_http_late_module = {
    NGX_MODULE_V1,
    &ngx_http_late_module_ctx, NULL, NGX_HTTP_MODULE,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NGX_MODULE_V1_PADDING
};


ngx_module_t  *ngx_modules[] = { &ngx_http_late_module, NULL };
char          *ngx_module_names[] = { "ngx_http_late_module", NULL };
char          *ngx_module_order[] = { NULL };


static ngx_int_t
ngx_http_late_rewrite(ngx_http_request_t *r)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_in.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));
    h->hash = 1;
    ngx_str_set(&h->key, "x-late");
    ngx_str_set(&h->value, "yes");
    h->lowcase_key = h->key.data;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_late_access(ngx_http_request_t *r)
{
    return ngx_strlchr(r->args.data, r->args.data + r->args.len, 'P')
           ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_late_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *rewrite, *access;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    rewrite = ngx_array_push(&cmcf->phases[NGX_HTTP_REWRITE_PHASE].handlers);
    access = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (rewrite == NULL || access == NULL) {
        return NGX_ERROR;
    }

    *rewrite = ngx_http_late_rewrite;
    *access = ngx_http_late_access;

    return NGX_OK;
}
