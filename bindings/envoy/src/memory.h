// SPDX-License-Identifier: Apache-2.0
// The memory of the module, and of all that is linked into it.

#pragma once

namespace proxywasm_envoy {

// Gives back to the system what has been freed.
void give_back_memory() noexcept;

}  // namespace proxywasm_envoy
