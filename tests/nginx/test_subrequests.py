# SPDX-License-Identifier: Apache-2.0
"""Plugins in subrequests: those of auth_request, mirror, SSI, addition, slice."""

from http_site import call, connected, entered, logged

SUB = ["property", ["request", "is_subrequest"]]
TRUE, FALSE = "\x01", "\x00"


def paths(reply):
    """Path of each stream that the request and its subrequests have had, and whether it is one of those."""
    reports = reply.reports
    streams = [reports.of(context=context) for context in sorted({one.context for one in reports})]
    return sorted((one.result("request_headers", "get"), one.result("log", "property")) for one in streams)


def scripts(**on):
    return {"probe": {"request_headers": [["get", "request_headers", ":path"]], "log": [SUB], **on}}


def guarded(inner, outer="", main="proxy_pass http://127.0.0.1:{upstream};"):
    return f"""
        {outer}
        location / {{ auth_request /auth; {main} }}
        location = /auth {{ internal; {inner} }}
    """


ALLOW = "proxy_wasm probe; proxy_pass http://127.0.0.1:{upstream}; proxy_pass_request_body off; proxy_set_header Content-Length '';"


def test_streams_of_their_own(site):
    proxy = site(guarded(ALLOW, "proxy_wasm probe;"), standard=False)
    steps = {
        "request_headers": [["map", "request_headers"], SUB, ["property", ["ngx", "request_uri"]]],
        "response_headers": [["get", "response_headers", ":status"]],
    }
    reply = proxy.get("/page?a=1", probe=steps)
    assert (reply.status, reply.body) == (200, b"ok\n")
    reports = reply.reports
    subrequest, request = sorted({one.context for one in reports}, reverse=True)
    for context, path, flag in ((request, "/page?a=1", FALSE), (subrequest, "/auth", TRUE)):
        mine = reports.of(context=context)
        assert dict(mine.results("request_headers", "map")[0])[":path"] == path
        assert mine.results("request_headers", "property") == [flag, "/page?a=1"]
        assert mine.callbacks[0] == "request_headers" and mine.callbacks[-3:] == ["log", "done", "delete"]
        assert mine.result("response_headers", "get") == "200"
        assert mine.of("request_headers").entries[0].arguments[1] == 1
    # It has ended before its request goes on.
    ends = [(one.callback, one.context) for one in reports.entries]
    assert ends.index(("delete", subrequest)) < ends.index(("response_headers", request))


def test_own_directive_alone(site):
    proxy = site(guarded(ALLOW), standard=False)
    reply = proxy.get("/page", scripts=scripts())
    assert reply.status == 200
    assert paths(reply) == [("/auth", TRUE)]


def test_switched_off(site):
    proxy = site(guarded("proxy_wasm_subrequests off; return 204;", "proxy_wasm probe;"), standard=False)
    reply = proxy.get("/page", scripts=scripts())
    assert reply.status == 200
    assert paths(reply) == [("/page", FALSE)]


def test_phase(site):
    """There is no access phase in subrequests; their plugins run all the same."""
    outer = "proxy_wasm probe; proxy_wasm_request_headers_in_access on;"
    proxy = site(guarded("return 200;", outer), standard=False)
    assert paths(proxy.get("/page", scripts=scripts())) == [("/auth", TRUE), ("/page", FALSE)]


def test_headers_are_its_own(site):
    """What a plugin changes in a subrequest does not change the request, and the other way round."""
    change = [
        ["add", "request_headers", "x-added", "{c}"],
        ["set", "request_headers", "x-set", "new"],
        ["remove", "request_headers", "x-gone"],
        ["set", "request_headers", "cookie", "new=1"],
        ["set", "request_headers", "x-forwarded-for", "192.0.2.1"],
        ["set", "request_headers", ":path", "/auth?new=1"],
    ]
    proxy = site(guarded(ALLOW), standard=False)
    sent = [("x-set", "old"), ("x-gone", "old"), ("cookie", "old=1"), ("x-forwarded-for", "192.0.2.9")]
    for extra in (0, 30):
        reply = proxy.get(
            "/page", headers=[*sent, *((f"x-{n}", "y") for n in range(extra))], probe={"request_headers": change}
        )
        assert reply.status == 200
        auth, page = proxy.upstream.wait(reply.case, count=2)
        assert (auth.path, page.path) == ("/auth?new=1", "/page")
        assert (auth.get("x-set"), auth.get("x-gone"), auth.get("cookie")) == ("new", None, "new=1")
        assert auth.get_all("x-added") != []
        assert (page.get("x-set"), page.get("x-gone"), page.get("cookie")) == ("old", "old", "old=1")
        assert page.get_all("x-added") == []
        assert (auth.get("x-forwarded-for"), page.get("x-forwarded-for")) == ("192.0.2.1", "192.0.2.9")


def test_local_responses(site):
    """A local response is the subrequest's: auth_request goes by its status."""
    proxy = site(guarded(ALLOW), standard=False)
    for status, expected in ((200, 200), (204, 200), (401, 401), (403, 403), (302, 500)):
        for then in ([["local", status, [], "x"]], [["pause"], call(["local", status, [], "x"])]):
            reply = proxy.get("/page", probe={"request_headers": then})
            assert reply.status == expected
            assert reply.reports.ends == [1, 1, 1]
    reply = proxy.get("/page", probe={"response_headers": [["local", 403, [], "x"]]})
    assert reply.status == 403


def test_pause(site):
    proxy = site(guarded(ALLOW), standard=False, listen="http2")
    with proxy.connect_http2() as connection:
        streams = [
            connection.send(probe={"request_headers": [["pause"], call(["resume", "request"])]}) for _ in range(3)
        ]
        assert [connection.read_reply(stream).status for stream, _ in streams] == [200, 200, 200]
        stream, case = connection.send(probe={"response_headers": [["pause"], call(["resume", "response"])]})
        assert connection.read_reply(stream).status == 200
        # One that is cut off while it waits.
        stream, case = connection.send(probe={"request_headers": [["pause"]]})
        assert entered(proxy, case, "request_headers")
        connection.reset(stream)
        assert proxy.reports(case).ends == [1, 1, 1]
        stream, _ = connection.send()
        assert connection.read_reply(stream).status == 200


def test_closed_by_its_plugin(site):
    proxy = site(guarded(ALLOW), standard=False)
    reply = proxy.get("/page", probe={"request_headers": [["pause"], call(["reset", "request"])]})
    assert reply.status == 500
    assert reply.reports.ends == [1, 1, 1]


def test_failing(site):
    proxy = site(guarded("proxy_wasm bare; return 204;"), standard=False)
    assert proxy.get("/page", bare="request_headers: trap").status == 500
    proxy = site(guarded("proxy_wasm bare; root {root}; try_files /file =403;"), standard=False)
    assert proxy.get("/page", bare="response_headers: trap").status == 500
    assert proxy.get("/page", bare="").status == 200


def test_mirror(site, upstream):
    proxy = site(
        """
        location / { mirror /copy; proxy_wasm probe; proxy_pass http://127.0.0.1:{upstream}; }
        location = /copy { internal; proxy_wasm probe; proxy_pass http://127.0.0.1:{upstream}; }
        """,
        standard=False,
    )
    on = {"request_headers": [["get", "request_headers", ":path"]], "log": [SUB]}
    reply = proxy.post(b"body", "/page", probe=on)
    assert (reply.status, reply.seen.path if len(upstream.seen(reply.case)) == 1 else "/page") == (200, "/page")
    copies = upstream.wait(reply.case, count=2)
    assert sorted((one.path, one.body) for one in copies) == [("/copy", b"body"), ("/page", b"body")]
    assert paths(reply) == [("/copy", TRUE), ("/page", FALSE)]
    # A copy that its plugins keep waiting does not keep the response.
    reply = proxy.post(
        b"body", "/page", probe={"request_headers": [SUB, ["if_end", [["pause"], call(["resume", "request"])]]]}
    )
    assert reply.status == 200
    assert reply.reports.ends == [2, 2, 2]


def test_included(site):
    """Pages of SSI: each part has its plugins, in its place."""
    for name in ("one", "two", "three"):
        site.file(name, f"<{name}>" * 400)
    site.file(
        "page",
        "begin " + " ".join(f'<!--# include virtual="/{name}?x" -->' for name in ("one", "two", "three")) + " end",
    )
    proxy = site(
        "proxy_wasm probe; root {root}; location = /page { ssi on; ssi_types *; } location / { }", standard=False
    )
    expected = f"begin {'<one>' * 400} {'<two>' * 400} {'<three>' * 400} end".encode()

    def asks(on):
        return proxy.get("/page", probe=on)

    assert asks({}).body == expected
    reply = asks({"request_headers": [["get", "request_headers", ":path"]], "log": [SUB]})
    assert paths(reply) == [("/one?x", TRUE), ("/page", FALSE), ("/three?x", TRUE), ("/two?x", TRUE)]
    later = [["pause"], call(["resume", "request"])]
    assert asks({"request_headers": later}).body == expected
    later = [["pause"], call(["resume", "response"])]
    assert asks({"response_headers": later}).body == expected
    assert asks({"response_body": [["nth", 1, later]]}).body == expected
    # The part's end is the end of its stream, and not of the page.
    reply = asks(
        {"response_body": [["if_end", [["set_body", "response_body", 0, 100000, "part"]]], ["unless_end", [["pause"]]]]}
    )
    assert reply.body == b"part"
    reply = asks({"response_headers": [["remove", "response_headers", "content-length"]], "log": [SUB]})
    assert reply.body == expected and reply.reports.ends == [4, 4, 4]


def test_added(site):
    site.file("before", "before ")
    site.file("after", " after")
    proxy = site(
        "proxy_wasm probe; location /page { add_before_body /before; add_after_body /after; addition_types *; proxy_pass http://127.0.0.1:{upstream}; }"
        " root {root};",
        standard=False,
    )
    orders = {"chunks": ["one ", "two"], "chunked": True, "chunk_delay_ms": 20}
    assert proxy.get("/page", upstream=orders).body == b"before one two after"
    for steps in ([["pause"], call(["resume", "response"])],):
        assert proxy.get("/page", upstream=orders, probe={"response_headers": steps}).body == b"before one two after"


def test_parked_beyond_the_request(site):
    """The client leaves while a subrequest of its request waits for a plugin."""
    proxy = site(guarded(ALLOW), standard=False)
    with connected(proxy) as connection:
        case = connection.send_head(
            path="/page",
            probe={
                "request_headers": [["pause"], call(["resume", "request"])],
                "log": [["property", ["request", "path"]]],
            },
        )
        assert entered(proxy, case, "request_headers")
    reports = proxy.reports(case)
    assert reports.ends == [1, 1, 1]
    assert reports.result("log", "property") == "/auth"
    assert logged(proxy, "client prematurely closed connection")
    assert proxy.get("/page").status == 200
