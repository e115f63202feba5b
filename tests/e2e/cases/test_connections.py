# SPDX-License-Identifier: Apache-2.0
from concurrent.futures import ThreadPoolExecutor

import pytest
from kit.cases import AGREES, case
from kit.client import Proxy, new_case_id
from kit.setup import probe

AREA = "Connections"


def closed(connection, seconds=3):
    """Whether the proxy closes the connection by itself, with nothing more to say."""
    connection.socket.settimeout(seconds)
    try:
        return connection.rest + connection.socket.recv(1 << 16) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


# ---- One after the other ----


@case("requests on one connection have contexts of their own in one VM, which end one after the other", envoy=AGREES)
def test_keep_alive(proxy):
    with proxy.connect() as connection:
        replies = [connection.read_reply(connection.send_head(path=f"/{index}")) for index in range(3)]
        assert [reply.status for reply in replies] == [200] * 3
        reports = [reply.reports for reply in replies]
    assert len({one[0].context for one in reports}) == 3
    assert len({one[0].vm for one in reports}) == 1
    assert [one.ends for one in reports] == [[1, 1, 1]] * 3
    assert [one.path for reply in replies for one in [reply.seen]] == ["/0", "/1", "/2"]


@case("a request with a body leaves the connection good for the next one", envoy=AGREES)
def test_keep_alive_bodies(proxy):
    with proxy.connect() as connection:
        first = connection.send_head("POST", headers=[("content-length", "5")], upstream={"echo": True})
        connection.send(b"first")
        assert connection.read_reply(first).body == b"first"
        second = connection.send_head("POST", headers=[("transfer-encoding", "chunked")], upstream={"echo": True})
        connection.send_chunk(b"sec")
        connection.send_chunk(b"ond")
        connection.send_last_chunk()
        assert connection.read_reply(second).body == b"second"
        third = connection.send_head()
        assert connection.read_reply(third).body == b"ok\n"


@case("a local response leaves the connection good for the next request", envoy=AGREES)
def test_keep_alive_local(proxy):
    with proxy.connect() as connection:
        first = connection.send_head(probe={"request_headers": [["local", 403, [], "no"]]})
        assert connection.read_reply(first).status == 403
        second = connection.send_head()
        assert connection.read_reply(second).status == 200


@case("three requests that are sent at once are answered in their order", envoy=AGREES)
def test_pipelining(proxy):
    with proxy.connect() as connection:
        # The first is the slowest.
        cases = [
            connection.send_head(upstream={"body": f"answer {index}", "delay_ms": 200 - 100 * index})
            for index in range(3)
        ]
        replies = [connection.read_reply(case) for case in cases]
    assert [reply.body for reply in replies] == [b"answer 0", b"answer 1", b"answer 2"]
    assert [reply.reports.ends for reply in replies] == [[1, 1, 1]] * 3


@case("a request that comes behind a paused one waits and is served", envoy=AGREES)
def test_pipelining_paused(serve):
    on = {"tick": [["each_parked", [["resume", "request"]]]]}
    proxy = serve(probe(on={"configure": [["tick", 100]], **on}, silent=["tick"]), shared=True)
    with proxy.connect() as connection:
        first = connection.send_head(probe={"request_headers": [["park"], ["pause"]]}, upstream={"body": "first"})
        second = connection.send_head(upstream={"body": "second"})
        assert connection.read_reply(first).body == b"first"
        assert connection.read_reply(second).body == b"second"


@case("connection: close is answered, then the connection closed", envoy=AGREES)
def test_connection_close(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(headers=[("connection", "close")])
        reply = connection.read_reply(case)
        assert (reply.status, reply.body) == (200, b"ok\n")
        assert reply.get("connection") == "close"
        assert closed(connection)
    assert proxy.reports(case).ends == [1, 1, 1]


@case("what connection names stays between client and proxy", envoy=AGREES)
def test_hop_by_hop(proxy):
    reply = proxy.get(headers=[("connection", "keep-alive, x-hop"), ("x-hop", "1"), ("x-end", "1")])
    assert reply.status == 200
    assert reply.seen.get("x-hop") is None
    assert reply.seen.get("x-end") == "1"


@case("an HTTP/1.0 request is answered without chunks, and the connection closed", envoy=AGREES)
def test_http_10(proxy):
    case = new_case_id()
    with proxy.connect() as connection:
        steering = "".join(f"{name}: {value}\r\n" for name, value in Proxy.headers(case, {}, {"chunked": True}))
        connection.send(f"GET / HTTP/1.0\r\nhost: conformance.test\r\n{steering}\r\n".encode())
        head, body = connection.read_to_end(3).split(b"\r\n\r\n", 1)
    assert head.split(b" ")[1] == b"200"
    assert b"transfer-encoding" not in head.lower()
    assert body == b"ok\n"
    assert proxy.reports(case).ends == [1, 1, 1]


@case("an HTTP/1.0 client that asks for keep-alive can send a second request", envoy=AGREES)
def test_http_10_keep_alive(proxy):
    with proxy.connect() as connection:
        for _ in range(2):
            steering = "".join(f"{name}: {value}\r\n" for name, value in Proxy.headers(new_case_id(), {}))
            connection.send(
                f"GET / HTTP/1.0\r\nhost: conformance.test\r\nconnection: keep-alive\r\n{steering}\r\n".encode()
            )
            reply = connection.read_reply()
            assert (reply.status, reply.body) == (200, b"ok\n")
            assert reply.get("connection") == "keep-alive"


# ---- HTTP/2 ----


@case(
    "an HTTP/2 request is shown as one of HTTP/1.1 is: headers with pseudo headers, and its body",
    envoy=AGREES,
    needs="http2",
)
def test_http2(serve):
    proxy = serve(probe(), http2=True, shared=True)
    steps = {"request_headers": [["map", "request_headers"]], "request_body": [["body", "request_body", 0, -1]]}
    reply = proxy.post(b"some body", path="/path?a=1", headers=[("x-a", "1")], probe=steps, upstream={"echo": True})
    assert (reply.status, reply.version, reply.body) == (200, "HTTP/2", b"some body")
    headers = reply.reports.result("request_headers", "map")
    assert dict(headers)[":method"] == "POST"
    assert dict(headers)[":path"] == "/path?a=1"
    assert ["x-a", "1"] in headers
    # The client's end may come in a frame of its own, behind the answer to the whole body.
    assert "".join(piece or "" for piece in reply.reports.results("request_body", "body")) == "some body"
    assert reply.reports.ends == [1, 1, 1]


@case("a local response reaches an HTTP/2 client", envoy=AGREES, needs="http2")
def test_http2_local(serve):
    proxy = serve(probe(), http2=True, shared=True)
    reply = proxy.get(probe={"request_headers": [["local", 403, [["x-why", "1"]], "denied"]]})
    assert (reply.status, reply.get("x-why"), reply.body) == (403, "1", b"denied")


@case(
    "20 streams of one HTTP/2 connection at once have contexts of their own, and each gets its answer",
    envoy=AGREES,
    needs="http2",
)
def test_http2_streams(serve):
    proxy = serve(
        probe(on={"configure": [["tick", 50]], "tick": [["each_parked", [["resume", "request"]]]]}, silent=["tick"]),
        http2=True,
    )

    with proxy.connect_http2() as connection:
        sent = []
        for index in range(20):
            own = ["add", "request_headers", "x-own", str(index)]
            orders = {"body": f"answer {index}", "delay_ms": 50}
            sent.append(connection.send(probe={"request_headers": [own, ["park"], ["pause"]]}, upstream=orders))
        replies = [connection.read_reply(stream, case) for stream, case in sent]
    assert [reply.body for reply in replies] == [f"answer {index}".encode() for index in range(20)]
    assert [reply.seen.get("x-own") for reply in replies] == [str(index) for index in range(20)]
    reports = [reply.reports for reply in replies]
    assert len({one[0].context for one in reports}) == 20
    assert [one.ends for one in reports] == [[1, 1, 1]] * 20


# ---- On the wire ----


@case("a client that expects 100-continue is told to go on when the plugins let the request pass", envoy=AGREES)
def test_expect_continue(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(
            "POST", headers=[("expect", "100-continue"), ("content-length", "4")], upstream={"echo": True}
        )
        connection.socket.settimeout(3)
        assert connection.socket.recv(1 << 16).startswith(b"HTTP/1.1 100 ")
        connection.send(b"body")
        assert connection.read_reply(case).body == b"body"


@case(
    "a plugin's local response comes in place of 100-continue or after it, and the body is not waited for", envoy=AGREES
)
def test_expect_continue_local(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(
            "POST",
            headers=[("expect", "100-continue"), ("content-length", "4")],
            probe={"request_headers": [["local", 403, [], "no"]]},
        )
        assert connection.read_reply(case).status == 403
    assert not proxy.reached_upstream(case)


@case("informational responses are no responses to plugins", envoy=AGREES)
def test_informational(proxy):
    steps = {"response_headers": [["get", "response_headers", ":status"]]}
    reply = proxy.get(probe=steps, upstream={"informational": [103, 102]})
    assert (reply.status, reply.body) == (200, b"ok\n")
    assert reply.reports.results("response_headers") == ["200"]


@case("a request to upgrade is served without an upgrade, or refused; the next request is served", envoy=AGREES)
def test_upgrade(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(headers=[("connection", "upgrade"), ("upgrade", "websocket")])
        reply = connection.read_reply(case)
        assert reply.status == 200 or 400 <= reply.status < 600
    assert proxy.get().status == 200


@case("chunk extensions are no part of the body", envoy=AGREES)
def test_chunk_extensions(proxy):
    steps = {"request_body": [["count", "request_body"]]}
    with proxy.connect() as connection:
        case = connection.send_head(
            "POST", headers=[("transfer-encoding", "chunked")], probe=steps, upstream={"echo": True}
        )
        connection.send(b'5;name=value\r\nfirst\r\n6;q="a b"\r\nsecond\r\n0;last\r\n\r\n')
        reply = connection.read_reply(case)
    assert (reply.status, reply.body) == (200, b"firstsecond")
    assert reply.reports.result("request_body", "count")["total"] == 11


@case("a request that comes byte by byte is the same request", envoy=AGREES)
def test_byte_by_byte(proxy):
    case = new_case_id()
    steps = {"request_body": [["count", "request_body"]]}
    lines = [f"{name}: {value}" for name, value in Proxy.headers(case, steps, {"echo": True})]
    text = "\r\n".join(["POST /slow HTTP/1.1", "host: conformance.test", "content-length: 9", *lines, "", "some body"])
    with proxy.connect() as connection:
        for byte in text.encode():
            connection.send(bytes([byte]))
        reply = connection.read_reply(case)
    assert (reply.status, reply.body) == (200, b"some body")
    assert reply.seen.path == "/slow"
    assert reply.reports.result("request_body", "count")["total"] == 9


@case("a body that comes with pauses is shown as it comes", envoy=AGREES)
def test_slow_body(proxy):
    steps = {"request_body": [["body", "request_body", 0, -1]]}
    with proxy.connect() as connection:
        case = connection.send_head("POST", headers=[("transfer-encoding", "chunked")], probe=steps)
        for piece in ("one", "two", "three"):
            connection.send_chunk(piece.encode())
            assert proxy.server.book.wait(lambda: piece in proxy.reported(case).results())  # noqa: B023
        connection.send_last_chunk()
        assert connection.read_reply(case).status == 200
    assert proxy.seen(case).body == b"onetwothree"


@case("300 headers with 30 KiB arrive at the plugin and at the upstream", envoy=AGREES)
def test_many_headers(proxy):
    headers = [(f"x-h{index}", f"{index:0100}") for index in range(300)]
    steps = {"request_headers": [["get", "request_headers", "x-h299"], ["get", "request_headers", "x-h0"]]}
    reply = proxy.get(headers=headers, probe=steps, upstream={})
    assert reply.status == 200
    assert reply.reports.results("request_headers") == [f"{299:0100}", f"{0:0100}"]
    assert [reply.seen.get(name) for name, _ in headers] == [value for _, value in headers]


@case("a header of 32 KiB arrives at the plugin and at the upstream", envoy=AGREES)
def test_large_header(proxy):
    value = "x" * 32768
    reply = proxy.get(headers=[("x-large", value)], probe={"request_headers": [["get", "request_headers", "x-large"]]})
    assert reply.status == 200
    assert reply.reports.result("request_headers", "get") == value
    assert reply.seen.get("x-large") == value


@case(
    "what is no HTTP request is refused or cut off; plugins log it at most, and the next request is served",
    envoy=AGREES,
)
@pytest.mark.parametrize(
    "data",
    [
        b"what is this\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: what\r\n\r\n",
    ],
    ids=["words", "tls", "no_colon", "no_host", "length"],
)
def test_malformed(proxy, data):
    book = proxy.server.book
    assert proxy.get().reports
    before = len(book.reports)
    with proxy.connect() as connection:
        connection.send(data)
        answer = connection.read_to_end(3)
    assert answer == b"" or answer.split(b" ")[1][:1] in (b"4", b"5")
    reply = proxy.get()
    assert reply.status == 200
    assert reply.reports.ends == [1, 1, 1]
    others = [one.callback for one in book.reports[before:] if one.id != reply.case]
    # A host may have such a request logged, by a context of its own.
    assert others in (["context_create"], ["context_create", "log", "done", "delete", "context_create"])


@case("a body that is malformed ends its stream, and harms no other request", envoy=AGREES)
def test_malformed_chunk(proxy):
    with proxy.connect() as connection:
        case = connection.send_head("POST", headers=[("transfer-encoding", "chunked")])
        connection.send(b"5\r\nfirst\r\nzzz\r\n")
        answer = connection.read_to_end(3)
        assert answer == b"" or answer.split(b" ")[1][:1] == b"4"
    assert proxy.reports(case).ends == [1, 1, 1]
    assert proxy.get().status == 200


# ---- Many ----


@case("200 requests on one connection leave no context behind", envoy=AGREES)
def test_sequence(serve):
    proxy = serve(probe())
    silent = ["request_headers", "response_headers", "response_body", "log", "done", "delete"]
    with proxy.connect() as connection:
        for _ in range(200):
            case = connection.send_head(silent=silent)
            assert connection.read_reply(case).status == 200
        last = connection.send_head(probe={"request_headers": [["contexts"]]})
        assert connection.read_reply(last).status == 200
    reports = proxy.reports(last)
    assert len(reports.result("request_headers", "contexts")) == 1
    assert reports[0].context >= 200


@case("40 connections at once are each served", envoy=AGREES)
def test_parallel(proxy):
    def one(index):
        return proxy.get(
            probe={"request_headers": [["add", "request_headers", "x-own", str(index)]]},
            upstream={"body": f"answer {index}", "delay_ms": 100},
        )

    with ThreadPoolExecutor(40) as pool:
        replies = list(pool.map(one, range(40)))
    assert [reply.status for reply in replies] == [200] * 40
    assert [reply.body for reply in replies] == [f"answer {index}".encode() for index in range(40)]
    assert [reply.seen.get("x-own") for reply in replies] == [str(index) for index in range(40)]
    assert [reply.reports.ends for reply in replies] == [[1, 1, 1]] * 40


@case("connections that say nothing cost no context and hinder nobody", envoy=AGREES)
def test_idle_connections(serve):
    proxy = serve(probe())
    connections = [proxy.connect() for _ in range(50)]
    reply = proxy.get(probe={"request_headers": [["contexts"]]})
    assert reply.status == 200
    assert len(reply.reports.result("request_headers", "contexts")) == 1
    for connection in connections:
        connection.close()


@case("four workers serve 40 connections, each stream in one VM from its first callback to its last", envoy=AGREES)
def test_workers(serve):
    proxy = serve(probe(), workers=4)
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda _: proxy.get(), range(40)))
    reports = [reply.reports for reply in replies]
    assert [one.ends for one in reports] == [[1, 1, 1]] * 40
    assert {len({(one.vm, one.context) for one in stream}) for stream in reports} == {1}
