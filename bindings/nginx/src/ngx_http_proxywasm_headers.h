/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Header maps, between the files that make them.
 */

#ifndef NGX_HTTP_PROXYWASM_HEADERS_H_INCLUDED
#define NGX_HTTP_PROXYWASM_HEADERS_H_INCLUDED


#include "ngx_http_proxywasm.h"


/* the first letter apart: most names end there */

#define ngx_http_proxywasm_is(name, text)                                     \
    ((name)->len == sizeof(text) - 1                                          \
     && ((name)->data[0] | 0x20) == (text[0] | 0x20)                          \
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

    /* :authority by another name */
    NGX_HTTP_PROXYWASM_HOST,

    /* a pseudo header of another name */
    NGX_HTTP_PROXYWASM_UNKNOWN
} ngx_http_proxywasm_field_e;


/* ngx_http_proxywasm_header_fields.c */

ngx_http_proxywasm_field_e ngx_http_proxywasm_field(int32_t map,
    ngx_str_t *name);
ngx_uint_t ngx_http_proxywasm_count_fields(ngx_http_request_t *r,
    int32_t map);
ngx_uint_t ngx_http_proxywasm_has_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field);
void ngx_http_proxywasm_get_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field, ngx_str_t *value);
ngx_int_t ngx_http_proxywasm_set_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field, ngx_str_t *given);
void ngx_http_proxywasm_clear_field(ngx_http_request_t *r,
    ngx_http_proxywasm_field_e field);

/* ngx_http_proxywasm_header_lists.c */

ngx_int_t ngx_http_proxywasm_own_headers(ngx_http_request_t *r);
ngx_list_t *ngx_http_proxywasm_list(ngx_http_request_t *r, int32_t map);
ngx_int_t ngx_http_proxywasm_push(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name, ngx_str_t *value);
void ngx_http_proxywasm_delete(ngx_http_request_t *r, int32_t map,
    ngx_str_t *name);
void ngx_http_proxywasm_clear(ngx_http_request_t *r, int32_t map);


/*
 * Whether a header has a name, given in lower case.  NGINX has names of a
 * request in lower case as well; of responses not all modules set that.
 */

static ngx_inline ngx_uint_t
ngx_http_proxywasm_named(int32_t map, ngx_table_elt_t *h, ngx_str_t *name)
{
    if (h->hash == 0 || h->key.len != name->len) {
        return 0;
    }

    if (map == PROXYWASM_MAP_REQUEST_HEADERS && h->lowcase_key) {
        return ngx_memcmp(h->lowcase_key, name->data, name->len) == 0;
    }

    return ngx_strncasecmp(h->key.data, name->data, name->len) == 0;
}


#endif /* NGX_HTTP_PROXYWASM_HEADERS_H_INCLUDED */
