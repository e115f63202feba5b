#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Sends real requests through the example proxy, one plugin after the other, and shows what each changed. Exits 0 only if every
# plugin changed what it should.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 cpp-example/demo.py build/cpp-example/proxywasm-example build/filters
