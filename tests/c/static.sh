#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# static.sh LIBRARY OUT GUESTS: the static library inside a shared object works, and with --exclude-libs that object
# exports nothing of it.
set -euo pipefail

library=$(realpath "$1") out=$2/static guests=$3
cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p "$out"

cc=(gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -fPIC -I ../../include)
"${cc[@]}" -shared -o "$out/module.so" static.c "$library" -Wl,--exclude-libs,ALL -Wl,-z,nodelete -Wl,--gc-sections \
    -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
exported=$(nm -D --defined-only "$out/module.so" | awk '{ print $3 }')
if [ "$exported" != proxy_module_check ]; then
    echo "static: the module exports more than its own function:" >&2
    head -n 20 <<<"$exported" >&2
    exit 1
fi
"${cc[@]}" -o "$out/user" static_user.c -ldl
"$out/user" "$out/module.so" "$guests/scripted.wasm"
rm "$out/module.so"
