/* SPDX-License-Identifier: Apache-2.0
 *
 * Uses what it was linked to: an engine, and the check that a module is one.
 */
#include <proxywasm.h>
#include <stdio.h>

int main(void)
{
    static const uint8_t nothing[] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    proxywasm_slice code = {nothing, sizeof nothing};
    proxywasm_engine *engine = NULL;
    proxywasm_module *module = NULL;
    int result = proxywasm_engine_new(NULL, &engine);
    if (result == PROXYWASM_RESULT_OK) {
        result = proxywasm_module_compile(engine, code, &module);
    }
    char text[128];
    proxywasm_last_error(text, sizeof text);
    printf("%s: %s: %s\n", proxywasm_version(), proxywasm_result_name(result), text);
    proxywasm_engine_free(engine);
    return result == PROXYWASM_RESULT_UNKNOWN_ABI && proxywasm_abi_version() == PROXYWASM_ABI_VERSION ? 0 : 1;
}
