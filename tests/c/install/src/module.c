/* SPDX-License-Identifier: Apache-2.0 */
#include <proxywasm.h>

unsigned module_abi(void);

unsigned module_abi(void)
{
    return proxywasm_abi_version();
}
