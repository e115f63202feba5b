// SPDX-License-Identifier: Apache-2.0
// The configuration of one TCP filter.

#pragma once

#include <cstdint>
#include <proxywasm.hpp>

#include "module_config.h"

namespace proxywasm_envoy {

class network_config final : public module_config {
 public:
  // `envoy` is Envoy's configuration. Throws when the plugin does not start.
  network_config(void *envoy, filter_config config);
  ~network_config() override;

  void commit(std::uint64_t event) noexcept override;

  // The chain of a connection, inside its worker.
  const proxywasm::chain &chain(const worker &where) const;

 private:
  void *const scheduler_;
};

}  // namespace proxywasm_envoy
