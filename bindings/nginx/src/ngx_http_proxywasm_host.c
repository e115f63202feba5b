/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * What the library asks of a request.  Its callbacks run inside calls of the
 * library, so what they are asked to do is noted, and done by an event.
 */


#include "ngx_http_proxywasm.h"


static int32_t ngx_http_proxywasm_on_local_response(void *user_data,
    void *stream_data, const proxywasm_local_response *response);
static int32_t ngx_http_proxywasm_on_foreign(void *user_data,
    void *stream_data, proxywasm_slice name, proxywasm_slice argument,
    proxywasm_slice *result);


void
ngx_http_proxywasm_fill_host(proxywasm_host *host)
{
    host->get_header = ngx_http_proxywasm_get_header;
    host->get_headers = ngx_http_proxywasm_get_headers;
    host->add_header = ngx_http_proxywasm_add_header;
    host->replace_header = ngx_http_proxywasm_replace_header;
    host->remove_header = ngx_http_proxywasm_remove_header;
    host->set_headers = ngx_http_proxywasm_set_headers;
    host->http_call = ngx_http_proxywasm_http_call;
    host->cancel_call = ngx_http_proxywasm_cancel_call;
    host->send_local_response = ngx_http_proxywasm_on_local_response;
    host->call_foreign_function = ngx_http_proxywasm_on_foreign;
}


void
ngx_http_proxywasm_post(ngx_http_proxywasm_ctx_t *ctx)
{
    ngx_post_event(&ctx->event, &ngx_posted_events);
}


static int32_t
ngx_http_proxywasm_on_local_response(void *user_data, void *stream_data,
    const proxywasm_local_response *response)
{
    ngx_http_proxywasm_ctx_t *ctx = stream_data;

    size_t                       i;
    ngx_str_t                    body, details;
    ngx_pool_t                  *pool;
    ngx_table_elt_t             *h;
    ngx_http_proxywasm_local_t  *local;

    if (ctx == NULL) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    pool = ctx->request->pool;

    local = ngx_pcalloc(pool, sizeof(ngx_http_proxywasm_local_t));
    if (local == NULL) {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    local->status = response->status;
    local->grpc_status = response->grpc_status;

    if (ngx_array_init(&local->headers, pool,
                       response->header_count ? response->header_count : 1,
                       sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    for (i = 0; i < response->header_count; i++) {
        h = ngx_array_push(&local->headers);

        h->key = ngx_proxywasm_str(response->headers[i].name);
        h->value = ngx_proxywasm_str(response->headers[i].value);
        h->key.data = ngx_pstrdup(pool, &h->key);
        h->value.data = ngx_pstrdup(pool, &h->value);

        if (h->key.data == NULL || h->value.data == NULL) {
            return PROXYWASM_STATUS_INTERNAL_FAILURE;
        }
    }

    details = ngx_proxywasm_str(response->details);
    local->details.len = details.len;

    if (details.len) {
        local->details.data = ngx_pstrdup(pool, &details);
        if (local->details.data == NULL) {
            return PROXYWASM_STATUS_INTERNAL_FAILURE;
        }
    }

    body = ngx_proxywasm_str(response->body);
    local->body.len = body.len;

    if (body.len) {
        /* and a byte for what ngx_wasm_module puts behind it */
        local->body.data = ngx_pnalloc(pool, body.len + 1);
        if (local->body.data == NULL) {
            return PROXYWASM_STATUS_INTERNAL_FAILURE;
        }

        ngx_memcpy(local->body.data, body.data, body.len);
    }

    ctx->local = local;
    ngx_http_proxywasm_post(ctx);

    return PROXYWASM_STATUS_OK;
}


void
ngx_http_proxywasm_on_resume(ngx_proxywasm_stream_t *stream,
    int32_t direction)
{
    ngx_http_proxywasm_ctx_t *ctx = (ngx_http_proxywasm_ctx_t *) stream;

    if (direction == PROXYWASM_DIRECTION_REQUEST) {
        ctx->resume_request = 1;

    } else {
        ctx->resume_response = 1;
    }

    ngx_http_proxywasm_post(ctx);
}


void
ngx_http_proxywasm_on_close(ngx_proxywasm_stream_t *stream)
{
    ngx_http_proxywasm_ctx_t *ctx = (ngx_http_proxywasm_ctx_t *) stream;

    ctx->close = 1;
    ngx_http_proxywasm_post(ctx);
}


/* A request that has a new path goes where `rewrite ... last` would send it. */

static int32_t
ngx_http_proxywasm_on_foreign(void *user_data, void *stream_data,
    proxywasm_slice name, proxywasm_slice argument, proxywasm_slice *result)
{
    ngx_http_proxywasm_ctx_t *ctx = ngx_http_proxywasm_of(stream_data);

    static const char  clear_route_cache[] = "clear_route_cache";

    if (name.len != sizeof(clear_route_cache) - 1
        || ngx_memcmp(name.data, clear_route_cache, name.len) != 0)
    {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    if (ctx) {
        ctx->reroute = 1;
    }

    return PROXYWASM_STATUS_OK;
}
