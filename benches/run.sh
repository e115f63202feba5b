#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# benches/run.sh [ROUNDS]: builds what is missing, measures, prints a table and writes build/bench.json.
# Takes about two minutes once everything is built. Run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
rounds=${1:-5}
out=build/benches

tools/setup.sh base rust rust-wasm test
# shellcheck source=tools/env.sh
. tools/env.sh
mkdir -p "$out"
rm -f "$out"/*.txt "$out"/callgrind.*

library=target/release/libproxywasm.so
if [ ! -e "$library" ] || [ -n "$(find src Cargo.toml Cargo.lock build.rs -newer "$library" -print -quit)" ]; then
    echo "bench: the library (release)"
    make --no-print-directory build
fi
packaging/link-soname.sh target/release

echo "bench: the guest"
guest=$(benches/guest.sh)
cc -std=c11 -D_POSIX_C_SOURCE=200809L -O2 -g -Wall -Wextra -Werror -Iinclude benches/lifecycle.c benches/proxy.c \
    -o "$out/lifecycle" -Ltarget/release -lproxywasm -Wl,-rpath,"$root/target/release"

# The rounds are processes of their own: where code and stack happen to lie changes figures, too.
for round in $(seq "$rounds"); do
    echo "bench: round $round of $rounds"
    "$out/lifecycle" time "$guest" 60 7 >"$out/time-$round.txt"
    "$out/lifecycle" memory "$guest" plain >"$out/memory-plain-$round.txt"
    "$out/lifecycle" memory "$guest" pooling >"$out/memory-pooling-$round.txt"
done

echo "bench: instructions"
valgrind --quiet --tool=callgrind --instr-atstart=no --callgrind-out-file="$out/callgrind.out" \
    "$out/lifecycle" count "$guest" >/dev/null

benches/report.py "$out" build/bench.json
