# SPDX-License-Identifier: Apache-2.0
"""Updates of code and configuration through files, under load: no request lost, memory flat. Our module is checked, the built-in
filter's figures are printed beside it."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from kit.client import eventually
from kit.load import loaded
from kit.setup import FILTERS, Plugin, example_filter
from site_of_envoy import BUILT_IN, OURS, Site

CONNECTIONS = 6
WORKERS = 2
CODES = ["rust", "c"]
#: MiB that may be there at last beside an earlier time.
GROWTH = 2.0


def marked(turn: int) -> tuple[Plugin, Plugin]:
    """Other code each time, and another configuration: the responses tell both."""
    name = f"{CODES[turn % 2]}-add-headers"
    configuration = json.dumps({"response": {"x-mark": str(turn)}})
    return example_filter(name), example_filter(name, configuration, vm_id=f"turn-{turn}")


def refused(report, site: Site, say) -> None:
    """Code that is none: Envoy keeps what it has."""
    broken = site.directory / "broken.wasm"
    broken.write_bytes((FILTERS / "rust-add-headers.wasm").read_bytes()[:5000])
    before = site.stat("listener_manager.lds.update_rejected")
    site.write(Plugin(broken, name="broken"))
    rejected = eventually(lambda: site.stat("listener_manager.lds.update_rejected") > before, timeout=20)
    reason = next((line for line in site.server.book.lines if "broken" in line), "no line of the log says why")
    say(rejected and "broken" in reason, f"{site.kind}: code that is none is rejected: {reason[:300]}")


def updates(report, kind: str, count: int) -> None:
    say = report.check if kind == OURS else report.compare
    with tempfile.TemporaryDirectory(prefix="proxywasm-envoy-") as name:
        site = Site(kind, Path(name), workers=WORKERS)
        memory: list[float] = []
        try:
            site.start(*marked(0))
            with loaded(site.port, ["/"], connections=CONNECTIONS, headers=("x-plugin", "x-mark")) as load:
                load.until_answered(200)
                for turn in range(1, count + 1):
                    site.update(*marked(turn))
                    load.until_answered(200)
                    memory.append(site.anonymous_mib())
                refused(report, site, say)
                load.until_answered(200)
            tally = load.tally
            time.sleep(0.5)  # for the access log
            taken = tally.taken(site.access_log.read_text())
            say(
                not tally.lost and not taken,
                f"{kind}, {count} updates: {tally.answered} requests answered, {len(tally.lost)} lost; {len(tally.closed)} found "
                f"their connection closed, and {len(taken)} of them had been taken",
            )
            for one in tally.lost[:5]:
                report.say(f"  {one}")
            wanted = {(200, f"{CODES[turn % 2]}-add-headers", str(turn)) for turn in range(count + 1)}
            say(
                set(tally.seen) == wanted,
                f"{kind}: all {count + 1} configurations answered, each with its own code, and nothing else did"
                + "".join(f"; not {one}" for one in sorted(wanted - set(tally.seen)))
                + "".join(f"; also {one}" for one in set(tally.seen) - wanted),
            )
            # Code of one kind is larger than the other: pairs of both.
            third = max(2, count // 3)
            early, late = statistics.median(memory[third - 2 : third + 2]), statistics.median(memory[-4:])
            say(
                late - early <= GROWTH,
                f"{kind}: RssAnon after about {third} updates {early:.1f} MiB, after {count} {late:.1f} MiB (at most "
                f"{GROWTH:+.0f}); after each: {', '.join(f'{one:.1f}' for one in memory)}",
            )
            say(site.alive(), f"{kind}: Envoy runs on")
        finally:
            site.server.stop()


def run(report, count: int) -> None:
    for kind in (OURS, BUILT_IN):
        updates(report, kind, count)
