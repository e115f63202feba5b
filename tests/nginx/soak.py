# SPDX-License-Identifier: Apache-2.0
"""The NGINX module under load for long: `make soak-nginx`. Prints figures; exits 1 when one is not as it must be.

usage: soak.py [--seconds 60] [--mebibytes 1024] [--only reloads|bodies]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import soak_bodies
import soak_reloads
from hosts.nginx import PROGRAM
from kit.setup import ROOT
from master import open_to_workers


class Report:
    """What was found, line by line."""

    def __init__(self):
        self.failed = 0

    def check(self, good: bool, text: str) -> None:
        self.failed += not good
        print(f"{'PASS' if good else 'FAIL'}  {text}", flush=True)

    def say(self, text: str) -> None:
        print(f"      {text}", flush=True)


def versions() -> str:
    nginx = subprocess.run([PROGRAM, "-v"], capture_output=True, text=True, check=True).stderr.split("/")[-1].strip()
    library = re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    return f"libproxywasm {library}, NGINX {nginx}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--only", choices=["reloads", "bodies"])
    options = parser.parse_args()
    report = Report()
    report.say(versions())
    with tempfile.TemporaryDirectory(prefix="proxywasm-soak-") as name:
        directory = Path(name)
        open_to_workers(directory)
        if options.only != "bodies":
            soak_reloads.run(report, directory, options.seconds)
        if options.only != "reloads":
            soak_bodies.run(report, directory, options.mebibytes)
    print(f"soak-nginx: {'FAIL' if report.failed else 'PASS'}")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
