/* SPDX-License-Identifier: Apache-2.0
 *
 * A guest that does in each callback what its configuration says, and logs what it sees.
 *
 * The configuration is words of the form CALLBACK=VERB,VERB,... For each callback the guest logs its name and
 * its numbers, then carries the verbs out in order; each hostcall is logged as `VERB STATUS` and, where there
 * is one, the value. `vm_start` is looked up in the VM configuration. Verbs:
 *
 *   ret:N           what the callback returns (otherwise 0, or 1 from vm_start, configure and done)
 *   trap, loop, recurse, oob, grow     ways to fail
 *   get, pairs, add, replace, remove, set      on the headers of the callback (names x-in, x-out)
 *   prop, setprop   property a.b
 *   body, setbody, prepend     the buffer of the callback
 *   effective       act on the stream that began last
 *   local, close, resume[:N], call, grpc, stream, send, gclose, cancel, tick:N, time, foreign:NAME, done
 *   register, resolve, enqueue, dequeue       shared queue q
 *   getdata, setdata                          shared data k
 *   counter, histogram, metric                metrics c and h
 */
#include "abi.h"

/* The compiler may call these for copies and loops of our own. */
void *memcpy(void *to, const void *from, unsigned long size);
void *memset(void *to, int byte, unsigned long size);

__attribute__((optnone)) void *memcpy(void *to, const void *from, unsigned long size)
{
    for (unsigned long i = 0; i < size; i++) {
        ((u8 *)to)[i] = ((const u8 *)from)[i];
    }
    return to;
}

__attribute__((optnone)) void *memset(void *to, int byte, unsigned long size)
{
    for (unsigned long i = 0; i < size; i++) {
        ((u8 *)to)[i] = (u8)byte;
    }
    return to;
}

static u32 length(const char *text)
{
    u32 size = 0;
    while (text[size] != '\0') {
        size++;
    }
    return size;
}

/* What the host hands over lives until the end of the callback; what configure keeps is copied. */
static _Alignas(16) char arena[1 << 20];
static u32 arena_used;

void *EXPORT(proxy_on_memory_allocate)(u32 size)
{
    u32 rounded = (size + 15) & ~15u;
    if (rounded > sizeof arena - arena_used) {
        return 0;
    }
    void *bytes = arena + arena_used;
    arena_used += rounded;
    return bytes;
}

/* Logs. */

static char line[4096];
static u32 line_size;

static void put(const char *text, u32 size)
{
    for (u32 i = 0; i < size && line_size < sizeof line; i++) {
        line[line_size++] = text[i];
    }
}

static void put_text(const char *text)
{
    put(text, length(text));
}

static void put_number(u64 number)
{
    char digits[20];
    u32 count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    put_text(" ");
    while (count > 0) {
        put(&digits[--count], 1);
    }
}

static void flush(void)
{
    proxy_log(2, line, line_size);
    line_size = 0;
}

static void say_status(const char *verb, u32 status)
{
    put_text(verb);
    put_number(status);
    flush();
}

static void say_value(const char *verb, u32 status, const char *value, u32 size)
{
    put_text(verb);
    put_number(status);
    if (size > 0) {
        put_text(" ");
        put(value, size);
    }
    flush();
}

/* Contexts: a stream finds the configuration of its root. */

struct script {
    char text[1024];
    u32 size;
};

static struct script vm_script;
static struct {
    u32 id, root;
} contexts[256];
static struct {
    u32 id;
    struct script script;
} roots[8];

static struct script *script_of(u32 context)
{
    u32 root = context;
    for (u32 i = 0; i < sizeof contexts / sizeof contexts[0]; i++) {
        if (contexts[i].id == context) {
            root = contexts[i].root;
        }
    }
    for (u32 i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        if (roots[i].id == root) {
            return &roots[i].script;
        }
    }
    return 0;
}

static void read_script(u32 buffer, struct script *script)
{
    char *bytes = 0;
    u32 size = 0;
    script->size = 0;
    if (proxy_get_buffer_bytes(buffer, 0, sizeof script->text, &bytes, &size) == 0) {
        memcpy(script->text, bytes, size);
        script->size = size;
    }
}

/* Verbs. */

static u32 last_stream, call_token, queue, counter, histogram;
static volatile u32 sink;

static int same(const char *text, u32 size, const char *word)
{
    if (size != length(word)) {
        return 0;
    }
    for (u32 i = 0; i < size; i++) {
        if (text[i] != word[i]) {
            return 0;
        }
    }
    return 1;
}

static u32 number_of(const char *text, u32 size)
{
    u32 number = 0;
    for (u32 i = 0; i < size; i++) {
        number = number * 10 + (u32)(text[i] - '0');
    }
    return number;
}

/* Deeper than any stack, without the compiler knowing. */
__attribute__((noinline, optnone)) static u32 recurse(u32 depth)
{
    volatile u32 frame[64];
    frame[depth % 64] = depth;
    return depth == sink ? 0 : recurse(depth + 1) + frame[depth % 64];
}

/* `:method GET`, `:path /`, `:authority a` and `x-n 1` in the ABI's form. */
static const char call_headers[] = "\4\0\0\0"
                                   "\7\0\0\0\3\0\0\0"
                                   "\5\0\0\0\1\0\0\0"
                                   "\12\0\0\0\1\0\0\0"
                                   "\3\0\0\0\1\0\0\0"
                                   ":method\0GET\0"
                                   ":path\0/\0"
                                   ":authority\0a\0"
                                   "x-n\0"
                                   "1";

/* Where a callback finds its headers and its buffer. */
struct place {
    u32 map, buffer, stream;
};

#define TEXT(text) (text), sizeof(text) - 1

static void verb(const char *name, u32 size, const char *argument, u32 argument_size,
                 const struct place *place, u32 *result)
{
    char *bytes = 0;
    u32 got = 0, number = 0;
    u64 wide = 0;
#define IS(word) same(name, size, word)
    if (IS("ret")) {
        *result = number_of(argument, argument_size);
    } else if (IS("trap")) {
        __builtin_trap();
    } else if (IS("loop")) {
        for (;;) {
            sink++;
        }
    } else if (IS("recurse")) {
        sink = 0xffffffff;
        sink = recurse(0);
    } else if (IS("oob")) {
        sink = *(volatile u32 *)0xfffffff0u;
    } else if (IS("grow")) {
        while (__builtin_wasm_memory_grow(0, 16) != (unsigned long)-1) {
        }
        __builtin_trap();
    } else if (IS("get")) {
        u32 status = proxy_get_header_map_value(place->map, TEXT("x-in"), &bytes, &got);
        say_value("get", status, bytes, status == 0 ? got : 0);
    } else if (IS("pairs")) {
        u32 status = proxy_get_header_map_pairs(place->map, &bytes, &got);
        put_text("pairs");
        put_number(status);
        put_number(status == 0 && got >= 4 ? *(u32 *)bytes : 0);
        flush();
    } else if (IS("add")) {
        say_status("add", proxy_add_header_map_value(place->map, TEXT("x-out"), TEXT("1")));
    } else if (IS("addtrailer")) {
        say_status("addtrailer", proxy_add_header_map_value(place->map + 1, TEXT("x-out"), TEXT("1")));
    } else if (IS("replace")) {
        say_status("replace", proxy_replace_header_map_value(place->map, TEXT("x-out"), TEXT("2")));
    } else if (IS("remove")) {
        say_status("remove", proxy_remove_header_map_value(place->map, TEXT("x-in")));
    } else if (IS("set")) {
        say_status("set", proxy_set_header_map_pairs(place->map, call_headers, sizeof call_headers));
    } else if (IS("prop")) {
        u32 status = proxy_get_property(TEXT("a\0b"), &bytes, &got);
        say_value("prop", status, bytes, status == 0 ? got : 0);
    } else if (IS("setprop")) {
        say_status("setprop", proxy_set_property(TEXT("a\0b"), TEXT("set")));
    } else if (IS("body")) {
        u32 status = proxy_get_buffer_bytes(place->buffer, 0, 0x7fffffff, &bytes, &got);
        say_value("body", status, bytes, status == 0 ? got : 0);
    } else if (IS("setbody")) {
        say_status("setbody", proxy_set_buffer_bytes(place->buffer, 0, 0x7fffffff, TEXT("changed")));
    } else if (IS("prepend")) {
        say_status("prepend", proxy_set_buffer_bytes(place->buffer, 0, 0, TEXT(">")));
    } else if (IS("local")) {
        say_status("local", proxy_send_local_response(403, TEXT("refused"), TEXT("no"), call_headers, 0, -1));
    } else if (IS("close")) {
        say_status("close", proxy_close_stream(place->stream));
    } else if (IS("effective")) {
        say_status("effective", proxy_set_effective_context(last_stream));
    } else if (IS("resume")) {
        u32 stream = argument_size > 0 ? number_of(argument, argument_size) : place->stream;
        say_status("resume", proxy_continue_stream(stream));
    } else if (IS("call")) {
        u32 status = proxy_http_call(TEXT("up"), call_headers, sizeof call_headers, TEXT("ask"), 0, 0, 1000,
                                     &call_token);
        say_status("call", status);
    } else if (IS("grpc")) {
        u32 status =
            proxy_grpc_call(TEXT("up"), TEXT("p.S"), TEXT("M"), 0, 0, TEXT("ask"), 1000, &call_token);
        say_status("grpc", status);
    } else if (IS("stream")) {
        say_status("stream", proxy_grpc_stream(TEXT("up"), TEXT("p.S"), TEXT("M"), 0, 0, &call_token));
    } else if (IS("send")) {
        say_status("send", proxy_grpc_send(call_token, TEXT("more"), 0));
    } else if (IS("gclose")) {
        say_status("gclose", proxy_grpc_close(call_token));
    } else if (IS("cancel")) {
        say_status("cancel", proxy_grpc_cancel(call_token));
    } else if (IS("tick")) {
        say_status("tick", proxy_set_tick_period_milliseconds(number_of(argument, argument_size)));
    } else if (IS("time")) {
        say_status("time", proxy_get_current_time_nanoseconds(&wide));
    } else if (IS("foreign")) {
        u32 status = proxy_call_foreign_function(argument, argument_size, TEXT("arg"), &bytes, &got);
        say_value("foreign", status, bytes, got);
    } else if (IS("done")) {
        say_status("done", proxy_done());
    } else if (IS("register")) {
        say_status("register", proxy_register_shared_queue(TEXT("q"), &queue));
    } else if (IS("resolve")) {
        say_status("resolve", proxy_resolve_shared_queue(TEXT("vm"), TEXT("q"), &queue));
    } else if (IS("enqueue")) {
        say_status("enqueue", proxy_enqueue_shared_queue(queue, TEXT("item")));
    } else if (IS("dequeue")) {
        u32 status = proxy_dequeue_shared_queue(queue, &bytes, &got);
        say_value("dequeue", status, bytes, status == 0 ? got : 0);
    } else if (IS("getdata")) {
        u32 status = proxy_get_shared_data(TEXT("k"), &bytes, &got, &number);
        say_value("getdata", status, bytes, status == 0 ? got : 0);
    } else if (IS("setdata")) {
        say_status("setdata", proxy_set_shared_data(TEXT("k"), TEXT("v"), 0));
    } else if (IS("counter")) {
        u32 status = proxy_define_metric(0, TEXT("c"), &counter);
        say_status("counter", status != 0 ? status : proxy_increment_metric(counter, 1));
    } else if (IS("histogram")) {
        u32 status = proxy_define_metric(2, TEXT("h"), &histogram);
        say_status("histogram", status != 0 ? status : proxy_record_metric(histogram, 7));
    } else if (IS("metric")) {
        u32 status = proxy_get_metric(counter, &wide);
        put_text("metric");
        put_number(status);
        put_number(status == 0 ? wide : 0);
        flush();
    } else {
        put_text("no such verb: ");
        put(name, size);
        flush();
        __builtin_trap();
    }
#undef IS
}

/* Finds CALLBACK=... in a script and carries it out. */
static u32 act(const struct script *found, const char *callback, const struct place *place, u32 result)
{
    static const struct place nowhere = {0, 0, 0};
    if (found == 0) {
        return result;
    }
    const char *at = found->text, *end = found->text + found->size;
    while (at < end) {
        const char *word = at;
        while (at < end && *at != ' ') {
            at++;
        }
        const char *equals = word;
        while (equals < at && *equals != '=') {
            equals++;
        }
        if (same(word, (u32)(equals - word), callback)) {
            const char *from = equals + 1;
            while (from < at) {
                const char *to = from, *colon = 0;
                while (to < at && *to != ',') {
                    if (*to == ':' && colon == 0) {
                        colon = to;
                    }
                    to++;
                }
                const char *name_end = colon != 0 ? colon : to;
                const char *argument = colon != 0 ? colon + 1 : to;
                verb(from, (u32)(name_end - from), argument, (u32)(to - argument),
                     place != 0 ? place : &nowhere, &result);
                from = to + 1;
            }
        }
        at++;
    }
    arena_used = 0;
    return result;
}

static void begin(const char *callback, u32 context, u32 first, u32 second, u32 numbers)
{
    (void)context;
    put_text("on_");
    put_text(callback);
    if (numbers > 0) {
        put_number(first);
    }
    if (numbers > 1) {
        put_number(second);
    }
    flush();
}

/* Callbacks. */

void EXPORT(proxy_abi_version_0_2_1)(void)
{
}

void EXPORT(proxy_on_context_create)(u32 id, u32 parent)
{
    for (u32 i = 0; parent == 0 && i < sizeof roots / sizeof roots[0]; i++) {
        if (roots[i].id == 0) {
            roots[i].id = id;
            break;
        }
    }
    for (u32 i = 0; parent != 0 && i < sizeof contexts / sizeof contexts[0]; i++) {
        if (contexts[i].id == 0) {
            contexts[i].id = id;
            contexts[i].root = parent;
            last_stream = id;
            break;
        }
    }
    begin("create", id, parent == 0 ? 0 : 1, 0, 1);
    act(script_of(id), "create", 0, 0);
}

void EXPORT(proxy_on_delete)(u32 id)
{
    begin("delete", id, 0, 0, 0);
    act(script_of(id), "delete", 0, 0);
    for (u32 i = 0; i < sizeof contexts / sizeof contexts[0]; i++) {
        if (contexts[i].id == id) {
            contexts[i].id = 0;
        }
    }
    for (u32 i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        if (roots[i].id == id) {
            roots[i].id = 0;
        }
    }
}

u32 EXPORT(proxy_on_vm_start)(u32 id, u32 size)
{
    read_script(6, &vm_script);
    begin("vm_start", id, size, 0, 1);
    return act(&vm_script, "vm_start", 0, 1);
}

u32 EXPORT(proxy_on_configure)(u32 id, u32 size)
{
    struct script *script = script_of(id);
    if (script != 0) {
        read_script(7, script);
    }
    begin("configure", id, size, 0, 1);
    return act(script, "configure", 0, 1);
}

#define PLAIN(name, callback)                                                                                \
    void EXPORT(name)(u32 id)                                                                                \
    {                                                                                                        \
        begin(callback, id, 0, 0, 0);                                                                        \
        act(script_of(id), callback, 0, 0);                                                                  \
    }

PLAIN(proxy_on_tick, "tick")
PLAIN(proxy_on_log, "log")

u32 EXPORT(proxy_on_done)(u32 id)
{
    begin("done", id, 0, 0, 0);
    return act(script_of(id), "done", 0, 1);
}

#define PHASE(name, callback, numbers, map, buffer, stream)                                                  \
    u32 EXPORT(name)(u32 id, u32 first, u32 second)                                                          \
    {                                                                                                        \
        static const struct place place = {map, buffer, stream};                                             \
        begin(callback, id, first, second, numbers);                                                         \
        return act(script_of(id), callback, &place, 0);                                                      \
    }

PHASE(proxy_on_request_headers, "request_headers", 2, 0, 0, 0)
PHASE(proxy_on_request_body, "request_body", 2, 0, 0, 0)
PHASE(proxy_on_response_headers, "response_headers", 2, 2, 1, 1)
PHASE(proxy_on_response_body, "response_body", 2, 2, 1, 1)
PHASE(proxy_on_downstream_data, "downstream", 2, 0, 2, 2)
PHASE(proxy_on_upstream_data, "upstream", 2, 0, 3, 3)

#define SHORT_PHASE(name, callback, map, buffer, stream)                                                     \
    u32 EXPORT(name)(u32 id, u32 first)                                                                      \
    {                                                                                                        \
        static const struct place place = {map, buffer, stream};                                             \
        begin(callback, id, first, 0, 1);                                                                    \
        return act(script_of(id), callback, &place, 0);                                                      \
    }

SHORT_PHASE(proxy_on_request_trailers, "request_trailers", 1, 0, 0)
SHORT_PHASE(proxy_on_response_trailers, "response_trailers", 3, 1, 1)
SHORT_PHASE(proxy_on_request_metadata, "request_metadata", 0, 0, 0)
SHORT_PHASE(proxy_on_response_metadata, "response_metadata", 2, 0, 1)

u32 EXPORT(proxy_on_new_connection)(u32 id)
{
    static const struct place place = {0, 2, 2};
    begin("new_connection", id, 0, 0, 0);
    return act(script_of(id), "new_connection", &place, 0);
}

#define EVENT(name, callback, map, buffer)                                                                   \
    void EXPORT(name)(u32 id, u32 number)                                                                    \
    {                                                                                                        \
        static const struct place place = {map, buffer, 0};                                                  \
        begin(callback, id, number, 0, 1);                                                                   \
        act(script_of(id), callback, &place, 0);                                                             \
    }

EVENT(proxy_on_downstream_connection_close, "downstream_close", 0, 0)
EVENT(proxy_on_upstream_connection_close, "upstream_close", 0, 0)

void EXPORT(proxy_on_queue_ready)(u32 id, u32 token)
{
    begin("queue_ready", id, token, 0, 0);
    act(script_of(id), "queue_ready", 0, 0);
}

void EXPORT(proxy_on_http_call_response)(u32 id, u32 token, u32 headers, u32 body, u32 trailers)
{
    static const struct place place = {6, 4, 0};
    (void)trailers;
    begin(token == call_token ? "http_call_response" : "http_call_response_of_another", id, headers, body, 2);
    act(script_of(id), "http_call_response", &place, 0);
}

#define GRPC(name, callback, map)                                                                            \
    void EXPORT(name)(u32 id, u32 token, u32 number)                                                         \
    {                                                                                                        \
        static const struct place place = {map, 5, 0};                                                       \
        (void)token;                                                                                         \
        begin(callback, id, number, 0, 1);                                                                   \
        act(script_of(id), callback, &place, 0);                                                             \
    }

GRPC(proxy_on_grpc_receive_initial_metadata, "grpc_initial", 4)
GRPC(proxy_on_grpc_receive, "grpc_receive", 0)
GRPC(proxy_on_grpc_receive_trailing_metadata, "grpc_trailing", 5)
GRPC(proxy_on_grpc_close, "grpc_close", 0)

void EXPORT(proxy_on_foreign_function)(u32 id, u32 function, u32 size)
{
    static const struct place place = {0, 8, 0};
    begin("foreign", id, function, size, 2);
    act(script_of(id), "foreign", &place, 0);
}
