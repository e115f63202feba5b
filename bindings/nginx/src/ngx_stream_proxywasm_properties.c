/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Properties of sessions: Envoy's names, and NGINX's variables.
 */


#include "ngx_stream_proxywasm.h"


static ngx_int_t ngx_stream_proxywasm_upstream_property(
    ngx_stream_session_t *s, proxywasm_slice path,
    ngx_proxywasm_value_t *value);
static ngx_int_t ngx_stream_proxywasm_session_property(
    ngx_stream_session_t *s, proxywasm_slice path,
    ngx_proxywasm_value_t *value);
static ngx_int_t ngx_stream_proxywasm_get_variable(ngx_stream_session_t *s,
    proxywasm_slice path, ngx_str_t *value);
static int32_t ngx_stream_proxywasm_set_variable(ngx_stream_session_t *s,
    proxywasm_slice path, proxywasm_slice value);


int32_t
ngx_stream_proxywasm_get_property(ngx_proxywasm_stream_t *stream,
    proxywasm_slice path, proxywasm_slice *out)
{
    ngx_stream_proxywasm_ctx_t *ctx = (ngx_stream_proxywasm_ctx_t *) stream;

    ngx_int_t               rc;
    ngx_stream_session_t   *s;
    ngx_proxywasm_value_t   value;

    s = ctx->session;

    if (ngx_proxywasm_is_variable(path)) {
        value.type = NGX_PROXYWASM_TEXT;
        rc = ngx_stream_proxywasm_get_variable(s, path, &value.text);

    } else {
        switch (path.data[0]) {

        case 'u':
            rc = ngx_stream_proxywasm_upstream_property(s, path, &value);
            break;

        case 'r':
            rc = ngx_stream_proxywasm_session_property(s, path, &value);
            break;

        default:
            rc = ngx_proxywasm_connection_property(s->connection,
                                                   s->connection->pool, path,
                                                   &value);
        }
    }

    if (rc != NGX_OK) {
        return PROXYWASM_STATUS_NOT_FOUND;
    }

    ngx_proxywasm_encode(&value, out);

    return PROXYWASM_STATUS_OK;
}


int32_t
ngx_stream_proxywasm_set_property(ngx_proxywasm_stream_t *stream,
    proxywasm_slice path, proxywasm_slice value)
{
    ngx_stream_proxywasm_ctx_t *ctx = (ngx_stream_proxywasm_ctx_t *) stream;

    if (ngx_proxywasm_is_variable(path)) {
        return ngx_stream_proxywasm_set_variable(ctx->session, path, value);
    }

    /* the library keeps it */
    return PROXYWASM_STATUS_UNIMPLEMENTED;
}


static ngx_int_t
ngx_stream_proxywasm_upstream_property(ngx_stream_session_t *s,
    proxywasm_slice path, ngx_proxywasm_value_t *value)
{
    ngx_connection_t       *c;
    ngx_stream_upstream_t  *u;

    static u_char     buf[NGX_SOCKADDR_STRLEN];
    static ngx_str_t  local = ngx_string("upstream.local_address");
    static ngx_str_t  attempts = ngx_string("upstream.request_attempt_count");

    u = s->upstream;

    /* the name of what the server was chosen from is there before it is */

    if (u == NULL || u->state == NULL || u->peer.name == NULL) {
        return NGX_DECLINED;
    }

    if (ngx_proxywasm_is_path(path, &attempts)) {
        value->type = NGX_PROXYWASM_NUMBER;
        value->number = s->upstream_states->nelts;
        return NGX_OK;
    }

    if (ngx_proxywasm_is_path(path, &local)) {
        c = u->peer.connection;

        if (c == NULL || ngx_connection_local_sockaddr(c, NULL, 0) != NGX_OK) {
            return NGX_DECLINED;
        }

        value->type = NGX_PROXYWASM_TEXT;
        value->text.data = buf;
        value->text.len = ngx_sock_ntop(c->local_sockaddr, c->local_socklen,
                                        buf, NGX_SOCKADDR_STRLEN, 1);
        return NGX_OK;
    }

    return ngx_proxywasm_server_property(u->peer.name, path, value);
}


/* To Envoy too a connection is what the client asks, and is answered. */

static ngx_int_t
ngx_stream_proxywasm_session_property(ngx_stream_session_t *s,
    proxywasm_slice path, ngx_proxywasm_value_t *value)
{
    ngx_time_t  *tp;

    static ngx_str_t  begun = ngx_string("request.time");
    static ngx_str_t  duration = ngx_string("request.duration");
    static ngx_str_t  received = ngx_string("request.size");
    static ngx_str_t  all_received = ngx_string("request.total_size");
    static ngx_str_t  sent = ngx_string("response.size");
    static ngx_str_t  all_sent = ngx_string("response.total_size");

    if (ngx_proxywasm_is_path(path, &begun)) {
        value->type = NGX_PROXYWASM_MSEC;
        value->number = (uint64_t) s->start_sec * 1000 + s->start_msec;
        return NGX_OK;
    }

    if (ngx_proxywasm_is_path(path, &duration)) {
        tp = ngx_timeofday();
        value->type = NGX_PROXYWASM_MSEC;
        value->number = ngx_max((int64_t) (tp->sec - s->start_sec) * 1000
                                + (int64_t) tp->msec - (int64_t) s->start_msec,
                                0);
        return NGX_OK;
    }

    value->type = NGX_PROXYWASM_NUMBER;

    if (ngx_proxywasm_is_path(path, &received)
        || ngx_proxywasm_is_path(path, &all_received))
    {
        value->number = s->received;
        return NGX_OK;
    }

    if (ngx_proxywasm_is_path(path, &sent)
        || ngx_proxywasm_is_path(path, &all_sent))
    {
        value->number = s->connection->sent;
        return NGX_OK;
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_stream_proxywasm_get_variable(ngx_stream_session_t *s,
    proxywasm_slice path, ngx_str_t *value)
{
    ngx_str_t                     name;
    ngx_uint_t                    hash;
    ngx_stream_variable_value_t  *v;
    u_char                        buf[NGX_PROXYWASM_VARIABLE_LEN];

    name.data = buf;

    if (ngx_proxywasm_variable_name(path, &name, &hash) != NGX_OK) {
        return NGX_DECLINED;
    }

    v = ngx_stream_get_variable(s, &name, hash);

    if (v == NULL || v->not_found) {
        return NGX_DECLINED;
    }

    value->len = v->len;
    value->data = v->data;

    return NGX_OK;
}


/* Sets what the `set` directive could set. */

static int32_t
ngx_stream_proxywasm_set_variable(ngx_stream_session_t *s,
    proxywasm_slice path, proxywasm_slice slice)
{
    u_char                       *p;
    ngx_str_t                     name, text;
    ngx_uint_t                    hash;
    ngx_stream_variable_t        *v;
    ngx_stream_variable_value_t   value, *vv;
    ngx_stream_core_main_conf_t  *cmcf;
    u_char                        buf[NGX_PROXYWASM_VARIABLE_LEN];

    name.data = buf;

    if (ngx_proxywasm_variable_name(path, &name, &hash) != NGX_OK) {
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    cmcf = ngx_stream_get_module_main_conf(s, ngx_stream_core_module);

    v = ngx_hash_find(&cmcf->variables_hash, hash, name.data, name.len);

    if (v == NULL
        || !(v->flags & NGX_STREAM_VAR_CHANGEABLE)
        || (v->set_handler == NULL && !(v->flags & NGX_STREAM_VAR_INDEXED)))
    {
        ngx_log_error(NGX_LOG_ERR, s->connection->log, 0,
                      "[wasm] variable \"%V\" cannot be set by a plugin: %s",
                      &name, v ? "it cannot be changed"
                               : "there is none: declare it with \"set\"");
        return PROXYWASM_STATUS_BAD_ARGUMENT;
    }

    text = ngx_proxywasm_str(slice);

    p = ngx_pstrdup(s->connection->pool, &text);
    if (p == NULL) {
        return PROXYWASM_STATUS_INTERNAL_FAILURE;
    }

    vv = v->set_handler ? &value : &s->variables[v->index];

    ngx_memzero(vv, sizeof(ngx_stream_variable_value_t));
    vv->valid = 1;
    vv->len = text.len;
    vv->data = p;

    if (v->set_handler) {
        v->set_handler(s, vv, v->data);
    }

    return PROXYWASM_STATUS_OK;
}
