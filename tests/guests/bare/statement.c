/* SPDX-License-Identifier: Apache-2.0 */
#include "statement.h"

#include "hostcalls.h"
#include "memory.h"
#include "script.h"

#include <string.h>

/* More than any hostcall has parameters, for lists. */
enum { MAX_VALUES = 64 };

/* What `@N` can be at most, and how many of them a statement can have. */
enum { MAX_ROOM = 4096, MAX_ROOMS = 8 };

/* Most bytes that a report shows of where an address and a length point. */
enum { MAX_SHOWN = 4096 };

struct values {
    uint64_t list[MAX_VALUES];
    bool fits[MAX_VALUES]; /* whether it may stand for an i32 */
    size_t count;
};

/* What the arguments of one statement need while they are read. */
struct reader {
    struct frame *frame;
    struct span left;
    struct values values;
    struct cell rooms[MAX_ROOMS];
    size_t room_count;
    const char *error; /* the first one */
};

static bool fail(struct reader *reader, const char *error)
{
    if (reader->error == NULL) {
        reader->error = error;
    }
    return false;
}

static bool add(struct reader *reader, uint64_t value, bool fits)
{
    struct values *values = &reader->values;
    if (values->count == MAX_VALUES) {
        return fail(reader, "too many values");
    }
    values->list[values->count] = value;
    values->fits[values->count++] = fits;
    return true;
}

static bool add_address(struct reader *reader, const void *address)
{
    return add(reader, (uint32_t)(uintptr_t)address, true);
}

static bool add_string(struct reader *reader)
{
    char quote = reader->left.at[0];
    const char *start = reader->left.at + 1;
    const char *end = reader->left.size > 1 ? memchr(start, quote, reader->left.size - 1) : NULL;
    if (end == NULL) {
        return fail(reader, "a string without an end");
    }
    struct span string = {start, (size_t)(end - start)};
    reader->left.at = end + 1;
    reader->left.size -= string.size + 2;

    size_t size = 0;
    char *bytes = memory_borrow(string.size);
    if (!script_unescape(string, bytes, &size)) {
        return fail(reader, "%XX needs two hexadecimal digits; a % is %25");
    }
    return add_address(reader, bytes) && (quote == '"' || add(reader, size, true));
}

static bool add_cell(struct reader *reader, struct span size_text)
{
    uint64_t size = 4;
    bool negative = false;
    if (size_text.size > 0 && (!script_number(size_text, &size, &negative) || negative || size > MAX_ROOM)) {
        return fail(reader, "@N is for at most 4096 bytes");
    }
    struct cell cell = {memory_borrow(size), size};
    memset(cell.at, 0xAA, size);
    if (size == 4 || size == 8) {
        if (reader->frame->cell_count == MAX_CELLS) {
            return fail(reader, "too many cells");
        }
        reader->frame->cells[reader->frame->cell_count++] = cell;
    } else {
        if (reader->room_count == MAX_ROOMS) {
            return fail(reader, "too many @N");
        }
        reader->rooms[reader->room_count++] = cell;
    }
    return add_address(reader, cell.at);
}

static uint64_t cell_value(struct cell cell)
{
    uint64_t value = 0;
    memcpy(&value, cell.at, cell.size);
    return value;
}

static bool add_cell_value(struct reader *reader, struct span number)
{
    uint64_t index = 0;
    bool negative = false;
    if (!script_number(number, &index, &negative) || index >= reader->frame->cell_count) {
        return fail(reader, "no such cell so far");
    }
    return add(reader, cell_value(reader->frame->cells[index]), true);
}

static bool add_number(struct reader *reader, struct span word)
{
    uint64_t number = 0;
    bool negative = false;
    if (!script_number(word, &number, &negative)) {
        return fail(reader, "not an argument");
    }
    bool fits = negative ? (int64_t)number >= INT32_MIN : number <= UINT32_MAX;
    return add(reader, number, fits);
}

static bool add_arguments(struct reader *reader, bool in_list);

/* Values as neighbouring i32 in memory: WASI wants lists of addresses and lengths. */
static bool add_list(struct reader *reader)
{
    struct values outer = reader->values;
    reader->values.count = 0;
    reader->left.at++, reader->left.size--;
    if (!add_arguments(reader, true)) {
        return false;
    }
    uint32_t *words = memory_borrow(reader->values.count * sizeof(*words));
    for (size_t n = 0; n < reader->values.count; n++) {
        words[n] = (uint32_t)reader->values.list[n];
    }
    reader->values = outer;
    return add_address(reader, words);
}

/* A word of an argument, which a `]` ends too. */
static struct span take_word(struct span *left)
{
    struct span word = {left->at, 0};
    while (left->size > 0 && !is_space(left->at[0]) && left->at[0] != ']') {
        word.size++;
        left->at++, left->size--;
    }
    return word;
}

static bool add_arguments(struct reader *reader, bool in_list)
{
    for (;;) {
        reader->left = span_trim(reader->left);
        if (reader->left.size == 0) {
            return !in_list || fail(reader, "a [ without its ]");
        }
        char first = reader->left.at[0];
        if (first == ']') {
            reader->left.at++, reader->left.size--;
            return in_list || fail(reader, "a ] without its [");
        }
        bool added;
        if (first == '\'' || first == '"') {
            added = add_string(reader);
        } else if (first == '[') {
            /* Lists of lists have no use, and would take the stack. */
            added = !in_list ? add_list(reader) : fail(reader, "a list in a list");
        } else {
            struct span word = take_word(&reader->left);
            struct span rest = {word.at + 1, word.size - 1};
            if (span_is(word, "*")) {
                added = add(reader, reader->frame->head.context, true);
            } else if (first == '@') {
                added = add_cell(reader, rest);
            } else if (first == '$') {
                added = add_cell_value(reader, rest);
            } else {
                added = add_number(reader, word);
            }
        }
        if (!added) {
            return false;
        }
    }
}

void statement_error(const struct frame *frame, const char *text, struct span about)
{
    size_t size = strlen(text);
    char *whole = memory_borrow(size + 2 + about.size);
    memcpy(whole, text, size);
    memcpy(whole + size, ": ", 2);
    memcpy(whole + size + 2, about.at, about.size);

    report_begin(&frame->head);
    report_key("op");
    report_bytes(span_of("error"));
    report_key("r");
    report_bytes((struct span){whole, size + 2 + about.size});
    report_end();
}

/* The bytes to show: those of rooms, or those that two neighbouring cells point to. False if there are none.
 */
static bool find_shown(const struct reader *reader, const struct cell *cells, size_t count,
                       struct span *shown)
{
    if (reader->room_count > 0) {
        char *bytes = memory_borrow(MAX_ROOMS * MAX_ROOM);
        size_t size = 0;
        for (size_t n = 0; n < reader->room_count; n++) {
            memcpy(bytes + size, reader->rooms[n].at, reader->rooms[n].size);
            size += reader->rooms[n].size;
        }
        *shown = (struct span){bytes, size};
        return true;
    }
    for (size_t n = 0; n + 1 < count; n++) {
        uint64_t address = cell_value(cells[n]), size = cell_value(cells[n + 1]);
        if (cells[n].size == 4 && cells[n + 1].size == 4 && size <= MAX_SHOWN && memory_has(address, size)) {
            *shown = (struct span){(const char *)(uintptr_t)address, size};
            return true;
        }
    }
    return false;
}

static void call(struct reader *reader, struct span name, const struct hostcall *hostcall, size_t first_cell)
{
    struct frame *frame = reader->frame;
    uint32_t status = hostcall_call(hostcall, reader->values.list);

    const struct cell *cells = frame->cells + first_cell;
    size_t count = frame->cell_count - first_cell;
    report_begin(&frame->head);
    report_key("op");
    report_bytes(name);
    report_key("r");
    if (hostcall_has_result(hostcall)) {
        report_number(status);
    } else {
        report_null();
    }
    report_key("out");
    report_list_begin();
    for (size_t n = 0; n < count; n++) {
        report_list_item(cell_value(cells[n]));
    }
    report_list_end();
    struct span shown;
    if (find_shown(reader, cells, count, &shown)) {
        report_key("val");
        report_bytes(shown);
    }
    report_end();
}

static bool matches(const struct values *values, const char *types)
{
    if (values->count != strlen(types)) {
        return false;
    }
    for (size_t n = 0; n < values->count; n++) {
        if (types[n] == 'i' && !values->fits[n]) {
            return false;
        }
    }
    return true;
}

/* Without a frame on the stack in the guest's memory, so that it is the host's stack that runs out. */
static uint32_t recurse(uint32_t n);
static uint32_t (*volatile again)(uint32_t) = recurse;

__attribute__((noinline)) static uint32_t recurse(uint32_t n)
{
    return again(n + 1) + n;
}

static _Noreturn void loop(void)
{
    for (;;) {
        /* Or the compiler might take the loop for one that ends. */
        __asm__ volatile("");
    }
}

/* Statements that are no hostcalls; false if this is none of them. */
static bool run_own(struct frame *frame, struct span word)
{
    if (span_is(word, "trap")) {
        __builtin_trap();
    } else if (span_is(word, "loop")) {
        loop();
    } else if (span_is(word, "bomb")) {
        memory_exhaust();
    } else if (span_is(word, "recurse")) {
        frame->answer = recurse(0);
    } else {
        return false;
    }
    return true;
}

bool statement_run(struct frame *frame, struct span text)
{
    struct reader reader = {.frame = frame, .left = text};
    struct span word = script_word(&reader.left);
    bool is_return = span_is(word, "return"), is_nth = span_is(word, "nth");
    const struct hostcall *hostcall = hostcall_find(word);
    if (!is_return && !is_nth && hostcall == NULL) {
        if (!run_own(frame, word)) {
            statement_error(frame, "no such hostcall in this version", text);
        }
        return true;
    }

    size_t first_cell = frame->cell_count;
    if (!add_arguments(&reader, false)) {
        statement_error(frame, reader.error, text);
    } else if (!matches(&reader.values, hostcall == NULL ? "i" : hostcall_types(hostcall))) {
        statement_error(frame, "the values are not those of its parameters", text);
    } else if (is_return) {
        frame->answer = (uint32_t)reader.values.list[0];
    } else if (is_nth) {
        return frame->run == (uint32_t)reader.values.list[0];
    } else {
        call(&reader, word, hostcall, first_cell);
    }
    return true;
}
