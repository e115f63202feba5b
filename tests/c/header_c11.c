/* SPDX-License-Identifier: Apache-2.0
 *
 * The same in C11, in a program together with the one in C99.
 */
#include <proxywasm.h>

int use_c99(proxywasm_outcome *outcome);

_Static_assert(sizeof(proxywasm_result) == sizeof(int32_t), "results are int32_t");

int main(void)
{
    struct proxywasm_outcome outcome = {0};
    return use_c99(&outcome) == 1 && outcome.action == PROXYWASM_ACTION_PAUSE ? 0 : 1;
}
