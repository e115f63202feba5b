/* SPDX-License-Identifier: Apache-2.0
 *
 * A module of a proxy, into which the static library is linked.
 */
#include <proxywasm.h>

int proxy_module_check(const uint8_t *code, size_t len);

int proxy_module_check(const uint8_t *code, size_t len)
{
    proxywasm_engine *engine = NULL;
    proxywasm_module *module = NULL;
    proxywasm_slice slice = {code, len};
    int result = proxywasm_engine_new(NULL, &engine);
    if (result == PROXYWASM_RESULT_OK) {
        result = proxywasm_module_compile(engine, slice, &module);
    }
    proxywasm_module_free(module);
    proxywasm_engine_free(engine);
    return result;
}
