# SPDX-License-Identifier: Apache-2.0
"""What a soak has found, line by line."""

from __future__ import annotations


class Report:
    def __init__(self):
        self.failed: list[str] = []

    def check(self, good: bool, text: str) -> None:
        if not good:
            self.failed.append(text)
        print(f"{'PASS' if good else 'FAIL'}  {text}", flush=True)

    def compare(self, good: bool, text: str) -> None:
        """The same question to another host, whose answer is not ours to judge."""
        print(f"{'yes' if good else 'NO':>4}  {text}", flush=True)

    def say(self, text: str) -> None:
        print(f"      {text}", flush=True)
