/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include "hostcalls.h"
#include "memory.h"

#include <string.h>

enum { INFO = 2 };

/* Most bytes of one record: hosts cut longer ones off. */
enum { PIECE = 1200 };
enum { PREFIX = 6 };

/* The report as far as it is written, behind room for the prefix of its first piece. */
static char *buffer;
static size_t used, room;
static bool list_has_items;

static void put(const char *bytes, size_t size)
{
    if (used + size > room) {
        room = 2 * (used + size);
        buffer = memory_resize(buffer, room);
    }
    memcpy(buffer + used, bytes, size);
    used += size;
}

static void put_text(const char *text)
{
    put(text, strlen(text));
}

static void put_number(uint64_t number, unsigned base)
{
    char digits[20];
    size_t first = sizeof(digits);
    do {
        digits[--first] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0);
    put(digits + first, sizeof(digits) - first);
}

/* When this VM first ran a callback: no two VMs share it. */
static uint64_t vm_time(void)
{
    static uint64_t time;
    if (time == 0) {
        proxy_get_current_time_nanoseconds((uint32_t)(uintptr_t)&time);
    }
    return time;
}

void report_begin(const struct report_head *head)
{
    uint64_t time = vm_time();
    used = 0;
    put("probe:", PREFIX);
    put_text("{\"vm\":\"");
    put_number(time, 16);
    put_text("\"");
    report_key("p");
    report_bytes(head->plugin);
    report_key("c");
    report_number(head->context);
    if (head->id.at != NULL) {
        report_key("id");
        report_bytes(head->id);
    }
    report_key("cb");
    report_bytes(span_of(head->callback));
}

void report_end(void)
{
    put_text("}");
    /* The prefix of each further piece goes over the end of the one before, which is sent by then. */
    char *at = buffer;
    size_t left = used - PREFIX;
    for (; left > PIECE; at += PIECE, left -= PIECE) {
        memcpy(at, "probe~", PREFIX);
        proxy_log(INFO, (uint32_t)(uintptr_t)at, PREFIX + PIECE);
    }
    memcpy(at, "probe:", PREFIX);
    proxy_log(INFO, (uint32_t)(uintptr_t)at, PREFIX + left);
}

void report_key(const char *key)
{
    put_text(",\"");
    put_text(key);
    put_text("\":");
}

void report_bytes(struct span bytes)
{
    put_text("\"");
    for (size_t i = 0; i < bytes.size; i++) {
        unsigned char byte = (unsigned char)bytes.at[i];
        if (byte < ' ' || byte > '~' || byte == '"' || byte == '\\') {
            const char *digits = "0123456789abcdef";
            char escape[] = {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]};
            put(escape, sizeof(escape));
        } else {
            put(&bytes.at[i], 1);
        }
    }
    put_text("\"");
}

void report_number(uint64_t number)
{
    put_number(number, 10);
}

void report_null(void)
{
    put_text("null");
}

void report_list_begin(void)
{
    put_text("[");
    list_has_items = false;
}

void report_list_item(uint64_t number)
{
    if (list_has_items) {
        put_text(",");
    }
    list_has_items = true;
    report_number(number);
}

void report_list_end(void)
{
    put_text("]");
}
