#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""report.py SAMPLES JSON: the table of benches/run.sh, printed and as JSON.

SAMPLES holds the output of `lifecycle` (*.txt, `KEY NUMBER` a line) and of callgrind (callgrind.out.*)."""

import collections
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKLOADS = ["f0", "f1", "f2", "f3", "f4"]
TITLES = {"f0": "F0 empty", "f1": "F1 one header", "f2": "F2 200 reads", "f3": "F3 20 pairs", "f4": "F4 64 KiB body"}
# CPU ns per request that the library is to stay below.
TARGETS = {"f0": 200, "f1": 320, "f2": 15_000, "f3": 3_000, "f4": 3_300}
# Other hosts with the same five workloads, measured earlier: docs/benchmarks.md.
PEERS = {
    "proxy-wasm-cpp-host, wasmtime 45": {
        "ns": [300, 920, 103_076, 3_849, 3_833],
        "instructions": [4_512, 12_809, 1_493_140, 58_582, 143_745],
    },
    "proxy-wasm-cpp-host, wasmtime 48": {
        "ns": [290, 916, 105_030, 3_518, 3_833],
        "instructions": [4_446, 12_725, 1_489_674, 51_927, 143_626],
    },
    "proxy-wasm-host 0.2.0": {
        "ns": [486, 734, 31_222, 4_100, 5_237],
        "instructions": [7_449, 10_664, 471_877, 61_973, 207_835],
    },
}


def samples(folder: pathlib.Path) -> dict[str, dict[str, float]]:
    values = collections.defaultdict(list)
    for path in sorted(folder.glob("*.txt")):
        for line in path.read_text().splitlines():
            key, value = line.rsplit(" ", 1)
            values[key].append(float(value))
    return {
        key: {"median": statistics.median(list_), "min": min(list_), "samples": len(list_)}
        for key, list_ in sorted(values.items())
    }


def guest_share(profile: str) -> int:
    """Instructions in code that belongs to no file: what was compiled from the guest, with its entry and exit code."""
    names: dict[str, str] = {}
    here, call, total = "", False, 0
    for line in profile.splitlines():
        if match := re.match(r"(c?ob)=(\(\d+\))(?: (.*))?$", line):
            if match[3]:
                names[match[2]] = match[3]
            if match[1] == "ob":
                here = names[match[2]]
        elif line.startswith("calls="):
            call = True
        elif match := re.match(r"[+\-*\d]\S* (\d+)$", line):
            total += 0 if call or here != "???" else int(match[1])
            call = False
    return total


def instructions(folder: pathlib.Path) -> dict[str, dict[str, dict[str, int]]]:
    """Per request, from the difference of two numbers of requests."""
    totals: dict[tuple[str, str], dict[int, tuple[int, int]]] = collections.defaultdict(dict)
    for path in folder.glob("callgrind.out.*"):
        text = path.read_text(errors="replace")
        trigger = re.search(r"^desc: Trigger: Client Request: (f\d) (on|off) (\d+)$", text, re.MULTILINE)
        total = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
        if trigger and total:
            totals[trigger[1], trigger[2]][int(trigger[3])] = int(total[1]), guest_share(text)
    result: dict[str, dict[str, dict[str, int]]] = {"on": {}, "off": {}}
    for (workload, engine), by_count in sorted(totals.items()):
        (few, less), (many, more) = sorted(by_count.items())
        all_, guest = (round((after - before) / (many - few)) for before, after in zip(less, more))
        result[engine][workload] = {"all": all_, "guest": guest}
    return result


def machine() -> str:
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} vCPU, {platform.system()} {platform.release()}"
    )


def version() -> str:
    return re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def row(title: str, cells: list[str]) -> None:
    print(f"{title:<44}" + "".join(f"{cell:>16}" for cell in cells))


def number(value: float) -> str:
    return f"{value:,.0f}"


def print_requests(measured: dict, counted: dict) -> None:
    def median(workload: str, engine: str) -> float:
        return measured[f"request_ns.{workload}.{engine}"]["median"]

    row("per request", [TITLES[workload] for workload in WORKLOADS])
    for engine, title in (("on", ""), ("off", ", no interruption")):
        for kind in ("median", "min"):
            cells = [number(measured[f"request_ns.{workload}.{engine}"][kind]) for workload in WORKLOADS]
            row(f"CPU ns, {kind}{title}", cells)
    row("  without / with interruption", [f"{median(w, 'off') / median(w, 'on'):.2f}" for w in WORKLOADS])
    row("target, CPU ns", [number(TARGETS[w]) for w in WORKLOADS])
    row("  median / target", [f"{median(w, 'on') / TARGETS[w]:.2f}" for w in WORKLOADS])
    if counted["on"]:
        for engine, title in (("on", ""), ("off", ", no interruption")):
            row(f"instructions{title}", [number(counted[engine][w]["all"]) for w in WORKLOADS])
            row("  of these in the guest", [number(counted[engine][w]["guest"]) for w in WORKLOADS])
    print()
    row("other hosts, measured earlier, elsewhere", [TITLES[workload] for workload in WORKLOADS])
    for name, figures in PEERS.items():
        row(f"{name}: CPU ns", [number(value) for value in figures["ns"]])
        row("  / this library's median", [f"{v / median(w, 'on'):.1f}" for w, v in zip(WORKLOADS, figures["ns"])])
        row("  instructions", [number(value) for value in figures["instructions"]])
        if counted["on"]:
            ratios = [f"{v / counted['on'][w]['all']:.1f}" for w, v in zip(WORKLOADS, figures["instructions"])]
            row("  / this library's instructions", ratios)
    print()


def print_once(measured: dict) -> None:
    def cells(key: str, variants: list[str]) -> list[str]:
        found = [measured.get(f"{key}.{variant}") for variant in variants]
        return [f"{cell['median']:.1f} ({cell['min']:.1f})" if cell else "-" for cell in found]

    row("once, median (min)", ["default", "no interruption", "pooling"])
    row("load: compile, 1 thread, CPU ms", cells("compile_cpu_ms", ["on", "off"]))
    row("load: compile, 1 thread, wall ms", cells("compile_wall_ms", ["on", "off"]))
    row("load: compile, all threads, wall ms", cells("compile_wall_ms", ["parallel"]))
    row("VM: instantiate, start, configure, CPU us", cells("vm_new_us", ["on", "off", "pooling"]))
    row("VM: end, CPU us", cells("vm_end_us", ["on", "off", "pooling"]))
    worker = measured["worker_new_us"]
    row("worker, CPU us", [f"{worker['median']:.2f} ({worker['min']:.2f})"])
    for when, title in (("fresh", "of 100"), ("used", "after 10 x F4")):
        for key, what in (("rss", "resident"), ("dirty", "private dirty"), ("tables", "page tables")):
            plain, pooling = (cells(f"vm_{key}_kb.{name}", [when])[0] for name in ("plain", "pooling"))
            row(f"VM {title}: {what}, KB", [plain, "", pooling])


def main() -> int:
    folder, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    measured, counted = samples(folder), instructions(folder)
    date = datetime.date.today().isoformat()
    print(f"\nproxywasm {version()}, {date}, {machine()}\n")
    print_requests(measured, counted)
    print_once(measured)
    result = {
        "version": version(),
        "date": date,
        "machine": machine(),
        "measured": measured,
        "instructions": counted,
        "targets_ns": TARGETS,
        "peers": PEERS,
    }
    target.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
