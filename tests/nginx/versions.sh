#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/nginx/versions.sh [SUITE…]: all of NGINX, of the versions that Debian's suites have, with the modules built in; then what
# a change of NGINX is likely to break. Without a suite: bookworm (1.22) and trixie (1.26).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
[ $# -gt 0 ] || set -- bookworm trixie

# Headers, bodies, ends of requests, and connections, in the kit; what workers have and share, and the module's own directives.
cases="test_request_headers or test_response_headers or test_bodies or test_local_responses or test_pause or test_tcp"
tests=(tests/nginx/test_{lifecycle,shared_memory,properties,sendfile,status,callouts,logging}.py)
code=0
for suite; do
    tools/nginx-source.sh "$suite"
    out=$root/build/nginx-versions/$suite
    bindings/nginx/build-whole.sh "$root/build/nginx-source/$suite/source" "$out"
    echo "test-nginx-versions: $("$out/nginx" -v 2>&1)"
    export NGINX_PROGRAM=$out/nginx NGINX_MODULES=
    tests/e2e/run.sh nginx -- -k "$cases" || code=1
    build/tools/venv/bin/python -m pytest -n 4 -q "${tests[@]}" || code=1
done
exit $code
