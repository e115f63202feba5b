/* SPDX-License-Identifier: Apache-2.0
 *
 * A proxy that loads such a module: static_user MODULE GUEST.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

typedef int check_fn(const uint8_t *code, size_t len);

int main(int argc, char **argv)
{
    static uint8_t code[1 << 20];
    FILE *file = argc == 3 ? fopen(argv[2], "rb") : NULL;
    void *module = argc == 3 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (file == NULL || module == NULL) {
        fprintf(stderr, "static_user: %s\n", argc == 3 ? dlerror() : "MODULE GUEST");
        return 2;
    }
    size_t len = fread(code, 1, sizeof code, file);
    fclose(file);
    check_fn *check;
    *(void **)&check = dlsym(module, "proxy_module_check");
    int result = check != NULL ? check(code, len) : 3;
    int empty = check != NULL ? check(code, 4) : 3;
    printf("static: %d for a guest, %d for none\n", result, empty);
    return result == 0 && empty == -100 && dlsym(module, "proxywasm_engine_new") == NULL ? 0 : 1;
}
