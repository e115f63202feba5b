#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the module into build/envoy: `make envoy`. After the first time only what has changed is compiled.
#
#   ENVOY_OUT           where to build
#   ENVOY_SANITIZE      flags such as -fsanitize=address, for the module
#   ENVOY_PROGRAM       an Envoy, whose symbols the module's are compared with; none: not compared
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=${ENVOY_OUT:-$root/build/envoy}

# One build at a time: they share a tree.
mkdir -p "$out"
exec 9>"$out/lock"
flock 9

quiet() {
    "$@" >"$out/build.log" 2>&1 || {
        grep -E 'error|warning|undefined' "$out/build.log" || tail -n 20 "$out/build.log"
        exit 1
    }
}
[ -e "$out/tree/Makefile" ] ||
    quiet cmake -S "$root/bindings/envoy" -B "$out/tree" -DCMAKE_CXX_FLAGS="${ENVOY_SANITIZE:-}" \
        -DCMAKE_MODULE_LINKER_FLAGS="${ENVOY_SANITIZE:-}"
quiet cmake --build "$out/tree" -j 2 -- --no-print-directory -s
if ! cmp -s "$out/tree/libproxywasm_envoy.so" "$out/libproxywasm_envoy.so"; then
    if [ -n "${ENVOY_PROGRAM:-}" ]; then
        "$root/bindings/envoy/check-symbols.sh" "$out/tree/libproxywasm_envoy.so" "$ENVOY_PROGRAM"
    fi
    # In one step: an Envoy may have the old one mapped.
    install -m 644 -T "$out/tree/libproxywasm_envoy.so" "$out/libproxywasm_envoy.so.new"
    mv -f "$out/libproxywasm_envoy.so.new" "$out/libproxywasm_envoy.so"
fi
