#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the library and uses nothing but what was installed: a C program through pkg-config, C and C++ programs
# through CMake, with the shared and with the static library; then once more after the installed tree was moved.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=$root/build/install-test
cd "$root"
# shellcheck source=packaging/version.sh
. packaging/version.sh

rm -rf "$work"
mkdir -p "$work"
checks=0
check() {
    if ! "$@"; then
        echo "test-install: failed: $*" >&2
        exit 1
    fi
    checks=$((checks + 1))
}

# An absolute prefix below DESTDIR, with a library folder as in Debian.
packaging/install.sh "$work/dest" /opt/proxywasm /opt/proxywasm/lib/x86_64-linux-gnu
prefix=$work/dest/opt/proxywasm
lib=$prefix/lib/x86_64-linux-gnu

check test -f "$lib/libproxywasm.so.$version"
check test "$(readlink "$lib/$soname")" = "libproxywasm.so.$version"
check test "$(readlink "$lib/libproxywasm.so")" = "$soname"
check test -f "$lib/libproxywasm.a"
check cmp include/proxywasm.h "$prefix/include/proxywasm.h"
# Nothing of this machine in what was filled in.
for file in "$lib/pkgconfig/proxywasm.pc" "$lib/cmake/proxywasm/"*; do
    if grep -nE "@[A-Z_]+@|$root" "$file"; then
        echo "test-install: $file" >&2
        exit 1
    fi
    checks=$((checks + 1))
done

try() {
    local name=$1 prefix=$2
    local lib=$prefix/lib/x86_64-linux-gnu
    local out=$work/$name
    mkdir -p "$out"
    # The programs are copied away: they find no header or library by chance.
    cp -r "$here/src" "$out/src"

    export PKG_CONFIG_PATH=$lib/pkgconfig PKG_CONFIG_LIBDIR=$lib/pkgconfig
    check test "$(pkg-config --modversion proxywasm)" = "$version"
    local flags
    read -ra flags <<<"$(pkg-config --cflags --libs proxywasm)"
    check gcc -std=c99 -Wall -Wextra -Werror -o "$out/c" "$out/src/main.c" "${flags[@]}"
    check env "LD_LIBRARY_PATH=$lib" "$out/c"
    # It is linked by its soname.
    check grep -q "NEEDED.*\[$soname\]" <(readelf -dW "$out/c")

    cmake -S "$out/src" -B "$out/build" -DCMAKE_PREFIX_PATH="$prefix" >"$out/cmake.log" 2>&1 || {
        cat "$out/cmake.log" >&2
        exit 1
    }
    cmake --build "$out/build" >>"$out/cmake.log" 2>&1 || {
        cat "$out/cmake.log" >&2
        exit 1
    }
    local program
    for program in c_shared c_static cxx_shared; do
        if [ $program = cxx_shared ] && [ ! -e "$prefix/include/proxywasm.hpp" ]; then
            echo "SKIPPED $program: there is no proxywasm.hpp"
            continue
        fi
        check "$out/build/$program"
    done
    # The static one needs no library of ours at run time, and does not hand its symbols on.
    if readelf -dW "$out/build/c_static" | grep libproxywasm; then
        echo "test-install: c_static needs the shared library" >&2
        exit 1
    fi
    check test "$(nm -D --defined-only "$out/build/libmodule.so" | awk '{ print $3 }')" = module_abi
    # A version with another interface is refused.
    cmake -S "$out/src" -B "$out/other" -DCMAKE_PREFIX_PATH="$prefix" -DWANTED=9.9 >"$out/other.log" 2>&1 && {
        echo "test-install: version 9.9 was accepted" >&2
        exit 1
    }
    check grep -q 'not$\|compatible with requested version' "$out/other.log"
}

try installed "$prefix"
mv "$prefix" "$work/moved"
try moved "$work/moved"

# An uncommon prefix: one folder deep, libraries right in it.
packaging/install.sh "" "$work/flat" "$work/flat"
export PKG_CONFIG_PATH=$work/flat/pkgconfig PKG_CONFIG_LIBDIR=$work/flat/pkgconfig
check test -f "$(pkg-config --variable=includedir proxywasm)/proxywasm.h"
check test -f "$(pkg-config --variable=libdir proxywasm)/libproxywasm.so"

rm -rf "$work"
echo "test-install: $checks checks passed"
