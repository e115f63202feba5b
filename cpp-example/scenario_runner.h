// SPDX-License-Identifier: Apache-2.0
// `proxywasm-example run`: plugins without a network.

#pragma once

#include <string>

// Runs the scenario in a file and prints a report to stdout. Returns the exit code; throws usage_error for a bad scenario.
int run_scenario(const std::string &path);
