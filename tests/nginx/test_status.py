# SPDX-License-Identifier: Apache-2.0
import json

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
    assert (worker["vms"], worker["vms_failed"], worker["streams_created"], worker["callouts"]) == (2, 0, 1, 0)
    assert worker["memory"] > 65536
    one, two = worker["plugins"]
    assert (one["name"], one["module"], one["failures"], one["last_failure"]) == ("probe", "probe", 0, None)
    assert (two["name"], two["module"]) == ("bare", "bare")
    assert two["file"].endswith(".conf") and two["line"] > 0


def test_failures(nginx):
    proxy = nginx(server=f"location / {{ proxy_wasm bare; return 200 ok; }} {ENDPOINTS}")
    assert proxy.get(bare="request_headers: trap").status == 503
    (worker,) = status(proxy)["workers"]
    assert worker["vms_failed"] == 1
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
