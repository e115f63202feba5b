#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the module against Debian's nginx-dev into build/nginx: `make nginx`. Configures once for each version of NGINX and each
# change of `config`; after that only what has changed is compiled.
#
#   NGINX_SOURCES       configured sources, as in nginx-dev
#   NGINX_OUT           where to build
#   NGINX_CC            the compiler, if not `cc`
#   NGINX_SANITIZE      flags such as -fsanitize=address, for the module
#   PROXYWASM_INCLUDE, PROXYWASM_LIB, PROXYWASM_RPATH
#                       where proxywasm.h and libproxywasm.so are, and where the library will be
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
sources=${NGINX_SOURCES:-/usr/share/nginx/src}
out=${NGINX_OUT:-$root/build/nginx}
tree=$out/tree

# One build at a time: they share a tree.
mkdir -p "$out"
exec 9>"$out/lock"
flock 9

# What the configuration of the tree depends on.
stamp=$(cat "$sources/conf_flags" "$root/bindings/nginx/config" "${BASH_SOURCE[0]}" && nginx -v 2>&1)
stamp+=" ${NGINX_CC:-} ${NGINX_SANITIZE:-} ${PROXYWASM_INCLUDE:-} ${PROXYWASM_LIB:-} ${PROXYWASM_RPATH:-}"
if [ "$(cat "$out/stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "nginx: configuring"
    rm -rf "$tree"
    mkdir -p "$out"
    cp -r "$sources" "$tree"
    # The library's place: the build's own, unless an installed one is asked for.
    (
        cd "$tree"
        export PROXYWASM_INCLUDE=${PROXYWASM_INCLUDE:-$root/include} PROXYWASM_LIB=${PROXYWASM_LIB:-$root/target/release}
        # shellcheck source=/dev/null
        . ./conf_flags
        # Debian builds its stream module apart, with these.
        ./configure "${NGX_CONF_FLAGS[@]}" --with-stream=dynamic --with-stream_ssl_module --with-stream_realip_module \
            ${NGINX_CC:+"--with-cc=$NGINX_CC"} \
            ${NGINX_SANITIZE:+"--with-cc-opt=$NGINX_SANITIZE" "--with-ld-opt=$NGINX_SANITIZE"} \
            --add-dynamic-module="$root/bindings/nginx"
    ) >"$out/configure.log" 2>&1 || {
        tail -n 20 "$out/configure.log"
        exit 1
    }
    printf '%s' "$stamp" >"$out/stamp"
fi
# Not all modules: nginx-dev has no sources of NGINX's own.
(cd "$tree" && make -s -j 2 -f objs/Makefile objs/ngx_{http,stream}_proxywasm_module.so) >"$out/build.log" 2>&1 || {
    grep -E 'error|warning|undefined' "$out/build.log" || tail -n 20 "$out/build.log"
    exit 1
}
for module in "$tree"/objs/ngx_*.so; do
    cmp -s "$module" "$out/$(basename "$module")" || install -m 644 "$module" "$out/"
done
