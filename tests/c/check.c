/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

unsigned check_count;
unsigned check_failures;
