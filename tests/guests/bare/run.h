/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens in a callback: its entry is reported, and the statements that the script has for it are run.
 */
#ifndef RUN_H
#define RUN_H

#include "callbacks.h"

#include <stddef.h>

/* The parameters of the callback, the context first. Returns what the callback answers. */
uint32_t run_callback(enum callback callback, const uint32_t *parameters, size_t count);

/* What the allocator answers for a block of this size. */
uint32_t run_allocator(uint32_t size);

#endif
