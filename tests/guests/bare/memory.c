/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

/* In front of what is borrowed; of the alignment that malloc gives. */
struct borrowed {
    _Alignas(16) struct borrowed *next;
};

static struct borrowed *all_borrowed;
static unsigned depth;

static void *sure(void *block)
{
    if (block == NULL) {
        __builtin_trap();
    }
    return block;
}

void *memory_get(size_t size)
{
    return sure(calloc(1, size == 0 ? 1 : size));
}

void *memory_resize(void *block, size_t size)
{
    return sure(realloc(block, size));
}

char *memory_copy(const char *bytes, size_t size)
{
    char *copy = memory_get(size);
    memcpy(copy, bytes, size);
    return copy;
}

void *memory_borrow(size_t size)
{
    if (size > UINT32_MAX - sizeof(struct borrowed)) {
        __builtin_trap();
    }
    struct borrowed *block = sure(malloc(sizeof(*block) + size));
    block->next = all_borrowed;
    all_borrowed = block;
    return block + 1;
}

void memory_enter(void)
{
    depth++;
}

void memory_leave(void)
{
    /* A host may call back from inside a hostcall; what the outer callback has must stay then. */
    if (--depth > 0) {
        return;
    }
    while (all_borrowed != NULL) {
        struct borrowed *block = all_borrowed;
        all_borrowed = block->next;
        free(block);
    }
}

bool memory_has(uint64_t address, uint64_t size)
{
    return address + size <= (uint64_t)__builtin_wasm_memory_size(0) << 16;
}

void memory_exhaust(void)
{
    const size_t size = 1 << 20, page = 1 << 12;
    for (;;) {
        /* Touched, or it would cost the host nothing; no more than that, so that its limit of time is not met
         * first. */
        volatile char *block = sure(malloc(size));
        for (size_t at = 0; at < size; at += page) {
            block[at] = 1;
        }
    }
}
