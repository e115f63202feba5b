/* SPDX-License-Identifier: Apache-2.0
 *
 * The guest's memory. A plugin that runs out of it cannot go on: nothing here gives NULL.
 *
 * What the host asks for, through `malloc` or `proxy_on_memory_allocate`, and what a script's statements
 * need, is kept until the outermost callback ends: a script may use it anywhere in the callback, and never
 * frees it.
 */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* To be freed with free(). */
void *memory_get(size_t size);
void *memory_resize(void *block, size_t size);
char *memory_copy(const char *bytes, size_t size);

/* Freed by itself when the outermost callback ends. */
void *memory_borrow(size_t size);

/* Around each callback. */
void memory_enter(void);
void memory_leave(void);

/* Whether the bytes lie in the memory, which may have grown meanwhile. */
bool memory_has(uint64_t address, uint64_t size);

/* Takes memory until there is no more, and traps. */
void memory_exhaust(void);

#endif
