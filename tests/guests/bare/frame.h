/* SPDX-License-Identifier: Apache-2.0
 *
 * One run of a callback.
 */
#ifndef FRAME_H
#define FRAME_H

#include "callbacks.h"
#include "report.h"

/* Memory for what a hostcall gives back, `@` and `@8`. */
struct cell {
    char *at;
    unsigned size;
};

enum { MAX_CELLS = 256 };

struct frame {
    struct report_head head;
    enum callback callback;
    uint32_t run; /* how often this callback has run in this context, from 1 */
    uint32_t answer;
    struct cell cells[MAX_CELLS]; /* of all statements so far */
    size_t cell_count;
};

#endif
