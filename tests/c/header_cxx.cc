// SPDX-License-Identifier: Apache-2.0
//
// The header in C++: enumerations of a fixed type, C linkage.
#include <proxywasm.h>

#include <type_traits>

extern "C" int use_c99(proxywasm_outcome *outcome);

static_assert(std::is_same<std::underlying_type<proxywasm_result>::type, int32_t>::value,
              "results are int32_t");
static_assert(std::is_same<decltype(&proxywasm_engine_free), void (*)(proxywasm_engine *)>::value,
              "a function");
static_assert(std::is_standard_layout<proxywasm_host>::value && std::is_trivial<proxywasm_host>::value,
              "plain data");

int main()
{
    proxywasm_outcome outcome{};
    return use_c99(&outcome) == 1 && outcome.action == PROXYWASM_ACTION_PAUSE ? 0 : 1;
}
