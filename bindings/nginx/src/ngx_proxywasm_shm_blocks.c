/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The memory of a zone, in blocks, and the bytes in a chain of them.
 */


#include "ngx_proxywasm_shm.h"


/* "head" is how much of the area is in other use. */

void
ngx_proxywasm_init_blocks(ngx_proxywasm_area_t *area, size_t head)
{
    area->first = ngx_align(head, sizeof(uint64_t));
    area->blocks = (area->size - area->first) / NGX_PROXYWASM_BLOCK;
    area->nfree = area->blocks;
}


/* How many blocks a thing takes whose bytes follow a head. */

size_t
ngx_proxywasm_count_blocks(size_t head, size_t len)
{
    if (len <= NGX_PROXYWASM_BLOCK - head) {
        return 1;
    }

    len -= NGX_PROXYWASM_BLOCK - head;

    return 1 + (len + NGX_PROXYWASM_BLOCK_DATA - 1) / NGX_PROXYWASM_BLOCK_DATA;
}


uint32_t
ngx_proxywasm_alloc_blocks(ngx_proxywasm_area_t *area, size_t n)
{
    uint32_t  block, first;

    if (n > area->nfree) {
        return 0;
    }

    first = 0;

    for ( /* void */ ; n; n--) {

        if (area->free) {
            block = area->free;
            area->free = ngx_proxywasm_next_block(area, block);

        } else {
            block = ++area->fresh;
        }

        area->nfree--;

        ngx_proxywasm_next_block(area, block) = first;
        first = block;
    }

    return first;
}


void
ngx_proxywasm_free_blocks(ngx_proxywasm_area_t *area, uint32_t first)
{
    uint32_t  next;

    while (first) {
        next = ngx_proxywasm_next_block(area, first);

        ngx_proxywasm_next_block(area, first) = area->free;
        area->free = first;
        area->nfree++;

        first = next;
    }
}


void
ngx_proxywasm_mark_blocks(ngx_proxywasm_area_t *area, u_char *marks,
    uint32_t first)
{
    while (first) {
        marks[first >> 3] |= 1 << (first & 7);
        first = ngx_proxywasm_next_block(area, first);
    }
}


/* The longest piece at the cursor, which moves behind it. */

static u_char *
ngx_proxywasm_piece(ngx_proxywasm_cursor_t *cursor, size_t *len)
{
    u_char  *p;

    if (cursor->offset == NGX_PROXYWASM_BLOCK) {
        cursor->block = ngx_proxywasm_next_block(cursor->area, cursor->block);
        cursor->offset = sizeof(uint32_t);
    }

    p = ngx_proxywasm_block_at(cursor->area, cursor->block) + cursor->offset;

    *len = ngx_min(*len, NGX_PROXYWASM_BLOCK - cursor->offset);
    cursor->offset += *len;

    return p;
}


void
ngx_proxywasm_write(ngx_proxywasm_cursor_t *cursor, proxywasm_slice bytes)
{
    size_t   n;
    u_char  *p;

    while (bytes.len) {
        n = bytes.len;
        p = ngx_proxywasm_piece(cursor, &n);
        ngx_memcpy(p, bytes.data, n);

        bytes.data += n;
        bytes.len -= n;
    }
}


void
ngx_proxywasm_read(ngx_proxywasm_cursor_t *cursor, u_char *p, size_t len)
{
    size_t   n;
    u_char  *piece;

    while (len) {
        n = len;
        piece = ngx_proxywasm_piece(cursor, &n);
        p = ngx_cpymem(p, piece, n);

        len -= n;
    }
}


ngx_uint_t
ngx_proxywasm_equal(ngx_proxywasm_cursor_t *cursor, proxywasm_slice bytes)
{
    size_t   n;
    u_char  *p;

    while (bytes.len) {
        n = bytes.len;
        p = ngx_proxywasm_piece(cursor, &n);

        if (ngx_memcmp(p, bytes.data, n) != 0) {
            return 0;
        }

        bytes.data += n;
        bytes.len -= n;
    }

    return 1;
}
