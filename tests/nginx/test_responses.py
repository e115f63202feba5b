# SPDX-License-Identifier: Apache-2.0
"""Responses of all kinds on their way through plugins: where they come from, what filters before and behind make of them."""

import gzip
import time

import pytest
from http_site import FILE, call, connected, logged
from kit.wasm import LEAST, Function, module

STATUS = ["get", "response_headers", ":status"]
SEEN = {
    "response_headers": [STATUS],
    "response_body": [["digest", "response_body"]],
}
SHORT = {
    "response_headers": [["remove", "response_headers", "content-length"]],
    "response_body": [["if_end", [["set_body", "response_body", 0, 1000000, "short"]]], ["unless_end", [["pause"]]]],
}


def seen(reply):
    """Status, size of the body, and whether the header was already the end, as the plugin saw it."""
    reports = reply.reports
    total = [one["total"] for one in reports.results("response_body", "digest")]
    end = reports.of("response_headers").entries[0].arguments[1]
    return reports.result("response_headers", "get"), total[-1] if total else 0, end


def test_ends_of_headers(site):
    """What can have no body ends with its header, whatever its length says."""
    proxy = site(
        "location = /empty { proxy_wasm probe; return 204; } location = /nothing { proxy_wasm probe; return 200; }"
    )
    assert seen(proxy.get("/file", probe=SEEN)) == ("200", len(FILE), 0)
    assert seen(proxy.request("HEAD", "/file", probe=SEEN)) == ("200", 0, 1)
    modified = proxy.get("/file").get("last-modified")
    unchanged = proxy.get("/file", headers=[("if-modified-since", modified)], probe=SEEN)
    assert (unchanged.status, unchanged.body, seen(unchanged)) == (304, b"", ("304", 0, 1))
    assert seen(proxy.get("/empty", probe=SEEN)) == ("204", 0, 1)
    assert seen(proxy.get("/nothing", probe=SEEN)) == ("200", 0, 1)
    assert seen(proxy.get("/proxied", probe=SEEN)) == ("200", 3, 0)
    assert seen(proxy.request("HEAD", "/proxied", probe=SEEN)) == ("200", 0, 1)
    for path in ("/proxied", "/unbuffered"):
        for status in (204, 304):
            reply = proxy.get(path, upstream={"status": status}, probe=SEEN)
            assert (reply.status, seen(reply)) == (status, (str(status), 0, 1))
        assert seen(proxy.get(path, upstream={"body": ""}, probe=SEEN)) == ("200", 0, 1)
        assert seen(proxy.get(path, upstream={"body": "", "chunked": True}, probe=SEEN)) == ("200", 0, 0)
        assert seen(proxy.get(path, upstream={"chunks": ["one", "two"], "chunked": True}, probe=SEEN)) == ("200", 6, 0)


def test_precondition(site):
    proxy = site()
    reply = proxy.get("/file", headers=[("if-match", '"none"')], probe=SEEN)
    assert (reply.status, seen(reply)[0]) == (412, "412")


def test_keep_alive_after_each(site):
    """The next request on the connection begins where the response ended."""
    proxy = site("location = /empty { proxy_wasm probe; return 204; }")
    with connected(proxy) as connection:
        for method, path in (
            ("GET", "/file"),
            ("HEAD", "/file"),
            ("GET", "/empty"),
            ("HEAD", "/proxied"),
            ("GET", "/unbuffered"),
            ("HEAD", "/return"),
        ):
            for on in (
                {},
                SHORT,
                {"response_headers": [["pause"], call(["resume", "response"])]},
                {"response_headers": [["local", 418, [], "local"]]},
            ):
                case = connection.send_head(method, path, probe=on)
                reply = connection.read_reply(case, method)
                assert reply.status == (418 if "local" in str(on) else 204 if path == "/empty" else 200)
                assert reply.reports.ends == [1, 1, 1]


def test_old_clients(site):
    """HTTP/1.0 has neither chunks nor, unless asked for, a second request."""
    proxy = site()
    for path, on, expected in (
        ("/file", {}, FILE.encode()),
        ("/file", SHORT, b"short"),
        ("/proxied", SHORT, b"short"),
        ("/return", {}, b"returned"),
    ):
        with connected(proxy) as connection:
            headers = "".join(f"{name}: {value}\r\n" for name, value in proxy.headers(f"old-{time.monotonic_ns()}", on))
            connection.send(f"GET {path} HTTP/1.0\r\n{headers}\r\n".encode())
            head, _, body = connection.read_to_end().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ") and b"chunked" not in head and b"connection: close" in head.lower()
            assert body == expected


# ---- Files and ranges ----


@pytest.fixture
def header(tmp_path):
    """The module of a plugin that takes part in headers alone."""
    callbacks = {"context_create": (2, None), "vm_start": (2, 1), "configure": (2, 1)}
    callbacks |= {"request_headers": (3, 0), "response_headers": (3, 0)}
    exports = {f"proxy_on_{name}": Function(*shape) for name, shape in callbacks.items()}
    file = tmp_path / "header.wasm"
    file.write_bytes(module({**LEAST, **exports}))
    return f"module header {file};"


def test_ranges(site, header):
    """Plugins that take part in bodies see all of one, and so does the client."""
    proxy = site("location = /header { proxy_wasm header; root {root}; try_files /file =404; }", wasm=header)
    reply = proxy.get("/file", headers=[("range", "bytes=8-15")], probe=SEEN)
    assert (reply.status, reply.body, seen(reply)) == (200, FILE.encode(), ("200", len(FILE), 0))
    assert reply.get("accept-ranges") is None
    for wanted, status, body in (
        ("bytes=8-15", 206, FILE[8:16]),
        ("bytes=-8", 206, FILE[-8:]),
        ("bytes=9999999-", 416, None),
    ):
        reply = proxy.get("/header", headers=[("range", wanted)])
        assert reply.status == status
        assert body is None or reply.body == body.encode()
    # One that the upstream has made is no concern of NGINX's.
    orders = {"status": 206, "headers": [["content-range", "bytes 0-3/10"]], "body": "part"}
    reply = proxy.get("/proxied", headers=[("range", "bytes=0-3")], upstream=orders, probe=SEEN)
    assert (reply.status, reply.body, seen(reply)[0]) == (206, b"part", "206")


def test_slices(site, header):
    """A plugin that takes part in bodies would see the first part of one, and nothing of the others."""
    sliced = "slice 8k; proxy_set_header Range $slice_range; proxy_pass http://backend_file/file;"
    proxy = site(
        f"location = /header {{ proxy_wasm header; {sliced} }} location = /body {{ proxy_wasm probe; {sliced} }}",
        http="server { listen unix:{root}/sock; location / { root {root}; } } upstream backend_file { server unix:{root}/sock; }",
        wasm=header,
    )
    assert proxy.get("/header").body == FILE.encode()
    part = proxy.get("/header", headers=[("range", "bytes=10000-30000")])
    assert (part.status, part.body) == (206, FILE[10000:30001].encode())
    assert proxy.get("/body").status == 500
    assert logged(proxy, 'do not go with "slice"')


# ---- Filters behind ----


def test_gzip(site):
    """What plugins have made is compressed, and not the other way round."""
    proxy = site(
        "gzip on; gzip_types *; gzip_min_length 0; gzip_proxied any; location = /zipped { proxy_wasm probe; gunzip on; proxy_pass http://127.0.0.1:{upstream}; }"
    )
    accepts = [("accept-encoding", "gzip")]
    for path in ("/file", "/proxied", "/unbuffered", "/return"):
        reply = proxy.get(path, headers=accepts, probe=SHORT)
        assert (reply.get("content-encoding"), reply.body) == ("gzip", b"short")
        reply = proxy.get(path, headers=accepts, probe=SEEN)
        assert reply.get("content-encoding") == "gzip"
        assert seen(reply) == ("200", len(reply.body), 0)
        later = {"response_headers": [["pause"], call(["resume", "response"])]}
        assert proxy.get(path, headers=accepts, probe=later).body == reply.body
        assert (
            proxy.get(path, headers=accepts, probe={"response_body": [["if_end", later["response_headers"]]]}).body
            == reply.body
        )
    raw = gzip.compress(b"compressed").decode("latin-1")
    reply = proxy.get(
        "/zipped",
        headers=[("accept-encoding", "identity")],
        probe=SEEN,
        upstream={"body": raw, "headers": [["content-encoding", "gzip"]]},
    )
    assert (reply.body, reply.get("content-encoding")) == (b"compressed", None)
    assert seen(reply)[1] == len(raw)


def test_substitutions(site):
    """NGINX's own come after those of plugins; `add_header` too."""
    proxy = site("sub_filter_types *; sub_filter short long; add_header x-added nginx; ")
    reply = proxy.get(
        "/file", probe={**SHORT, "response_headers": [*SHORT["response_headers"], ["map", "response_headers"]]}
    )
    assert (reply.body, reply.get("x-added")) == (b"long", "nginx")
    assert "x-added" not in dict(reply.reports.result("response_headers", "map"))


# ---- Caches ----


def test_cached(site):
    """Plugins see the upstream's response each time, and the cache keeps that one."""
    proxy = site(
        """location = /cached { proxy_wasm probe; proxy_cache c; proxy_cache_valid 10m; proxy_cache_key $arg_k;
           proxy_pass http://127.0.0.1:{upstream}; add_header x-cache $upstream_cache_status always; }""",
        http="proxy_cache_path {root}-cache keys_zone=c:1m;",
    )
    orders = {"size": 50000, "headers": [["x-from", "upstream"]]}
    changes = {
        "response_headers": [
            ["get", "response_headers", "x-from"],
            ["set", "response_headers", "x-from", "plugin"],
            *SHORT["response_headers"],
        ],
        "response_body": [["digest", "response_body"], *SHORT["response_body"]],
    }
    for found in ("MISS", "HIT", "HIT"):
        reply = proxy.get("/cached?k=1", upstream=orders, probe=changes)
        assert (reply.get("x-cache"), reply.get("x-from"), reply.body) == (found, "plugin", b"short")
        assert reply.reports.result("response_headers", "get") == "upstream"
    assert proxy.get("/cached?k=1").body == b"x" * 50000
    held = {"response_headers": [["pause"], call(["resume", "response"])]}
    for found in ("MISS", "HIT"):
        reply = proxy.get("/cached?k=2", upstream=orders, probe=held)
        assert (reply.get("x-cache"), reply.body) == (found, b"x" * 50000)
    # A local response is not kept.
    assert (
        proxy.get("/cached?k=3", upstream=orders, probe={"response_headers": [["local", 403, [], "no"]]}).status == 403
    )
    assert proxy.get("/cached?k=3", upstream=orders).body == b"x" * 50000


# ---- Upstreams ----


@pytest.mark.parametrize("path", ["/proxied", "/unbuffered"])
def test_upstream_dies(site, path):
    proxy = site("proxy_next_upstream off;")
    for fail in ("accept", "head", "reset"):
        reply = proxy.get(path, upstream={"fail": fail}, probe=SEEN)
        assert (reply.status, seen(reply)[0]) == (502, "502")
    for on in (SEEN, {"response_headers": [["pause"], call(["resume", "response"])]}, {"response_body": [["pause"]]}):
        with connected(proxy) as connection:
            case = connection.send_head(path=path, upstream={"fail": "body", "size": 100000}, probe=on)
            data = connection.read_until_cut()
            assert len(data) < 100000
        assert proxy.reports(case).ends == [1, 1, 1]
    assert proxy.get(path).status == 200


def test_big_headers(site):
    proxy = site("proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;")
    value = "v" * 30000
    reply = proxy.get(
        "/proxied",
        headers=[("x-big", value)],
        upstream={"headers": [["x-big", value]]},
        probe={
            "request_headers": [["get", "request_headers", "x-big"]],
            "response_headers": [["set", "response_headers", "x-bigger", value * 2]],
        },
    )
    assert (reply.status, reply.seen.get("x-big"), reply.get("x-big"), reply.get("x-bigger")) == (
        200,
        value,
        value,
        value * 2,
    )


def test_fastcgi_refused(site):
    proxy = site("location = /fcgi { proxy_wasm probe; fastcgi_pass 127.0.0.1:1; }")
    reply = proxy.get("/fcgi", probe=SEEN)
    assert (reply.status, seen(reply)[0]) == (502, "502")
