/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of the C tests: a failed one is printed with its place and counted, and the test goes on.
 */
#ifndef CHECK_H
#define CHECK_H

#include <proxywasm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In check.c, one for all files of a test. */
extern unsigned check_count;
extern unsigned check_failures;

static inline bool check_that(bool good, const char *file, int line, const char *text)
{
    __atomic_add_fetch(&check_count, 1, __ATOMIC_RELAXED);
    if (!good) {
        __atomic_add_fetch(&check_failures, 1, __ATOMIC_RELAXED);
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, text);
    }
    return good;
}

static inline bool check_equal(long long is, long long expected, const char *file, int line, const char *text)
{
    if (!check_that(is == expected, file, line, text)) {
        fprintf(stderr, "    is %lld, expected %lld\n", is, expected);
        return false;
    }
    return true;
}

static inline bool check_result(int is, int expected, const char *file, int line, const char *text)
{
    char error[512];
    proxywasm_last_error(error, sizeof error);
    if (!check_that(is == expected, file, line, text)) {
        fprintf(stderr, "    is %s (%d), expected %s; last error: %s\n", proxywasm_result_name(is), is,
                proxywasm_result_name(expected), error);
        return false;
    }
    /* A failure has a text, a success has none. */
    if (!check_that((error[0] != '\0') == (is != 0), file, line, text)) {
        fprintf(stderr, "    is %s, but the last error is '%s'\n", proxywasm_result_name(is), error);
    }
    return true;
}

static inline bool check_text(const char *is, const char *expected, const char *file, int line,
                              const char *text)
{
    if (!check_that(strcmp(is, expected) == 0, file, line, text)) {
        fprintf(stderr, "    is       '%s'\n    expected '%s'\n", is, expected);
        return false;
    }
    return true;
}

static inline int check_summary(const char *name)
{
    printf("%s: %u checks, %u failed\n", name, check_count, check_failures);
    return check_failures == 0 && check_count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#define CHECK(condition) check_that(condition, __FILE__, __LINE__, #condition)
#define CHECK_INT(is, expected) check_equal((long long)(is), (long long)(expected), __FILE__, __LINE__, #is)
#define CHECK_TEXT(is, expected) check_text(is, expected, __FILE__, __LINE__, #is)
/* CHECK_RESULT(call, GUEST_TRAP) */
#define CHECK_RESULT(call, expected)                                                                         \
    check_result(call, PROXYWASM_RESULT_##expected, __FILE__, __LINE__, #call)
#define CHECK_OK(call) CHECK_RESULT(call, OK)
/* For what the rest of a test cannot do without. */
#define REQUIRE_OK(call)                                                                                     \
    do {                                                                                                     \
        if (!CHECK_OK(call)) {                                                                               \
            exit(check_summary("given up"));                                                                 \
        }                                                                                                    \
    } while (0)

#endif
