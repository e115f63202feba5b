# SPDX-License-Identifier: Apache-2.0
"""What the conformance kit does not show of callouts, since it is NGINX's: upstreams, names, TLS, connections, directives."""

import json
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from callout_site import Backend, Dns, Site, refusal
from kit.upstream import Refusing, Silent


@pytest.fixture
def start():
    """start(wasm=…, http=…, location=…) → a server."""
    sites = []

    def start(**options):
        sites.append(Site(**options))
        return sites[-1]

    yield start
    for site in sites:
        site.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A directory with ca.pem, and by it named.pem for callout.test and addressed.pem for 127.0.0.1."""
    directory = tmp_path_factory.mktemp("certificates")

    def run(*command):
        subprocess.run(["openssl", *command], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    run("req", "-x509", *key, "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.pem")
    for name, alternative in (("named", "DNS:callout.test"), ("addressed", "IP:127.0.0.1")):
        options = (
            "-subj",
            f"/CN={name}",
            "-addext",
            f"subjectAltName={alternative}",
            "-addext",
            "basicConstraints=CA:FALSE",
        )
        run(
            "req",
            "-x509",
            *key,
            *options,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
        )
    directory.chmod(0o755)
    return directory


@pytest.fixture
def backend():
    server = Backend()
    yield server
    server.close()


def tls(certificates, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return context


# ---- Where to ----


def test_addresses(start, backend):
    # Not in a directory of the test's own: the worker is somebody else.
    path = f"{tempfile.gettempdir()}/proxywasm-test-{backend.port}.sock"
    local = Backend(path=path)
    site = start()
    assert site.call(f"127.0.0.1:{backend.port}") == ("200", "connection 1")
    assert site.call(f"localhost:{backend.port}") == ("200", "connection 2")
    assert site.call(f"unix:{path}") == ("200", "connection 1")
    assert "connection: close" in backend.heads[0]
    local.close()


@pytest.mark.parametrize("place", ["wasm", "http", "location"])
def test_names(start, backend, place):
    dns = Dns({"service.test": "127.0.0.1"})
    site = start(**{place: f"resolver 127.0.0.1:{dns.port} ipv6=off;"})
    assert site.call(f"service.test:{backend.port}")[0] == "200"
    assert site.call(f"service.test:{backend.port}")[0] == "200"
    assert dns.asked == ["service.test"]
    assert site.call("nothing.test") == (None, None)
    assert site.log('dispatch failed: "nothing.test" could not be resolved (3: Host not found)')
    dns.close()


def test_silent_resolver(start):
    site = start(wasm="resolver 127.0.0.1:9 ipv6=off; resolver_timeout 200ms;")
    assert site.call("service.test:80") == (None, None)
    assert site.call("service.test:80", timeout_ms=100) == (None, None)
    assert site.log('dispatch failed: timed out resolving "service.test"')


# What nobody answers, nobody listens at, nobody knows, and what no client understands.
FAILURES = ["timeout", "broken connection", "resolver failure", "reader failure", "tls handshake failure"]


@pytest.mark.parametrize("status", FAILURES)
def test_dispatch_status(start, status):
    """As in ngx_wasm_module: by name, among headers whose number is 0."""
    silent, dns, nonsense = Silent(), Dns({}), socket.create_server(("127.0.0.1", 0))

    def talk():
        client, _ = nonsense.accept()
        client.recv(65536)
        client.sendall(b"what?\r\n\r\n")
        client.close()

    threading.Thread(target=talk, daemon=True).start()
    to = {
        "timeout": f"127.0.0.1:{silent.port}",
        "broken connection": "127.0.0.1:1",
        "resolver failure": "nothing.test",
        "reader failure": f"127.0.0.1:{nonsense.getsockname()[1]}",
        "tls handshake failure": f"127.0.0.1:{nonsense.getsockname()[1]}",
    }[status]
    headers = [[":method", "GET"], [":path", "/"], [":authority", "callout.test"]]
    headers += [[":scheme", "https"]] if status == "tls handshake failure" else []
    then = [["get", "call_headers", ":dispatch_status"], ["get", "call_headers", ":status"], ["resume", "request"]]
    call = {"upstream": to, "headers": headers, "timeout_ms": 100 if status == "timeout" else 5000, "then": then}
    site = start(wasm=f"resolver 127.0.0.1:{dns.port} ipv6=off;")
    reply = site.proxy.get(probe={"request_headers": [["call", call], ["pause"]]})
    assert reply.reports.results("http_call_response") == [status, None]
    (told,) = reply.reports.of("http_call_response").entries
    assert told.arguments[-3:] == [0, 0, 0]
    for server in (silent, dns, nonsense):
        server.close()


@pytest.mark.parametrize("place", ["wasm", "location"])
def test_known_names(start, backend, place):
    site = start(**{place: "resolver_add 127.0.0.1 service;"})
    assert site.call(f"service:{backend.port}")[0] == "200"


@pytest.mark.parametrize("name", ["nowhere", "", "a b", "127.0.0.1:99999", "http://127.0.0.1/", "outbound|80||x"])
def test_no_such_place(start, name):
    site = start()
    assert site.refused(name) == {"err": 2}
    assert site.log("dispatch failed: bad argument")


def test_what_cannot_be_sent(start, backend):
    site = start()
    for headers in ([[":method", "G T"]], [[":path", "/a b"]], [[":authority", "a\r\nx: y"]]):
        base = {":method": "GET", ":path": "/", ":authority": "a"} | dict(headers)
        assert site.refused(f"127.0.0.1:{backend.port}", headers=list(base.items())) == {"err": 2}
    assert site.refused(f"127.0.0.1:{backend.port}", headers=[*base.items()][:2]) == {"err": 2}
    more = [["x-split", "1\r\nx-more: 2"], ["transfer-encoding", "chunked"], ["content-length", "9"], ["x-good", "1"]]
    headers = [[":method", "GET"], [":path", "/"], [":authority", "a"], *more]
    assert isinstance(site.refused(f"127.0.0.1:{backend.port}", headers=headers), int)
    end = time.monotonic() + 3
    while not backend.heads and time.monotonic() < end:
        time.sleep(0.01)
    assert backend.heads == ["GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-good: 1"]


# ---- Connections ----


def test_pool(start, backend):
    site = start(http=f"upstream pooled {{ server 127.0.0.1:{backend.port}; keepalive 4; }}")
    assert [site.call("pooled")[1] for _ in range(5)] == ["connection 1"] * 5
    assert "connection" not in backend.heads[0].lower()


def test_pool_shared_with_requests(start, backend):
    block = f"upstream pooled {{ server 127.0.0.1:{backend.port}; keepalive 4; }}"
    site = start(http=block, location="if ($http_x_pooled) { proxy_pass http://pooled; }")
    assert site.call("pooled")[1] == "connection 1"
    assert site.proxy.get(headers=[("x-pooled", "1")]).body == b"connection 1"


def test_pool_of_closed_connections(start):
    backend = Backend(close_after=1)
    site = start(http=f"upstream pooled {{ server 127.0.0.1:{backend.port}; keepalive 4; }}")
    assert [site.call("pooled")[0] for _ in range(5)] == ["200"] * 5
    backend.close()


def test_next_server(start, backend):
    refusing = Refusing()
    servers = f"server 127.0.0.1:{refusing.port}; server 127.0.0.1:{backend.port};"
    site = start(http=f"upstream pair {{ {servers} }}")
    assert [site.call("pair")[0] for _ in range(4)] == ["200"] * 4
    refusing.close()


def test_no_server(start):
    site = start(http="upstream none { server 127.0.0.1:9 down; }")
    assert site.call("none") == (None, None)
    assert site.log('dispatch failed: no live upstreams in "none"')


@pytest.mark.parametrize(
    "balancer", ["ip_hash", "least_conn", "random two", "hash $request_uri$arg_a$remote_addr$host"]
)
def test_balancers(start, backend, balancer):
    servers = f"zone z 128k; server 127.0.0.1:{backend.port}; server 127.0.0.2:{backend.port} backup;"
    if balancer.startswith(("ip_hash", "hash", "random")):
        servers = servers.replace("backup", "down")
    site = start(http=f"upstream many {{ {balancer}; {servers} }}")
    assert [site.call("many", path="/x?a=1")[0] for _ in range(3)] == ["200"] * 3


# ---- Times ----


@pytest.mark.parametrize("place", ["wasm", "location"])
def test_read_timeout(start, place):
    silent = Silent()
    site = start(**{place: f"{'wasm_' if place == 'location' else ''}socket_read_timeout 100ms;"})
    began = time.monotonic()
    assert site.call(f"127.0.0.1:{silent.port}", timeout_ms=0) == (None, None)
    assert time.monotonic() - began < 3
    assert site.log(f'dispatch failed: timed out reading from "127.0.0.1:{silent.port}"')
    silent.close()


def test_timeout_is_no_failure_of_the_server(start):
    silent = Silent()
    site = start(
        http=f"upstream one {{ server 127.0.0.1:{silent.port} max_fails=1 fail_timeout=60s; server 127.0.0.1:9 down; }}"
    )
    for _ in range(3):
        assert site.call("one", timeout_ms=50) == (None, None)
    assert not site.log("no live upstreams", timeout=0)
    silent.close()


def test_quiet(start):
    refusing = Refusing()
    site = start(location="proxy_wasm_log_dispatch_errors off;")
    assert site.call(f"127.0.0.1:{refusing.port}") == (None, None)
    assert not site.log("dispatch failed", timeout=0.2)
    assert not site.log("connect() failed", timeout=0)
    refusing.close()


# ---- Answers ----


def test_large_head(start):
    site = start(http="upstream up { server 127.0.0.1:1; }")
    orders = {"headers": [["x-large", "y" * 20_000]]}
    headers = [[":method", "GET"], [":path", "/"], [":authority", "a"]]
    headers.append(["x-upstream", json.dumps(orders)])
    assert site.call("upstream", headers=headers)[0] == "200"
    site = start(location="wasm_socket_large_buffers 2 8k;")
    assert site.call("upstream", headers=headers) == (None, None)
    assert site.log("its headers are too large, see socket_large_buffers")


def test_body_limit(start):
    site = start(wasm="max_callout_body 1k;")
    for size, status in ((1024, "200"), (1025, None)):
        headers = [[":method", "GET"], [":path", "/"], [":authority", "a"], ["x-upstream", json.dumps({"size": size})]]
        assert site.call("upstream", headers=headers)[0] == status
    assert site.log("its body is too large, see max_callout_body")


def test_trailers(start):
    site = start()
    orders = {"chunks": ["a" * 3000, "", "b"], "trailers": [["x-end", "1"]]}
    headers = [[":method", "GET"], [":path", "/"], [":authority", "a"], ["x-upstream", json.dumps(orders)]]
    then = [["body", "call_body", 0, -1], ["map", "call_trailers"], ["resume", "request"]]
    step = ["call", {"upstream": "upstream", "headers": headers, "then": then}]
    reports = site.proxy.get(probe={"request_headers": [step, ["pause"]]}).reports
    assert reports.results("http_call_response") == ["a" * 3000 + "b", [["x-end", "1"]]]


# ---- TLS ----


def test_tls(start, certificates):
    backend = Backend(tls(certificates, "named"))
    trusted = f"tls_trusted_certificate {certificates}/ca.pem;"
    site = start(wasm=trusted, http=f"upstream pooled {{ server 127.0.0.1:{backend.port}; keepalive 4; }}")
    assert site.call("pooled", scheme="https", authority="callout.test:443") == ("200", "connection 1")
    assert site.call("pooled", scheme="https") == ("200", "connection 1")
    # The connection of the pool is somebody else's for another name.
    assert site.call("pooled", scheme="https", authority="other.test") == (None, None)
    assert site.log('dispatch failed: tls certificate does not match "other.test"')
    backend.close()


def test_tls_address(start, certificates):
    backend = Backend(tls(certificates, "addressed"))
    site = start(wasm=f"tls_trusted_certificate {certificates}/ca.pem;")
    to = f"127.0.0.1:{backend.port}"
    assert site.call(to, scheme="https", authority=to)[0] == "200"
    backend.close()


def test_tls_untrusted(start, certificates):
    backend = Backend(tls(certificates, "named"))
    site = start()
    assert site.call(f"127.0.0.1:{backend.port}", scheme="https") == (None, None)
    assert site.log("dispatch failed: tls certificate verify error: (20:unable to get local issuer certificate)")
    assert backend.heads == []
    backend.close()


def test_tls_without_verification(start, certificates):
    backend = Backend(tls(certificates, "named"))
    site = start(wasm="tls_verify_cert off;")
    assert site.call(f"127.0.0.1:{backend.port}", scheme="https", authority="other.test")[0] == "200"
    assert site.log('"tls_verify_cert" is off')
    backend.close()


def test_tls_connection_of_proxy_pass_is_not_taken(start, certificates):
    backend = Backend(tls(certificates, "named"))
    site = start(
        http=f"upstream pooled {{ server 127.0.0.1:{backend.port}; keepalive 4; }}",
        location="if ($http_x_pooled) { proxy_pass https://pooled; }",
    )
    assert site.proxy.get(headers=[("x-pooled", "1")]).body == b"connection 1"
    assert site.call("pooled", scheme="https") == (None, None)
    backend.close()


def test_not_tls(start, backend):
    site = start()
    assert site.call(f"127.0.0.1:{backend.port}", scheme="https", timeout_ms=1000) == (None, None)


# ---- Ends ----


def test_quit_with_a_call_in_a_tick(start):
    silent = Silent()
    headers = [[":method", "GET"], [":path", "/"], [":authority", "a"]]
    call = ["call", {"upstream": f"127.0.0.1:{silent.port}", "headers": headers, "timeout_ms": 60_000}]
    site = start(on={"configure": [["tick", 20]], "tick": [["nth", 1, [call]]]})
    time.sleep(0.3)
    site.server.process.send_signal(signal.SIGQUIT)
    assert site.server.process.wait(5) == 0
    assert not site.log("open socket", timeout=0)
    silent.close()


def test_quit_waits_for_the_call_of_a_request(start):
    site = start()
    headers = [[":method", "GET"], [":path", "/"], [":authority", "a"], ["x-upstream", json.dumps({"delay_ms": 800})]]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(site.call, "upstream", headers=headers)
        time.sleep(0.3)
        site.server.process.send_signal(signal.SIGQUIT)
        assert answer.result() == ("200", "ok\n")
    assert site.server.process.wait(5) == 0


# ---- Directives ----


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"wasm": "resolver;"}, "invalid number of arguments"),
        ({"wasm": "resolver 127.0.0.1; resolver 127.0.0.2;"}, "is duplicate"),
        ({"wasm": "resolver_add host 127.0.0.1;"}, '"host" is not an address'),
        ({"wasm": "tls_trusted_certificate /none.pem;"}, "/none.pem"),
        ({"wasm": "proxy_wasm_lua_resolver on;"}, "requires Lua"),
        ({"location": "wasm_socket_read_timeout never;"}, "invalid value"),
    ],
)
def test_refused(options, says):
    text = refusal(**options)
    assert says in text and "nginx.conf:" in text or "none.pem" in says


def test_all_directives(start, backend):
    common = "connect_timeout 1s send_timeout 1s read_timeout 1s buffer_size 1k large_buffers_4_8k buffer_reuse off"
    words = common.replace("large_buffers_4_8k", "large_buffers 4").split()
    names = dict(zip(words[::2], words[1::2], strict=True))
    names["large_buffers"] = "4 8k"
    sockets = {
        prefix: "".join(f"{prefix}_{key} {value};" for key, value in names.items())
        for prefix in ("socket", "wasm_socket")
    }
    both = "proxy_wasm_log_dispatch_errors on; proxy_wasm_lua_resolver off; resolver_add ::1 six;"
    tls_words = "tls_verify_cert on; tls_verify_host on; tls_no_verify_warn off; resolver_timeout 1s;"
    site = start(
        wasm=sockets["socket"] + both + tls_words,
        http=sockets["wasm_socket"] + both,
        location=sockets["wasm_socket"] + both,
    )
    assert site.call(f"127.0.0.1:{backend.port}")[0] == "200"
