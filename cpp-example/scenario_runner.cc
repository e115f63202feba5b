// SPDX-License-Identifier: Apache-2.0
#include "scenario_runner.h"
#include "options.h"
int run_scenario(const std::string &) { throw usage_error("not yet"); }
