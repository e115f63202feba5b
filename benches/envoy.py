#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""envoy.py NATIVE NATIVE_HOST GUEST JSON [--module MODULE]: what the same plugin costs in Envoy's own Wasm filter and in our module.

Per request: an Envoy with a worker has a listener for each filter; a fixed number of keep-alive requests goes to each by
turns, and the CPU time of all of the process's threads is counted. Once: Envoys are started one after the other, and their
CPU time until the first response and their anonymous memory half a second later are compared. Time that others have taken
does not count; what they did to caches does: run it on a machine that does nothing else. Without a module, the built-in
filter is measured alone."""

import argparse
import datetime
import json
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

from envoy_server import Envoy, built_in, lua, native, ours
from hosts.envoy_builtin import program
from measure import machine, one_processor

WORKLOADS = {"f0": "empty plugin", "f1": "one header read, one added", "f2": "200 header reads"}
# What the module may cost above no filter, as a part of what the built-in filter costs.
MOST_OF_BUILT_IN = {"f0": None, "f1": 1 / 3, "f2": 1 / 6}
VM_IDS = 20
WORKERS = 4
# MB of anonymous memory.
MOST_FIRST_MB, MOST_FURTHER_MB = 4.0, 0.5


def places(arguments) -> dict[str, tuple[str, list[dict]]]:
    """Title and filters of each listener."""
    found = {"none": ("no filter", [])}
    for workload, title in WORKLOADS.items():
        found[f"built-in {workload}"] = (f"built-in: {title}", [built_in(arguments.guest, workload)])
    if arguments.module:
        for workload, title in WORKLOADS.items():
            found[f"module {workload}"] = (f"module: {title}", [ours(arguments.module, arguments.guest, workload)])
    found["lua"] = (f"Lua: {WORKLOADS['f1']}", [lua()])
    found["native"] = (f"module in C: {WORKLOADS['f1']}", [native(arguments.native)])
    found["native host"] = ("module in C: the same, as a host does it", [native(arguments.native_host)])
    return found


def per_request(arguments, titles: dict[str, tuple[str, list[dict]]]) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {place: [] for place in titles}
    filters = {place: chain for place, (_, chain) in titles.items()}
    # Where code and data happen to lie in memory changes figures, by more than the rounds of one Envoy do.
    for start in range(arguments.envoys):
        print(f"bench-envoy: requests, Envoy {start + 1} of {arguments.envoys}", flush=True)
        with (
            one_processor(),
            tempfile.TemporaryDirectory(prefix="proxywasm-bench-") as directory,
            Envoy(arguments.envoy, pathlib.Path(directory), filters) as envoy,
        ):
            for place in titles:
                envoy.load(place, arguments.requests // 10, arguments.connections)
            for number in range(arguments.rounds):
                for place in titles if number % 2 else reversed(titles):
                    # A longer task takes fewer requests for the same accuracy.
                    share = 8 if place == "built-in f2" else 4 if place == "module f2" else 1
                    samples[place].append(envoy.load(place, arguments.requests // share, arguments.connections))
    return samples


def chains(arguments) -> dict[str, list[dict]]:
    """No filter, one plugin, one for each of many VMs."""
    ids = [f"bench-{number}" for number in range(VM_IDS)]
    found = {"none": []}
    for count in (1, VM_IDS):
        found[f"built-in {count}"] = [built_in(arguments.guest, "f0", one) for one in ids[:count]]
        if arguments.module:
            found[f"module {count}"] = [ours(arguments.module, arguments.guest, "f0", one) for one in ids[:count]]
    return found


def per_start(arguments) -> dict[str, dict[str, list[float]]]:
    """CPU time until the first response in ms and anonymous memory in MB, for 1 and more workers."""
    filters = chains(arguments)
    kinds = [(name, workers) for name in filters for workers in (1, WORKERS)]
    samples = {f"{name}, {workers}": {"cpu_ms": [], "anonymous_mb": []} for name, workers in kinds}
    order = random.Random(1)
    for number in range(arguments.starts):
        print(f"bench-envoy: starts, round {number + 1} of {arguments.starts}", flush=True)
        order.shuffle(kinds)
        for name, workers in kinds:
            with (
                tempfile.TemporaryDirectory(prefix="proxywasm-bench-") as directory,
                Envoy(arguments.envoy, pathlib.Path(directory), {"main": filters[name]}, workers) as envoy,
            ):
                time.sleep(0.5)
                samples[f"{name}, {workers}"]["cpu_ms"].append(envoy.first_cpu_ms)
                samples[f"{name}, {workers}"]["anonymous_mb"].append(envoy.anonymous_mb())
    return samples


def above(more: list[float], less: list[float]) -> float:
    """The median of the differences of each round: what the machine did meanwhile concerns both alike."""
    return statistics.median(one - other for one, other in zip(more, less))


def print_requests(samples: dict[str, list[float]], titles: dict[str, tuple[str, list[dict]]]) -> dict:
    print(f"{'CPU µs per request':<42}{'median':>9}{'min':>9}{'above none':>12}{'(of min)':>10}")
    result = {}
    for place, (title, _) in titles.items():
        median, least = statistics.median(samples[place]), min(samples[place])
        result[place] = {"median": median, "min": least}
        cells = ""
        if place != "none":
            result[place]["above"] = above(samples[place], samples["none"])
            result[place]["above_min"] = least - min(samples["none"])
            cells = f"{result[place]['above']:>12.2f}{result[place]['above_min']:>10.2f}"
        print(f"{title:<42}{median:>9.2f}{least:>9.2f}{cells}")
    return result


def print_once(samples: dict[str, dict[str, list[float]]], hosts: list[str]) -> dict:
    def further(host: str, workers: int) -> float:
        many, one = (samples[f"{host} {count}, {workers}"]["anonymous_mb"] for count in (VM_IDS, 1))
        return above(many, one) / (VM_IDS - 1)

    def first(host: str, workers: int, what: str) -> float:
        return above(samples[f"{host} 1, {workers}"][what], samples[f"none, {workers}"][what])

    rows: dict[str, dict[str, float]] = {}
    for workers in (1, WORKERS):
        with_workers = f"{workers} worker{'s' if workers > 1 else ''}"
        rows[f"until the first response, {with_workers}: CPU ms"] = {h: first(h, workers, "cpu_ms") for h in hosts}
        rows[f"one plugin, {with_workers}: RssAnon MB"] = {h: first(h, workers, "anonymous_mb") for h in hosts}
        rows[f"each further vm_id, {with_workers}: RssAnon MB"] = {h: further(h, workers) for h in hosts}
    title = f"each further vm_id and worker, {WORKERS} workers: RssAnon MB"
    rows[title] = {host: further(host, WORKERS) / WORKERS for host in hosts}
    print(f"\n{'above no filter, median':<62}" + "".join(f"{host:>10}" for host in hosts))
    for name, cells in rows.items():
        print(f"{name:<62}" + "".join(f"{cells[host]:>10.2f}" for host in hosts))
    return rows


def print_targets(requests: dict, once: dict) -> dict[str, dict]:
    """The module beside the built-in filter, and what it may have of it."""
    rows = {}
    for workload, title in WORKLOADS.items():
        theirs, own = requests[f"built-in {workload}"], requests[f"module {workload}"]
        for kind, suffix in (("above", ""), ("above_min", " (of min)")):
            rows[f"CPU of module / built-in, {title}{suffix}"] = (own[kind] / theirs[kind], MOST_OF_BUILT_IN[workload])
    cpu = once["until the first response, 1 worker: CPU ms"]
    rows["CPU until the first response, module / built-in"] = (cpu["module"] / cpu["built-in"], 1.0)
    rows["RssAnon MB of one plugin, 1 worker"] = (once["one plugin, 1 worker: RssAnon MB"]["module"], MOST_FIRST_MB)
    for name in (f"each further vm_id and worker, {WORKERS} workers", "each further vm_id, 1 worker"):
        rows[f"RssAnon MB of {name}"] = (once[f"{name}: RssAnon MB"]["module"], MOST_FURTHER_MB)
    print(f"\n{'':<62}{'measured':>10}{'at most':>10}")
    for name, (value, most) in rows.items():
        verdict = "" if most is None else f"{most:>10.2f}  {'met' if value <= most else 'NOT MET'}"
        print(f"{name:<62}{value:>10.2f}{verdict}")
    return {name: {"measured": value, "at_most": most} for name, (value, most) in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("native", type=pathlib.Path, help="benches/envoy_one_header.c as a shared object")
    parser.add_argument("native_host", type=pathlib.Path, help="the same, compiled with AS_A_HOST")
    parser.add_argument("guest", type=pathlib.Path)
    parser.add_argument("json", type=pathlib.Path)
    parser.add_argument("--module", type=pathlib.Path)
    parser.add_argument("--envoy", type=pathlib.Path, default=program())
    parser.add_argument("--requests", type=int, default=8_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--envoys", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--starts", type=int, default=7)
    arguments = parser.parse_args()
    for name in ("native", "native_host", "guest", "module"):
        if getattr(arguments, name):
            setattr(arguments, name, getattr(arguments, name).resolve())
    version = subprocess.run([arguments.envoy, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    titles = places(arguments)
    request_samples = per_request(arguments, titles)
    start_samples = per_start(arguments)

    date = datetime.date.today().isoformat()
    print(f"\n{version}\n{date}, {machine()}")
    print(
        f"{arguments.requests} requests over {arguments.connections} connections, {arguments.envoys} Envoys, "
        f"{arguments.rounds} rounds by turns in each; {arguments.starts} starts of each\n"
    )
    result = {"version": version, "date": date, "machine": machine()}
    result["us_per_request"] = print_requests(request_samples, titles)
    result["once"] = print_once(start_samples, ["built-in", "module"] if arguments.module else ["built-in"])
    if arguments.module:
        result["targets"] = print_targets(result["us_per_request"], result["once"])
    result["samples"] = {"us_per_request": request_samples, "once": start_samples}
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
