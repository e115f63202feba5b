/* SPDX-License-Identifier: Apache-2.0
 *
 * The contexts of a filter. The proxy names them by number: a root context for each configured plugin, and
 * below it one for each stream. A VM may hold several plugins, so a stream has to look up which is its own.
 */
#ifndef CONTEXTS_H
#define CONTEXTS_H

#include "proxy_wasm.h"

struct context {
    uint32_t id;
    struct context *root; /* of a stream; NULL for a root */
    struct context *next;
    void *config; /* of a root */
    bool change_request, change_response; /* of a stream: whether its bodies are changed */
};

static struct context *contexts[64];

static struct context **context_slot(uint32_t id)
{
    struct context **slot = &contexts[id % 64];
    while (*slot != NULL && (*slot)->id != id) {
        slot = &(*slot)->next;
    }
    return slot;
}

static inline struct context *context_find(uint32_t id)
{
    return *context_slot(id);
}

static inline struct context *context_create(uint32_t id, uint32_t root)
{
    struct context *context = calloc(1, sizeof(*context));
    if (context == NULL) {
        abort();
    }
    context->id = id;
    context->root = root == 0 ? NULL : context_find(root);
    *context_slot(id) = context;
    return context;
}

static inline void context_delete(uint32_t id)
{
    struct context **slot = context_slot(id);
    struct context *context = *slot;
    if (context != NULL) {
        *slot = context->next;
        free(context);
    }
}

#endif
