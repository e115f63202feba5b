// SPDX-License-Identifier: Apache-2.0
// `proxywasm-example serve`: a reverse proxy.

#pragma once

#include "options.h"

// Runs until SIGTERM or SIGINT. Returns the exit code; throws usage_error and proxywasm::error when it cannot start.
int serve(const proxy_options &options);
