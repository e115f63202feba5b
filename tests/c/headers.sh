#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# headers.sh INCLUDE OUT: the headers alone, without a warning, by gcc and clang, and from several files of one program.
set -euo pipefail

include=$1 out=$2/headers
cd "$(dirname "${BASH_SOURCE[0]}")"
mkdir -p "$out"
strict=(-Wall -Wextra -Wpedantic -Wshadow -Werror -I "$include")
count=0

# compile COMPILER STANDARD SOURCE FLAGS...
compile() {
    local compiler=$1 standard=$2 source=$3
    shift 3
    "$compiler" "-std=$standard" "${strict[@]}" "$@" -c -o "$out/$compiler-$standard-${source%.*}.o" "$source"
    count=$((count + 1))
}

for pair in "gcc g++" "clang-14 clang++-14"; do
    read -r cc cxx <<<"$pair"
    for standard in c99 c11 c17 c2x; do
        compile "$cc" "$standard" header_c99.c -Wstrict-prototypes -Wno-missing-field-initializers
    done
    for standard in c11 c17; do
        compile "$cc" "$standard" header_c11.c -Wstrict-prototypes
    done
    # As most programs are compiled.
    compile "$cc" gnu11 header_c11.c
    for standard in c++11 c++17 c++20; do
        compile "$cxx" "$standard" header_cxx.cc
    done
    for main in "$cc-c11-header_c11" "$cxx-c++17-header_cxx"; do
        "$cxx" -o "$out/program" "$out/$main.o" "$out/$cc-c99-header_c99.o"
        "$out/program"
        count=$((count + 1))
    done
    if [ -e "$include/proxywasm.hpp" ]; then
        for standard in c++17 c++20; do
            compile "$cxx" "$standard" header_hpp.cc
        done
    else
        echo "SKIPPED proxywasm.hpp: it is not there"
    fi
done
echo "headers: $count compilations"
[ "$count" -ge 24 ]
