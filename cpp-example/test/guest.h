/* SPDX-License-Identifier: Apache-2.0
 *
 * What the plugins for the tests need of a language: no C library is there. One of them is one file:
 *
 *     clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry -Wl,--allow-undefined -o behave.wasm behave.c
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name)))
#define IMPORT(name) __attribute__((import_module("env"), import_name(#name)))

/* What the host is given memory for is small and short-lived, so a ring is enough. */
static char arena[1 << 20];
EXPORT(malloc) void *guest_malloc(size_t size) {
  static size_t used;
  if (used + size > sizeof arena) used = 0;
  void *place = arena + used;
  used += (size + 7) & ~(size_t)7;
  return place;
}

static size_t length(const char *text) {
  size_t size = 0;
  while (text[size]) ++size;
  return size;
}

static bool equal(const char *one, const char *other) {
  while (*one && *one == *other) ++one, ++other;
  return *one == *other;
}
