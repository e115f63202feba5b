// SPDX-License-Identifier: Apache-2.0
//
// The same in C++.
#include <proxywasm.hpp>

#include <iostream>
#include <string_view>

int main()
{
    constexpr std::string_view nothing("\0asm\1\0\0\0", 8);
    try {
        proxywasm::engine engine;
        proxywasm::module module(engine, nothing);
    } catch (const proxywasm::error &error) {
        std::cout << proxywasm_version() << ": " << error.what() << '\n';
        return error.result() == PROXYWASM_RESULT_UNKNOWN_ABI ? 0 : 1;
    }
    return 1;
}
