/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * What plugins and the library have to say, in NGINX's error log.
 */


#include "ngx_proxywasm.h"


/*
 * NGINX cuts what is longer than NGX_MAX_ERROR_STR.  The rest of a line is for
 * its time, the plugin's name, and the client, server and request behind it.
 */
#define NGX_PROXYWASM_LOG_PIECE  (NGX_MAX_ERROR_STR - 512)
#define NGX_PROXYWASM_LOG_NAME   128


/* What the runtime says between why a plugin failed and its backtrace. */
#define NGX_PROXYWASM_BACKTRACE  "\nerror while executing at wasm backtrace:"


static const u_char *ngx_proxywasm_cut_backtrace(const u_char *p,
    const u_char *end);


/* NGINX has one level for debug and trace */
static const ngx_uint_t  ngx_proxywasm_levels[] = {
    NGX_LOG_DEBUG, NGX_LOG_DEBUG, NGX_LOG_INFO, NGX_LOG_WARN, NGX_LOG_ERR,
    NGX_LOG_CRIT
};


/*
 * Records of a stream go to the log of its client's connection, which may be
 * that of its location, and which says whose request it was.
 *
 * A record of several lines is several lines of the log, each with the plugin
 * before it, so that nothing in it can be taken for a line of somebody else.
 * A line that is too long is continued in the next: "[more]" says so.
 */

void
ngx_proxywasm_log(void *user_data, void *stream_data,
    const proxywasm_log_record *record)
{
    ngx_proxywasm_stream_t *head = stream_data;

    u_char         *dst, *last;
    ngx_log_t      *log;
    ngx_str_t       plugin;
    ngx_uint_t      level, more;
    const u_char   *p, *end;
    u_char          piece[NGX_PROXYWASM_LOG_PIECE];

    log = head ? head->connection->log : ngx_cycle->log;
    level = ngx_proxywasm_levels[record->level];

    if (log->log_level < level) {
        return;
    }

    plugin = ngx_proxywasm_str(record->plugin);
    plugin.len = ngx_min(plugin.len, NGX_PROXYWASM_LOG_NAME);

    p = record->message.data;
    end = p + record->message.len;

    if (level == NGX_LOG_CRIT && !ngx_proxywasm_backtraces(user_data)) {
        end = ngx_proxywasm_cut_backtrace(p, end);
    }

    last = piece + sizeof(piece);

    do {
        dst = piece;
        more = 0;

        while (p != end) {

            /* room for the longest escape; UTF-8 stays together if it is */

            if (last - dst < 8 && ((*p & 0xc0) != 0x80 || last - dst < 4)) {
                more = 1;
                break;
            }

            if (*p == '\n') {
                p++;
                break;
            }

            if ((*p < 0x20 && *p != '\t') || *p == 0x7f) {
                dst = ngx_sprintf(dst, "\\x%02Xd", (int) *p++);

            } else {
                *dst++ = *p++;
            }
        }

        ngx_log_error_core(level, log, 0, "[wasm] %s%s[\"%V\" #%uD] %*s",
                           record->level == PROXYWASM_LOG_LEVEL_TRACE
                           ? "[trace] " : "",
                           more ? "[more] " : "", &plugin, record->context_id,
                           (size_t) (dst - piece), piece);

    } while (p != end);
}


static const u_char *
ngx_proxywasm_cut_backtrace(const u_char *p, const u_char *end)
{
    size_t  len;

    len = sizeof(NGX_PROXYWASM_BACKTRACE) - 1;

    for ( /* void */ ; (size_t) (end - p) >= len; p++) {
        if (ngx_memcmp(p, NGX_PROXYWASM_BACKTRACE, len) == 0) {
            return p;
        }
    }

    return end;
}


int32_t
ngx_proxywasm_log_level(void *user_data)
{
    int32_t  level;

    for (level = PROXYWASM_LOG_LEVEL_TRACE;
         level < PROXYWASM_LOG_LEVEL_CRITICAL;
         level++)
    {
        if (ngx_cycle->log->log_level >= ngx_proxywasm_levels[level]) {
            break;
        }
    }

    return level;
}


/* The library's own: odd imports, VMs that have to wait.  On any thread. */

void
ngx_proxywasm_diagnostic(void *user_data, int32_t level,
    proxywasm_slice message)
{
    ngx_str_t  text;

    text = ngx_proxywasm_str(message);

    ngx_log_error(ngx_proxywasm_levels[level], ngx_cycle->log, 0,
                  "proxywasm: %V", &text);
}
