/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin for the tests: makes the gRPC call that a request's headers describe, and answers the request with what came of it.
 *
 *     x-svc, x-service, x-method    whom to call; x-proto: x-svc goes as a GrpcService
 *     x-message, x-timeout          of a unary call; x-meta, x-meta-bin, x-meta-raw: metadata
 *     x-start, x-each               makes it a stream: what to do at once, and for each message received, in letters:
 *                                   s send x-message, e send it as the last, h half-close, x cancel, b send 5 MiB, m send 1 MiB,
 *                                   u make a unary call beside it, r answer the request now
 */
#include "guest.h"

IMPORT(proxy_get_header_map_value) uint32_t get_header(uint32_t, const char *, size_t, char **, size_t *);
IMPORT(proxy_get_header_map_pairs) uint32_t get_pairs(uint32_t, char **, size_t *);
IMPORT(proxy_get_buffer_bytes) uint32_t get_buffer(uint32_t, size_t, size_t, char **, size_t *);
IMPORT(proxy_get_status) uint32_t get_status(uint32_t *, char **, size_t *);
IMPORT(proxy_send_local_response)
uint32_t local_response(uint32_t, const char *, size_t, const char *, size_t, const char *, size_t, int32_t);
IMPORT(proxy_set_effective_context) uint32_t set_effective_context(uint32_t);
IMPORT(proxy_grpc_call)
uint32_t grpc_call(const char *, size_t, const char *, size_t, const char *, size_t, const char *, size_t, const char *,
                   size_t, uint32_t, uint32_t *);
IMPORT(proxy_grpc_stream)
uint32_t grpc_stream(const char *, size_t, const char *, size_t, const char *, size_t, const char *, size_t,
                     uint32_t *);
IMPORT(proxy_grpc_send) uint32_t grpc_send(uint32_t, const char *, size_t, uint32_t);
IMPORT(proxy_grpc_close) uint32_t grpc_close(uint32_t);
IMPORT(proxy_grpc_cancel) uint32_t grpc_cancel(uint32_t);

enum { REQUEST_HEADERS = 0, INITIAL_METADATA = 4, TRAILING_METADATA = 5, GRPC_MESSAGE = 5 };
enum { GO_ON = 0, PAUSE = 1 };

static char zeros[5 << 20];

struct text {
  char bytes[256];
  size_t size;
};

static struct exchange {
  uint32_t context, token, beside;
  struct text svc, service, method, metadata, message, start, each;
  char report[8192];
  size_t reported;
} exchanges[128];

/* Through `volatile`, or the compiler calls a memcpy or a memmove that is not there. */
static void copy(char *to, const char *from, size_t size) {
  volatile char *out = to;
  for (size_t i = 0; i < size; ++i) out[i] = from[i];
}

/* Makes room for `count` bytes at `from`; the text goes on until `end`. */
static void move_on(char *from, char *end, size_t count) {
  for (volatile char *at = end; at-- > from;) at[count] = *at;
}

static void report(struct exchange *x, const char *bytes, size_t size) {
  if (size > sizeof x->report - x->reported) size = sizeof x->report - x->reported;
  copy(x->report + x->reported, bytes, size);
  x->reported += size;
}

static void tell(struct exchange *x, const char *text) { report(x, text, length(text)); }

static void tell_number(struct exchange *x, uint32_t number) {
  char digits[10];
  size_t at = sizeof digits;
  do {
    digits[--at] = (char)('0' + number % 10);
    number /= 10;
  } while (number);
  report(x, digits + at, sizeof digits - at);
}

/* Pairs of the ABI, written as `name=value` lines. */
static void tell_map(struct exchange *x, const char *what, uint32_t map, uint32_t count) {
  char *data = NULL;
  size_t size = 0;
  tell(x, what);
  tell(x, " ");
  tell_number(x, count);
  tell(x, "\n");
  if (get_pairs(map, &data, &size) != 0 || size < 4) return;
  uint32_t pairs, sizes[2];
  copy((char *)&pairs, data, 4);
  const char *at = data + 4 + 8 * (size_t)pairs;
  for (uint32_t i = 0; i < pairs; ++i) {
    copy((char *)sizes, data + 4 + 8 * (size_t)i, 8);
    tell(x, "  ");
    report(x, at, sizes[0]);
    tell(x, "=");
    report(x, at + sizes[0] + 1, sizes[1]);
    tell(x, "\n");
    at += (size_t)sizes[0] + sizes[1] + 2;
  }
}

static bool header(const char *name, struct text *out) {
  char *value = NULL;
  size_t size = 0;
  out->size = 0;
  if (get_header(REQUEST_HEADERS, name, length(name), &value, &size) != 0) return false;
  out->size = size < sizeof out->bytes ? size : sizeof out->bytes;
  copy(out->bytes, value, out->size);
  return true;
}

static struct exchange *of_context(uint32_t context) {
  for (size_t i = 0; i < 128; ++i)
    if (exchanges[i].context == context) return &exchanges[i];
  return NULL;
}

static struct exchange *of_token(uint32_t token) {
  for (size_t i = 0; i < 128; ++i)
    if (exchanges[i].context && (exchanges[i].token == token || exchanges[i].beside == token)) return &exchanges[i];
  return NULL;
}

static void answer(struct exchange *x) {
  set_effective_context(x->context);
  local_response(200, "", 0, x->report, x->reported, NULL, 0, -1);
}

/* What a hostcall said, where it was not OK. */
static void check(struct exchange *x, const char *what, uint32_t status) {
  if (!status) return;
  tell(x, what);
  tell(x, " failed ");
  tell_number(x, status);
  tell(x, "\n");
}

static uint32_t call(struct exchange *x, uint32_t timeout, uint32_t *token) {
  return grpc_call(x->svc.bytes, x->svc.size, x->service.bytes, x->service.size, x->method.bytes, x->method.size,
                   x->metadata.bytes, x->metadata.size, x->message.bytes, x->message.size, timeout, token);
}

static void act(struct exchange *x, const struct text *letters) {
  for (size_t i = 0; i < letters->size; ++i) switch (letters->bytes[i]) {
      case 's':
        check(x, "send", grpc_send(x->token, x->message.bytes, x->message.size, 0));
        break;
      case 'e':
        check(x, "send", grpc_send(x->token, x->message.bytes, x->message.size, 1));
        break;
      case 'b':
        check(x, "send", grpc_send(x->token, zeros, sizeof zeros, 0));
        break;
      case 'm':
        check(x, "send", grpc_send(x->token, zeros, 1 << 20, 0));
        break;
      case 'h':
        check(x, "close", grpc_close(x->token));
        break;
      case 'x':
        check(x, "cancel", grpc_cancel(x->token));
        break;
      case 'u':
        check(x, "call", call(x, 5000, &x->beside));
        break;
      case 'r':
        answer(x);
        break;
    }
}

/* One pair after another; sizes are written in the end, when their number is known. */
static void add_metadata(struct text *metadata, const char *name, const struct text *value) {
  uint32_t count = 0, sizes[2] = {(uint32_t)length(name), (uint32_t)value->size};
  if (metadata->size) copy((char *)&count, metadata->bytes, 4);
  size_t data = metadata->size ? metadata->size : 4;
  /* The list of sizes grows by one entry, so the data moves on. */
  size_t list = 4 + 8 * (size_t)count;
  move_on(metadata->bytes + list, metadata->bytes + data, 8);
  copy(metadata->bytes + list, (const char *)sizes, 8);
  data += 8;
  copy(metadata->bytes + data, name, sizes[0] + 1);
  data += sizes[0] + 1;
  copy(metadata->bytes + data, value->bytes, value->size);
  data += value->size;
  metadata->bytes[data++] = 0;
  ++count;
  copy(metadata->bytes, (const char *)&count, 4);
  metadata->size = data;
}

/* Makes a name a serialized envoy GrpcService: `e` envoy_grpc, `g` google_grpc, `m` envoy_grpc with more in it. */
static void make_proto(struct text *svc, char kind) {
  static const char authority[] = "\x12\5there", metadata[] = "\x2a\x0a\x0a\5x-own\x12\1y";
  const size_t more = kind == 'm' ? sizeof authority - 1 : 0;
  const char prefix[] = {kind == 'g' ? 0x12 : 0x0a, (char)(svc->size + 2 + more), 0x0a, (char)svc->size};
  move_on(svc->bytes, svc->bytes + svc->size, 4);
  copy(svc->bytes, prefix, 4);
  svc->size += 4;
  if (!more) return;
  copy(svc->bytes + svc->size, authority, more);
  copy(svc->bytes + svc->size + more, metadata, sizeof metadata - 1);
  svc->size += more + sizeof metadata - 1;
}

EXPORT(proxy_abi_version_0_2_1) void abi_version(void) {}
EXPORT(proxy_on_context_create) void on_context_create(uint32_t id, uint32_t parent) { (void)id, (void)parent; }
EXPORT(proxy_on_done) bool on_done(uint32_t id) {
  (void)id;
  return true;
}
EXPORT(proxy_on_delete) void on_delete(uint32_t id) {
  struct exchange *x = of_context(id);
  if (x && id) x->context = 0;
}

EXPORT(proxy_on_request_headers) uint32_t on_request_headers(uint32_t id, uint32_t count, uint32_t end) {
  (void)count, (void)end;
  struct exchange *x = of_context(0);
  if (!x || !header("x-svc", &x->svc)) return GO_ON;
  struct text value;
  x->context = id;
  x->token = x->beside = 0;
  x->reported = x->metadata.size = 0;
  if (header("x-proto", &value)) make_proto(&x->svc, value.bytes[0]);
  header("x-service", &x->service);
  header("x-method", &x->method);
  header("x-message", &x->message);
  header("x-each", &x->each);
  if (header("x-meta", &value)) add_metadata(&x->metadata, "x-meta", &value);
  if (header("x-meta-bin", &value)) add_metadata(&x->metadata, "x-meta-bin", &value);
  if (header("x-meta-raw", &value)) {
    copy(value.bytes, "\0\1\377", value.size = 3);
    add_metadata(&x->metadata, "x-raw-bin", &value);
  }
  uint32_t status;
  if (header("x-start", &x->start)) {
    status = grpc_stream(x->svc.bytes, x->svc.size, x->service.bytes, x->service.size, x->method.bytes, x->method.size,
                         x->metadata.bytes, x->metadata.size, &x->token);
  } else {
    uint32_t timeout = 0;
    header("x-timeout", &value);
    for (size_t i = 0; i < value.size; ++i) timeout = timeout * 10 + (uint32_t)(value.bytes[i] - '0');
    status = call(x, timeout, &x->token);
  }
  if (status) {
    check(x, "open", status);
    answer(x);
  } else {
    act(x, &x->start);
  }
  return PAUSE;
}

EXPORT(proxy_on_grpc_receive_initial_metadata)
void on_initial_metadata(uint32_t root, uint32_t token, uint32_t count) {
  (void)root;
  struct exchange *x = of_token(token);
  if (x) tell_map(x, "initial", INITIAL_METADATA, count);
}

EXPORT(proxy_on_grpc_receive) void on_receive(uint32_t root, uint32_t token, uint32_t size) {
  (void)root;
  struct exchange *x = of_token(token);
  if (!x) return;
  char *data = NULL;
  size_t have = 0;
  tell(x, token == x->beside ? "beside " : "message ");
  tell_number(x, size);
  tell(x, " ");
  if (get_buffer(GRPC_MESSAGE, 0, 1000, &data, &have) == 0) report(x, data, have);
  tell(x, "\n");
  if (!x->start.size)
    answer(x); /* a unary call ends so */
  else if (token == x->token)
    act(x, &x->each);
}

EXPORT(proxy_on_grpc_receive_trailing_metadata)
void on_trailing_metadata(uint32_t root, uint32_t token, uint32_t count) {
  (void)root;
  struct exchange *x = of_token(token);
  if (x) tell_map(x, "trailing", TRAILING_METADATA, count);
}

EXPORT(proxy_on_grpc_close) void on_close(uint32_t root, uint32_t token, uint32_t status) {
  (void)root;
  struct exchange *x = of_token(token);
  if (!x) return;
  char *message = NULL;
  size_t size = 0;
  uint32_t same = 99;
  get_status(&same, &message, &size);
  tell(x, status == same ? "close " : "confused close ");
  tell_number(x, status);
  tell(x, " ");
  report(x, message, size);
  tell(x, "\n");
  if (token == x->token) answer(x);
}
