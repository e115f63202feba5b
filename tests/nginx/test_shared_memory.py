# SPDX-License-Identifier: Apache-2.0
"""What workers share, when workers are killed and configurations replaced."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import threading
import time

import pytest
from kit.setup import GUESTS
from master import Master

GUEST = GUESTS / "probe.wasm"


class Server(Master):
    """One probe answers all requests."""

    def write(self, *, on=None, wasm="", workers=2):
        (self.directory / "probe.json").write_text(json.dumps({"name": "p", "type": "http", "on": on or {}}))
        super().write(
            workers=workers,
            wasm=f"""
                {wasm}
                module probe {GUEST};
                plugin p {{ module probe; configuration_file {self.directory}/probe.json; vm_id v; start_deadline 60s; }}
            """,
            http=f"""
                access_log off;
                large_client_header_buffers 8 64k;
                server {{
                    listen 127.0.0.1:{self.port} reuseport;
                    location / {{ proxy_wasm p; return 200; }}
                    location = /metrics {{ proxy_wasm_metrics; }}
                }}
            """,
        )

    def start(self, **options):
        super().start(**options)
        self.until(lambda: self.get({}) is not None)

    def fetch(self, path, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def get(self, on):
        """What a plugin's script put into its answer; None where there was none."""
        try:
            return self.fetch("/", {"x-probe-p": json.dumps({"on": on})})
        except (OSError, http.client.HTTPException):
            return None

    def value(self, key):
        """The value of a key, or None."""
        answer = self.get({"request_headers": [["quietly", [["shared_get", key]]], ["local", 200, [], "{last}"]]})
        return json.loads(answer)[0] if answer else None

    def set(self, key, value):
        self.get({"request_headers": [["quietly", [["shared_set", key, value, None]]], ["local", 200, [], "done"]]})

    def metric(self, name):
        lines = self.fetch("/metrics", {}).splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(name + " ")), None)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    server.stop()


def refused(server, wasm):
    server.write(wasm=wasm)
    answer = server.check()
    assert answer.returncode == 1
    return answer.stderr


def test_counting_of_two_workers_is_exact(server):
    """Each adds 1 by compare-and-swap 50,000 times, both at the same time: as workers start."""
    server.start(on={"configure": [["shared_add", "count", 50_000]]})
    # What did not match: at once, or the other worker was faster.
    pattern = re.compile(r'info\] (\d+)#.* probe:(\{.*"op":"shared_add".*\})')
    server.until(lambda: len(pattern.findall(server.log())) >= 2)
    found = {int(pid): json.loads(report)["r"] for pid, report in pattern.findall(server.log())}
    assert sorted(found) == server.workers()
    assert server.value("count") == "100000"
    print(f"mismatches: {found}")


def test_keys_of_equal_crc32_are_two(server):
    server.start()
    server.set("plumless", "one")
    assert server.value("buckeroo") is None
    server.set("buckeroo", "two")
    assert (server.value("plumless"), server.value("buckeroo")) == ("one", "two")


def test_a_reload_keeps_everything(server):
    server.start(
        on={"configure": [["metric", "counter", "starts"], ["metric_add", "starts", 1], ["queue_register", "q"]]}
    )
    server.set("key", "kept")
    server.get({"request_headers": [["queue_push", "q", "waiting"]]})
    assert server.metric("starts") == 2
    server.reload(
        on={
            "configure": [["metric", "counter", "starts"], ["metric_add", "starts", 1], ["queue_register", "q"]],
            "queue_ready": [["queue_pop", "q"], ["shared_set", "popped", "{last}", None]],
        }
    )
    assert server.value("key") == "kept"
    assert server.metric("starts") == 4
    server.until(lambda: server.value("popped") == "waiting", 10)


def test_a_respawned_worker_is_told_of_items(server):
    on = {
        "configure": [["queue_register", "q"]],
        "queue_ready": [["queue_pop", "q"], ["quietly", [["shared_add", "popped", 1]]]],
    }
    server.start(on=on)
    push = {"request_headers": [["queue_push", "q", "item"]]}
    for turn in range(1, 6):
        victim = random.choice(server.workers())
        os.kill(victim, signal.SIGKILL)
        server.until(lambda: len(server.workers()) == 2 and victim not in server.workers())  # noqa: B023
        server.until(lambda: server.get(push) is not None)
        server.until(lambda: int(server.value("popped") or 0) >= turn, 10)  # noqa: B023


def test_zones_outlive_workers_that_are_killed_while_they_write(server):
    server.start(
        on={"configure": [["queue_register", "q"]], "queue_ready": [["quietly", [["queue_pop", "q"]]]]},
        wasm="shm_kv * 64k; shm_queue * 64k; metrics { slab_size 64k; }",
    )
    ended = threading.Event()

    def load(number):
        while not ended.is_set():
            name = f"{random.randrange(50)}"
            steps = [
                [
                    "repeat",
                    300,
                    [["shared_set", name, "v" * random.randrange(2000), None], ["shared_add", f"n{number}", 1]],
                ],
                ["queue_push", "q", "i" * random.randrange(3000)],
                ["metric", "counter", f"m{name}"],
            ]
            server.get({"request_headers": [["quietly", steps], ["local", 200, [], "done"]]})

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        time.sleep(random.random() / 5)
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(random.choice(server.workers()), signal.SIGKILL)
    ended.set()
    for thread in threads:
        thread.join()
    server.until(lambda: len(server.workers()) == 2)
    workers = server.workers()
    for turn in range(200):
        server.set(f"after{turn % 7}", "x" * 5 * turn)
        assert server.value(f"after{turn % 7}") == "x" * 5 * turn or turn == 0
    # Nothing was lost: all of the zone can still be had.
    server.set("large", "x" * 40_000)
    assert server.value("large") == "x" * 40_000
    assert server.workers() == workers


def test_eviction(server):
    server.start(workers=1, wasm="shm_kv * 32k eviction=lru; shm_kv none 12k eviction=none;")
    server.set("old", "1")
    server.set("used", "2")
    for turn in range(100):
        server.set(f"key{turn}", "x" * 500)
        assert server.value("used") == "2"
    assert server.value("old") is None
    assert server.value("key99") == "x" * 500
    for turn in range(30):
        server.set(f"none/{turn}", "x" * 500)
    assert 'the zone "proxywasm kv none" is full' in server.log()
    # Rust's SDK panics when there is no room, and it takes a moment until the next VM.
    server.until(lambda: server.value("none/0") == "x" * 500, 30)
    assert server.value("none/29") is None


@pytest.mark.parametrize(
    ("wasm", "message"),
    [
        ("shm_kv a 4k;", "zone size 4096 is too small: it must be at least 12288"),
        ("shm_kv a 15k; shm_kv a 15k;", 'zone "a" is defined already'),
        ("shm_kv a 1m eviction=fifo;", 'invalid parameter "eviction=fifo"'),
        ("shm_kv a/b 1m;", 'invalid zone name "a/b"'),
        ("shm_kv a many;", 'invalid zone size "many"'),
        ("shm_queue a 1m eviction=lru;", 'invalid number of arguments in "shm_queue" directive'),
        ("metrics { max_metric_name_length 5; }", '"max_metric_name_length" must be at least 6'),
        ("metrics { slab_size 1k; }", "zone size 1024 is too small"),
        ("metrics { } metrics { }", '"metrics" directive is duplicate'),
    ],
)
def test_refused(server, wasm, message):
    text = refused(server, wasm)
    assert message in text
    assert "nginx.conf:" in text
