# SPDX-License-Identifier: Apache-2.0
import json
import os
import signal
import time

from kit.client import eventually

ENDPOINTS = "location = /metrics { proxy_wasm_metrics; } location = /status { proxy_wasm_status; }"


def status(proxy):
    answer = proxy.http.get("/status")
    assert answer.headers["content-type"] == "application/json"
    return json.loads(answer.text)


def test_status(nginx):
    proxy = nginx(server=f"location / {{ proxy_wasm probe; proxy_wasm bare 'x'; return 200 ok; }} {ENDPOINTS}")
    assert proxy.get().status == 200
    told = status(proxy)
    assert told["version"] and told["nginx"]
    (worker,) = told["workers"]
    assert worker["pid"] != proxy.server.process.pid
    assert (worker["quitting"], worker["age_ms"]) == (False, 0)
    assert (worker["vms"], worker["vms_failed"], worker["streams_created"], worker["callouts"]) == (2, 0, 1, 0)
    assert worker["memory"] > 65536
    assert told["total"] == {name: worker[name] for name in told["total"] if name in worker} | {"workers": 1}
    assert worker["plugins"] == [{"name": name, "failures": 0, "last_failure": None} for name in ("probe", "bare")]
    one, two = told["plugins"]
    assert (one["name"], one["module"], one["failures"], one["last_failure"]) == ("probe", "probe", 0, None)
    assert (two["name"], two["module"]) == ("bare", "bare")
    assert two["file"].endswith(".conf") and two["line"] > 0


def test_failures(nginx):
    proxy = nginx(server=f"location / {{ proxy_wasm bare; return 200 ok; }} {ENDPOINTS}")
    assert proxy.get(bare="request_headers: trap").status == 503
    told = status(proxy)
    (worker,) = told["workers"]
    assert worker["vms_failed"] == told["total"]["vms_failed"] == 1
    assert (worker["plugins"][0]["failures"], worker["plugins"][0]["last_failure"]) == (1, "GUEST_TRAP")


def test_metrics(nginx):
    proxy = nginx(server=f"location / {{ proxy_wasm probe; return 200 ok; }} {ENDPOINTS}")
    proxy.get(probe={"request_headers": [["metric", "counter", "seen"], ["metric_add", "seen", 3]]})
    answer = proxy.http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"
    assert "seen 3\n" in answer.text and "# TYPE seen counter" in answer.text
    head = proxy.http.head("/metrics")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(answer.content)), b"")
    assert proxy.http.post("/metrics", content=b"x").status_code == 405


def test_without_plugins(nginx):
    proxy = nginx(server=ENDPOINTS)
    assert proxy.http.get("/metrics").text == ""
    assert status(proxy)["workers"][0]["plugins"] == []


def test_service(nginx):
    service = """plugin ticking { module probe; configuration
              '{"name": "ticking", "type": "root", "on": {"configure": [["tick", 20]]}}'; } service ticking;"""
    proxy = nginx(wasm=service, server="location / { return 200 ok; }")
    book = proxy.server.book
    assert book.wait(lambda: len(book.reports.of("tick")) >= 3)
    assert "needs no service" in nginx.check(wasm=f"{service} service ticking;")
    assert 'no "none" module' in nginx.check(wasm="service none;")


WORKERS = f"location / {{ proxy_wasm probe; proxy_wasm bare; return 200 $pid; }} {ENDPOINTS}"


def until(question):
    assert eventually(question, 10), question()


def by_pid(told):
    return {worker["pid"]: worker for worker in told["workers"]}


def counts(told, proxy):
    """Requests that each worker has had, when all of them answer."""
    assert told["total"]["workers"] == len(told["workers"])
    for name in ("streams_created", "memory", "vms", "cpu_ms"):
        assert told["total"][name] == sum(worker[name] for worker in told["workers"])
    return sum(worker["streams_created"] for worker in told["workers"])


def test_all_workers(nginx):
    """Each knows of all, also of those that were killed, or begin."""
    proxy = nginx(workers=3, server=WORKERS)
    until(lambda: len(status(proxy)["workers"]) == 3)
    had = {}
    for _ in range(60):
        pid = int(proxy.get().body)
        had[pid] = had.get(pid, 0) + 1
    told = status(proxy)
    assert {pid: by_pid(told)[pid]["streams_created"] for pid in had} == had
    assert counts(told, proxy) == 60
    assert {worker["age_ms"] for worker in told["workers"]} <= set(range(300))
    # Failures add up.
    assert {proxy.get(bare="request_headers: trap").status for _ in range(9)} == {503}
    told = status(proxy)
    failures = told["plugins"][1]["failures"]
    assert told["total"]["vms_failed"] == failures >= 1
    assert (told["plugins"][1]["last_failure"], told["plugins"][0]["failures"]) == ("GUEST_TRAP", 0)
    assert sum(worker["plugins"][1]["failures"] for worker in told["workers"]) == failures
    # One is killed: what it had is gone with it, and another one is there.
    killed = told["workers"][1]["pid"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(status(proxy)["workers"]) == 3 and killed not in by_pid(status(proxy)))
    told = status(proxy)
    new = by_pid(told)[next(iter(by_pid(told).keys() - had.keys() - {killed}))]
    assert new["plugins"][1]["failures"] == new["streams_created"] == 0
    counts(told, proxy)


def test_over_reload(nginx):
    """Workers that still finish requests are told, but not their plugins: those are of another configuration."""
    proxy = nginx(workers=2, server=WORKERS)
    until(lambda: len(status(proxy)["workers"]) == 2)
    before = by_pid(status(proxy))
    with proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": [["pause"]]})
        assert proxy.server.book.wait(lambda: any(one.id == case for one in proxy.server.book.reports))
        proxy.server.process.send_signal(signal.SIGHUP)
        until(lambda: len(status(proxy)["workers"]) == 3)
        until(lambda: [one["quitting"] for one in status(proxy)["workers"]].count(True) == 1)
        old = next(one for one in status(proxy)["workers"] if one["quitting"])
        assert old["pid"] in before and (old["streams"], old["plugins"]) == (1, [])
    until(lambda: len(status(proxy)["workers"]) == 2)
    assert not by_pid(status(proxy)).keys() & before.keys()


def test_busy_worker(nginx):
    """One that a plugin keeps busy is not waited for for long."""
    proxy = nginx(
        workers=2,
        wasm="plugin busy { module bare; deadline 3s; }",
        server=f"{WORKERS} location /busy {{ proxy_wasm busy; return 200; }}",
    )
    until(lambda: len(status(proxy)["workers"]) == 2)
    # The worker that takes the request may be the one that is asked, too: then it answers when the plugin has ended.
    for _ in range(12):
        with proxy.connect() as connection:
            connection.send_head(path="/busy", bare="request_headers: loop")
            time.sleep(0.4)
            begin = time.monotonic()
            workers = status(proxy)["workers"]
            if max(worker["age_ms"] for worker in workers) >= 290:
                break
    else:
        raise AssertionError(workers)
    assert len(workers) == 2
    assert time.monotonic() - begin < 2.5
    until(lambda: status(proxy)["total"]["vms_failed"] >= 1)
