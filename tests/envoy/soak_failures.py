# SPDX-License-Identifier: Apache-2.0
"""A plugin that fails on one request in a hundred, under load; one that loops without end, and SIGTERM. Our module is checked,
the built-in filter's figures are printed beside it."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from kit.load import Load, Tally, loaded
from kit.setup import probe
from site_of_envoy import BUILT_IN, OURS, Site

CONNECTIONS = 8
#: Requests are in the VM together, so that one that fails has company.
DELAY_MS = 5
GOOD, BAD = "/good", "/bad"
#: The plugin marks each response, so that one without its mark has passed without it.
MARK = {"response_headers": [["add", "response_headers", "x-filtered", "yes"]]}
DEADLINE = 0.5


def script(*steps) -> str:
    return "x-probe: " + json.dumps({"id": "soak", "on": {**MARK, "request_headers": list(steps)}})


def plugin(policy: str | None):
    silent = ("context_create", "request_headers", "response_headers", "response_body", "log", "done", "delete")
    return probe(on=MARK, silent=silent, policy=policy)


@dataclass
class Outcome:
    """What became of the requests of a load."""

    tally: Tally
    good: int = 0
    unfiltered: int = 0
    failed: int = 0  # those that the plugin fails on, answered 503
    company: int = 0  # others answered 503 that were in flight with one of those
    later: list = field(default_factory=list)  # others answered 503
    other: list = field(default_factory=list)  # answered with anything else

    def __str__(self) -> str:
        return (
            f"{self.tally.answered} answered: {self.good} by 200 and filtered, {self.unfiltered} by 200 and not filtered; "
            f"503 for {self.failed} that it fails on, {self.company} in flight with those, {len(self.later)} others"
        )


def outcome(tally: Tally) -> Outcome:
    found = Outcome(tally)
    for (status, mark), count in tally.seen.items():
        if status == 200:
            found.good += count if mark else 0
            found.unfiltered += 0 if mark else count
    refused = [one for one in tally.refused if one.status == 503]
    found.other = [one for one in tally.refused if one.status != 503]
    bad = [one for one in refused if one.path == BAD]
    found.failed = len(bad)
    for one in refused:
        if one.path == GOOD:
            if any(one.overlaps(other) for other in bad):
                found.company += 1
            else:
                found.later.append(one)
    return found


def one_in_a_hundred(kind: str, policy: str | None, extra: dict, requests: int, workers: int = 1) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="proxywasm-envoy-") as name:
        site = Site(kind, Path(name), workers=workers, delay_ms=DELAY_MS)
        try:
            site.start(plugin(policy), extra=extra)
            lines = {BAD: script(["trap"])}
            paths = [GOOD] * 50 + [BAD] + [GOOD] * 49
            with loaded(site.port, paths, connections=CONNECTIONS, headers=("x-filtered",), lines=lines) as load:
                load.until_answered(requests, seconds=120)
            assert site.alive(), site.log()
            return outcome(load.tally)
        finally:
            site.server.stop()


def check_failures(report, requests: int) -> None:
    for title, policy, extra in (
        ("policy reload", "reload", {}),
        ("policy closed", "closed", {}),
        ("policy reload, a VM for each stream", "reload", {"isolation": "STREAM"}),
        ("policy closed, a VM for each stream", "closed", {"isolation": "STREAM"}),
    ):
        found = one_in_a_hundred(OURS, policy, extra, requests)
        tally, total = found.tally, found.tally.answered
        bad = (total + 49) // 100
        sound = not tally.lost and not tally.closed and not found.other and not found.unfiltered
        if extra:
            good = found.company == 0 and not found.later and abs(found.failed - bad) <= CONNECTIONS
        elif policy == "reload":
            good = not found.later and abs(found.failed - bad) <= CONNECTIONS
        else:
            # All that came before the first failure, nothing after it.
            good = 0 < found.good <= 50 + CONNECTIONS and found.failed > 0
        report.check(sound and good, f"module, {title}: {found}")
        for one in (*tally.lost, *found.other, *(found.later[:3] if policy == "reload" else ())):
            report.say(f"  {one}")


def ask(port: int, head: str, patience: float) -> tuple[float, bytes]:
    """Seconds until the response's first bytes, and these; none when there are none in time."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), patience) as client:
        client.sendall(f"GET {GOOD} HTTP/1.1\r\nhost: soak\r\n{head}\r\n\r\n".encode())
        try:
            data = client.recv(4096)
        except TimeoutError:
            data = b""
    return time.monotonic() - began, data


def endless_loop(report, kind: str) -> None:
    with tempfile.TemporaryDirectory(prefix="proxywasm-envoy-") as name:
        site = Site(kind, Path(name))
        ours = kind == OURS
        say = report.check if ours else report.compare
        try:
            site.start(plugin("reload"), extra={"limits": {"deadline": f"{DEADLINE}s"}} if ours else {})
            loop = script(["loop"])
            seconds, answer = ask(site.port, loop, patience=DEADLINE + 3)
            status = answer[9:12].decode() or "nothing"
            say(
                answer.startswith(b"HTTP/1.1 503") and seconds < DEADLINE + 1,
                f"{kind}, an endless loop: {status} after {seconds:.2f} s" + (f" (limit {DEADLINE} s)" if ours else ""),
            )
            seconds, answer = ask(site.port, "accept: */*", patience=3)
            say(
                answer.startswith(b"HTTP/1.1 200"),
                f"{kind}, the next request: {answer[9:12].decode() or 'nothing'} after {seconds:.2f} s",
            )
            load = Load(site.port, [GOOD], connections=1, lines={GOOD: loop})
            time.sleep(0.1)
            ended = site.terminate(patience=5)
            took = "killed after 5 s" if ended is None else f"ended after {ended:.2f} s"
            say(ended is not None and ended < DEADLINE + 1, f"{kind}, SIGTERM in an endless loop: {took}")
            load.stop()
        finally:
            site.server.stop()


def run(report, requests: int) -> None:
    check_failures(report, requests)
    for title, policy in (("FAIL_CLOSED, the default", None), ("FAIL_RELOAD", "reload")):
        report.say(f"built-in, {title}: {one_in_a_hundred(BUILT_IN, policy, {}, requests)}")
    for kind in (OURS, BUILT_IN):
        endless_loop(report, kind)
