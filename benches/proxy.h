/* SPDX-License-Identifier: Apache-2.0
 *
 * A proxy in memory for the benchmarks: header maps as small arrays, looked through with a case-insensitive
 * compare.
 */
#ifndef PROXY_H
#define PROXY_H

#include <proxywasm.h>

enum { REQUEST_HEADERS = 20, RESPONSE_HEADERS = 8, MAX_HEADERS = 32, BODY_SIZE = 64 << 10 };

/* A header map. What the plugin writes is copied into `text`. */
struct map {
    proxywasm_pair pairs[MAX_HEADERS];
    size_t count;
    size_t used;
    bool replaced;
    char text[4096];
};

/* One exchange; `stream_data` of the callbacks. */
struct exchange {
    struct map maps[4];
    uint8_t body[BODY_SIZE];
};

/* As the client and the upstream sent it. `exchange_reset` undoes what a plugin has changed. */
void exchange_init(struct exchange *exchange);
void exchange_reset(struct exchange *exchange);

proxywasm_host proxy_table(void);
proxywasm_slice slice_of(const char *text);

#endif
