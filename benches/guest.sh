#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# benches/guest.sh: builds the guest of the benchmarks, and prints where it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/guests"
root=$(cd ../.. && pwd)

# shellcheck source=tools/env.sh
. "$root/tools/env.sh"
export CARGO_TARGET_DIR=$root/build/cargo-benches
proxywasm_cargo_wasm build --quiet --locked --release --target "$PROXYWASM_WASI_TARGET" >&2
echo "$CARGO_TARGET_DIR/$PROXYWASM_WASI_TARGET/release/bench_guest.wasm"
