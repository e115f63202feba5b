/* SPDX-License-Identifier: Apache-2.0
 *
 * Reports: one JSON object each, written piece by piece and sent to the log at its end.
 */
#ifndef REPORT_H
#define REPORT_H

#include "text.h"

/* What every report starts with. */
struct report_head {
    struct span plugin;
    uint32_t context;
    struct span id; /* at NULL: none */
    const char *callback;
};

void report_begin(const struct report_head *head);
void report_end(void);

/* `,"KEY":` and then one of the values below. */
void report_key(const char *key);
void report_bytes(struct span bytes);
void report_number(uint64_t number);
void report_null(void);
void report_list_begin(void);
void report_list_item(uint64_t number);
void report_list_end(void);

#endif
