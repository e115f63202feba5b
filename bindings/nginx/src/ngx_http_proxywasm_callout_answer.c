/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP/1.1 answer to a callout, out of bytes.  Nothing here knows of
 * connections.
 */


#include "ngx_http_proxywasm_callout.h"


/* most of what is read at a time */
#define NGX_HTTP_PROXYWASM_READ  65536


typedef enum {
    ngx_http_proxywasm_status_line = 0,
    ngx_http_proxywasm_header_line,
    ngx_http_proxywasm_body,
    ngx_http_proxywasm_chunk_size,
    ngx_http_proxywasm_chunk_data,
    ngx_http_proxywasm_chunk_end,
    ngx_http_proxywasm_trailer_line
} ngx_http_proxywasm_answer_state_e;


static ngx_int_t ngx_http_proxywasm_parse_status(
    ngx_http_proxywasm_answer_t *answer, ngx_str_t *line);
static ngx_int_t ngx_http_proxywasm_parse_field(
    ngx_http_proxywasm_answer_t *answer, ngx_str_t *line,
    ngx_array_t *pairs);
static ngx_int_t ngx_http_proxywasm_head_done(
    ngx_http_proxywasm_call_t *call, const char **error);
static ngx_int_t ngx_http_proxywasm_take_body(
    ngx_http_proxywasm_call_t *call);
static ngx_int_t ngx_http_proxywasm_parse_size(ngx_str_t *line, off_t *size);
static ngx_int_t ngx_http_proxywasm_begin_head(
    ngx_http_proxywasm_answer_t *answer);


ngx_int_t
ngx_http_proxywasm_answer_init(ngx_http_proxywasm_call_t *call)
{
    ngx_http_proxywasm_answer_t  *answer;

    answer = &call->answer;

    answer->buffer.pos = answer->buffer.start;
    answer->buffer.last = answer->buffer.start;
    answer->state = ngx_http_proxywasm_status_line;
    answer->head_size = 0;
    answer->body_size = 0;

    if (answer->headers.elts == NULL
        && (ngx_array_init(&answer->headers, call->pool, 16,
                           sizeof(proxywasm_pair))
            != NGX_OK
            || ngx_array_init(&answer->body, call->pool, 4,
                              sizeof(proxywasm_slice))
               != NGX_OK
            || ngx_array_init(&answer->trailers, call->pool, 1,
                              sizeof(proxywasm_pair))
               != NGX_OK))
    {
        return NGX_ERROR;
    }

    answer->body.nelts = 0;
    answer->trailers.nelts = 0;

    return ngx_http_proxywasm_begin_head(answer);
}


static ngx_int_t
ngx_http_proxywasm_begin_head(ngx_http_proxywasm_answer_t *answer)
{
    answer->headers.nelts = 0;
    answer->has_length = 0;
    answer->chunked = 0;
    answer->keepalive = 0;
    answer->rest = -1;

    /* the place of :status */
    return ngx_array_push(&answer->headers) ? NGX_OK : NGX_ERROR;
}


/*
 * Makes room to read into.  Headers and body stay in the buffers that they were
 * read into; only what is not understood yet moves to the next.
 */

ngx_int_t
ngx_http_proxywasm_answer_room(ngx_http_proxywasm_call_t *call)
{
    u_char     *start;
    size_t      size, rest;
    ngx_buf_t  *b;

    b = &call->answer.buffer;

    if (b->last != b->end) {
        return NGX_OK;
    }

    rest = b->last - b->pos;

    if (b->start == NULL) {
        size = ngx_max(call->conf.buffer_size, 128);

    } else {
        size = ngx_min((size_t) (b->end - b->start) * 2,
                       NGX_HTTP_PROXYWASM_READ);
        size = ngx_max(size, call->conf.large_buffers.size);
        size = ngx_max(size, rest * 2);
    }

    start = ngx_pnalloc(call->pool, size);
    if (start == NULL) {
        return NGX_ERROR;
    }

    b->last = start;

    if (rest) {
        b->last = ngx_cpymem(start, b->pos, rest);
    }

    b->start = start;
    b->pos = start;
    b->end = start + size;

    return NGX_OK;
}


/* NGX_OK: all of it is there.  NGX_ERROR: `error` says what is wrong. */

ngx_int_t
ngx_http_proxywasm_answer_parse(ngx_http_proxywasm_call_t *call,
    const char **error)
{
    u_char                       *lf;
    ngx_int_t                     rc;
    ngx_buf_t                    *b;
    ngx_str_t                     line;
    ngx_http_proxywasm_answer_t  *answer;

    answer = &call->answer;
    b = &answer->buffer;

    for ( ;; ) {

        if (answer->state == ngx_http_proxywasm_body
            || answer->state == ngx_http_proxywasm_chunk_data)
        {
            rc = ngx_http_proxywasm_take_body(call);

            if (rc == NGX_ERROR) {
                *error = "its body is too large, see max_callout_body";
                return NGX_ERROR;
            }

            if (answer->rest != 0) {
                return NGX_AGAIN;
            }

            if (answer->state == ngx_http_proxywasm_body) {
                return NGX_OK;
            }

            answer->state = ngx_http_proxywasm_chunk_end;
        }

        lf = ngx_strlchr(b->pos, b->last, LF);

        if (lf == NULL) {
            if ((size_t) (b->last - b->pos) + answer->head_size
                > call->conf.large_buffers.num * call->conf.large_buffers.size)
            {
                *error = "its headers are too large, see socket_large_buffers";
                return NGX_ERROR;
            }

            return NGX_AGAIN;
        }

        line.data = b->pos;
        line.len = lf - b->pos;
        b->pos = lf + 1;

        if (line.len && line.data[line.len - 1] == CR) {
            line.len--;
        }

        switch (answer->state) {

        case ngx_http_proxywasm_status_line:

            if (ngx_http_proxywasm_parse_status(answer, &line) != NGX_OK) {
                *error = "it is not HTTP/1";
                return NGX_ERROR;
            }

            answer->state = ngx_http_proxywasm_header_line;
            break;

        case ngx_http_proxywasm_header_line:

            answer->head_size += line.len;

            if (line.len) {
                if (ngx_http_proxywasm_parse_field(answer, &line,
                                                   &answer->headers)
                    != NGX_OK)
                {
                    *error = "a header is malformed";
                    return NGX_ERROR;
                }

                break;
            }

            rc = ngx_http_proxywasm_head_done(call, error);
            if (rc != NGX_AGAIN) {
                return rc;
            }

            break;

        case ngx_http_proxywasm_chunk_size:

            if (ngx_http_proxywasm_parse_size(&line, &answer->rest) != NGX_OK) {
                *error = "a chunk is malformed";
                return NGX_ERROR;
            }

            answer->state = answer->rest ? ngx_http_proxywasm_chunk_data
                                         : ngx_http_proxywasm_trailer_line;
            break;

        case ngx_http_proxywasm_chunk_end:

            if (line.len) {
                *error = "a chunk is malformed";
                return NGX_ERROR;
            }

            answer->state = ngx_http_proxywasm_chunk_size;
            break;

        default: /* ngx_http_proxywasm_trailer_line */

            if (line.len == 0) {
                return NGX_OK;
            }

            answer->head_size += line.len;

            if (ngx_http_proxywasm_parse_field(answer, &line,
                                               &answer->trailers)
                != NGX_OK)
            {
                *error = "a trailer is malformed";
                return NGX_ERROR;
            }
        }

        if (answer->head_size
            > call->conf.large_buffers.num * call->conf.large_buffers.size)
        {
            *error = "its headers are too large, see socket_large_buffers";
            return NGX_ERROR;
        }
    }
}


/* The connection has ended: is the answer complete by that? */

ngx_uint_t
ngx_http_proxywasm_answer_eof(ngx_http_proxywasm_call_t *call)
{
    return call->answer.state == ngx_http_proxywasm_body
           && call->answer.rest == -1;
}


static ngx_int_t
ngx_http_proxywasm_parse_status(ngx_http_proxywasm_answer_t *answer,
    ngx_str_t *line)
{
    ngx_int_t        status;
    proxywasm_pair  *pair;

    /* HTTP/1.1 200 and perhaps a reason */

    if (line->len < 12
        || ngx_strncmp(line->data, "HTTP/1.", 7) != 0
        || line->data[8] != ' '
        || (line->len > 12 && line->data[12] != ' '))
    {
        return NGX_ERROR;
    }

    status = ngx_atoi(line->data + 9, 3);
    if (status == NGX_ERROR || status < 100) {
        return NGX_ERROR;
    }

    answer->status = status;
    answer->keepalive = line->data[7] != '0';
    answer->head_size += line->len;

    pair = answer->headers.elts;

    pair->name.data = (u_char *) ":status";
    pair->name.len = sizeof(":status") - 1;
    pair->value.data = line->data + 9;
    pair->value.len = 3;

    return NGX_OK;
}


static ngx_int_t
ngx_http_proxywasm_parse_field(ngx_http_proxywasm_answer_t *answer,
    ngx_str_t *line, ngx_array_t *pairs)
{
    off_t            length;
    u_char          *colon, *end;
    ngx_str_t        name, value;
    proxywasm_pair  *pair;

    end = line->data + line->len;
    colon = ngx_strlchr(line->data, end, ':');

    if (colon == NULL) {
        return NGX_ERROR;
    }

    name.data = line->data;
    name.len = colon - line->data;

    value.data = colon + 1;

    while (value.data < end && (*value.data == ' ' || *value.data == '\t')) {
        value.data++;
    }

    while (end > value.data && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }

    value.len = end - value.data;

    if (!ngx_http_proxywasm_valid_field(&name, &value)) {
        return NGX_ERROR;
    }

    ngx_strlow(name.data, name.data, name.len);

    pair = ngx_array_push(pairs);
    if (pair == NULL) {
        return NGX_ERROR;
    }

    pair->name = ngx_proxywasm_slice(name);
    pair->value = ngx_proxywasm_slice(value);

    if (pairs != &answer->headers) {
        return NGX_OK;
    }

    if (ngx_http_proxywasm_is(name, "content-length")) {
        length = ngx_atoof(value.data, value.len);

        if (length == NGX_ERROR
            || (answer->has_length && answer->rest != length))
        {
            return NGX_ERROR;
        }

        answer->has_length = 1;
        answer->rest = length;

    } else if (ngx_http_proxywasm_is(name, "transfer-encoding")) {

        if (!ngx_http_proxywasm_is(value, "chunked") || answer->chunked) {
            return NGX_ERROR;
        }

        answer->chunked = 1;

    } else if (ngx_http_proxywasm_is(name, "connection")
               && ngx_strlcasestrn(value.data, value.data + value.len,
                                   (u_char *) "close", 5 - 1))
    {
        answer->keepalive = 0;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_proxywasm_head_done(ngx_http_proxywasm_call_t *call,
    const char **error)
{
    ngx_http_proxywasm_answer_t  *answer;

    answer = &call->answer;

    if (answer->status == NGX_HTTP_SWITCHING_PROTOCOLS) {
        *error = "it switches protocols";
        return NGX_ERROR;
    }

    if (answer->status < 200) {
        /* another follows */
        answer->state = ngx_http_proxywasm_status_line;
        return ngx_http_proxywasm_begin_head(answer) == NGX_OK ? NGX_AGAIN
                                                               : NGX_ERROR;
    }

    if (answer->head_request
        || answer->status == NGX_HTTP_NO_CONTENT
        || answer->status == NGX_HTTP_NOT_MODIFIED)
    {
        return NGX_OK;
    }

    if (answer->chunked) {

        if (answer->has_length) {
            *error = "it has both content-length and transfer-encoding";
            return NGX_ERROR;
        }

        answer->state = ngx_http_proxywasm_chunk_size;
        return NGX_AGAIN;
    }

    if (!answer->has_length) {
        answer->keepalive = 0;
    }

    if (answer->rest == 0) {
        return NGX_OK;
    }

    answer->state = ngx_http_proxywasm_body;

    return NGX_AGAIN;
}


/* What has been read of the body; NGX_ERROR: that is more than it may be. */

static ngx_int_t
ngx_http_proxywasm_take_body(ngx_http_proxywasm_call_t *call)
{
    size_t                        n;
    u_char                       *end;
    ngx_buf_t                    *b;
    proxywasm_slice              *slice;
    ngx_http_proxywasm_answer_t  *answer;

    answer = &call->answer;
    b = &answer->buffer;

    n = b->last - b->pos;

    if (answer->rest != -1) {
        n = (size_t) ngx_min((off_t) n, answer->rest);

        if (answer->rest > (off_t) (call->max_body - answer->body_size)) {
            return NGX_ERROR;
        }
    }

    if (n > call->max_body - answer->body_size) {
        return NGX_ERROR;
    }

    if (n == 0) {
        return NGX_OK;
    }

    answer->body_size += n;

    if (answer->rest != -1) {
        answer->rest -= n;
    }

    /* one slice for each buffer, so that small chunks cost no more */

    if (answer->body.nelts) {
        slice = (proxywasm_slice *) answer->body.elts + answer->body.nelts - 1;
        end = (u_char *) slice->data + slice->len;

        if (slice->data >= b->start && end <= b->pos) {

            if (end != b->pos) {
                ngx_memmove(end, b->pos, n);
            }

            slice->len += n;
            b->pos += n;
            return NGX_OK;
        }
    }

    slice = ngx_array_push(&answer->body);
    if (slice == NULL) {
        return NGX_ERROR;
    }

    slice->data = b->pos;
    slice->len = n;
    b->pos += n;

    return NGX_OK;
}


/* The size of a chunk, with extensions behind it perhaps. */

static ngx_int_t
ngx_http_proxywasm_parse_size(ngx_str_t *line, off_t *size)
{
    size_t     i;
    ngx_int_t  n;

    for (i = 0; i < line->len; i++) {
        if (line->data[i] == ';' || line->data[i] == ' '
            || line->data[i] == '\t')
        {
            break;
        }
    }

    n = ngx_hextoi(line->data, i);

    *size = n;

    return n == NGX_ERROR ? NGX_ERROR : NGX_OK;
}
