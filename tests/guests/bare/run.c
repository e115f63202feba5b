/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"

#include "contexts.h"
#include "hostcalls.h"
#include "memory.h"
#include "script.h"
#include "statement.h"

#include <string.h>

static const char *const names[] = {
#define X(result, name, ...) #name,
    CALLBACKS(X)
#undef X
        "allocate",
};

static const uint32_t default_answers[] = {
#define X(result, name, answer, ...) answer,
    CALLBACKS(X)
#undef X
        0,
};

enum { VM_CONFIGURATION = 6, PLUGIN_CONFIGURATION = 7, REQUEST_HEADERS = 0 };

/* The frame of the callback that runs, for the allocator; NULL if none does. */
static struct frame *current;

static uint32_t address(const void *place)
{
    return (uint32_t)(uintptr_t)place;
}

static bool is_callback(struct span name)
{
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        if (span_is(name, names[n])) {
            return true;
        }
    }
    return false;
}

/* Reports what of a script can never run. */
static void check_script(const struct frame *frame, struct span script)
{
    struct statement statement = {{NULL, 0}, {NULL, 0}};
    while (script_next(&script, &statement)) {
        if (statement.section.size == 0) {
            statement_error(frame, "not in a section", statement.text);
        } else if (!is_callback(statement.section) && !span_is(statement.section, "id") &&
                   !span_is(statement.section, "name")) {
            statement_error(frame, "no such callback", statement.section);
        }
    }
}

/* A buffer with a configuration is the script of its context, unless it is empty. */
static bool read_configuration(struct context *context, uint32_t buffer, uint32_t size)
{
    uint32_t at = 0, read = 0;
    if (size == 0 || proxy_get_buffer_bytes(buffer, 0, size, address(&at), address(&read)) != 0 ||
        read == 0) {
        return false;
    }
    context_set_script(context, (const char *)(uintptr_t)at, read);
    return true;
}

static bool read_header(struct context *context)
{
    const char name[] = "x-bare";
    uint32_t at = 0, size = 0;
    if (proxy_get_header_map_value(REQUEST_HEADERS, address(name), sizeof(name) - 1, address(&at),
                                   address(&size)) != 0 ||
        size == 0) {
        return false;
    }
    context_set_script(context, (const char *)(uintptr_t)at, size);
    return true;
}

/* Some callbacks bring the script that they and those after them run. */
static bool read_script(struct context *context, enum callback callback, const uint32_t *parameters)
{
    switch (callback) {
    case CALLBACK_vm_start:
        return read_configuration(context, VM_CONFIGURATION, parameters[1]);
    case CALLBACK_configure:
        return read_configuration(context, PLUGIN_CONFIGURATION, parameters[1]);
    case CALLBACK_request_headers:
        return context->runs[callback] == 1 && read_header(context);
    default:
        return false;
    }
}

static struct span plugin_name(const struct context *context)
{
    const struct context *root =
        context == NULL || context->parent == 0 ? context : context_find(context->parent);
    struct span name = {NULL, 0};
    if (root != NULL && root->text != NULL) {
        name = script_text_of(context_script(root), "name");
    }
    return name.at == NULL ? span_of("bare") : name;
}

static void report_entry(const struct frame *frame, const uint32_t *parameters, size_t count)
{
    report_begin(&frame->head);
    report_key("a");
    report_list_begin();
    for (size_t n = 0; n < count; n++) {
        report_list_item(parameters[n]);
    }
    report_list_end();
    report_end();
}

static void run_sections(struct frame *frame, struct span script)
{
    struct statement statement = {{NULL, 0}, {NULL, 0}};
    bool goes_on = true;
    while (goes_on && script_next(&script, &statement)) {
        if (span_is(statement.section, names[frame->callback])) {
            goes_on = statement_run(frame, statement.text);
        }
    }
}

uint32_t run_callback(enum callback callback, const uint32_t *parameters, size_t count)
{
    memory_enter();
    uint32_t id = parameters[0];
    struct context *context =
        callback == CALLBACK_context_create ? context_create(id, parameters[1]) : context_find(id);

    struct frame *frame = memory_borrow(sizeof(*frame));
    *frame = (struct frame){.head = {.context = id, .callback = names[callback]},
                            .callback = callback,
                            .answer = default_answers[callback]};
    bool is_new = false;
    struct span script = {NULL, 0};
    if (context != NULL) {
        frame->run = ++context->runs[callback];
        is_new = read_script(context, callback, parameters);
        script = context_script(context);
        /* A script that is replaced while it runs would be freed under it. */
        char *copy = memory_borrow(script.size);
        memcpy(copy, script.at, script.size);
        script.at = copy;
        if (context->parent != 0 && context->text != NULL) {
            frame->head.id = script_text_of(script, "id");
        }
    }
    frame->head.plugin = plugin_name(context);

    report_entry(frame, parameters + 1, count - 1);
    if (is_new) {
        check_script(frame, script);
    }
    struct frame *outer = current;
    current = frame;
    run_sections(frame, script);
    current = outer;

    if (callback == CALLBACK_delete) {
        context_delete(id);
    }
    uint32_t answer = frame->answer;
    memory_leave();
    return answer;
}

uint32_t run_allocator(uint32_t size)
{
    uint32_t block = address(memory_borrow(size));
    struct context *context = current == NULL ? NULL : context_find(current->head.context);
    if (context == NULL || current->callback == CALLBACK_allocate) {
        return block;
    }
    struct span script = context_script(context);
    if (script_text_of(script, names[CALLBACK_allocate]).at == NULL) {
        return block;
    }
    struct frame *outer = current;
    struct frame *frame = memory_borrow(sizeof(*frame));
    *frame = (struct frame){.head = outer->head,
                            .callback = CALLBACK_allocate,
                            .run = ++context->runs[CALLBACK_allocate],
                            .answer = block};
    frame->head.callback = names[CALLBACK_allocate];
    report_entry(frame, &size, 1);
    current = frame;
    run_sections(frame, script);
    current = outer;
    return frame->answer;
}
