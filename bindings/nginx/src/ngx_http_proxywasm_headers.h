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


/* Headers that NGINX keeps in fields of their own. */
typedef enum {
    NGX_HTTP_PROXYWASM_NO_FIELD = 0,

    /* of the request, in the order in which they are shown */
    NGX_HTTP_PROXYWASM_METHOD,
    NGX_HTTP_PROXYWASM_PATH,
    NGX_HTTP_PROXYWASM_AUTHORITY,
    NGX_HTTP_PROXYWASM_SCHEME,

    /* of the response, likewise */
    NGX_HTTP_PROXYWASM_STATUS,
    NGX_HTTP_PROXYWASM_CONTENT_TYPE,
    NGX_HTTP_PROXYWASM_CONTENT_LENGTH,
    NGX_HTTP_PROXYWASM_LAST_MODIFIED,

    /* a pseudo header of another name */
    NGX_HTTP_PROXYWASM_UNKNOWN
} ngx_http_proxywasm_field_e;


/* ngx_http_proxywasm_header_fields.c */

ngx_http_proxywasm_field_e ngx_http_proxywasm_field(int32_t map,
    ngx_str_t *name);
ngx_uint_t ngx_http_proxywasm_has_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field);
void ngx_http_proxywasm_get_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field, ngx_str_t *value);
ngx_int_t ngx_http_proxywasm_set_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field, ngx_str_t *given);
void ngx_http_proxywasm_clear_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field);

/* ngx_http_proxywasm_header_lists.c */

ngx_uint_t ngx_http_proxywasm_named(int32_t map, ngx_table_elt_t *h,
    ngx_str_t *name);
ngx_list_t *ngx_http_proxywasm_list(ngx_http_request_t *r, int32_t map);
ngx_int_t ngx_http_proxywasm_push(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name, ngx_str_t *value);
void ngx_http_proxywasm_delete(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name);
void ngx_http_proxywasm_clear(ngx_http_request_t *r, int32_t map);


#endif /* NGX_HTTP_PROXYWASM_HEADERS_H_INCLUDED */
