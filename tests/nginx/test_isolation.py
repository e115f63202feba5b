# SPDX-License-Identifier: Apache-2.0
"""`proxy_wasm_isolation`: requests and connections with VMs of their own."""

import json
import socket
import time

import pytest
from hosts.nginx import MODULES, STREAM_MODULES
from http_site import call, connected
from kit.ports import free_port
from kit.setup import GUESTS
from master import resident_kib
from test_status import status

MODES = ("stream", "filter")
STATUS = "location = /status { proxy_wasm_status; }"
TWO = "".join(
    f"plugin {name} {{ module probe; configuration '{json.dumps({'name': name, 'type': 'http', 'on': {}})}'; }}"
    for name in ("one", "two")
)


def vms(reply, plugin=None):
    """The VMs that a request met, in the order of its plugins."""
    return [one.vm for one in reply.reports.of("request_headers", plugin=plugin).entries]


def only_worker(proxy):
    (worker,) = status(proxy)["workers"]
    return worker


def test_inheritance(site):
    """A block has the isolation of the one around it, or its own, also with the plugins of the one around it."""
    proxy = site(
        """
        proxy_wasm one; proxy_wasm two; proxy_wasm_isolation stream;
        location /stream { return 200 ok; }
        location /filter { proxy_wasm_isolation filter; return 200 ok; }
        location /none { proxy_wasm_isolation none; return 200 ok; }
        location /own { proxy_wasm one; return 200 ok; location /own/none { proxy_wasm_isolation none; return 200 ok; } }
        """,
        wasm=TWO,
        standard=False,
    )
    seen = {
        path: [vms(proxy.get(path)) for _ in range(2)] for path in ("/stream", "/filter", "/none", "/own", "/own/none")
    }
    flat = {path: [vm for pair in pairs for vm in pair] for path, pairs in seen.items()}
    # Two requests through two plugins.
    assert [len(set(flat[path])) for path in ("/stream", "/filter", "/none")] == [2, 4, 1]
    assert all(one == two for one, two in seen["/stream"])
    assert [len(set(flat[path])) for path in ("/own", "/own/none")] == [2, 1]
    assert flat["/own/none"][0] == flat["/none"][0], "the worker's"


def test_default(site):
    proxy = site()
    assert vms(proxy.get("/return")) == vms(proxy.get("/return"))


def test_one_vm_for_all_of_a_request(site):
    proxy = site("proxy_wasm_isolation stream;")
    seen = set()
    for path in ("/return", "/file", "/proxied"):
        reports = proxy.get(path, probe={"request_headers": [["pause"], call(["resume", "request"])]}).reports
        assert reports.ends == [1, 1, 1]
        assert len({one.vm for one in reports}) == 1
        seen.add(reports[0].vm)
        assert "http_call_response" in reports.callbacks and "response_headers" in reports.callbacks
    assert len(seen) == 3


def test_subrequests_have_their_own(site):
    proxy = site(
        """
        proxy_wasm_isolation stream;
        location / { proxy_wasm probe; auth_request /auth; return 200 ok; proxy_pass http://127.0.0.1:{upstream}; }
        location = /auth { internal; proxy_wasm probe; proxy_pass http://127.0.0.1:{upstream}; }
        location = /proxied { proxy_wasm probe; auth_request /auth; proxy_pass http://127.0.0.1:{upstream}; }
        """,
        standard=False,
    )
    reports = proxy.get("/proxied").reports
    assert len({one.vm for one in reports}) == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_trap_is_of_its_own_request(site, mode):
    proxy = site(f"proxy_wasm_isolation {mode}; {STATUS}")
    with connected(proxy) as connection:
        case = connection.send_head(
            "GET", "/return", probe={"request_headers": [["pause"], call(["resume", "request"])]}
        )
        assert proxy.server.book.wait(lambda: proxy.server.book.reports.of("request_headers"))
        for _ in range(3):
            assert proxy.get("/return", probe={"request_headers": [["trap"]]}).status == 503
        reply = connection.read_reply(case, "GET")
        assert (reply.status, reply.body) == (200, b"returned")
        assert reply.reports.ends == [1, 1, 1]
    assert proxy.get("/return").status == 200
    worker = only_worker(proxy)
    assert (worker["vms"], worker["vms_failed"], worker["plugins"][0]["failures"]) == (1, 3, 3)


@pytest.mark.parametrize("policy", ["closed", "open"])
def test_policies_are_of_their_own_request(site, policy):
    plugin = f"""plugin strict {{ module probe; failure_policy {policy};
        configuration '{{"name": "strict", "type": "http", "on": {{}}}}'; }}"""
    server = "location / { proxy_wasm strict; proxy_wasm_isolation stream; return 200 ok; }"
    proxy = site(server, wasm=plugin, standard=False)
    for _ in range(2):
        assert proxy.get(probe={"request_headers": [["trap"]]}).status == (503 if policy == "closed" else 200)
        reply = proxy.get()
        assert reply.status == 200
        assert reply.reports.ends == [1, 1, 1]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left_of_calls_in_flight(site, mode):
    """The client leaves while the plugin waits for an answer."""
    proxy = site(f"proxy_wasm_isolation {mode}; {STATUS}")
    for _ in range(3):
        with connected(proxy) as connection:
            before = len(proxy.server.book.reports.of("request_headers").entries)
            # The upstream answers later than this test ends.
            steps = [["pause"], ["call", {"upstream": "127.0.0.1:9", "timeout_ms": 60000}], call()]
            connection.send_head("GET", "/return", probe={"request_headers": steps})
            assert proxy.server.book.wait(
                lambda n=before: len(proxy.server.book.reports.of("request_headers").entries) > n
            )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (only_worker(proxy)["vms"], only_worker(proxy)["callouts"]) != (1, 0):
        time.sleep(0.05)
    worker = only_worker(proxy)
    assert (worker["vms"], worker["callouts"], worker["vms_failed"]) == (1, 0, 0)


def test_ticks_of_a_request(site):
    """A plugin that keeps requests waiting until a tick: the tick comes to the VM that waits."""
    proxy = site(
        "location / { proxy_wasm_isolation stream; proxy_wasm postponed '{\"period_ms\": 50}'; return 200 ok; }",
        wasm=f"module postponed {GUESTS}/postponed.wasm;",
        standard=False,
    )
    assert proxy.get(headers=[("x-any", "1")]).status == 200


def requests(port, path, count, batch=50):
    """Keep-alive requests, so many at a time."""
    with socket.create_connection(("127.0.0.1", port), 30) as end:
        done = 0
        while done < count:
            end.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * batch)
            answers = b""
            while answers.count(b"\r\n\r\nok") < batch:
                piece = end.recv(1 << 16)
                assert piece, answers
                answers += piece
            assert answers.count(b"HTTP/1.1 200") == batch
            done += batch


@pytest.mark.parametrize("mode", MODES)
def test_memory(nginx, mode):
    """What ngx_wasm_module leaked was 763 bytes a request: 9 MB of these."""
    proxy = nginx(
        log_level="warn",
        http="keepalive_requests 1000000;",
        wasm=TWO.replace('"on": {}', '"on": {"configure": [["tick", 1000], ["metric", "counter", "c"]]}'),
        server=f"location / {{ proxy_wasm_isolation {mode}; proxy_wasm one; proxy_wasm two; return 200 ok; }} {STATUS}",
    )
    worker = only_worker(proxy)["pid"]
    requests(proxy.server.port, "/", 1_000)
    before = resident_kib(worker)
    requests(proxy.server.port, "/", 12_000)
    grown = resident_kib(worker) - before
    assert only_worker(proxy)["vms"] == 1
    assert grown < 1024, f"{grown} KiB more after 12,000 requests"


def test_connections(nginx, upstream):
    """Each TCP connection has a VM, for as long as it lives."""
    port = free_port()
    gate = """plugin gate { module probe; configuration '{"name": "gate", "type": "tcp", "on": {}}'; }"""
    modules = "".join(f"load_module {module};" for module in STREAM_MODULES if MODULES)
    proxy = nginx(
        main=f"""{modules} stream {{ server {{ listen 127.0.0.1:{port}; proxy_wasm gate; proxy_wasm_isolation stream;
            proxy_pass 127.0.0.1:{upstream.port}; }} }}""",
        wasm=gate,
        server=STATUS,
    )
    ends = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(3)]
    book = proxy.server.book
    assert book.wait(lambda: len(book.reports.of("new_connection").entries) == 3)
    assert len({one.vm for one in book.reports.of("new_connection")}) == 3
    assert only_worker(proxy)["vms"] == 4
    for end in ends:
        end.close()
    assert book.wait(lambda: len(book.reports.of("done").entries) == 3)
    assert only_worker(proxy)["vms"] == 1


def test_refusals(nginx):
    assert 'invalid value "request"' in nginx.check(http="proxy_wasm_isolation request;")
    twice = nginx.check(server="proxy_wasm_isolation stream; proxy_wasm_isolation none;")
    assert '"proxy_wasm_isolation" directive is duplicate' in twice
