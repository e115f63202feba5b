# SPDX-License-Identifier: Apache-2.0
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from kit.cases import AGREES, case
from kit.client import new_case_id
from kit.setup import probe

AREA = "Aborts and failures"

LOG = {"log": [["get", "response_headers", ":status"]]}
LEAVING = pytest.mark.parametrize("leave", ["close", "reset"])


def entered(proxy, case, callback, count=1):
    """Waits until a callback of the stream has run."""
    return proxy.server.book.wait(lambda: len(proxy.reported(case).of(callback).entries) >= count)


def assert_ended(proxy, case):
    """The stream has ended once, and the server serves on without it."""
    reports = proxy.reports(case)
    assert reports.ends == [1, 1, 1]
    assert reports[-1].callback == "delete"
    reply = proxy.get(probe={"request_headers": [["contexts"]]})
    assert reply.status == 200
    assert reports[0].context not in reply.reports.result("request_headers", "contexts")
    assert reply.reports[0].vm == reports[0].vm
    return reports


# ---- The client leaves ----


@case("a client that leaves while its request is paused ends the stream; the upstream never hears of it", envoy=AGREES)
@LEAVING
def test_leave_paused(proxy, leave):
    with proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": [["pause"]], **LOG})
        assert entered(proxy, case, "request_headers")
        getattr(connection, leave)()
    reports = assert_ended(proxy, case)
    assert reports.result("log", "get") is None
    assert not proxy.reached_upstream(case)


@case(
    "a client that leaves while a plugin collects its body ends the stream; the upstream gets none of it",
    envoy=AGREES,
)
@LEAVING
def test_leave_collected_body(proxy, leave):
    with proxy.connect() as connection:
        steps = {"request_body": [["unless_end", [["pause"]]]], **LOG}
        case = connection.send_head("POST", headers=[("content-length", "100000")], probe=steps)
        connection.send(b"x" * 1000)
        assert entered(proxy, case, "request_body")
        getattr(connection, leave)()
    assert_ended(proxy, case)
    assert all(one.size == 0 and not one.complete for one in proxy.upstream.seen(case))


@case(
    "a client that leaves in the middle of its body ends the stream, and the upstream's request breaks off",
    envoy=AGREES,
)
@LEAVING
def test_leave_uploading(proxy, leave):
    with proxy.connect() as connection:
        case = connection.send_head("POST", headers=[("content-length", "100000")], probe=LOG)
        connection.send(b"x" * 1000)
        assert entered(proxy, case, "request_body")
        assert proxy.upstream.wait(case, complete=False)
        getattr(connection, leave)()
    reports = assert_ended(proxy, case)
    assert reports.result("log", "get") is None
    assert not any(one.arguments[1] for one in reports.of("request_body").entries)
    assert proxy.seen(case).aborted


@case("a client that leaves while the upstream thinks ends the stream", envoy=AGREES)
@LEAVING
def test_leave_waiting(proxy, leave):
    with proxy.connect() as connection:
        case = connection.send_head(probe=LOG, upstream={"hold": "for ever"})
        assert proxy.upstream.wait(case)
        getattr(connection, leave)()
    reports = assert_ended(proxy, case)
    assert reports.callbacks == ["request_headers", "log", "done", "delete"]
    assert reports.result("log", "get") is None


@case("a client that leaves while the response is paused ends the stream", envoy=AGREES, needs="pause_response")
@LEAVING
def test_leave_response_paused(proxy, leave):
    with proxy.connect() as connection:
        case = connection.send_head(probe={"response_headers": [["pause"]], **LOG})
        assert entered(proxy, case, "response_headers")
        getattr(connection, leave)()
    reports = assert_ended(proxy, case)
    assert reports.result("log", "get") == "200"


@case("a client that leaves in the middle of a large response ends the stream", envoy=AGREES)
@LEAVING
def test_leave_downloading(proxy, leave):
    size = 32 << 20
    with proxy.connect() as connection:
        case = connection.send_head(
            probe={"response_body": [["count", "response_body"]], **LOG},
            silent=["response_body"],
            upstream={"size": size},
        )
        assert connection.socket.recv(1 << 16).startswith(b"HTTP/1.1 200")
        getattr(connection, leave)()
    reports = assert_ended(proxy, case)
    assert reports.result("log", "get") == "200"
    assert reports.results("response_body", "count") == []


@case("a client that leaves while a response comes in small pieces ends the stream", envoy=AGREES)
@LEAVING
def test_leave_streaming(proxy, leave):
    chunks = [f"piece {index}" for index in range(10)]
    with proxy.connect() as connection:
        case = connection.send_head(upstream={"chunks": chunks, "chunked": True, "chunk_delay_ms": 50})
        assert entered(proxy, case, "response_body")
        getattr(connection, leave)()
    assert_ended(proxy, case)


@case("a client that leaves while its plugin waits for a call ends the stream; the answer is for nobody", envoy=AGREES)
@LEAVING
def test_leave_calling(proxy, leave):
    headers = [
        [":method", "GET"],
        [":path", f"/left-{leave}"],
        [":authority", "a"],
        ["x-upstream", '{"delay_ms": 200}'],
    ]
    step = ["call", {"upstream": "upstream", "headers": headers, "then": [["resume", "request"]]}]
    with proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": [step, ["pause"]], **LOG})
        assert entered(proxy, case, "request_headers")
        getattr(connection, leave)()
    reports = assert_ended(proxy, case)
    # By then the answer has come.
    proxy.get(upstream={"delay_ms": 300})
    assert proxy.reports(case) == reports
    assert proxy.get().reports[0].vm == reports[0].vm


@case("an HTTP/2 stream that the client resets ends alone: others of its connection go on", envoy=AGREES, needs="http2")
def test_reset_http2_stream(serve):
    proxy = serve(probe(), http2=True, shared=True)
    with proxy.connect_http2() as client:
        paused, paused_case = client.send(probe={"request_headers": [["pause"]]})
        waiting, waiting_case = client.send(probe={}, upstream={"hold": "for ever"})
        held = new_case_id()
        other, other_case = client.send(probe={}, upstream={"hold": held})
        assert entered(proxy, paused_case, "request_headers")
        assert proxy.upstream.wait(waiting_case)
        client.reset(paused)
        client.reset(waiting)
        assert proxy.reports(paused_case).callbacks == ["request_headers", "log", "done", "delete"]
        assert proxy.reports(waiting_case).callbacks == ["request_headers", "log", "done", "delete"]
        proxy.upstream.release(held)
        assert client.read_reply(other).status == 200
        assert proxy.reports(other_case).ends == [1, 1, 1]
        again, _ = client.send(probe={})
        assert client.read_reply(again).status == 200


@case("50 clients that leave at once leave nothing behind", envoy=AGREES)
def test_many_leave(proxy):
    def one(index):
        with proxy.connect() as connection:
            case = connection.send_head(
                probe={"request_headers": [["pause"]]} if index % 2 else {}, upstream={"delay_ms": 50}
            )
            entered(proxy, case, "request_headers")
            (connection.reset if index % 3 else connection.close)()
        return proxy.reports(case).ends

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(one, range(50))) == [[1, 1, 1]] * 50
    reply = proxy.get(probe={"request_headers": [["contexts"]]})
    assert len(reply.reports.result("request_headers", "contexts")) == 1


# ---- The upstream fails ----

SEEN = {"response_headers": [["get", "response_headers", ":status"]], **LOG}


def assert_failed(reply, *statuses):
    """The client got one of these statuses, and the plugins saw the same."""
    assert reply.status in statuses
    reports = reply.reports
    assert reports.result("response_headers", "get") == str(reply.status)
    assert reports.result("log", "get") == str(reply.status)
    assert reports.ends == [1, 1, 1]


@case("an upstream that refuses connections is a 502 or 503, which the plugins see as a response", envoy=AGREES)
def test_refused(serve, refusing):
    proxy = serve(probe(), upstream_port=refusing.port)
    assert_failed(proxy.get(probe=SEEN), 502, 503)
    assert_failed(proxy.post(b"some body", probe=SEEN), 502, 503)


@case(
    "an upstream that closes or resets the connection before a whole head is a 502 or 503, which the plugins see",
    envoy=AGREES,
)
@pytest.mark.parametrize("fail", ["accept", "head", "reset"])
def test_closed_before_head(proxy, fail):
    assert_failed(proxy.get(probe=SEEN, upstream={"fail": fail}), 502, 503)
    assert proxy.get().status == 200


@case("an upstream that does not speak HTTP is a 502 or 503, which the plugins see", envoy=AGREES)
@pytest.mark.parametrize(
    "raw",
    [
        "what is this\r\n\r\n",
        "HTTP/1.1 what\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    ],
    ids=["words", "no_status", "no_colon", "length"],
)
def test_malformed_head(proxy, raw):
    assert_failed(proxy.get(probe=SEEN, upstream={"raw": raw}), 502, 503)
    assert proxy.get().status == 200


@case("an upstream that never answers is a 504 when time is up, which the plugins see", envoy=AGREES)
def test_silent(serve, silent):
    proxy = serve(probe(), upstream_port=silent.port, upstream_timeout_ms=300)
    assert_failed(proxy.get(probe=SEEN), 504)


@case("a plugin can change what the host says of a failed upstream", envoy=AGREES)
def test_change_failure(serve, refusing):
    proxy = serve(probe(), upstream_port=refusing.port)
    steps = [["set", "response_headers", "x-sorry", "1"], ["set", "response_headers", ":status", "502"]]
    reply = proxy.get(probe={"response_headers": steps})
    assert (reply.status, reply.get("x-sorry")) == (502, "1")


@case("a response that breaks off in its body breaks off for the client; the plugins see no end of it", envoy=AGREES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_closed_in_body(proxy, chunked):
    orders = {"fail": "body", "body": "half of it" * 100, "chunked": chunked}
    with proxy.connect() as connection:
        case = connection.send_head(probe=SEEN, upstream=orders)
        data = connection.read_to_end(3)
    assert data.startswith(b"HTTP/1.1 200")
    assert b"half of it" in data
    assert not data.endswith(b"0\r\n\r\n")
    reports = assert_ended(proxy, case)
    assert reports.result("log", "get") == "200"
    assert not any(one.arguments[1] for one in reports.of("response_body").entries)


@case(
    "a response that breaks off while a plugin collects it is no whole one for the client",
    envoy=AGREES,
    needs="pause_response",
)
def test_closed_in_collected_body(proxy):
    steps = {"response_body": [["unless_end", [["pause"]]]], **LOG}
    with proxy.connect() as connection:
        case = connection.send_head(probe=steps, upstream={"fail": "body", "body": "half of it" * 100})
        data = connection.read_to_end(3)
    assert b"half of it" not in data
    assert_ended(proxy, case)


@case("a response without a length ends where the connection does, for the plugins and the client", envoy=AGREES)
def test_until_close(proxy):
    steps = {"response_body": [["count", "response_body"]]}
    reply = proxy.get(probe=steps, upstream={"raw": "HTTP/1.1 200 OK\r\n\r\nall of it"})
    assert (reply.status, reply.body) == (200, b"all of it")
    assert reply.reports.result("response_body", "count")["total"] == 9
    assert reply.reports.ends == [1, 1, 1]


@case("an answer that comes while the body is still on its way reaches the client at once", envoy=AGREES)
def test_early_answer(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(
            "POST",
            headers=[("content-length", "1000000")],
            probe=SEEN,
            upstream={"early": True, "status": 413, "body": "too large"},
        )
        connection.send(b"x" * 1000)
        reply = connection.read_reply(case)
        assert (reply.status, reply.body) == (413, b"too large")
    reports = assert_ended(proxy, case)
    assert reports.result("log", "get") == "413"


@case("failures of the upstream one after the other leave nothing behind", envoy=AGREES)
def test_many_failures(proxy):
    orders = [{"fail": fail} for fail in ("accept", "head", "reset", "body")] * 5

    def one(order):
        with proxy.connect() as connection:
            case = connection.send_head(upstream=order)
            connection.read_reply(case) if order["fail"] != "body" else connection.socket.recv(1 << 16)
        return proxy.reports(case).ends

    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(one, orders)) == [[1, 1, 1]] * 20
    reply = proxy.get(probe={"request_headers": [["contexts"]]})
    assert len(reply.reports.result("request_headers", "contexts")) == 1


# ---- Both ----


@case("a local response to a client that has left harms nobody", envoy=AGREES)
@LEAVING
def test_local_after_leave(proxy, leave):
    with proxy.connect() as connection:
        body = "x" * 1000
        case = connection.send_head(probe={"request_headers": [["local", 403, [], body]]})
        getattr(connection, leave)()
    assert_ended(proxy, case)


@case("a client that closes its side only gets its answer, or has left: the stream ends once", envoy=AGREES)
def test_half_close(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(upstream={"delay_ms": 100})
        connection.socket.shutdown(socket.SHUT_WR)
        try:
            answer = connection.read_to_end(3)
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 200")
    assert_ended(proxy, case)
