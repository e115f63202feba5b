/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin for the tests: does to each TCP connection what its configuration says, or, if that is empty, the first word that the
 * client sends. It logs how each connection ends. As a service it counts. On the bare ABI.
 */
#include "guest.h"

IMPORT(proxy_log) uint32_t log_text(uint32_t, const char *, size_t);
IMPORT(proxy_get_property) uint32_t get_property(const char *, size_t, char **, size_t *);
IMPORT(proxy_get_buffer_bytes) uint32_t get_buffer(uint32_t, size_t, size_t, char **, size_t *);
IMPORT(proxy_set_buffer_bytes) uint32_t set_buffer(uint32_t, size_t, size_t, const char *, size_t);
IMPORT(proxy_continue_stream) uint32_t continue_stream(uint32_t);
IMPORT(proxy_close_stream) uint32_t close_stream(uint32_t);
IMPORT(proxy_set_effective_context) uint32_t set_effective_context(uint32_t);
IMPORT(proxy_set_tick_period_milliseconds) uint32_t set_tick_period(uint32_t);
IMPORT(proxy_define_metric) uint32_t define_metric(uint32_t, const char *, size_t, uint32_t *);
IMPORT(proxy_increment_metric) uint32_t increment_metric(uint32_t, int64_t);
IMPORT(proxy_register_shared_queue) uint32_t register_queue(const char *, size_t, uint32_t *);
IMPORT(proxy_resolve_shared_queue) uint32_t resolve_queue(const char *, size_t, const char *, size_t, uint32_t *);
IMPORT(proxy_enqueue_shared_queue) uint32_t enqueue(uint32_t, const char *, size_t);
IMPORT(proxy_http_call)
uint32_t http_call(const char *, size_t, const char *, size_t, const char *, size_t, const char *, size_t, uint32_t,
                   uint32_t *);

#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))
WASI(environ_sizes_get) uint32_t environ_sizes(uint32_t *, uint32_t *);
WASI(environ_get) uint32_t environ_get(char **, char *);

enum { DOWNSTREAM_DATA = 2, UPSTREAM_DATA = 3, PLUGIN_CONFIGURATION = 7 };
enum { DOWNSTREAM = 2, UPSTREAM = 3 };
enum { GO_ON = 0, PAUSE = 1 };
enum { COUNTER = 0, INFO = 2 };

static char configuration[32];
static uint32_t ticks, jobs, calling;

static struct slot {
  uint32_t context;
  char what[32];
  bool paused, marked_down, marked_up;
} slots[256];

static struct slot *slot_of(uint32_t context) {
  for (size_t i = 0; i < 256; ++i)
    if (slots[i].context == context) return &slots[i];
  return &slots[0];
}

static bool told(uint32_t context, const char *what) { return equal(slot_of(context)->what, what); }

static void say(const char *text) { log_text(INFO, text, length(text)); }

static void say_closed(const char *which, uint32_t peer) {
  static char line[64];
  size_t at = 0;
  while (which[at]) line[at] = which[at], ++at;
  line[at] = (char)('0' + peer);
  log_text(INFO, line, at + 1);
}

/* The first word of some bytes. */
static void take_word(char *word, const char *bytes, size_t size) {
  for (size_t i = 0; i < size && i < 31 && (bytes[i] == '-' || (bytes[i] >= 'a' && bytes[i] <= 'z')); ++i)
    word[i] = bytes[i];
}

static void make_call(void) {
  static const struct {
    uint32_t count, sizes[8];
    char text[70];
  } headers = {4, {7, 3, 5, 6, 10, 1, 13, 4}, ":method\0GET\0:path\0/check\0:authority\0a\0authorization\0good"};
  http_call("auth", 4, (const char *)&headers, 4 + 32 + 8 + 4 + 6 + 7 + 11 + 2 + 14 + 5, "", 0, "", 0, 5000, &calling);
}

EXPORT(proxy_abi_version_0_2_1) void abi_version(void) {}
EXPORT(proxy_on_context_create) void on_context_create(uint32_t id, uint32_t parent) {
  if (!parent) return;
  for (size_t i = 1; i < 256; ++i)
    if (!slots[i].context) {
      slots[i] = (struct slot){.context = id};
      return;
    }
}

EXPORT(proxy_on_configure) bool on_configure(uint32_t id, uint32_t size) {
  (void)id;
  char *bytes = NULL;
  size_t have = 0;
  if (get_buffer(PLUGIN_CONFIGURATION, 0, size, &bytes, &have) == 0) take_word(configuration, bytes, have);
  if (equal(configuration, "service")) {
    uint32_t queue;
    define_metric(COUNTER, "test_ticks", 10, &ticks);
    define_metric(COUNTER, "test_jobs", 9, &jobs);
    register_queue("jobs", 4, &queue);
  }
  if (equal(configuration, "environment")) {
    static char *entries[8], text[256];
    uint32_t count = 0, total = 0;
    if (environ_sizes(&count, &total) == 0 && count <= 8 && total <= sizeof text && environ_get(entries, text) == 0)
      for (uint32_t i = 0; i < count; ++i) say(entries[i]);
  }
  set_tick_period(50);
  return true;
}

EXPORT(proxy_on_tick) void on_tick(uint32_t root) {
  (void)root;
  if (ticks) increment_metric(ticks, 1);
  for (size_t i = 1; i < 256; ++i) {
    struct slot *slot = &slots[i];
    if (!slot->context || !slot->paused) continue;
    set_effective_context(slot->context);
    if (equal(slot->what, "close-later")) close_stream(DOWNSTREAM);
    if (!equal(slot->what, "call")) continue_stream(DOWNSTREAM);
    slot->paused = equal(slot->what, "call");
  }
}

EXPORT(proxy_on_queue_ready) void on_queue_ready(uint32_t root, uint32_t queue) {
  (void)root, (void)queue;
  increment_metric(jobs, 1);
}

EXPORT(proxy_on_http_call_response)
void on_call_response(uint32_t root, uint32_t token, uint32_t headers, uint32_t body, uint32_t trailers) {
  (void)root, (void)body, (void)trailers;
  for (size_t i = 1; i < 256; ++i)
    if (slots[i].context && slots[i].paused && token == calling && headers) {
      set_effective_context(slots[i].context);
      continue_stream(DOWNSTREAM);
      slots[i].paused = false;
    }
}

EXPORT(proxy_on_new_connection) uint32_t on_new_connection(uint32_t id) {
  struct slot *slot = slot_of(id);
  take_word(slot->what, configuration, length(configuration));
  if (told(id, "close-connection")) close_stream(DOWNSTREAM);
  if (told(id, "trap-connection")) __builtin_trap();
  slot->paused = told(id, "pause-connection");
  return slot->paused || told(id, "stuck-connection") ? PAUSE : GO_ON;
}

EXPORT(proxy_on_downstream_data) uint32_t on_downstream_data(uint32_t id, uint32_t size, uint32_t end) {
  struct slot *slot = slot_of(id);
  char *bytes = NULL;
  size_t have = 0;
  if (!slot->what[0] && get_buffer(DOWNSTREAM_DATA, 0, 31, &bytes, &have) == 0) take_word(slot->what, bytes, have);
  if (told(id, "trap")) __builtin_trap();
  if (told(id, "loop"))
    for (volatile int i = 0;; ++i) {
    }
  if (told(id, "close-downstream")) close_stream(DOWNSTREAM);
  if (told(id, "close-upstream")) close_stream(UPSTREAM);
  if (told(id, "close-later")) slot->paused = true; /* and closed by the next tick */
  if (told(id, "mark") && !slot->marked_down) {
    slot->marked_down = true;
    set_buffer(DOWNSTREAM_DATA, 0, 0, "down:", 5);
  }
  if (told(id, "property")) {
    static const char paths[] = "source\0address\0destination\0address\0upstream\0address";
    set_buffer(DOWNSTREAM_DATA, 0, size, "", 0);
    for (size_t i = 0, at[] = {0, 15, 35}, sizes[] = {14, 19, 16}; i < 3; ++i)
      if (get_property(paths + at[i], sizes[i], &bytes, &have) == 0) {
        set_buffer(DOWNSTREAM_DATA, SIZE_MAX, 0, bytes, have);
        set_buffer(DOWNSTREAM_DATA, SIZE_MAX, 0, " ", 1);
      }
  }
  if (told(id, "enqueue")) {
    uint32_t queue = 0;
    if (resolve_queue("service", 7, "jobs", 4, &queue) == 0) enqueue(queue, "job", 3);
  }
  if (told(id, "call") || told(id, "pause")) {
    if (told(id, "call")) make_call();
    slot->paused = true;
    return PAUSE;
  }
  return told(id, "stuck") || (told(id, "collect") && !end) ? PAUSE : GO_ON;
}

EXPORT(proxy_on_upstream_data) uint32_t on_upstream_data(uint32_t id, uint32_t size, uint32_t end) {
  (void)size;
  struct slot *slot = slot_of(id);
  if (told(id, "trap-upstream")) __builtin_trap();
  if (told(id, "mark") && !slot->marked_up) {
    slot->marked_up = true;
    set_buffer(UPSTREAM_DATA, 0, 0, "up:", 3);
  }
  return told(id, "collect-upstream") && !end ? PAUSE : GO_ON;
}

EXPORT(proxy_on_downstream_connection_close) void on_downstream_close(uint32_t id, uint32_t peer) {
  (void)id;
  say_closed("downstream ", peer);
}
EXPORT(proxy_on_upstream_connection_close) void on_upstream_close(uint32_t id, uint32_t peer) {
  (void)id;
  say_closed("upstream ", peer);
}
EXPORT(proxy_on_done) bool on_done(uint32_t id) {
  if (slot_of(id)->context) say("done");
  return true;
}
EXPORT(proxy_on_log) void on_log(uint32_t id) {
  (void)id;
  say("log");
}
EXPORT(proxy_on_delete) void on_delete(uint32_t id) {
  if (slot_of(id)->context) say("delete");
  slot_of(id)->context = 0;
}
