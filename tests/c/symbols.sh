#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# symbols.sh LIBRARY: the shared library exports what include/proxywasm.sym lists and nothing else, and has its soname.
set -euo pipefail

library=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=packaging/version.sh
. packaging/version.sh

exported=$(nm -D --defined-only "$library" | awk '{ sub(/@.*/, "", $3); print $3 }' | LC_ALL=C sort)
if ! diff <(LC_ALL=C sort include/proxywasm.sym) <(printf '%s\n' "$exported"); then
    echo "symbols: the exports are not those of include/proxywasm.sym (< listed, > exported)" >&2
    exit 1
fi
dynamic=$(readelf -dW "$library")
grep -qF "Library soname: [$soname]" <<<"$dynamic" || {
    echo "symbols: the soname is not $soname" >&2
    exit 1
}
grep -q 'FLAGS_1.*NODELETE' <<<"$dynamic" || {
    echo "symbols: NODELETE is not set" >&2
    exit 1
}
if grep -qE 'RPATH|RUNPATH|TEXTREL' <<<"$dynamic"; then
    echo "symbols: a run path, or text relocations" >&2
    exit 1
fi
# Nothing but the C library and the compiler's is needed.
needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic" | grep -vE '^(libc|libm|libgcc_s|libdl|libpthread|ld-linux.*)\.so\.' || true)
if [ -n "$needed" ]; then
    echo "symbols: needs $needed" >&2
    exit 1
fi
echo "symbols: $(wc -l <include/proxywasm.sym) exports, $soname"
