/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP/1.1 request of a callout, in bytes.
 */


#include "ngx_http_proxywasm_callout.h"


static ngx_uint_t ngx_http_proxywasm_valid_name(ngx_str_t *name);
static ngx_uint_t ngx_http_proxywasm_framing_field(ngx_str_t *name);
static size_t ngx_http_proxywasm_fields(ngx_http_proxywasm_call_t *call,
    const proxywasm_pair *pairs, size_t count, u_char *dst);


/* NGX_DECLINED: what the plugin gave cannot be sent. */

ngx_int_t
ngx_http_proxywasm_call_create(ngx_http_proxywasm_call_t *call,
    const proxywasm_http_request *request)
{
    u_char      *p;
    size_t       i, len;
    ngx_str_t    name, value;
    ngx_uint_t   chunked, bare;

    for (i = 0; i < request->header_count; i++) {
        name = ngx_proxywasm_str(request->headers[i].name);
        value = ngx_proxywasm_str(request->headers[i].value);

        if (ngx_http_proxywasm_is(name, ":method")) {
            call->method = value;

        } else if (ngx_http_proxywasm_is(name, ":path")) {
            call->path = value;

        } else if (ngx_http_proxywasm_is(name, ":authority")) {
            call->authority = value;
        }
    }

    if (!ngx_http_proxywasm_valid_name(&call->method) || call->path.len == 0) {
        return NGX_DECLINED;
    }

    for (i = 0; i < call->path.len; i++) {
        if (call->path.data[i] <= ' ' || call->path.data[i] == 0x7f) {
            return NGX_DECLINED;
        }
    }

    for (i = 0; i < call->authority.len; i++) {
        if (call->authority.data[i] <= ' ' || call->authority.data[i] == 0x7f) {
            return NGX_DECLINED;
        }
    }

    call->answer.head_request = ngx_http_proxywasm_is(call->method, "HEAD");

    chunked = request->trailer_count != 0;
    bare = !chunked && request->body.len == 0
           && (call->answer.head_request
               || ngx_http_proxywasm_is(call->method, "GET"));

    len = call->method.len + 1 + call->path.len + sizeof(" HTTP/1.1" CRLF) - 1
          + sizeof("host: " CRLF) - 1 + call->authority.len
          + sizeof("connection: close" CRLF) - 1
          + sizeof("transfer-encoding: chunked" CRLF) - 1
          + sizeof("content-length: " CRLF) - 1 + NGX_SIZE_T_LEN
          + ngx_http_proxywasm_fields(call, request->headers,
                                      request->header_count, NULL)
          + sizeof(CRLF) - 1
          + NGX_SIZE_T_LEN + sizeof(CRLF) - 1;

    p = ngx_pnalloc(call->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    call->head.start = p;

    p = ngx_cpymem(p, call->method.data, call->method.len);
    *p++ = ' ';
    call->path.data = ngx_copy(p, call->path.data, call->path.len)
                      - call->path.len;
    p += call->path.len;
    p = ngx_cpymem(p, " HTTP/1.1" CRLF, sizeof(" HTTP/1.1" CRLF) - 1);
    p = ngx_cpymem(p, "host: ", sizeof("host: ") - 1);
    call->authority.data = ngx_copy(p, call->authority.data,
                                    call->authority.len)
                           - call->authority.len;
    p += call->authority.len;
    *p++ = CR; *p++ = LF;

    call->method.data = call->head.start;

    if (!call->pooled) {
        p = ngx_cpymem(p, "connection: close" CRLF,
                       sizeof("connection: close" CRLF) - 1);
    }

    if (chunked) {
        p = ngx_cpymem(p, "transfer-encoding: chunked" CRLF,
                       sizeof("transfer-encoding: chunked" CRLF) - 1);

    } else if (!bare) {
        p = ngx_sprintf(p, "content-length: %uz" CRLF, request->body.len);
    }

    p += ngx_http_proxywasm_fields(call, request->headers,
                                   request->header_count, p);
    *p++ = CR; *p++ = LF;

    if (chunked && request->body.len) {
        p = ngx_sprintf(p, "%xz" CRLF, request->body.len);
    }

    call->head.end = p;

    if (request->body.len) {
        call->body.start = ngx_pnalloc(call->pool, request->body.len);
        if (call->body.start == NULL) {
            return NGX_ERROR;
        }

        call->body.end = ngx_cpymem(call->body.start, request->body.data,
                                    request->body.len);
    }

    if (chunked) {
        len = sizeof(CRLF "0" CRLF) - 1
              + ngx_http_proxywasm_fields(call, request->trailers,
                                          request->trailer_count, NULL)
              + sizeof(CRLF) - 1;

        p = ngx_pnalloc(call->pool, len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        call->tail.start = p;

        if (request->body.len) {
            *p++ = CR; *p++ = LF;
        }

        *p++ = '0'; *p++ = CR; *p++ = LF;
        p += ngx_http_proxywasm_fields(call, request->trailers,
                                       request->trailer_count, p);
        *p++ = CR; *p++ = LF;

        call->tail.end = p;
    }

    return NGX_OK;
}


/* All of the request is to be sent, for the first time or again. */

void
ngx_http_proxywasm_call_rewind(ngx_http_proxywasm_call_t *call)
{
    ngx_buf_t    *bufs[3];
    ngx_uint_t    i;
    ngx_chain_t  *next;

    bufs[0] = &call->head;
    bufs[1] = &call->body;
    bufs[2] = &call->tail;

    next = NULL;

    for (i = 3; i-- > 0; /* void */) {
        if (bufs[i]->start == NULL) {
            continue;
        }

        bufs[i]->memory = 1;
        bufs[i]->pos = bufs[i]->start;
        bufs[i]->last = bufs[i]->end;

        call->links[i].buf = bufs[i];
        call->links[i].next = next;
        next = &call->links[i];
    }

    call->unsent = next;
}


/* Writes fields of a map, or tells how much room they need. */

static size_t
ngx_http_proxywasm_fields(ngx_http_proxywasm_call_t *call,
    const proxywasm_pair *pairs, size_t count, u_char *dst)
{
    size_t     i, len;
    ngx_str_t  name, value;

    len = 0;

    for (i = 0; i < count; i++) {
        name = ngx_proxywasm_str(pairs[i].name);
        value = ngx_proxywasm_str(pairs[i].value);

        if ((name.len && name.data[0] == ':')
            || ngx_http_proxywasm_framing_field(&name))
        {
            continue;
        }

        if (!ngx_http_proxywasm_valid_field(&name, &value)) {
            if (dst == NULL) {
                ngx_log_error(NGX_LOG_WARN, &call->log, 0,
                              "a header of a callout was left out, since its "
                              "name or value cannot be sent: \"%V\"", &name);
            }

            continue;
        }

        len += name.len + sizeof(": " CRLF) - 1 + value.len;

        if (dst) {
            dst = ngx_cpymem(dst, name.data, name.len);
            *dst++ = ':'; *dst++ = ' ';
            dst = ngx_cpymem(dst, value.data, value.len);
            *dst++ = CR; *dst++ = LF;
        }
    }

    return len;
}


/* What says where a message ends is ours to say. */

static ngx_uint_t
ngx_http_proxywasm_framing_field(ngx_str_t *name)
{
    return ngx_http_proxywasm_is(*name, "host")
           || ngx_http_proxywasm_is(*name, "connection")
           || ngx_http_proxywasm_is(*name, "content-length")
           || ngx_http_proxywasm_is(*name, "transfer-encoding")
           || ngx_http_proxywasm_is(*name, "keep-alive")
           || ngx_http_proxywasm_is(*name, "upgrade")
           || ngx_http_proxywasm_is(*name, "expect");
}


static ngx_uint_t
ngx_http_proxywasm_valid_name(ngx_str_t *name)
{
    size_t  i;

    for (i = 0; i < name->len; i++) {
        if (name->data[i] <= ' ' || name->data[i] >= 0x7f
            || ngx_strchr("\"(),/:;<=>?@[\\]{}", name->data[i]))
        {
            return 0;
        }
    }

    return name->len != 0;
}


ngx_uint_t
ngx_http_proxywasm_valid_field(ngx_str_t *name, ngx_str_t *value)
{
    size_t  i;

    for (i = 0; i < value->len; i++) {
        if (value->data[i] == '\0' || value->data[i] == CR
            || value->data[i] == LF)
        {
            return 0;
        }
    }

    return ngx_http_proxywasm_valid_name(name);
}
