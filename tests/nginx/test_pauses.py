# SPDX-License-Identifier: Apache-2.0
"""Requests and responses that plugins keep waiting: from each phase, for ever, and while their clients leave."""

import itertools
import time

from http_site import FILE, call, connected, entered, logged

REQUEST = [["pause"], call(["resume", "request"])]
RESPONSE = [["pause"], call(["resume", "response"])]
KINDS = {"/return": b"returned", "/file": FILE.encode(), "/proxied": b"ok\n", "/unbuffered": b"ok\n"}


def test_each_phase(site):
    proxy = site("client_body_buffer_size 1k;")
    for path, (callback, steps) in itertools.product(
        KINDS,
        (
            ("request_headers", REQUEST),
            ("request_body", REQUEST),
            ("request_body", [["unless_end", [["pause"]]], ["if_end", REQUEST]]),
            ("response_headers", RESPONSE),
            ("response_body", [["nth", 1, RESPONSE]]),
            ("response_body", [["unless_end", [["pause"]]], ["if_end", RESPONSE]]),
            ("response_body", [["if_end", RESPONSE]]),
        ),
    ):
        with connected(proxy) as connection:
            for method, body in (("GET", b""), ("POST", b"x" * 5000), ("HEAD", b"")):
                if method == "POST" and path == "/file":
                    continue
                headers = [("content-length", str(len(body)))] if body else []
                case = connection.send_head(method, path, headers, probe={callback: steps})
                connection.send(body)
                reply = connection.read_reply(case, method)
                expected = b"" if method == "HEAD" else KINDS[path]
                assert (reply.status, reply.body) == (200, expected), (path, callback, method)
                assert reply.reports.ends == [1, 1, 1]


def test_in_access(site):
    proxy = site("proxy_wasm_request_headers_in_access on;")
    for path, body in KINDS.items():
        if path != "/return":
            assert proxy.get(path, probe={"request_headers": REQUEST}).body == body


def test_both_directions_at_once(site):
    """A local response that waits for the plugin that has also kept its request waiting."""
    proxy = site()
    answer = [["pause"], call(["local", 200, [], "local"], ["resume", "request"])]
    waiting = [["pause"], call(["resume", "request"], ["resume", "response"])]
    reply = proxy.get("/proxied", probe={"request_headers": answer, "response_headers": waiting})
    assert (reply.status, reply.body) == (200, b"local")
    assert not proxy.reached_upstream(reply.case)


def test_header_held_over_ranges(site):
    """A range is of the whole, also when its header passes after the body has come."""
    proxy = site()
    whole = proxy.get("/file", headers=[("range", "bytes=16-23")], probe={"response_headers": RESPONSE})
    assert (whole.status, whole.body) == (200, FILE.encode())


def test_http2(site):
    proxy = site(listen="http2", http="client_body_buffer_size 1k;")
    with proxy.connect_http2() as connection:
        sent = []
        for path, body in KINDS.items():
            for callback, steps in (
                ("request_headers", REQUEST),
                ("response_headers", RESPONSE),
                ("response_body", [["nth", 1, RESPONSE]]),
            ):
                stream, case = connection.http.get_next_available_stream_id(), f"h2-{len(sent)}-{path}"
                pairs = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", path)]
                pairs += proxy.headers(case, probe={callback: steps})
                connection.http.send_headers(stream, pairs, end_stream=True)
                sent.append((stream, case, body))
        connection.socket.sendall(connection.http.data_to_send())
        for stream, case, body in sent:
            reply = connection.read_reply(stream, case)
            assert (reply.status, reply.body) == (200, body)
            assert proxy.reports(case).ends == [1, 1, 1]


def test_pipelined(site):
    """Requests that are sent without waiting have their answers in order."""
    proxy = site()
    with connected(proxy) as connection:
        cases = []
        for path, body in KINDS.items():
            for on in (
                {"request_headers": REQUEST},
                {"response_headers": RESPONSE},
                {"response_body": [["if_end", RESPONSE]]},
                {},
            ):
                cases.append((connection.send_head(path=path, probe=on), body))
        for case, body in cases:
            assert connection.read_reply(case).body == body


# ---- Nobody resumes ----

LIMITED = "proxy_wasm_pause_timeout 150ms;"
LATE = 'plugin "probe" paused a {} and did not resume it for 150 ms'


def test_timeout(site):
    proxy = site(LIMITED)
    for callback in ("request_headers", "response_headers"):
        for number, path in enumerate(KINDS, 1):
            with connected(proxy) as connection:
                begin = time.monotonic()
                case = connection.send_head(path=path, probe={callback: [["pause"]]})
                reply = connection.read_reply(case)
                assert reply.status == 504
                assert 0.14 < time.monotonic() - begin < 3
                assert logged(proxy, LATE.format(callback.split("_")[0]), number)
                assert reply.reports.ends == [1, 1, 1]
                # The connection goes on.
                assert connection.read_reply(connection.send_head(path=path)).status == 200
            assert proxy.reached_upstream(case) == (
                path in ("/proxied", "/unbuffered") and callback == "response_headers"
            )


def test_timeout_of_bodies(site):
    proxy = site(f"{LIMITED} client_body_timeout 60ms; send_timeout 60ms;")
    reply = proxy.post(b"x" * 3000, "/proxied", probe={"request_body": [["pause"]]})
    assert reply.status == 504
    assert not proxy.reached_upstream(reply.case)
    assert proxy.get("/file", probe={"response_body": [["pause"]], "response_headers": [["pause"]]}).status == 504
    # The response has begun.
    with connected(proxy) as connection:
        connection.send_head(path="/file", probe={"response_body": [["if_end", [["pause"]]]]})
        assert connection.read_until_cut().startswith(b"HTTP/1.1 200 ")
    assert logged(proxy, LATE.format("response"), 2)


def test_timeout_is_of_the_plugin_alone(site):
    """A client that is slow with its body, and an upstream with its response, have times of their own."""
    proxy = site("proxy_wasm_pause_timeout 500ms;")
    with connected(proxy) as connection:
        collected = {"request_body": [["unless_end", [["pause"]]]], "response_body": [["unless_end", [["pause"]]]]}
        orders = {"chunks": ["one ", "two ", "three"], "chunk_delay_ms": 300}
        case = connection.send_head("POST", "/proxied", [("content-length", "3")], probe=collected, upstream=orders)
        for byte in (b"a", b"b", b"c"):
            time.sleep(0.2)
            connection.send(byte)
        assert connection.read_reply(case).body == b"one two three"
    # Each pause anew.
    twice = [["pause"], call(["resume", "request"])]
    reply = proxy.post(
        b"x", "/proxied", probe={"request_headers": twice, "request_body": twice, "response_headers": RESPONSE}
    )
    assert reply.status == 200


def test_timeout_longer_than_those_of_clients(site):
    proxy = site("client_body_timeout 50ms; send_timeout 50ms;")
    steps = [
        ["pause"],
        [
            "call",
            {
                "upstream": "backend",
                "headers": [
                    [":method", "GET"],
                    [":path", "/c"],
                    [":authority", "c.test"],
                    ["x-upstream", '{"delay_ms": 200}'],
                ],
            },
        ],
    ]
    for way in ("request", "response"):
        steps[1][1]["then"] = [["resume", way]]
        for callback in (f"{way}_headers", f"{way}_body"):
            for path in ("/proxied", "/return"):
                reply = proxy.post(
                    b"x" * 100, path, probe={callback: [["if_end", steps]] if "body" in callback else steps}
                )
                assert reply.status == 200, (callback, path)


def test_no_timeout(site):
    proxy = site("proxy_wasm_pause_timeout 0;")
    with connected(proxy) as connection:
        connection.send_head(path="/return", probe={"request_headers": [["pause"]]})
        assert connection.quiet_for(0.4)


def test_error_page_of_a_timeout(site):
    proxy = site(LIMITED + " error_page 504 /late; location = /late { proxy_wasm probe; return 200 late; }")
    reply = proxy.get(
        "/proxied", probe={"request_headers": [["pause"]], "response_headers": [["get", "response_headers", ":status"]]}
    )
    assert (reply.status, reply.body) == (504, b"late")
    assert reply.reports.result("response_headers", "get") == "504"
    assert reply.reports.callbacks.count("request_headers") == 1


def test_names_all_plugins(site):
    proxy = site(LIMITED + " location = /two { proxy_wasm probe; proxy_wasm bare; return 200; }")
    assert proxy.get("/two", probe={"request_headers": [["pause"]]}).status == 504
    assert logged(proxy, 'one of the plugins "probe", "bare" paused a request')


# ---- Clients that leave ----


LEFT = ["request_headers", "request_body", "response_headers", "response_body"]


def leaving(callback):
    """A plugin that never resumes, and one that resumes when the client is gone."""
    return ({callback: [["pause"]]}, {callback: [["pause"], call(["resume", callback.split("_")[0]])]})


def test_client_leaves(site):
    proxy = site()
    for path, callback in itertools.product(KINDS, LEFT):
        if callback == "request_body" and path == "/file":
            continue
        for on in leaving(callback):
            with connected(proxy) as connection:
                body = b"x" * 3000 if callback == "request_body" else b""
                headers = [("content-length", str(len(body)))] if body else []
                case = connection.send_head("POST" if body else "GET", path, headers, probe=on)
                connection.send(body)
                assert entered(proxy, case, callback)
                connection.reset()
            assert proxy.reports(case).ends == [1, 1, 1]
    assert proxy.get("/none").status == 200


def test_client_resets_a_stream(site):
    proxy = site(listen="http2")
    with proxy.connect_http2() as connection:
        for path, callback in itertools.product(KINDS, LEFT):
            if callback == "request_body":
                continue
            for on in leaving(callback):
                stream, case = sent(connection, path, on)
                assert entered(proxy, case, callback)
                connection.reset(stream)
                assert proxy.reports(case).ends == [1, 1, 1]
            stream, _ = sent(connection, path, {})
            assert connection.read_reply(stream).status == 200


def sent(connection, path, on):
    stream, case = connection.http.get_next_available_stream_id(), f"left-{path}-{time.monotonic_ns()}"
    pairs = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", path)]
    connection.http.send_headers(stream, [*pairs, *connection.proxy.headers(case, probe=on)], end_stream=True)
    connection.socket.sendall(connection.http.data_to_send())
    return stream, case
