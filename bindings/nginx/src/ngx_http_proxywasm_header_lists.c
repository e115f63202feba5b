/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Lists of headers.  NGINX has pointers of its own into them, which follow each
 * change.
 */


#include "ngx_http_proxywasm_headers.h"


static ngx_int_t ngx_http_proxywasm_link(ngx_http_request_t *r, int32_t map,
    ngx_table_elt_t *h);
static void ngx_http_proxywasm_relink(ngx_http_request_t *r, int32_t map);
static ngx_int_t ngx_http_proxywasm_link_slot(ngx_http_request_t *r,
    char *slot, ngx_table_elt_t *h);
static void ngx_http_proxywasm_clear_slot(ngx_http_request_t *r, char *slot);
#if (nginx_version < 1023000)
static ngx_uint_t ngx_http_proxywasm_is_array(ngx_http_request_t *r,
    char *slot);
#endif


ngx_list_t *
ngx_http_proxywasm_list(ngx_http_request_t *r, int32_t map)
{
    switch (map) {

    case PROXYWASM_MAP_REQUEST_HEADERS:
        return &r->headers_in.headers;

    case PROXYWASM_MAP_RESPONSE_HEADERS:
        return &r->headers_out.headers;

    case PROXYWASM_MAP_RESPONSE_TRAILERS:
        return &r->headers_out.trailers;

    default:
        return NULL;
    }
}


ngx_int_t
ngx_http_proxywasm_push(ngx_http_request_t *r, int32_t map, ngx_str_t *name,
    ngx_str_t *value)
{
    u_char           *p;
    ngx_list_t       *list;
    ngx_table_elt_t  *h;

    list = ngx_http_proxywasm_list(r, map);

    if (list->size == 0
        && ngx_list_init(list, r->pool, 4, sizeof(ngx_table_elt_t)) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* one allocation: name, NUL, value, NUL */

    p = ngx_pnalloc(r->pool, name->len + value->len + 2);
    h = ngx_list_push(list);
    if (p == NULL || h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->key.data = p;
    h->key.len = name->len;
    h->lowcase_key = p;
    ngx_strlow(p, name->data, name->len);
    p += name->len;
    *p++ = '\0';

    h->value.data = p;
    h->value.len = value->len;
    p = ngx_cpymem(p, value->data, value->len);
    *p = '\0';

    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {
        h->hash = ngx_hash_key(h->lowcase_key, h->key.len);
    }

    return ngx_http_proxywasm_link(r, map, h);
}


/* Removes all of a name, which is in lower case. */

void
ngx_http_proxywasm_delete(ngx_http_request_t *r, int32_t map, ngx_str_t *name)
{
    ngx_uint_t                   i, k, n;
    ngx_list_t                  *list;
    ngx_list_part_t             *part;
    ngx_table_elt_t             *h;
    ngx_http_proxywasm_field_e   field;

    field = ngx_http_proxywasm_field(map, name);

    if (field) {
        ngx_http_proxywasm_clear_field(r, field);

        if (field != NGX_HTTP_PROXYWASM_LAST_MODIFIED) {
            return;
        }
    }

    n = 0;
    list = ngx_http_proxywasm_list(r, map);

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0, k = 0; i < part->nelts; i++) {

            if (ngx_http_proxywasm_named(map, &h[i], name)) {
                n++;

                /* proxy_pass sends all that is in the list of a request */
                if (map == PROXYWASM_MAP_REQUEST_HEADERS) {
                    continue;
                }

                h[i].hash = 0;
            }

            if (k != i) {
                h[k] = h[i];
            }

            k++;
        }

        part->nelts = k;
    }

    if (n) {
        ngx_http_proxywasm_relink(r, map);
    }
}


/* Empties a map; NGINX's own header of the host stays, unseen. */

void
ngx_http_proxywasm_clear(ngx_http_request_t *r, int32_t map)
{
    ngx_list_t       *list;
    ngx_table_elt_t   host, *h;

    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {
        ngx_http_proxywasm_clear_field(r, NGX_HTTP_PROXYWASM_METHOD);
        ngx_http_proxywasm_clear_field(r, NGX_HTTP_PROXYWASM_PATH);
        ngx_http_proxywasm_clear_field(r, NGX_HTTP_PROXYWASM_AUTHORITY);
        ngx_http_proxywasm_clear_field(r, NGX_HTTP_PROXYWASM_SCHEME);

    } else if (map == PROXYWASM_MAP_RESPONSE_HEADERS) {
        ngx_http_proxywasm_clear_field(r, NGX_HTTP_PROXYWASM_STATUS);
        ngx_http_proxywasm_clear_field(r, NGX_HTTP_PROXYWASM_CONTENT_TYPE);
        ngx_http_proxywasm_clear_field(r, NGX_HTTP_PROXYWASM_CONTENT_LENGTH);
        ngx_http_proxywasm_clear_field(r, NGX_HTTP_PROXYWASM_LAST_MODIFIED);
    }

    list = ngx_http_proxywasm_list(r, map);

    if (list->size == 0) {
        return;
    }

    ngx_memzero(&host, sizeof(ngx_table_elt_t));

    if (map == PROXYWASM_MAP_REQUEST_HEADERS && r->headers_in.host) {
        host = *r->headers_in.host;
    }

    list->part.nelts = 0;
    list->part.next = NULL;
    list->last = &list->part;

    if (host.hash) {
        /* there is room: there was one before */
        h = ngx_list_push(list);
        *h = host;
    }

    ngx_http_proxywasm_relink(r, map);
}


/*
 * A subrequest begins with the headers of its request, not with a copy: what
 * is changed in one would change the other.
 */

ngx_int_t
ngx_http_proxywasm_own_headers(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_t        shared;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *own;

    shared = r->headers_in.headers;

    if (ngx_list_init(&r->headers_in.headers, r->pool, 20,
                      sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (part = &shared.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            own = ngx_list_push(&r->headers_in.headers);
            if (own == NULL) {
                return NGX_ERROR;
            }

            *own = h[i];
        }
    }

#if (nginx_version < 1023000)
    ngx_memzero(&r->headers_in.cookies, sizeof(ngx_array_t));
#if (NGX_HTTP_X_FORWARDED_FOR)
    ngx_memzero(&r->headers_in.x_forwarded_for, sizeof(ngx_array_t));
#endif
#endif

    ngx_http_proxywasm_relink(r, PROXYWASM_MAP_REQUEST_HEADERS);

    return NGX_OK;
}


/* ---- NGINX's own pointers into lists ---- */

static ngx_int_t
ngx_http_proxywasm_link(ngx_http_request_t *r, int32_t map, ngx_table_elt_t *h)
{
    char                        *slot;
    ngx_uint_t                   i;
    ngx_http_header_t           *in;
    ngx_http_core_main_conf_t   *cmcf;

    slot = NULL;

    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {
        cmcf = ngx_http_get_module_main_conf(r, ngx_http_core_module);

        in = ngx_hash_find(&cmcf->headers_in_hash, h->hash, h->lowcase_key,
                           h->key.len);

        if (in && in->offset) {
            slot = (char *) &r->headers_in + in->offset;
        }

    } else if (map == PROXYWASM_MAP_RESPONSE_HEADERS) {

        for (i = 0; ngx_http_headers_out[i].name.len; i++) {
            if (ngx_http_headers_out[i].name.len == h->key.len
                && ngx_http_headers_out[i].offset
                && ngx_strncasecmp(ngx_http_headers_out[i].name.data,
                                   h->key.data, h->key.len)
                   == 0)
            {
                slot = (char *) &r->headers_out
                       + ngx_http_headers_out[i].offset;
                break;
            }
        }
    }

    return slot ? ngx_http_proxywasm_link_slot(r, slot, h) : NGX_OK;
}


static ngx_int_t
ngx_http_proxywasm_link_slot(ngx_http_request_t *r, char *slot,
    ngx_table_elt_t *h)
{
    ngx_table_elt_t  **last;

#if (nginx_version < 1023000)

    ngx_array_t  *array;

    if (ngx_http_proxywasm_is_array(r, slot)) {
        array = (ngx_array_t *) slot;

        if (array->elts == NULL
            && ngx_array_init(array, r->pool, 1, sizeof(ngx_table_elt_t *))
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        last = ngx_array_push(array);
        if (last == NULL) {
            return NGX_ERROR;
        }

        *last = h;

        return NGX_OK;
    }

    last = (ngx_table_elt_t **) slot;

    if (*last == NULL) {
        *last = h;
    }

#else

    h->next = NULL;

    for (last = (ngx_table_elt_t **) slot; *last; last = &(*last)->next) {
        /* void */
    }

    *last = h;

#endif

    return NGX_OK;
}


/* After elements have moved or gone. */

static void
ngx_http_proxywasm_relink(ngx_http_request_t *r, int32_t map)
{
    ngx_uint_t        i;
    ngx_list_t       *list;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (map == PROXYWASM_MAP_REQUEST_HEADERS) {

        for (i = 0; ngx_http_headers_in[i].name.len; i++) {
            if (ngx_http_headers_in[i].offset) {
                ngx_http_proxywasm_clear_slot(r, (char *) &r->headers_in
                                              + ngx_http_headers_in[i].offset);
            }
        }

        list = &r->headers_in.headers;

    } else if (map == PROXYWASM_MAP_RESPONSE_HEADERS) {

        for (i = 0; ngx_http_headers_out[i].name.len; i++) {
            if (ngx_http_headers_out[i].offset) {
                ngx_http_proxywasm_clear_slot(r, (char *) &r->headers_out
                                             + ngx_http_headers_out[i].offset);
            }
        }

        list = &r->headers_out.headers;

    } else {
        return;
    }

    for (part = &list->part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].hash) {
                (void) ngx_http_proxywasm_link(r, map, &h[i]);
            }
        }
    }
}


static void
ngx_http_proxywasm_clear_slot(ngx_http_request_t *r, char *slot)
{
#if (nginx_version < 1023000)

    if (ngx_http_proxywasm_is_array(r, slot)) {
        ((ngx_array_t *) slot)->nelts = 0;
        return;
    }

#endif

    *(ngx_table_elt_t **) slot = NULL;
}


#if (nginx_version < 1023000)

/* Before 1.23 some headers that may be repeated had arrays. */

static ngx_uint_t
ngx_http_proxywasm_is_array(ngx_http_request_t *r, char *slot)
{
    return slot == (char *) &r->headers_in.cookies
#if (NGX_HTTP_X_FORWARDED_FOR)
           || slot == (char *) &r->headers_in.x_forwarded_for
#endif
           || slot == (char *) &r->headers_out.cache_control
           || slot == (char *) &r->headers_out.link;
}

#endif
