// SPDX-License-Identifier: Apache-2.0
// The configuration of a plugin without streams: a bootstrap extension of Envoy's.

#pragma once

#include <cstdint>

#include "module_config.h"

namespace proxywasm_envoy {

class service_config final : public module_config {
 public:
  // `envoy` is Envoy's configuration. Throws when the plugin does not start.
  service_config(void *envoy, filter_config config);
  ~service_config() override;

  void commit(std::uint64_t event) noexcept override;

 private:
  void *const scheduler_;
};

}  // namespace proxywasm_envoy
