# SPDX-License-Identifier: Apache-2.0
"""Reload, another binary, a quit, and workers that die, while clients send requests: none is lost."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time

import pytest
from kit.load import loaded
from kit.ports import free_port
from kit.setup import FILTERS, GUESTS
from master import Master, alive, children

PATHS = ["/return", "/file", "/proxied"]


class Site(Master):
    """A plugin that marks responses, on all kinds of content, with an access log; and one that holds requests back."""

    def __init__(self, directory):
        super().__init__(directory)
        self._backend = free_port()
        (directory / "html").mkdir()
        (directory / "html" / "file").write_text("x" * 10_000)

    def write(self, *, module="rust", mark="1", wasm="", **options):
        configuration = json.dumps({"response": {"x-mark": mark}})
        super().write(
            wasm=f"""
                module mark {FILTERS}/{module}-add-headers.wasm;
                module postponed {GUESTS}/postponed.wasm;
                plugin marked {{ module mark; configuration '{configuration}'; }}
                {wasm}
            """,
            http=f"""
                log_format attempts "$status $request_uri";
                access_log {self.directory}/access.log attempts;
                upstream backend {{ server 127.0.0.1:{self._backend}; keepalive 16; }}
                server {{
                    listen 127.0.0.1:{self.port};
                    root {self.directory}/html;
                    proxy_wasm mark;
                    proxy_wasm marked;
                    location /return {{ return 200 "returned"; }}
                    location /file {{ }}
                    location /proxied {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }}
                    location /postponed {{ proxy_wasm marked; proxy_wasm postponed '{{"period_ms": 3000}}'; return 200 "late"; }}
                    location /status {{ proxy_wasm_status; }}
                }}
                server {{ listen 127.0.0.1:{self._backend}; access_log off; location / {{ return 200 "backend"; }} }}
            """,
            **options,
        )

    def access(self):
        return (self.directory / "access.log").read_text()

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.headers["x-mark"], response.read().decode()
        finally:
            connection.close()

    def load(self, **options):
        return loaded(self.port, PATHS, headers=("x-plugin", "x-mark"), **options)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.stop()


class Later(threading.Thread):
    """A request whose answer comes later."""

    def __init__(self, site, path):
        super().__init__(daemon=True)
        self._site, self._path = site, path
        self.answer = None
        self.start()

    def run(self):
        try:
            self.answer = self._site.get(self._path)
        except (OSError, http.client.HTTPException) as reason:
            self.answer = repr(reason)


def lossless(site, load):
    tally = load.tally
    assert tally.lost == []
    assert tally.taken(site.access()) == []
    assert tally.answered > 100
    assert {status for status, *_ in tally.seen} == {200}


def test_reloads_swap_code_and_configuration(site):
    site.start()
    with site.load() as load:
        for turn in range(2, 6):
            load.until_answered(50)
            site.reload(module=["rust", "c"][turn % 2], mark=str(turn))
            site.until(lambda: len(site.processes()) == 2)
        load.until_answered(50)
    lossless(site, load)
    # Nothing but what a configuration makes as a whole.
    assert set(load.tally.seen) == {
        (200, f"{['rust', 'c'][turn % 2]}-add-headers", str(turn)) for turn in range(2, 6)
    } | {(200, "rust-add-headers", "1")}


def test_refused_configurations_leave_all_as_it_was(site):
    site.start()
    workers = site.workers()
    (site.directory / "garbage.wasm").write_bytes(b"\0asm\1\0\0\0garbage")
    refused = {
        "plugin m { module mark; configuration '{\"nonsense\": 1}'; } service m;": "configuration refused: the fields are",
        "module garbage garbage.wasm;": "garbage",
        f"module missing {site.directory}/missing.wasm;": "No such file",
    }
    with site.load() as load:
        for wasm, reason in refused.items():
            load.until_answered(50)
            size = len(site.log())
            site.write(module="c", mark="refused", wasm=wasm)
            site.signal(signal.SIGHUP)
            site.until(lambda: "[emerg]" in site.log()[size:])  # noqa: B023
            assert reason in site.log()[size:]
        load.until_answered(50)
    lossless(site, load)
    assert set(load.tally.seen) == {(200, "rust-add-headers", "1")}
    assert site.processes() == workers
    site.reload(module="c", mark="2")
    assert site.get("/return")[1] == "2"


def test_a_killed_worker_takes_what_it_had_and_no_more(site):
    site.start()
    with site.load(connections=8) as load:
        for _ in range(3):
            for victim in site.workers():
                load.until_answered(100)
                before = len(load.tally.lost) + len(load.tally.closed)
                os.kill(victim, signal.SIGKILL)
                site.until(lambda: len(site.workers()) == 2 and victim not in site.workers())  # noqa: B023
                load.until_answered(100)
                # A connection has one request at a time.
                assert len(load.tally.lost) + len(load.tally.closed) - before <= 8
    # Some worker had connections.
    assert load.tally.lost or load.tally.closed
    assert set(load.tally.seen) == {(200, "rust-add-headers", "1")}


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGHUP], ids=["quit", "reload"])
def test_requests_that_wait_for_a_plugin_are_answered(site, number):
    site.start()
    late = Later(site, "/postponed")
    time.sleep(0.3)
    workers = site.workers()
    site.write(module="c", mark="2")
    site.signal(number)
    late.join(20)
    assert late.answer == (200, "1", "late")
    site.until(lambda: not any(map(alive, workers)), 10)
    if number == signal.SIGQUIT:
        site.until(lambda: not alive(site.pid), 10)
    else:
        assert site.get("/return")[1] == "2"
    assert "open socket" not in site.log()


def test_another_binary_takes_over(site):
    site.start()
    old, workers = site.pid, site.workers()
    with site.load() as load:
        late = Later(site, "/postponed")
        load.until_answered(100)
        site.write(module="c", mark="2")
        site.signal(signal.SIGUSR2)
        site.until(lambda: site.pid_of("nginx.pid") not in (0, old))
        new = site.pid_of("nginx.pid")
        site.until(lambda: len(children(new, "worker process")) == 2)
        # Both take requests.
        load.until_answered(100)
        site.signal(signal.SIGWINCH)
        site.until(lambda: not any(map(alive, workers)))
        load.until_answered(100)
        site.signal(signal.SIGQUIT)
        site.until(lambda: not alive(old))
        site.pid = new
        load.until_answered(100)
    lossless(site, load)
    assert late.answer == (200, "1", "late")
    assert set(load.tally.seen) == {(200, "rust-add-headers", "1"), (200, "c-add-headers", "2")}


def test_another_binary_is_given_up(site):
    site.start()
    old = site.pid
    with site.load() as load:
        site.write(module="c", mark="2")
        site.signal(signal.SIGUSR2)
        site.until(lambda: site.pid_of("nginx.pid") not in (0, old))
        new = site.pid_of("nginx.pid")
        site.until(lambda: len(children(new, "worker process")) == 2)
        site.signal(signal.SIGWINCH)
        site.until(lambda: len(site.processes()) == 0)
        load.until_answered(100)
        # Back to what was, whatever the file says by now.
        site.signal(signal.SIGHUP)
        site.until(lambda: len(site.workers()) == 2)
        os.kill(new, signal.SIGQUIT)
        site.until(lambda: not alive(new))
        load.until_answered(100)
    lossless(site, load)
    assert site.get("/return")[1] == "1"
    site.reload(mark="3")
    assert site.get("/return")[1] == "3"
