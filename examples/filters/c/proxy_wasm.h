/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of the Proxy-Wasm ABI 0.2.1 that the filters in this folder use.
 *
 * A filter exports callbacks, marked PW_EXPORT; the proxy calls those that are there and skips the others.
 * It imports hostcalls, which return a pw_status. What a hostcall gives back in (char **, size_t *) was
 * allocated with the filter's own malloc and is the filter's to free; for no bytes the pointer is NULL.
 */
#ifndef PROXY_WASM_H
#define PROXY_WASM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PW_EXPORT(name) __attribute__((export_name(#name))) name
#define PW_IMPORT(name) __attribute__((import_module("env"), import_name(#name))) name

typedef enum { PW_OK = 0, PW_NOT_FOUND = 1, PW_BAD_ARGUMENT = 2 } pw_status;

typedef enum { PW_CONTINUE = 0, PW_PAUSE = 1 } pw_action;

typedef enum { PW_LOG_INFO = 2, PW_LOG_WARN = 3, PW_LOG_ERROR = 4 } pw_log_level;

typedef enum { PW_REQUEST_HEADERS = 0, PW_RESPONSE_HEADERS = 2 } pw_map;

typedef enum { PW_REQUEST_BODY = 0, PW_RESPONSE_BODY = 1, PW_PLUGIN_CONFIGURATION = 7 } pw_buffer;

pw_status PW_IMPORT(proxy_log)(pw_log_level level, const char *text, size_t size);

pw_status PW_IMPORT(proxy_get_buffer_bytes)(pw_buffer buffer, size_t start, size_t max, char **bytes,
                                            size_t *size);
pw_status PW_IMPORT(proxy_set_buffer_bytes)(pw_buffer buffer, size_t start, size_t size, const char *bytes,
                                            size_t new_size);

pw_status PW_IMPORT(proxy_get_header_map_value)(pw_map map, const char *name, size_t name_size, char **value,
                                                size_t *value_size);
pw_status PW_IMPORT(proxy_add_header_map_value)(pw_map map, const char *name, size_t name_size,
                                                const char *value, size_t value_size);
pw_status PW_IMPORT(proxy_remove_header_map_value)(pw_map map, const char *name, size_t name_size);

static inline void pw_log(pw_log_level level, const char *text)
{
    proxy_log(level, text, strlen(text));
}

#endif
