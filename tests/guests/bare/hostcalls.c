/* SPDX-License-Identifier: Apache-2.0
 *
 * The imports, and a table to call them by name with values that a script gave.
 */
#include "hostcalls.h"

typedef uint32_t i;
typedef uint64_t I;

/* SHAPE(id, types, parameters, those as taken from the list of values) for a function with a result. */
#define SHAPES(SHAPE)                                                                                        \
    SHAPE(0, "", (void), ())                                                                                 \
    SHAPE(1, "i", (i), (a[0]))                                                                               \
    SHAPE(2, "ii", (i, i), (a[0], a[1]))                                                                     \
    SHAPE(3, "iii", (i, i, i), (a[0], a[1], a[2]))                                                           \
    SHAPE(4, "iiii", (i, i, i, i), (a[0], a[1], a[2], a[3]))                                                 \
    SHAPE(5, "iiiii", (i, i, i, i, i), (a[0], a[1], a[2], a[3], a[4]))                                       \
    SHAPE(6, "iiiiii", (i, i, i, i, i, i), (a[0], a[1], a[2], a[3], a[4], a[5]))                             \
    SHAPE(7, "iiiiiii", (i, i, i, i, i, i, i), (a[0], a[1], a[2], a[3], a[4], a[5], a[6]))                   \
    SHAPE(8, "iiiiiiii", (i, i, i, i, i, i, i, i), (a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]))         \
    SHAPE(9, "iiiiiiiii", (i, i, i, i, i, i, i, i, i),                                                       \
          (a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8]))                                            \
    SHAPE(10, "iiiiiiiiii", (i, i, i, i, i, i, i, i, i, i),                                                  \
          (a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]))                                      \
    SHAPE(12, "iiiiiiiiiiii", (i, i, i, i, i, i, i, i, i, i, i, i),                                          \
          (a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]))                        \
    SHAPE(iI, "iI", (i, I), (a[0], a[1]))                                                                    \
    SHAPE(iII, "iII", (i, I, I), (a[0], a[1], a[2]))                                                         \
    SHAPE(iIi, "iIi", (i, I, i), (a[0], a[1], a[2]))                                                         \
    SHAPE(iIii, "iIii", (i, I, i, i), (a[0], a[1], a[2], a[3]))                                              \
    SHAPE(iIIi, "iIIi", (i, I, I, i), (a[0], a[1], a[2], a[3]))                                              \
    SHAPE(iiiIi, "iiiIi", (i, i, i, I, i), (a[0], a[1], a[2], a[3], a[4]))                                   \
    SHAPE(iiiiIIi, "iiiiIIi", (i, i, i, i, I, I, i), (a[0], a[1], a[2], a[3], a[4], a[5], a[6]))             \
    SHAPE(iiiiiIIii, "iiiiiIIii", (i, i, i, i, i, I, I, i, i),                                               \
          (a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8]))

typedef void any_function(void);

struct shape {
    const char *types;
    uint32_t (*call)(any_function *function, const uint64_t *a);
    bool has_result;
};

/* A hostcall is called through a pointer of its own type: anything else would trap. Some shapes are those
 * of the union alone. */
#define SHAPE(id, types, parameters, values)                                                                 \
    typedef uint32_t function_##id parameters;                                                               \
    static uint32_t call_##id(any_function *function, const uint64_t *a)                                     \
    {                                                                                                        \
        (void)a;                                                                                             \
        return ((function_##id *)function)values;                                                            \
    }                                                                                                        \
    __attribute__((unused)) static const struct shape shape_##id = {types, call_##id, true};
SHAPES(SHAPE)
#undef SHAPE

typedef void function_1_void(i);
static uint32_t call_1_void(any_function *function, const uint64_t *a)
{
    ((function_1_void *)function)(a[0]);
    return 0;
}
static const struct shape shape_1_void = {"i", call_1_void, false};

#define X(id, name) __attribute__((import_module("env"), import_name(#name))) function_##id name;
HOSTCALLS(X)
#undef X

/* Names of their own here, as the C library declares some of these itself. */
#define X(id, name)                                                                                          \
    __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) function_##id wasi_##name;
WASI(X)
#undef X

#ifdef BARE_UNION
/* The same functions under the older name of the module, called as `wasi_unstable.fd_write`. */
#define X(id, name)                                                                                          \
    __attribute__((import_module("wasi_unstable"), import_name(#name))) function_##id wasi_unstable_##name;
WASI(X)
#undef X
#endif

struct hostcall {
    const char *name;
    const struct shape *shape;
    any_function *function;
};

static const struct hostcall hostcalls[] = {
#define X(id, name) {#name, &shape_##id, (any_function *)name},
    HOSTCALLS(X)
#undef X
#define X(id, name) {#name, &shape_##id, (any_function *)wasi_##name},
        WASI(X)
#undef X
#ifdef BARE_UNION
#define X(id, name) {"wasi_unstable." #name, &shape_##id, (any_function *)wasi_unstable_##name},
            WASI(X)
#undef X
#endif
};

const struct hostcall *hostcall_find(struct span name)
{
    for (size_t n = 0; n < sizeof(hostcalls) / sizeof(hostcalls[0]); n++) {
        if (span_is(name, hostcalls[n].name)) {
            return &hostcalls[n];
        }
    }
    return NULL;
}

const char *hostcall_types(const struct hostcall *hostcall)
{
    return hostcall->shape->types;
}

uint32_t hostcall_call(const struct hostcall *hostcall, const uint64_t *values)
{
    return hostcall->shape->call(hostcall->function, values);
}

bool hostcall_has_result(const struct hostcall *hostcall)
{
    return hostcall->shape->has_result;
}
