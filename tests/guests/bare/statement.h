/* SPDX-License-Identifier: Apache-2.0
 *
 * One statement of a script: its arguments become values, and what came of it is reported.
 */
#ifndef STATEMENT_H
#define STATEMENT_H

#include "frame.h"

/* Reports a text as the result of the operation `error`, with what it is about. */
void statement_error(const struct frame *frame, const char *text, struct span about);

/* Returns whether the statements after it are to be run. */
bool statement_run(struct frame *frame, struct span text);

#endif
