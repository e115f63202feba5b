#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# bindings/nginx/build-whole.sh SOURCE OUT: all of NGINX from its sources with the modules built in, as --add-module does; the
# program is OUT/nginx.
#
#   NGINX_CC            the compiler, if not `cc`
#   NGINX_SANITIZE      flags such as -fsanitize=address; also lets the C library allocate what NGINX otherwise takes from
#                       larger blocks, so that each piece has an end that is watched
#   PROXYWASM_INCLUDE, PROXYWASM_LIB, PROXYWASM_RPATH
#                       as for build.sh
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source=$1 out=$2
tree=$out/tree

mkdir -p "$out"
exec 9>"$out/lock"
flock 9

flags=(--prefix="$out" --with-compat --with-debug --with-threads --with-pcre-jit --with-stream --with-stream_ssl_module
    --with-stream_realip_module --with-stream_ssl_preread_module --with-http_ssl_module --with-http_v2_module --with-http_realip_module
    --with-http_auth_request_module --with-http_addition_module --with-http_sub_module --with-http_gunzip_module
    --with-http_gzip_static_module --with-http_stub_status_module --with-http_slice_module --with-http_dav_module
    --add-module="$root/bindings/nginx")
if grep -q with-http_v3_module "$source/auto/options"; then
    flags+=(--with-http_v3_module)
fi
cc=-g
if [ -n "${NGINX_SANITIZE:-}" ]; then
    cc+=" $NGINX_SANITIZE -DNGX_DEBUG_PALLOC=1"
    flags+=("--with-ld-opt=$NGINX_SANITIZE")
fi
flags+=("--with-cc-opt=$cc" ${NGINX_CC:+"--with-cc=$NGINX_CC"})

stamp="$source ${flags[*]} ${PROXYWASM_LIB:-} ${PROXYWASM_RPATH:-} $(cat "$root/bindings/nginx/config" "${BASH_SOURCE[0]}")"
if [ "$(cat "$out/stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "nginx: configuring $(sed -n 's/#define NGINX_VERSION *"\(.*\)"/\1/p' "$source/src/core/nginx.h")"
    rm -rf "$tree"
    cp -r "$source" "$tree"
    (
        cd "$tree"
        export PROXYWASM_INCLUDE=${PROXYWASM_INCLUDE:-$root/include} PROXYWASM_LIB=${PROXYWASM_LIB:-$root/target/release}
        # What a program does that only looks whether something is there may be unclean.
        ASAN_OPTIONS=detect_leaks=0 ./configure "${flags[@]}"
    ) >"$out/configure.log" 2>&1 || {
        tail -n 20 "$out/configure.log"
        exit 1
    }
    printf '%s' "$stamp" >"$out/stamp"
fi
(cd "$tree" && make -s -j 2 -f objs/Makefile binary) >"$out/build.log" 2>&1 || {
    grep -E 'error|warning|undefined' "$out/build.log" || tail -n 20 "$out/build.log"
    exit 1
}
cmp -s "$tree/objs/nginx" "$out/nginx" || install -m 755 "$tree/objs/nginx" "$out/nginx"
