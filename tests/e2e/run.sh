#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the conformance kit: run.sh [--document] [--retry] [HOST…] [-- PYTEST ARGUMENT…]
#
# Prints area by host and leaves build/conformance/results.json and junit.xml; --document also writes docs/conformance.md.
# The exit code is pytest's: not 0 when a cell failed. With --retry cells that failed are run once more, alone; those that
# pass then are told as UNSTABLE, and do not fail the run. It is for a run among many other tests, whose load disturbs the
# few cases that depend on time; the document is never written from such a run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

out=../../build/conformance
python=../../build/tools/venv/bin/python
table=()
retry=no
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --document) table=(--write ../../docs/conformance.md) ;;
    --retry) retry=yes ;;
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
if [ "$code" -eq 1 ] && [ $retry = yes ] && [ ${#table[@]} -eq 0 ]; then
    mapfile -t failed < <("$python" -c '
import json, sys
print(*(cell["node"] for cell in json.load(open(sys.argv[1]))["cells"] if cell["result"] == "failed"), sep="\n")
' "$out/results.json")
    # Many failures are no accident.
    if [ ${#failed[@]} -gt 0 ] && [ ${#failed[@]} -le 5 ]; then
        printf 'once more: %s\n' "${failed[@]}"
        code=0
        "$python" -m pytest -n 0 -q "${arguments[@]}" "${failed[@]}" || code=$?
        [ "$code" -ne 0 ] || printf 'UNSTABLE: %s\n' "${failed[@]}"
    fi
fi
exit "$code"
