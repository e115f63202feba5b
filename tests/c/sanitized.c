/* SPDX-License-Identifier: Apache-2.0
 *
 * Does one thing wrong, to see that a sanitizer finds it.
 */
#include "check.h"
#include <limits.h>
#include <pthread.h>

static int shared;

static void *add(void *argument)
{
    shared++;
    return argument;
}

static void *volatile lost;

__attribute__((noinline)) static void lose(void)
{
    for (int i = 0; i < 100; i++) {
        lost = malloc(100);
    }
    lost = NULL;
}

int main(int argc, char **argv)
{
    const char *fault = argc > 1 ? argv[1] : "";
    CHECK(argc == 2);
    if (strcmp(fault, "overflow") == 0) {
        volatile char *bytes = malloc(8);
        bytes[7 + argc] = 1;
        free((void *)bytes);
    } else if (strcmp(fault, "leak") == 0) {
        lose();
    } else if (strcmp(fault, "undefined") == 0) {
        volatile int number = INT_MAX;
        number = number + argc;
    } else if (strcmp(fault, "race") == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, add, NULL);
        shared++;
        pthread_join(thread, NULL);
    }
    return check_summary("sanitized");
}
