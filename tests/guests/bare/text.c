/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include <string.h>

bool span_is(struct span span, const char *text)
{
    return span.size == strlen(text) && memcmp(span.at, text, span.size) == 0;
}

struct span span_trim(struct span span)
{
    while (span.size > 0 && is_space(span.at[0])) {
        span.at++, span.size--;
    }
    while (span.size > 0 && is_space(span.at[span.size - 1])) {
        span.size--;
    }
    return span;
}

struct span span_of(const char *text)
{
    return (struct span){text, strlen(text)};
}

int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}
