/* SPDX-License-Identifier: Apache-2.0 */
#include "host.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

proxywasm_slice read_file(const char *path)
{
    static struct {
        char path[256];
        uint8_t *bytes;
        size_t len;
    } files[8];
    size_t i = 0;
    while (i < 8 && files[i].bytes != NULL && strcmp(files[i].path, path) != 0) {
        i++;
    }
    if (i == 8) {
        fprintf(stderr, "too many files\n");
        exit(EXIT_FAILURE);
    }
    if (files[i].bytes == NULL) {
        FILE *file = fopen(path, "rb");
        if (file == NULL) {
            perror(path);
            exit(EXIT_FAILURE);
        }
        snprintf(files[i].path, sizeof files[i].path, "%s", path);
        files[i].bytes = malloc(1 << 20);
        files[i].len = fread(files[i].bytes, 1, 1 << 20, file);
        fclose(file);
    }
    proxywasm_slice slice = {files[i].bytes, files[i].len};
    return slice;
}

proxywasm_slice guest(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s.wasm", GUESTS, name);
    return read_file(path);
}
