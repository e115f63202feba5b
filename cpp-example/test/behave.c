/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin for the tests: does to each HTTP stream what its request header `x-do` says. On the bare ABI.
 */
#include "guest.h"

IMPORT(proxy_get_header_map_value) uint32_t get_header(uint32_t, const char *, size_t, char **, size_t *);
IMPORT(proxy_add_header_map_value) uint32_t add_header(uint32_t, const char *, size_t, const char *, size_t);
IMPORT(proxy_replace_header_map_value) uint32_t replace_header(uint32_t, const char *, size_t, const char *, size_t);
IMPORT(proxy_remove_header_map_value) uint32_t remove_header(uint32_t, const char *, size_t);
IMPORT(proxy_get_property) uint32_t get_property(const char *, size_t, char **, size_t *);
IMPORT(proxy_set_buffer_bytes) uint32_t set_buffer(uint32_t, size_t, size_t, const char *, size_t);
IMPORT(proxy_send_local_response)
uint32_t local_response(uint32_t, const char *, size_t, const char *, size_t, const char *, size_t, int32_t);
IMPORT(proxy_continue_stream) uint32_t continue_stream(uint32_t);
IMPORT(proxy_close_stream) uint32_t close_stream(uint32_t);
IMPORT(proxy_set_effective_context) uint32_t set_effective_context(uint32_t);
IMPORT(proxy_set_tick_period_milliseconds) uint32_t set_tick_period(uint32_t);

enum { REQUEST_HEADERS = 0, RESPONSE_HEADERS = 2, RESPONSE_TRAILERS = 3, RESPONSE_BODY = 1 };
enum { GO_ON = 0, PAUSE = 1 };

static struct slot {
  uint32_t context;
  char what[32];
  bool paused_request, paused_response;
} slots[64];

static struct slot *slot_of(uint32_t context) {
  for (size_t i = 0; i < 64; ++i)
    if (slots[i].context == context) return &slots[i];
  return &slots[0];
}

static bool told(uint32_t context, const char *what) { return equal(slot_of(context)->what, what); }

static void set(uint32_t map, const char *name, const char *value) {
  replace_header(map, name, length(name), value, length(value));
}

static void teapot(void) { local_response(418, "", 0, "short and stout\n", 16, NULL, 0, -1); }

EXPORT(proxy_abi_version_0_2_1) void abi_version(void) {}
EXPORT(proxy_on_context_create) void on_context_create(uint32_t id, uint32_t parent) {
  if (!parent) return;
  for (size_t i = 1; i < 64; ++i)
    if (!slots[i].context) {
      slots[i] = (struct slot){.context = id};
      return;
    }
}
EXPORT(proxy_on_configure) bool on_configure(uint32_t id, uint32_t size) {
  (void)id, (void)size;
  set_tick_period(50);
  return true;
}
EXPORT(proxy_on_done) bool on_done(uint32_t id) {
  (void)id;
  return true;
}
EXPORT(proxy_on_delete) void on_delete(uint32_t id) { slot_of(id)->context = 0; }

EXPORT(proxy_on_tick) void on_tick(uint32_t root) {
  (void)root;
  for (size_t i = 1; i < 64; ++i) {
    struct slot *slot = &slots[i];
    if (!slot->context || !(slot->paused_request || slot->paused_response)) continue;
    set_effective_context(slot->context);
    if (slot->paused_request) continue_stream(0);
    if (slot->paused_response) continue_stream(1);
    slot->paused_request = slot->paused_response = false;
  }
}

EXPORT(proxy_on_request_headers) uint32_t on_request_headers(uint32_t id, uint32_t count, uint32_t end) {
  (void)count, (void)end;
  char *value = NULL;
  size_t size = 0;
  if (get_header(REQUEST_HEADERS, "x-do", 4, &value, &size) == 0 && size < 32)
    for (size_t i = 0; i < size; ++i) slot_of(id)->what[i] = value[i];
  if (told(id, "close")) close_stream(0);
  if (told(id, "trap-request")) __builtin_trap();
  if (told(id, "loop"))
    for (volatile int i = 0;; ++i) {
    }
  if (told(id, "no-path")) remove_header(REQUEST_HEADERS, ":path", 5);
  if (told(id, "new-path")) set(REQUEST_HEADERS, ":path", "/rewritten?a=b");
  if (told(id, "inject")) add_header(REQUEST_HEADERS, "x-a", 3, "1\r\nx-b: 2", 9);
  if (told(id, "property") && get_property("source\0address", 14, &value, &size) == 0)
    add_header(REQUEST_HEADERS, "x-source", 8, value, size);
  if (told(id, "local-request")) teapot();
  if (told(id, "pause-request")) {
    slot_of(id)->paused_request = true;
    return PAUSE;
  }
  return told(id, "stuck-request") ? PAUSE : GO_ON;
}

EXPORT(proxy_on_request_body) uint32_t on_request_body(uint32_t id, uint32_t size, uint32_t end) {
  (void)size, (void)end;
  if (told(id, "local-request-body")) teapot();
  if (told(id, "pause-request-body")) {
    slot_of(id)->paused_request = true;
    return PAUSE;
  }
  return GO_ON;
}

EXPORT(proxy_on_response_headers) uint32_t on_response_headers(uint32_t id, uint32_t count, uint32_t end) {
  (void)count, (void)end;
  if (told(id, "trap-response")) __builtin_trap();
  if (told(id, "local-response")) teapot();
  if (told(id, "bad-status")) set(RESPONSE_HEADERS, ":status", "odd");
  if (told(id, "new-status")) set(RESPONSE_HEADERS, ":status", "299");
  if (told(id, "trailers")) remove_header(RESPONSE_HEADERS, "content-length", 14);
  set(RESPONSE_HEADERS, "x-behave", "seen");
  if (told(id, "pause-response")) {
    slot_of(id)->paused_response = true;
    return PAUSE;
  }
  return told(id, "stuck-response") ? PAUSE : GO_ON;
}

EXPORT(proxy_on_response_body) uint32_t on_response_body(uint32_t id, uint32_t size, uint32_t end) {
  if (told(id, "trap-response-body")) __builtin_trap();
  if (told(id, "local-response-body")) teapot();
  if (told(id, "grow") && end) set_buffer(RESPONSE_BODY, size, 0, "more", 4);
  if (told(id, "shrink") && end) set_buffer(RESPONSE_BODY, 0, size, "", 0);
  if (told(id, "trailers") && end) add_header(RESPONSE_TRAILERS, "x-end", 5, "1", 1);
  if (told(id, "hold-response") && !end) return PAUSE;
  return GO_ON;
}

EXPORT(proxy_on_response_trailers) uint32_t on_response_trailers(uint32_t id, uint32_t count) {
  (void)count;
  if (told(id, "pause-response-trailers")) {
    slot_of(id)->paused_response = true;
    return PAUSE;
  }
  return GO_ON;
}

EXPORT(proxy_on_log) void on_log(uint32_t id) {
  if (told(id, "trap-log")) __builtin_trap();
}
