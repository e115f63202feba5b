#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/nginx-source.sh SUITE: NGINX's sources as Debian's SUITE has them (bookworm, trixie, …), in build/nginx-source/SUITE/source.
#
# apt fetches and verifies them, with lists of its own: the system's stay as they are. Without Debian's patches.
set -euo pipefail

suite=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$root/build/nginx-source/$suite
log=$out/apt.log
[ ! -e "$out/source/configure" ] || exit 0

rm -rf "$out"
mkdir -p "$out/apt"/{state/lists/partial,cache/archives/partial,preferences}
: >"$out/apt/status"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" >"$out/apt/sources.list"
apt() {
    apt-get -q -o Dir::State="$out/apt/state" -o Dir::State::status="$out/apt/status" -o Dir::Cache="$out/apt/cache" \
        -o Dir::Etc::sourcelist="$out/apt/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::Etc::preferences=- -o Dir::Etc::preferencesparts="$out/apt/preferences" \
        -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none "$@" >>"$log" 2>&1
}
if ! (cd "$out" && apt update && apt --only-source --download-only --tar-only source nginx); then
    tail -n 5 "$log" >&2
    echo "nginx-source: Debian's mirror has no sources of NGINX for $suite" >&2
    exit 1
fi
mkdir "$out/unpacked"
tar -x -C "$out/unpacked" --strip-components 1 -f "$out"/nginx_*.orig.tar.gz
rm -rf "$out/apt"
# Debian's tarball has `configure` where modules look for it, or in auto/.
[ -e "$out/unpacked/configure" ] || ln -s auto/configure "$out/unpacked/configure"
mv "$out/unpacked" "$out/source"
