# SPDX-License-Identifier: Apache-2.0
"""Requests that NGINX sends elsewhere inside: files that are not there, pages of errors, what an upstream asks for."""

from http_site import call, connected

STATUS = ["get", "response_headers", ":status"]
SEEN = {
    "request_headers": [["get", "request_headers", ":path"]],
    "response_headers": [STATUS],
    "log": [["get", "request_headers", ":path"]],
}


def seen(reply):
    """One stream all the way: its status, and how often its request was shown."""
    reports = reply.reports
    assert reports.callbacks.count("request_headers") == 1
    assert reports.ends == [1, 1, 1]
    return reports.results("response_headers", "get")


LOCATIONS = """
    location /tried { proxy_wasm probe; try_files $uri @app; }
    location @app { proxy_pass http://127.0.0.1:{upstream}; }
    location /indexed/ { proxy_wasm probe; }
    location /sent { proxy_wasm probe; proxy_pass http://127.0.0.1:{upstream}; }
    location /kept { proxy_wasm probe; proxy_intercept_errors on; error_page 404 500 503 /page; proxy_pass http://127.0.0.1:{upstream}; }
    location /named { proxy_wasm probe; proxy_intercept_errors on; error_page 404 = @app; proxy_pass http://127.0.0.1:{upstream}; }
    location /page { internal; return 200 page; }
    location /own { internal; proxy_wasm probe; return 200 own; }
    location /forbidden { proxy_wasm probe; error_page 403 /own; deny all; }
    location /limited { proxy_wasm probe; error_page 413 /own; client_max_body_size 10; proxy_pass http://127.0.0.1:{upstream}; }
    location /again { proxy_wasm probe; rewrite ^ /sent last; }
    location /rewritten { rewrite ^ /sent last; }
"""


def test_inner_redirects(site):
    proxy = site(LOCATIONS)
    reply = proxy.get("/tried", probe=SEEN)
    assert (reply.body, seen(reply)) == (b"ok\n", ["200"])
    reply = proxy.get("/again", probe=SEEN)
    assert (reply.body, seen(reply)) == (b"ok\n", ["200"])
    reply = proxy.get("/rewritten", probe=SEEN)
    assert (reply.body, seen(reply)) == (b"ok\n", ["200"])
    (site.root / "indexed").mkdir(mode=0o755)
    (site.root / "indexed").chmod(0o755)
    site.file("indexed/index.html", "index")
    reply = proxy.get("/indexed/", probe=SEEN)
    assert (reply.body, seen(reply)) == (b"index", ["200"])


def test_calls_after_redirects(site):
    """A plugin may ask for anything while its request is where it has no plugins."""
    proxy = site(LOCATIONS)
    asks = [
        ["map", "request_headers"],
        ["get", "request_headers", ":path"],
        ["property", ["request", "path"]],
        ["property", ["response", "code"]],
    ]
    for path, orders in (("/tried", {"delay_ms": 300}), ("/named", {"delay_ms": 300, "status": 200})):
        reply = proxy.get(path, upstream=orders, probe={"request_headers": [call(*asks)]})
        assert reply.status == 200
        assert reply.reports.result("http_call_response", "get") == path


def test_upstream_redirects(site):
    """X-Accel-Redirect: what the client gets is what plugins see."""
    proxy = site(LOCATIONS)
    orders = {"headers": [["x-accel-redirect", "/page"]]}
    reply = proxy.get("/sent", upstream=orders, probe=SEEN)
    assert (reply.status, reply.body, seen(reply)) == (200, b"page", ["200"])
    orders = {"headers": [["x-accel-redirect", "/own"]]}
    reply = proxy.get("/sent", upstream=orders, probe=SEEN)
    assert (reply.status, reply.body, seen(reply)) == (200, b"own", ["200"])
    held = {"response_headers": [["pause"], call(["resume", "response"])]}
    assert proxy.get("/sent", upstream=orders, probe=held).body == b"own"


def test_pages_of_upstream_errors(site):
    proxy = site(LOCATIONS)
    reply = proxy.get("/kept", upstream={"status": 404}, probe=SEEN)
    assert (reply.status, reply.body, seen(reply)) == (404, b"page", ["404"])
    reply = proxy.get(
        "/kept",
        upstream={"status": 500},
        probe={**SEEN, "response_headers": [["set", "response_headers", ":status", "201"]]},
    )
    assert (reply.status, reply.body) == (201, b"page")
    reply = proxy.get("/kept", upstream={"status": 200}, probe=SEEN)
    assert (reply.status, reply.body) == (200, b"ok\n")


def test_pages_of_errors_of_nginx(site):
    proxy = site(LOCATIONS)
    for body in (b"", b"x" * 5):
        reply = proxy.request("POST", "/forbidden", body=body, probe=SEEN)
        assert (reply.status, reply.body, seen(reply)) == (403, b"own", ["403"])


def test_pages_are_not_for_local_responses(site):
    """What a plugin answers is its answer, and so is what stands for one that has failed."""
    proxy = site(LOCATIONS + "location /errors { proxy_wasm bare; error_page 503 /page; return 200; }")
    for callback in ("request_headers", "response_headers"):
        reply = proxy.get("/kept", probe={callback: [["local", 404, [["x-by", "plugin"]], "mine"]]})
        assert (reply.status, reply.body, reply.get("x-by")) == (404, b"mine", "plugin")
    reply = proxy.get("/errors", bare="request_headers: trap")
    assert (reply.status, reply.body) == (503, b"")


def test_too_large(site):
    """Refused by its length alone, no plugin has met the request; otherwise it sees what becomes of it."""
    proxy = site(LOCATIONS)
    assert proxy.post(b"x" * 20, "/limited").status == 413
    for on in (
        SEEN,
        {**SEEN, "request_headers": [["pause"], call(["resume", "request"])]},
        {**SEEN, "request_body": [["unless_end", [["pause"]]]]},
    ):
        with connected(proxy) as connection:
            case = connection.send_head("POST", "/limited", [("transfer-encoding", "chunked")], probe=on)
            connection.send_chunk(b"x" * 5)
            connection.send_chunk(b"x" * 20)
            reply = connection.read_reply(case)
            assert (reply.status, reply.body) == (413, b"own")
        assert reply.reports.results("response_headers", "get") == ["413"]
        assert reply.reports.ends == [1, 1, 1]
