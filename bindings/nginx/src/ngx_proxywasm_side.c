/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * What the library asks of streams of either kind: it goes to the module whose
 * stream it is.
 */


#include "ngx_proxywasm.h"


static int32_t ngx_proxywasm_get_property(void *user_data, void *stream_data,
    proxywasm_slice path, proxywasm_slice *value);
static int32_t ngx_proxywasm_set_property(void *user_data, void *stream_data,
    proxywasm_slice path, proxywasm_slice value);
static void ngx_proxywasm_resume_stream(void *user_data, void *stream_data,
    int32_t direction);
static void ngx_proxywasm_close_stream(void *user_data, void *stream_data,
    int32_t stream_type);


ngx_proxywasm_side_t  *ngx_proxywasm_sides[2];


void
ngx_proxywasm_fill_sides(proxywasm_host *host)
{
    ngx_uint_t  i;

    host->get_property = ngx_proxywasm_get_property;
    host->set_property = ngx_proxywasm_set_property;
    host->resume_stream = ngx_proxywasm_resume_stream;
    host->close_stream = ngx_proxywasm_close_stream;

    for (i = 0; i < 2; i++) {
        if (ngx_proxywasm_sides[i] && ngx_proxywasm_sides[i]->fill) {
            ngx_proxywasm_sides[i]->fill(host);
        }
    }
}


static int32_t
ngx_proxywasm_get_property(void *user_data, void *stream_data,
    proxywasm_slice path, proxywasm_slice *value)
{
    ngx_proxywasm_stream_t *stream = stream_data;

    /* root contexts have none, and no property has an empty name */

    if (stream == NULL || path.len == 0) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    return ngx_proxywasm_sides[stream->kind]->get_property(stream, path,
                                                           value);
}


static int32_t
ngx_proxywasm_set_property(void *user_data, void *stream_data,
    proxywasm_slice path, proxywasm_slice value)
{
    ngx_proxywasm_stream_t *stream = stream_data;

    if (stream == NULL) {
        return PROXYWASM_STATUS_UNIMPLEMENTED;
    }

    return ngx_proxywasm_sides[stream->kind]->set_property(stream, path,
                                                           value);
}


static void
ngx_proxywasm_resume_stream(void *user_data, void *stream_data,
    int32_t direction)
{
    ngx_proxywasm_stream_t *stream = stream_data;

    ngx_proxywasm_sides[stream->kind]->resume(stream, direction);
}


/* Whichever end a plugin names: all of the stream ends, as in Envoy. */

static void
ngx_proxywasm_close_stream(void *user_data, void *stream_data,
    int32_t stream_type)
{
    ngx_proxywasm_stream_t *stream = stream_data;

    ngx_proxywasm_sides[stream->kind]->close(stream);
}
