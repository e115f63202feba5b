#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs the library and NGINX's modules, and runs a plugin with nothing but what was installed: by the modules' own names, and by
# the one that configurations of ngx_wasm_module have.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
work=$root/build/install-nginx-test
# shellcheck source=packaging/version.sh
. packaging/version.sh
# Where the build has the library is not where it should be found.
unset LD_LIBRARY_PATH

rm -rf "$work"
mkdir -p "$work"
nginx_pid=
trap '[ -z "$nginx_pid" ] || kill "$nginx_pid" 2>/dev/null || true' EXIT
checks=0
check() {
    if ! "$@"; then
        echo "test-install-nginx: failed: $*" >&2
        exit 1
    fi
    checks=$((checks + 1))
}

# Debian's own places, below a DESTDIR: these files and no others.
packaging/install-nginx.sh "$work/dest" /usr/lib/x86_64-linux-gnu /usr/lib/nginx/modules /usr/share/nginx/modules-available
check diff <(cd "$work/dest" && find . ! -type d | LC_ALL=C sort) - <<END
./usr/lib/nginx/modules/ngx_http_proxywasm_module.so
./usr/lib/nginx/modules/ngx_stream_proxywasm_module.so
./usr/lib/nginx/modules/ngx_wasmx_module.so
./usr/share/nginx/modules-available/mod-http-proxywasm.conf
./usr/share/nginx/modules-available/mod-stream-proxywasm.conf
END
check test "$(cat "$work/dest/usr/share/nginx/modules-available/mod-http-proxywasm.conf")" = \
    "load_module /usr/lib/nginx/modules/ngx_http_proxywasm_module.so;"

# Places that can be used as they are.
prefix=$work/prefix lib=$work/prefix/lib modules=$work/modules available=$work/available
packaging/install.sh "" "$prefix" "$lib"
packaging/install-nginx.sh "" "$lib" "$modules" "$available"
for file in "$modules"/*_proxywasm_module.so; do
    check grep -q "NEEDED.*\[$soname\]" <(readelf -dW "$file")
    check grep -q "R.*PATH.*\[$lib\]" <(readelf -dW "$file")
    check test "$(ldd "$file" | awk -v name="$soname" '$1 == name { print $3 }')" = "$lib/$soname"
done

# serve NAME LOAD...: a plugin marks a response.
serve() {
    local name=$1 port
    shift
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    mkdir -p "$work/$name"
    {
        printf '%s\n' "$@"
        cat <<END
daemon off;
pid $work/$name/pid;
error_log $work/$name/error.log;
events {}
wasm { module mark $root/build/filters/c-add-headers.wasm; }
http {
    access_log off;
    client_body_temp_path $work/$name/1; proxy_temp_path $work/$name/2; fastcgi_temp_path $work/$name/3;
    uwsgi_temp_path $work/$name/4; scgi_temp_path $work/$name/5;
    server { listen 127.0.0.1:$port; proxy_wasm mark; location / { return 200 served; } }
}
END
    } >"$work/$name/nginx.conf"
    /usr/sbin/nginx -p "$work/$name" -c "$work/$name/nginx.conf" -e "$work/$name/error.log" &
    nginx_pid=$!
    check curl -s --retry 50 --retry-delay 0 --retry-connrefused --max-time 20 -D "$work/$name/head" -o "$work/$name/body" "http://127.0.0.1:$port/"
    check test "$(cat "$work/$name/body")" = served
    check grep -qi '^x-plugin: c-add-headers' "$work/$name/head"
    # What runs is what was installed.
    check grep -q "$modules/ngx_http_proxywasm_module.so" "/proc/$nginx_pid/maps"
    check grep -q "$lib/libproxywasm.so.$version" "/proc/$nginx_pid/maps"
    kill -QUIT "$nginx_pid"
    check wait "$nginx_pid"
    nginx_pid=
}
serve own "include $available/mod-http-proxywasm.conf;" "load_module /usr/lib/nginx/modules/ngx_stream_module.so;" \
    "include $available/mod-stream-proxywasm.conf;"
serve wasmx "load_module $modules/ngx_wasmx_module.so;"

rm -rf "$work"
echo "test-install-nginx: $checks checks passed"
