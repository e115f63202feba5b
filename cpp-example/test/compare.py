# SPDX-License-Identifier: Apache-2.0
"""Compares a report of `proxywasm-example run` with the expected one: compare.py EXPECTED < REPORT

Texts of errors are for people and may change: only that there is one counts.
"""

import json
import sys


def normal(value):
    if isinstance(value, dict):
        return {key: ("..." if key == "text" else normal(one)) for key, one in value.items()}
    if isinstance(value, list):
        return [normal(one) for one in value]
    return value


def differences(path, want, have):
    if isinstance(want, dict) and isinstance(have, dict):
        for key in sorted(want.keys() | have.keys()):
            yield from differences(f"{path}.{key}", want.get(key), have.get(key))
    elif isinstance(want, list) and isinstance(have, list) and len(want) == len(have):
        for index, (one, other) in enumerate(zip(want, have)):
            yield from differences(f"{path}[{index}]", one, other)
    elif want != have:
        yield f"{path}: expected {json.dumps(want)}, got {json.dumps(have)}"


with open(sys.argv[1], encoding="utf-8") as file:
    found = list(differences("", normal(json.load(file)), normal(json.load(sys.stdin))))
print("\n".join("    " + line for line in found), end="\n" if found else "")
sys.exit(1 if found else 0)
