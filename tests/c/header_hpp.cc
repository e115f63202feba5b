// SPDX-License-Identifier: Apache-2.0
//
// The C++ header first and alone, twice.
#include <proxywasm.hpp>

int use_hpp();

int use_hpp()
{
    return PROXYWASM_ABI_VERSION;
}
