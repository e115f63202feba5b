/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Metrics in shared memory, for those that keep them and those that show them.
 */


#ifndef NGX_PROXYWASM_METRICS_H_INCLUDED
#define NGX_PROXYWASM_METRICS_H_INCLUDED


#include "ngx_proxywasm_shm.h"


#define NGX_PROXYWASM_BUCKETS  23


/* Its name stands behind the values. */
typedef struct {
    uint32_t              link;        /* the next one of this hash */
    uint32_t              hash;
    uint32_t              type;
    uint32_t              name_len;
    /* of a histogram the sum, then a count for each bucket and for more */
    uint64_t              values[];
} ngx_proxywasm_metric_t;


#define ngx_proxywasm_metric_values(type)                                     \
    ((type) == PROXYWASM_METRIC_TYPE_HISTOGRAM ? NGX_PROXYWASM_BUCKETS + 2 : 1)

#define ngx_proxywasm_metric_name(metric)                                     \
    ((u_char *) &(metric)->values[ngx_proxywasm_metric_values((metric)->type)])


ngx_proxywasm_metric_t *ngx_proxywasm_metric(ngx_proxywasm_conf_t *conf,
    ngx_uint_t n);

extern const uint64_t  ngx_proxywasm_buckets[NGX_PROXYWASM_BUCKETS];


#endif /* NGX_PROXYWASM_METRICS_H_INCLUDED */
