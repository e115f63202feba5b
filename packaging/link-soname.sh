#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# packaging/link-soname.sh DIR: puts the soname beside the libproxywasm.so that cargo made in DIR, so that programs
# can be linked to it and run without an installation.
set -euo pipefail

dir=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=packaging/version.sh
. packaging/version.sh

if [ "$(readlink "$dir/$soname" || true)" != libproxywasm.so ]; then
    ln -sfn libproxywasm.so "$dir/$soname"
fi
