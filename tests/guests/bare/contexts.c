/* SPDX-License-Identifier: Apache-2.0 */
#include "contexts.h"

#include "memory.h"

#include <stdlib.h>

enum { BUCKETS = 256 };

static struct context *buckets[BUCKETS];

static struct context **slot_of(uint32_t id)
{
    struct context **slot = &buckets[id % BUCKETS];
    while (*slot != NULL && (*slot)->id != id) {
        slot = &(*slot)->next;
    }
    return slot;
}

struct context *context_find(uint32_t id)
{
    return *slot_of(id);
}

struct context *context_create(uint32_t id, uint32_t parent)
{
    struct context **slot = slot_of(id);
    if (*slot == NULL) {
        *slot = memory_get(sizeof(**slot));
        (*slot)->id = id;
    }
    (*slot)->parent = parent;
    return *slot;
}

void context_delete(uint32_t id)
{
    struct context **slot = slot_of(id);
    struct context *context = *slot;
    if (context != NULL) {
        *slot = context->next;
        free(context->text);
        free(context);
    }
}

void context_set_script(struct context *context, const char *text, size_t size)
{
    free(context->text);
    context->text = memory_copy(text, size);
    context->size = size;
}

struct span context_script(const struct context *context)
{
    if (context->text == NULL && context->parent != 0) {
        context = context_find(context->parent);
    }
    return context == NULL ? (struct span){NULL, 0} : (struct span){context->text, context->size};
}
