/* SPDX-License-Identifier: Apache-2.0
 *
 * The header first and alone, in C99: it needs nothing before it.
 */
#include <proxywasm.h>

int use_c99(proxywasm_outcome *outcome);

int use_c99(proxywasm_outcome *outcome)
{
    proxywasm_host host = {sizeof host};
    proxywasm_action action = PROXYWASM_ACTION_PAUSE;
    outcome->struct_size = sizeof *outcome;
    outcome->action = action;
    return host.log == NULL && PROXYWASM_RESULT_OK == 0;
}
