#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# packaging/install.sh DESTDIR PREFIX LIBDIR
#
# Installs what `make build` made. PREFIX and LIBDIR are absolute; all files go below DESTDIR, which may be empty.
# The installed tree can be moved: pkg-config and CMake files look for the rest from where they are themselves.
set -euo pipefail

destdir=$1 prefix=$2 libdir=$3
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/version.sh
. packaging/version.sh

case $prefix:$libdir in
/*:/*) ;;
*)
    echo "install: PREFIX and LIBDIR must be absolute" >&2
    exit 2
    ;;
esac

# What a program needs beside libproxywasm.a: `rustc --print native-static-libs`.
native_libs="gcc_s util rt pthread m dl c"

# from DIR: the way from there to the prefix.
from() {
    realpath --canonicalize-missing --no-symlinks --relative-to="$1" "$prefix"
}

# fill TEMPLATE FILE: puts values into a template.
fill() {
    sed -e "s|@VERSION@|$version|g" \
        -e "s|@ABI@|$abi|g" \
        -e "s|@SONAME@|$soname|g" \
        -e "s|@PKGCONFIG_TO_PREFIX@|$(from "$libdir/pkgconfig")|g" \
        -e "s|@CMAKE_TO_PREFIX@|$(from "$libdir/cmake/proxywasm")|g" \
        -e "s|@LIBDIR@|$(realpath --canonicalize-missing --no-symlinks --relative-to="$prefix" "$libdir")|g" \
        -e "s|@NATIVE_LIBS@|${native_libs// /;}|g" \
        -e "s|@NATIVE_FLAGS@|-l${native_libs// / -l}|g" \
        "packaging/$1" >"$2.new"
    chmod 644 "$2.new"
    # A file that would be the same keeps its time, so that what depends on it need not be built anew.
    if cmp -s "$2.new" "$2"; then rm "$2.new"; else mv "$2.new" "$2"; fi
}

# copy MODE FROM TO
copy() {
    if ! cmp -s "$2" "$3"; then
        install -m "$1" "$2" "$3.new"
        mv "$3.new" "$3"
    fi
}

lib=$destdir$libdir include=$destdir$prefix/include
mkdir -p "$lib/pkgconfig" "$lib/cmake/proxywasm" "$include"

copy 755 target/release/libproxywasm.so "$lib/libproxywasm.so.$version"
ln -sfn "libproxywasm.so.$version" "$lib/$soname"
ln -sfn "$soname" "$lib/libproxywasm.so"
copy 644 target/release/libproxywasm.a "$lib/libproxywasm.a"
copy 644 include/proxywasm.h "$include/proxywasm.h"
if [ -e include/proxywasm.hpp ]; then
    copy 644 include/proxywasm.hpp "$include/proxywasm.hpp"
fi
fill proxywasm.pc.in "$lib/pkgconfig/proxywasm.pc"
fill proxywasm-config.cmake.in "$lib/cmake/proxywasm/proxywasm-config.cmake"
fill proxywasm-config-version.cmake.in "$lib/cmake/proxywasm/proxywasm-config-version.cmake"
echo "install: libproxywasm $version in $destdir$prefix"
