# SPDX-License-Identifier: Apache-2.0
"""Local responses from every phase, and on every kind of content."""

import time

import pytest
from http_site import FILE, call, connected

LOCAL = ["local", 418, [["x-by", "plugin"]], "local"]
PATHS = ["/return", "/file", "/proxied", "/unbuffered"]
PHASES = {
    "request headers": {"request_headers": [LOCAL]},
    "call in request headers": {"request_headers": [["pause"], call(LOCAL)]},
    "call, and resumed": {"request_headers": [["pause"], call(LOCAL, ["resume", "request"])]},
    "request body": {"request_body": [LOCAL]},
    "end of the request body": {"request_body": [["if_end", [LOCAL]]]},
    "call in request body": {"request_body": [["if_end", [["pause"], call(LOCAL)]], ["unless_end", [["pause"]]]]},
    "response headers": {"response_headers": [LOCAL]},
    "call in response headers": {"response_headers": [["pause"], call(LOCAL)]},
    "call in response headers, and resumed": {"response_headers": [["pause"], call(LOCAL, ["resume", "response"])]},
}


@pytest.mark.parametrize("http2", [False, True])
def test_phases(site, http2):
    proxy = site("client_body_buffer_size 4k;", listen="http2" if http2 else "")
    for name, on in PHASES.items():
        for path in PATHS:
            if http2:
                if "request body" in name:
                    continue
                with proxy.connect_http2() as connection:
                    stream, case = connection.http.get_next_available_stream_id(), f"local-{time.monotonic_ns()}"
                    pairs = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", path)]
                    connection.http.send_headers(stream, [*pairs, *proxy.headers(case, probe=on)], end_stream=True)
                    connection.socket.sendall(connection.http.data_to_send())
                    reply = connection.read_reply(stream, case)
            else:
                body = b"x" * 20000 if "request body" in name else None
                reply = proxy.request("POST" if body else "GET", path, body=body, probe=on)
            assert (reply.status, reply.body, reply.get("x-by")) == (418, b"local", "plugin"), (name, path)
            assert reply.reports.ends == [1, 1, 1]


def test_before_the_header(site):
    """A plugin that holds the header back while it looks at the body."""
    header_first = 'plugin holding { module probe; configuration "{}"; allow_on_headers_stop_iteration on; }'
    proxy = site(
        """
        location = /file { proxy_wasm holding; }
        location = /proxied { proxy_wasm holding; proxy_pass http://127.0.0.1:{upstream}; }
        location = /return { proxy_wasm holding; return 200 "returned"; }
        """,
        wasm=header_first,
    )
    for path in ("/return", "/file", "/proxied"):
        for on in ({"response_body": [LOCAL]}, {"response_body": [["pause"], ["if_end", [call(LOCAL)]]]}):
            reply = proxy.get(path, probe={"response_headers": [["pause"]], **on})
            assert (reply.status, reply.body, reply.get("x-by")) == (418, b"local", "plugin"), path


def test_in_one_connection(site):
    """HTTP/1.1 goes on after a local response, and after one that left the rest of a body unread."""
    proxy = site()
    with connected(proxy) as connection:
        for on in PHASES.values():
            if "request_body" in on:
                continue
            for path in PATHS:
                case = connection.send_head(path=path, probe=on)
                assert connection.read_reply(case).status == 418
        case = connection.send_head("POST", "/proxied", [("content-length", "100000")], probe={"request_body": [LOCAL]})
        connection.send(b"x" * 100)
        assert connection.read_reply(case).status == 418
        connection.send(b"x" * 99900)
        case = connection.send_head(
            "POST", "/proxied", [("transfer-encoding", "chunked")], probe={"request_body": [LOCAL]}
        )
        connection.send_chunk(b"x" * 100)
        assert connection.read_reply(case).status == 418
        connection.send_chunk(b"GET / HTTP/1.1\r\n" * 1000)
        connection.send_last_chunk()
        assert connection.read_reply(connection.send_head(path="/file")).body == FILE.encode()


def test_after_the_header(site):
    """Too late for another response: the client sees that something is missing."""
    proxy = site()
    for path in ("/file", "/proxied", "/unbuffered"):
        with connected(proxy) as connection:
            case = connection.send_head(
                path=path,
                probe={"response_body": [["nth", 1, [LOCAL]]]},
                upstream={"chunks": ["a" * 100, "b" * 100], "chunk_delay_ms": 50},
            )
            data = connection.read_until_cut()
            assert b"418" not in data.split(b"\r\n")[0]
        assert proxy.reports(case).ends == [1, 1, 1]
    assert proxy.get("/file").body == FILE.encode()


@pytest.mark.parametrize("path", ["/proxied", "/unbuffered"])
def test_while_the_upstream_works(site, path):
    """A call of a request that was not paused answers it, while its upstream takes its time."""
    proxy = site()
    with connected(proxy) as connection:
        for orders in ({"delay_ms": 3000}, {"size": 300000, "delay_ms": 3000}):
            case = connection.send_head(path=path, probe={"request_headers": [call(LOCAL)]}, upstream=orders)
            begin = time.monotonic()
            reply = connection.read_reply(case)
            assert (reply.status, reply.body) == (418, b"local")
            assert time.monotonic() - begin < 2.5
            assert reply.reports.ends == [1, 1, 1]
        assert connection.read_reply(connection.send_head(path=path)).status == 200


def test_endless_upstream(site):
    """The client does not wait for the end of a response that was replaced."""
    proxy = site()
    orders = {"chunks": ["x" * 1000] * 40, "chunk_delay_ms": 100, "chunked": True}
    for path in ("/proxied", "/unbuffered"):
        begin = time.monotonic()
        reply = proxy.get(path, upstream=orders, probe={"response_headers": [LOCAL]})
        assert (reply.status, reply.body) == (418, b"local")
        assert time.monotonic() - begin < 3
        assert reply.reports.ends == [1, 1, 1]
        assert time.monotonic() - begin < 3
