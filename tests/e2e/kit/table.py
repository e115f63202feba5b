# SPDX-License-Identifier: Apache-2.0
"""
Makes the table of a run: python -m kit.table RESULTS [--write FILE]

Prints area by host; with --write also the document, with each case, each difference from Envoy and each reason of an n/a.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections import Counter
from pathlib import Path

from .cases import AREAS

TITLES = {
    "example": "example proxy",
    "envoy_builtin": "Envoy's own host",
    "nginx": "NGINX",
    "nginx_2": "NGINX, 2 workers",
    "envoy": "Envoy, our module",
    "envoy_2": "Envoy, our module, 2 workers",
    "trafficserver": "Traffic Server",
}
MARKS = {"passed": "✓", "differs": "≠", "n/a": "n/a", "failed": "**failed**"}
WORDS = (("passed", "passed"), ("differs", "differ"), ("n/a", "n/a"), ("failed", "FAILED"))


class Run:
    def __init__(self, results: dict):
        self.versions: dict[str, str] = results["versions"]
        self.hosts = list(self.versions)
        #: case to host to cell
        self.cases: dict[str, dict[str, dict]] = {}
        for cell in sorted(results["cells"], key=lambda cell: AREAS.index(cell["area"])):
            self.cases.setdefault(cell["case"], {})[cell["host"]] = cell

    def any_cell(self, case: str) -> dict:
        return next(iter(self.cases[case].values()))

    def of_area(self, area: str) -> list[str]:
        return [case for case in self.cases if self.any_cell(case)["area"] == area]

    @property
    def areas(self) -> list[str]:
        return [area for area in AREAS if self.of_area(area)]

    def count(self, host: str, cases: list[str]) -> str:
        counts = Counter(self.cases[case][host]["result"] for case in cases if host in self.cases[case])
        return ", ".join(f"{counts[key]} {word}" for key, word in WORDS if counts[key])


def rows(run: Run) -> list[list[str]]:
    lines = [["area", *(f"{TITLES.get(host, host)} {run.versions[host]}" for host in run.hosts)]]
    lines += [[area, *(run.count(host, run.of_area(area)) for host in run.hosts)] for area in run.areas]
    lines.append([f"all {len(run.cases)} cases", *(run.count(host, list(run.cases)) for host in run.hosts)])
    return lines


def to_text(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def to_markdown(lines: list[list[str]]) -> list[str]:
    head, *rest = lines
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rest)]


def sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


def groups(run: Run, cases: list[str]) -> dict[str, list[str]]:
    """Variants of one case together, by its title."""
    by_title: dict[str, list[str]] = {}
    for case in cases:
        by_title.setdefault(run.any_cell(case)["title"], []).append(case)
    return by_title


def name_of(cases: list[str]) -> str:
    """`test_x`, with the number of its variants."""
    name = cases[0].split("::")[1].split("[")[0]
    return f"`{name}`" if len(cases) == 1 else f"`{name}`, {len(cases)} variants"


def mark(run: Run, host: str, cases: list[str]) -> str:
    results = [run.cases[case][host]["result"] for case in cases if host in run.cases[case]]
    return ", ".join(MARKS[result] for result in MARKS if result in results)


def differences(run: Run) -> list[str]:
    out = []
    for area in run.areas:
        for title, cases in groups(run, run.of_area(area)).items():
            if differs := run.any_cell(cases[0])["differs"]:
                out += [f"**{area}: {title}** ({name_of(cases)})  "]
                out += [f"Envoy: {sentence(differs['does'])}  ", f"Here: {sentence(differs['because'])}", ""]
    return out


def reasons(run: Run) -> list[str]:
    out = []
    for host in run.hosts:
        found: Counter = Counter()
        for cells in run.cases.values():
            if host in cells and cells[host]["result"] == "n/a":
                found[cells[host]["detail"].removeprefix("n/a: ")] += 1
        out += [
            f"- {TITLES.get(host, host)}, {count} of the cases: {sentence(reason)}" for reason, count in found.items()
        ]
    return out


def every_case(run: Run) -> list[str]:
    out = []
    for area in run.areas:
        lines = [["case", *(TITLES.get(host, host) for host in run.hosts)]]
        for title, cases in groups(run, run.of_area(area)).items():
            name = f"{title} ({name_of(cases)})".replace("|", "\\|")
            lines.append([name, *(mark(run, host, cases) for host in run.hosts)])
        out += ["", f"### {area}", "", *to_markdown(lines)]
    return out


def document(run: Run, date: str) -> str:
    out = [
        "# Conformance",
        "",
        "What the conformance kit found: the same plugins and the same expectations against each host, each a real server",
        f"with real sockets. `make conformance` wrote this page on {date}; [tests/e2e](../tests/e2e/README.md) says what the kit",
        "is and how a host is added.",
        "",
        "Each expectation is first run against Envoy's own host, with V8. *Passed* there means that Envoy behaves so too.",
        "*Differ* means that the expectation is another one on purpose: [below](#where-envoy-differs) stand Envoy's behaviour",
        "and the reason. *n/a* means that the host's proxy cannot do what the case needs, for the reason given",
        "[below](#what-does-not-apply). Variants of a case count each.",
        "",
        *to_markdown(rows(run)),
        "",
        "## Where Envoy differs",
        "",
        *differences(run),
        "## What does not apply",
        "",
        *reasons(run),
        "",
        "## Every case",
        "",
        "✓ passed, ≠ differs as declared.",
        *every_case(run),
    ]
    return "\n".join(out) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the table of a run of the conformance kit.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", type=Path, help="the document to write")
    arguments = parser.parse_args()
    run = Run(json.loads(arguments.results.read_text()))
    print(to_text(rows(run)))
    if arguments.write:
        arguments.write.write_text(document(run, datetime.date.today().isoformat()))


if __name__ == "__main__":
    main()
