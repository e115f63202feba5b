#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when a tracked file names a place that only one machine has: a home, a scratch folder, this checkout."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# In pieces, or this file would find itself.
PLACES = ["wo" + "rk", "t" + "mp", "ro" + "ot", "ho" + "me"]
PATTERN = re.compile(rb"(?<![\w.$})/-])/(?:" + "|".join(PLACES).encode() + rb")/[\w.]")


def main() -> int:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    patterns = [PATTERN]
    if len(ROOT.parts) > 2:
        patterns.append(re.compile(re.escape(str(ROOT).encode()) + rb"\b"))
    found = 0
    for name in filter(None, tracked.split(b"\0")):
        path = ROOT / name.decode()
        if not path.is_file():
            continue
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
            if any(pattern.search(line) for pattern in patterns):
                print(f"{path.relative_to(ROOT)}:{number}: {line.decode(errors='replace').strip()[:120]}")
                found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
