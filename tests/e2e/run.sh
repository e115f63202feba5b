#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the conformance kit: run.sh [--document] [HOST…] [-- PYTEST ARGUMENT…]
#
# Prints area by host and leaves build/conformance/results.json and junit.xml; --document also writes docs/conformance.md.
# The exit code is pytest's: not 0 when a cell failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

out=../../build/conformance
python=../../build/tools/venv/bin/python
table=()
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --document) table=(--write ../../docs/conformance.md) ;;
    --)
        shift
        arguments+=("$@")
        break
        ;;
    *) arguments+=(--host "$1") ;;
    esac
    shift
done

mkdir -p "$out"
rm -f "$out/results.json"
code=0
# More processes than cores: cases mostly wait.
"$python" -m pytest -n 4 --dist worksteal -q --results "$out/results.json" --junit-xml "$out/junit.xml" "${arguments[@]}" || code=$?
if [ -f "$out/results.json" ]; then
    "$python" -m kit.table "$out/results.json" "${table[@]}"
fi
exit "$code"
