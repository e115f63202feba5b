#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# packaging/install-nginx.sh DESTDIR LIBDIR MODULES AVAILABLE
#
# Installs NGINX's modules, which look for the library in LIBDIR, where packaging/install.sh puts it. MODULES is where NGINX has
# its modules, AVAILABLE where Debian has the line of configuration that loads each. All files go below DESTDIR, which may be empty.
set -euo pipefail

destdir=$1 libdir=$2 modules=$3 available=$4
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case $libdir:$modules:$available in
/*:/*:/*) ;;
*)
    echo "install-nginx: LIBDIR, NGINX_MODULES_DIR and NGINX_AVAILABLE_DIR must be absolute" >&2
    exit 2
    ;;
esac

# Not those of the build tree, which look for the library there.
out=$PWD/build/nginx-install
NGINX_OUT=$out PROXYWASM_RPATH=$libdir bindings/nginx/build.sh

mkdir -p "$destdir$modules" "$destdir$available"
for kind in http stream; do
    file=ngx_${kind}_proxywasm_module.so
    # A file of its own in its place: NGINX may have the old one loaded.
    install -m 644 "$out/$file" "$destdir$modules/$file.new"
    mv "$destdir$modules/$file.new" "$destdir$modules/$file"
    echo "load_module $modules/$file;" >"$destdir$available/mod-$kind-proxywasm.conf"
    chmod 644 "$destdir$available/mod-$kind-proxywasm.conf"
done
# For configurations that name ngx_wasm_module's file.
ln -sfn ngx_http_proxywasm_module.so "$destdir$modules/ngx_wasmx_module.so"
echo "install-nginx: modules for $(nginx -v 2>&1 | sed 's|.*: ||') in $destdir$modules"
