#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/nginx/sanitize.sh [--stock] [PYTEST ARGUMENT…]: the conformance kit and NGINX's own tests with AddressSanitizer in
# the library and the module, and UndefinedBehaviorSanitizer in the module. Exits 1 when a test fails, or there is any report.
#
# NGINX is built from its sources with the modules, each of its allocations apart. --stock takes the distribution's binary,
# with the sanitizers loaded first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
out=$root/build/nginx-asan
# Undefined behaviour is not looked for in NGINX's own sources, which have some and are compiled by relative paths: a report
# takes the symbolizer seconds, in which a worker does not answer.
mkdir -p "$out"
printf '[undefined]\nsrc:src/*\n' >"$out/ignorelist"
flags="-fsanitize=address,undefined -fno-omit-frame-pointer -fsanitize-ignorelist=$out/ignorelist"
stock=no
if [ "${1:-}" = --stock ]; then
    stock=yes
    shift
fi
# shellcheck source=tools/env.sh
. tools/env.sh
# shellcheck source=packaging/version.sh
. packaging/version.sh

# The flag is one of unstable Rust, which this variable lets through; naming the target keeps build scripts without it. Whole-program
# optimisation would take as long again.
mkdir -p "$out/lib"
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_PROFILE_RELEASE_DEBUG=line-tables-only CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true \
    cargo rustc --quiet --release --locked --lib --crate-type cdylib --target x86_64-unknown-linux-gnu --target-dir "$out/cargo"
ln -sfn ../cargo/x86_64-unknown-linux-gnu/release/libproxywasm.so "$out/lib/libproxywasm.so"
ln -sfn libproxywasm.so "$out/lib/$soname"

# Not gcc: with both sanitizers, its runtime writes one's reports into no file.
export NGINX_CC=clang-14 NGINX_SANITIZE=$flags PROXYWASM_LIB=$out/lib
preload=
if [ $stock = yes ]; then
    NGINX_SANITIZE+=" -shared-libasan"
    NGINX_OUT=$out/module bindings/nginx/build.sh
    program=/usr/sbin/nginx
    preload="export LD_PRELOAD=$(clang-14 -print-file-name=libclang_rt.asan-x86_64.so)"
    export NGINX_MODULES=$out/module
    watched=("$out"/module/*.so)
else
    tools/nginx-source.sh bookworm
    bindings/nginx/build-whole.sh "$root/build/nginx-source/bookworm/source" "$out/whole"
    program=$out/whole/nginx
    export NGINX_MODULES=
    watched=("$program")
fi
for file in "${watched[@]}" "$out/lib/libproxywasm.so"; do
    if ! grep -q __asan_report_load8 <(nm -D "$file"); then
        echo "sanitize-nginx: $file is not watched" >&2
        exit 1
    fi
done

# Workers, which may be somebody else, write reports too.
reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
chmod 1777 "$reports"
# handle_segv stays: wasmtime's handler comes first, and hands on what is not WebAssembly's. Its threads have signal stacks of
# their own. What NGINX leaves to the end of its process is no leak: `make soak-nginx` watches memory. Each dynamic module
# has a table of the same name.
wrapper=$out/nginx
cat >"$wrapper" <<END
#!/bin/bash
$preload
export ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0:use_sigaltstack=0:detect_stack_use_after_return=0:log_path=$reports/report
export UBSAN_OPTIONS=print_stacktrace=1
# Under its own name, for a binary that replaces itself.
exec -a "\$0" $program "\$@"
END
chmod 755 "$wrapper"
export NGINX_PROGRAM=$wrapper

code=0
tests/e2e/run.sh nginx -- "$@" || code=1
echo "SKIPPED tests/nginx/test_isolation.py::test_memory: AddressSanitizer keeps what was freed"
build/tools/venv/bin/python -m pytest -n 4 -q tests/nginx --timeout 180 -k "not test_memory" \
    "$@" || code=1

shopt -s nullglob
found=0
for file in "$reports"/*; do
    if grep -q 'AddressSanitizer\|: runtime error: ' "$file"; then
        found=$((found + 1))
        cat "$file"
    fi
done
echo "sanitize-nginx: $found reports"
[ $found -eq 0 ] || code=1
exit $code
