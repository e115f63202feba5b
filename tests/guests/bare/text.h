/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes that lie elsewhere, such as the pieces of a script.
 */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Not terminated by a NUL, which a script may have anywhere. */
struct span {
    const char *at;
    size_t size;
};

bool span_is(struct span span, const char *text);
struct span span_trim(struct span span);
struct span span_of(const char *text);

static inline bool is_space(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* The value of a hexadecimal digit, or -1. */
int hex_value(char digit);

#endif
