#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/envoy/memcheck.sh [PYTEST ARGUMENT…]: cases of the conformance kit with stock Envoy and the module under valgrind, which
# sees every allocation of both. AddressSanitizer would not: Envoy brings its own allocator, which modules get, too. Without
# arguments, cases that share few servers. Exits 1 when a test fails, or valgrind has anything to report.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$PWD/build/envoy-memcheck
envoy=$(echo "$PWD"/build/tools/venv/lib/python3*/site-packages/envoy/_bin/envoy)

rm -rf "$out"
mkdir -p "$out"
# Values that are not initialised are not looked for: V8 and wasmtime compute with them, and throw the result away.
cat >"$out/envoy" <<END
#!/usr/bin/env bash
exec valgrind --quiet --soname-synonyms=somalloc=NONE --undef-value-errors=no --log-file="$out/%p.log" "$envoy" "\$@"
END
chmod +x "$out/envoy"

[ $# -gt 0 ] || set -- cases/test_bodies.py cases/test_trailers.py cases/test_request_headers.py cases/test_properties.py \
    cases/test_tcp.py -k 'not large and not 10_MiB and (shared or not tcp or callbacks or unchanged or sizes or edit or parallel or half_close)'
failed=0
ENVOY_PROGRAM=$out/envoy KIT_PATIENCE=4 tests/e2e/run.sh envoy -- -n 1 -q --timeout 600 "$@" || failed=1
if [ -n "$(cat "$out"/*.log)" ]; then
    cat "$out"/*.log
    failed=1
fi
echo "memcheck-envoy: $(find "$out" -name '*.log' | wc -l) Envoys, $([ $failed = 0 ] && echo no report || echo FAILED)"
exit $failed
