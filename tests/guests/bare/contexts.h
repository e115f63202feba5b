/* SPDX-License-Identifier: Apache-2.0
 *
 * The contexts of the VM: a root for each plugin, and below it one for each stream.
 */
#ifndef CONTEXTS_H
#define CONTEXTS_H

#include "callbacks.h"
#include "text.h"

struct context {
    uint32_t id, parent; /* parent 0: a root */
    char *text; /* its own script; NULL: it has none */
    size_t size;
    uint32_t runs[CALLBACK_COUNT];
    struct context *next;
};

/* NULL if there is none. */
struct context *context_find(uint32_t id);
struct context *context_create(uint32_t id, uint32_t parent);
void context_delete(uint32_t id);

/* Gives it a script of its own. */
void context_set_script(struct context *context, const char *text, size_t size);

/* The script that it runs: its own, or else its plugin's. */
struct span context_script(const struct context *context);

#endif
