/* SPDX-License-Identifier: Apache-2.0
 *
 * How a script is cut into its sections and statements. Nothing is kept: a script is read anew for each
 * callback.
 */
#ifndef SCRIPT_H
#define SCRIPT_H

#include "text.h"

struct statement {
    struct span section; /* empty before the first */
    struct span text;
};

/* Takes the next statement off the front of a script; `statement` has that before it, zeros at first. False
 * at the end. */
bool script_next(struct span *script, struct statement *statement);

/* The text of a section that is no callback, such as `id: TEXT`; at NULL: there is none. */
struct span script_text_of(struct span script, const char *section);

/* A word, or the empty span: up to white space, at the front of a statement, off which it is taken. */
struct span script_word(struct span *statement);

/* An integer, signed or not, of at most 64 bits. */
bool script_number(struct span word, uint64_t *number, bool *negative);

/* Writes the bytes of a string without its quotes, %XX being one, to a place as long as it. False for a bad
 * %XX. */
bool script_unescape(struct span string, char *bytes, size_t *size);

#endif
