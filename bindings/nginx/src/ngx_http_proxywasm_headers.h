/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Header maps, between the files that make them.
 */

#ifndef NGX_HTTP_PROXYWASM_HEADERS_H_INCLUDED
#define NGX_HTTP_PROXYWASM_HEADERS_H_INCLUDED


#include "ngx_http_proxywasm.h"


#define ngx_http_proxywasm_is(name, text)                                     \
    ((name)->len == sizeof(text) - 1                                          \
     && ngx_strncasecmp((name)->data, (u_char *) text, sizeof(text) - 1) == 0)


/* ngx_http_proxywasm_header_fields.c */

ngx_int_t ngx_http_proxywasm_get_special(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name, ngx_str_t *value);
ngx_int_t ngx_http_proxywasm_set_special(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name, ngx_str_t *value);
ngx_uint_t ngx_http_proxywasm_remove_special(ngx_http_request_t *r,
    int32_t map, ngx_str_t *name);

/* ngx_http_proxywasm_header_lists.c */

ngx_list_t *ngx_http_proxywasm_list(ngx_http_request_t *r, int32_t map);
ngx_int_t ngx_http_proxywasm_push(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name, ngx_str_t *value);
ngx_uint_t ngx_http_proxywasm_delete(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name);
void ngx_http_proxywasm_clear(ngx_http_request_t *r, int32_t map);


#endif /* NGX_HTTP_PROXYWASM_HEADERS_H_INCLUDED */
