# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2034
#
# Source this file (`. tools/env.sh`; outside bash, from inside the repository): it puts the cargo, rustc, go
# and node that tools/setup.sh chose on PATH. Any POSIX shell will do; nothing is installed here.
#
# It also says how Rust code becomes WebAssembly on this machine:
#   PROXYWASM_WASM_STD     "prebuilt": the toolchain has a standard library for wasm32;
#                          "build":    it has none (Debian's), so cargo builds one from rust-web-src
#   PROXYWASM_WASI_TARGET  the target for WASI modules: wasm32-wasip1, or wasm32-unknown-unknown when
#                          the library has to be built (wasip1 would need rustup's own C runtime files)
#   proxywasm_cargo_wasm   a function: `proxywasm_cargo_wasm build --target ... ` is `cargo build ...`
#                          with whatever the above asks for

PROXYWASM_RUST_MIN=1.95
PROXYWASM_GO_MIN=1.24
PROXYWASM_NODE_MIN=18

# Only bash tells a sourced file its own name; elsewhere the repository is looked for above the current
# directory.
_pw_root=$PWD
if [ -n "${BASH_VERSION:-}" ]; then
    eval '_pw_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)'
fi
while [ "$_pw_root" != / ] && [ ! -f "$_pw_root/tools/env.sh" ]; do
    _pw_root=$(dirname "$_pw_root")
done
if [ "$_pw_root" = / ]; then
    echo "tools/env.sh: not inside the repository" >&2
    return 1
fi
PROXYWASM_TOOLS=$_pw_root/build/tools

# proxywasm_at_least HAVE WANT: compares MAJOR.MINOR.
proxywasm_at_least() {
    _pw_major=${1%%.*}
    _pw_minor=${1#*.}
    _pw_minor=${_pw_minor%%.*}
    case $_pw_major$_pw_minor in '' | *[!0-9]*) return 1 ;; esac
    case $2 in
    *.*) [ "$_pw_major" -gt "${2%%.*}" ] || { [ "$_pw_major" -eq "${2%%.*}" ] && [ "$_pw_minor" -ge "${2#*.}" ]; } ;;
    *) [ "$_pw_major" -ge "$2" ] ;;
    esac
}

# proxywasm_good_TOOL DIR: whether the TOOL in DIR is there and new enough.
proxywasm_good_rust() {
    [ -x "$1/cargo" ] && [ -x "$1/rustc" ] || return 1
    _pw_version=$(MAKEFLAGS='' "$1/rustc" --version 2>/dev/null) || return 1
    _pw_version=${_pw_version#rustc }
    proxywasm_at_least "${_pw_version%% *}" "$PROXYWASM_RUST_MIN"
}
proxywasm_good_go() {
    [ -x "$1/go" ] || return 1
    _pw_version=$(GOTOOLCHAIN=local "$1/go" env GOVERSION 2>/dev/null) || return 1
    proxywasm_at_least "${_pw_version#go}" "$PROXYWASM_GO_MIN"
}
proxywasm_good_node() {
    [ -x "$1/node" ] || return 1
    _pw_version=$("$1/node" --version 2>/dev/null) || return 1
    proxywasm_at_least "${_pw_version#v}" "$PROXYWASM_NODE_MIN"
}

# _pw_use CHECK COMMAND DIR...: the first good one of COMMAND on PATH and of the DIRs goes first on PATH.
_pw_use() {
    _pw_check=$1 _pw_command=$2
    shift 2
    _pw_found=$(command -v "$_pw_command" 2>/dev/null) && "$_pw_check" "$(dirname "$_pw_found")" && return 0
    for _pw_dir in "$@"; do
        if "$_pw_check" "$_pw_dir"; then
            PATH=$_pw_dir:$PATH
            return 0
        fi
    done
    return 1
}

# The C compiler and make come from PATH as they are; these three have minimum versions.
PROXYWASM_HAVE_RUST=no PROXYWASM_HAVE_GO=no PROXYWASM_HAVE_NODE=no
_pw_use proxywasm_good_rust cargo "${CARGO_HOME:-${HOME:-/nonexistent}/.cargo}/bin" /usr/bin && PROXYWASM_HAVE_RUST=yes
_pw_use proxywasm_good_go go /usr/local/go/bin "$PROXYWASM_TOOLS/go/current/bin" && PROXYWASM_HAVE_GO=yes
_pw_use proxywasm_good_node node "$PROXYWASM_TOOLS/node/current/bin" && PROXYWASM_HAVE_NODE=yes
export PATH

# The Go of the machine builds the filters; it must not fetch another one on its own.
export GOTOOLCHAIN="${GOTOOLCHAIN:-local}"

PROXYWASM_WASM_STD=build PROXYWASM_WASI_TARGET=wasm32-unknown-unknown
if [ "$PROXYWASM_HAVE_RUST" = yes ]; then
    # Without MAKEFLAGS: below make -j, rustc would complain that the jobserver is not handed down.
    PROXYWASM_SYSROOT=$(MAKEFLAGS='' rustc --print sysroot)
    if [ -d "$PROXYWASM_SYSROOT/lib/rustlib/wasm32-wasip1" ] &&
        [ -d "$PROXYWASM_SYSROOT/lib/rustlib/wasm32-unknown-unknown" ]; then
        PROXYWASM_WASM_STD=prebuilt PROXYWASM_WASI_TARGET=wasm32-wasip1
    elif command -v wasm-ld-19 >/dev/null; then
        # Debian's rustc comes without rust-lld.
        export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-19
    fi
fi
export PROXYWASM_WASM_STD PROXYWASM_WASI_TARGET

proxywasm_cargo_wasm() {
    if [ "$PROXYWASM_WASM_STD" = prebuilt ]; then
        cargo "$@"
    else
        # -Zbuild-std is not stable; RUSTC_BOOTSTRAP lets a release compiler do it. It is set here and
        # not exported, because crates of the host build would take it for a nightly compiler.
        RUSTC_BOOTSTRAP=1 cargo "$@" -Zbuild-std=std,panic_abort
    fi
}
