# SPDX-License-Identifier: Apache-2.0
"""Reloads that swap code and configuration, and a worker that is killed, under wrk's load: no request lost, memory flat.

wrk opens a connection for each request, so that every error that it counts is a request lost: connections that are kept may be
closed while a request is on its way when a worker is replaced, and wrk cannot tell (kit/load.py can, and runs beside it).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from kit.load import loaded
from kit.setup import FILTERS
from master import Master, resident_kib

CONNECTIONS = 16
KEPT = 4
PATHS = ["/return", "/file", "/proxied"]
CODES = ["rust", "c"]
RELOADS = 10
#: Without load, after those.
MORE = 40
#: What may be resident at last, beside an earlier time with the same code; the first reloads find out how much the C library
#: keeps, in the master and so in its workers.
GROWTH = 1.05
WARMUP_MIB = 8

# Takes the paths by turns; counts responses of which no configuration is the maker.
SCRIPT = """
local paths, turn = { %s }, 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init() wrong = 0 end
function request()
    turn = turn %% #paths + 1
    return wrk.format("GET", paths[turn], { Connection = "close" })
end
function response(status, headers)
    local code, mark = headers["x-plugin"], tonumber(headers["x-mark"])
    local codes = { [0] = "rust-add-headers", [1] = "c-add-headers" }
    if status ~= 200 or mark == nil or code ~= codes[mark %% 2] then wrong = wrong + 1 end
end
function done(summary)
    local wrong = 0
    for _, thread in ipairs(threads) do wrong = wrong + thread:get("wrong") end
    local e = summary.errors
    io.write(string.format('{"requests": %%d, "connect": %%d, "read": %%d, "write": %%d, "timeout": %%d, "wrong": %%d}\\n',
        summary.requests, e.connect, e.read, e.write, e.timeout, wrong))
end
"""


class Site(Master):
    """Two plugins, of which responses tell the code and the configuration, before content of three kinds."""

    def __init__(self, directory: Path, backend: int):
        super().__init__(directory)
        self._backend = backend
        (directory / "html").mkdir()
        (directory / "html" / "file").write_text("x" * 10_000)

    def write(self, *, turn: int, wasm: str = "", **options) -> None:
        configuration = json.dumps({"response": {"x-mark": str(turn)}})
        super().write(
            wasm=f"""
                module code {FILTERS}/{CODES[turn % 2]}-add-headers.wasm;
                plugin marked {{ module code; vm_id marked; configuration '{configuration}'; }}
                {wasm}
            """,
            http=f"""
                log_format attempts "$request_uri";
                map $arg_attempt $logged {{ "" 0; default 1; }}
                access_log {self.directory}/access.log attempts if=$logged;
                upstream backend {{ server 127.0.0.1:{self._backend}; keepalive 16; }}
                server {{
                    listen 127.0.0.1:{self.port} backlog=4096;
                    root {self.directory}/html;
                    proxy_wasm code;
                    proxy_wasm marked;
                    location /return {{ return 200 "returned"; }}
                    location /file {{ }}
                    location /proxied {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }}
                    location /status {{ proxy_wasm_status; }}
                }}
            """,
            log_level="warn",
            **options,
        )

    def memory(self) -> dict[int, int]:
        """KiB of the master and of each worker."""
        return {pid: resident_kib(pid) for pid in (self.pid, *self.processes())}

    def status(self) -> dict:
        """Of any worker."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=20) as answer:
            return json.load(answer)


class Wrk:
    def __init__(self, site: Site, seconds: int):
        script = site.directory / "wrk.lua"
        script.write_text(SCRIPT % ", ".join(f'"{path}"' for path in PATHS))
        command = ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", script]
        self._process = subprocess.Popen(
            [*command, f"http://127.0.0.1:{site.port}/"], stdout=subprocess.PIPE, text=True
        )
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return self._end - time.monotonic()

    def result(self) -> dict[str, int]:
        output = self._process.communicate(timeout=60)[0]
        return json.loads(output.splitlines()[-1])


def errors(result: dict[str, int]) -> int:
    return sum(result[name] for name in ("connect", "read", "write", "timeout"))


def reload_under_load(report, site: Site, seconds: int) -> None:
    """Ten reloads, then a worker that is killed."""
    part = seconds * 5 // 6
    sums: dict[int, int] = {}
    vms = set()
    with loaded(site.port, PATHS, connections=KEPT, headers=("x-plugin", "x-mark")) as load:
        wrk = Wrk(site, part)
        for turn in range(1, RELOADS + 1):
            time.sleep(max(0, wrk.left() - 1) / (RELOADS - turn + 1) / 2)
            site.reload(turn=turn)
            site.until(lambda: len(site.processes()) == 2)
            load.until_answered(100)
            # The same time after each.
            time.sleep(max(0, wrk.left() - 1) / (RELOADS - turn + 1) / 2)
            memory = site.memory()
            sums[turn] = sum(memory.values())
            vms |= {worker["vms"] for worker in site.status()["workers"]}
            each = ", ".join(f"{kib / 1024:.1f}" for kib in memory.values())
            report.say(f"reload {turn:2}: {sums[turn] / 1024:.1f} MiB resident: master and workers {each}")
        result = wrk.result()
    tally = load.tally
    report.check(
        errors(result) == 0 and result["wrong"] == 0,
        f"wrk, {RELOADS} reloads: {result['requests']} requests, {errors(result)} lost, "
        f"{result['wrong']} answered as by no configuration",
    )
    taken = tally.taken((site.directory / "access.log").read_text())
    report.check(
        not tally.lost and not taken,
        f"kept connections: {tally.answered} requests answered, {len(tally.lost)} lost; {len(tally.closed)} found their "
        f"connection closed, and {len(taken)} of them had been taken",
    )
    wanted = {(200, f"{CODES[turn % 2]}-add-headers", str(turn)) for turn in range(RELOADS + 1)}
    report.check(set(tally.seen) == wanted, f"all {RELOADS + 1} configurations answered, each with its own code")
    report.check(vms == {2}, f"VMs of a worker after each reload: {sorted(vms)}, of two plugins")
    for first, last in ((1, RELOADS - 1), (2, RELOADS)):
        growth = (sums[last] - sums[first]) / 1024
        report.check(
            growth <= WARMUP_MIB,
            f"resident after reload {first} ({CODES[first % 2]}): {sums[first] / 1024:.1f} MiB, after reload {last}: "
            f"{sums[last] / 1024:.1f} MiB ({growth:+.1f}, at most {WARMUP_MIB})",
        )
    flat(report, "resident under load", {turn: sums[turn] for turn in (4, RELOADS)})
    kill_under_load(report, site, seconds - part)


def kill_under_load(report, site: Site, seconds: int) -> None:
    with loaded(site.port, PATHS, connections=KEPT, headers=("x-plugin", "x-mark")) as load:
        wrk = Wrk(site, seconds)
        time.sleep(seconds / 3)
        victim = site.workers()[0]
        os.kill(victim, signal.SIGKILL)
        site.until(lambda: len(site.workers()) == 2 and victim not in site.workers())
        load.until_answered(100)
        result = wrk.result()
    lost = len(load.tally.lost) + len(load.tally.closed)
    report.check(
        errors(result) <= CONNECTIONS and result["wrong"] == 0,
        f"wrk, a killed worker: {result['requests']} requests, {errors(result)} of at most {CONNECTIONS} in flight lost",
    )
    report.check(
        lost <= KEPT,
        f"kept connections, a killed worker: {load.tally.answered} answered, {lost} of at most {KEPT} in flight lost",
    )


def flat(report, what: str, found: dict[int, int]) -> None:
    (first, early), (last, late) = found.items()
    report.check(
        late <= early * GROWTH,
        f"{what} after reload {first}: {early / 1024:.1f} MiB, after reload {last}: {late / 1024:.1f} MiB, "
        f"{late / early:.3f} times (at most {GROWTH})",
    )


def reload_idle(report, site: Site) -> None:
    """Many more reloads, then configurations that are refused: what both leave in the master and its workers."""
    sums = {}
    for turn in range(RELOADS + 1, RELOADS + MORE + 1):
        site.reload(turn=turn)
        site.until(lambda: len(site.processes()) == 2)
        time.sleep(0.1)
        sums[turn] = sum(site.memory().values())
    flat(report, "resident without load", {turn: sums[turn] for turn in (RELOADS + 2, RELOADS + MORE)})
    sizes = {}
    for turn in range(1, RELOADS + 1):
        before = len(site.log())
        site.write(turn=0, wasm="plugin bad { module code; configuration '{\"nonsense\": 1}'; } service bad;")
        site.signal(signal.SIGHUP)
        site.until(lambda: "[emerg]" in site.log()[before:])  # noqa: B023
        # The log comes before all of it is freed.
        time.sleep(0.2)
        sizes[turn] = resident_kib(site.pid)
    flat(report, "master, refused configurations:", {turn: sizes[turn] for turn in (1, RELOADS)})


def run(report, directory: Path, seconds: int) -> None:
    for name in ("backend", "site"):
        (directory / name).mkdir()
    backend = Master(directory / "backend", plain=True)
    site = Site(directory / "site", backend.port)
    try:
        backend.start(
            workers=1,
            log_level="warn",
            http=f"""
                access_log off;
                keepalive_requests 1000000000;
                server {{ listen 127.0.0.1:{backend.port} backlog=4096; location / {{ return 200 "backend"; }} }}
            """,
        )
        site.start(turn=0)
        reload_under_load(report, site, seconds)
        reload_idle(report, site)
    finally:
        site.stop()
        backend.stop()
