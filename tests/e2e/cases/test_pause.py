# SPDX-License-Identifier: Apache-2.0
from concurrent.futures import ThreadPoolExecutor

import pytest
from kit.cases import AGREES, Differs, case
from kit.client import eventually
from kit.setup import probe

AREA = "Pause and resume"

ENDED = ["log", "done", "delete"]
CALL = [[":method", "GET"], [":path", "/call"], [":authority", "call.test"]]
HOLD = [["park"], ["pause"]]


def call(*then, orders='{"delay_ms": 50}'):
    """The step that makes a call, whose answer runs `then`."""
    return ["call", {"upstream": "upstream", "headers": [*CALL, ["x-upstream", orders]], "then": list(then)}]


def ticking(*steps, **options):
    """A probe whose tick runs steps for each parked stream."""
    on = {"configure": [["tick", 50]], "tick": [["each_parked", list(steps)]]}
    return probe(on=on, silent=["tick"], **options)


@pytest.fixture
def gate(serve):
    """Streams that are parked here wait until release() says what becomes of them."""
    return Gate(serve(probe(), shared=True))


class Gate:
    def __init__(self, proxy):
        self.proxy = proxy

    def release(self, *steps):
        """A request of its own, in whose callback the parked streams are resumed."""
        reply = self.proxy.get(probe={"request_headers": [["each_parked", list(steps)]]})
        assert reply.status == 200

    def parked(self, case, callback):
        """Waits until a stream has come to the callback in which it pauses."""
        found = self.proxy.server.book.wait(lambda: self.proxy.reported(case).of(callback))
        assert found, f"{callback} was not reached"


# ---- From where, by what ----


@case("a request that is paused in proxy_on_request_headers reaches the upstream when a tick resumes it", envoy=AGREES)
def test_tick(serve):
    proxy = serve(ticking(["resume", "request"]), shared=True)
    reply = proxy.get(probe={"request_headers": HOLD})
    assert (reply.status, reply.body) == (200, b"ok\n")
    assert reply.reports.callbacks[:2] == ["request_headers", "response_headers"]


@case("nothing of a paused request reaches the upstream until another stream's callback resumes it", envoy=AGREES)
def test_request_headers(gate):
    with gate.proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": HOLD})
        gate.parked(case, "request_headers")
        assert connection.quiet_for(0.1)
        assert not gate.proxy.reached_upstream(case)
        gate.release(["resume", "request"])
        assert connection.read_reply(case).status == 200
    assert gate.proxy.reports(case).callbacks[-3:] == ENDED


@case("while a plugin pauses in proxy_on_request_headers it is shown no body, and the upstream gets none", envoy=AGREES)
def test_headers_with_body(gate):
    with gate.proxy.connect() as connection:
        headers = [("transfer-encoding", "chunked")]
        on = {"request_headers": HOLD, "request_body": [["count", "request_body"]]}
        case = connection.send_head("POST", headers=headers, probe=on)
        for piece in (b"one ", b"two ", b"three"):
            connection.send_chunk(piece)
        connection.send_last_chunk()
        gate.parked(case, "request_headers")
        assert connection.quiet_for(0.1)
        assert gate.proxy.reported(case).callbacks == ["request_headers"]
        assert not gate.proxy.reached_upstream(case)
        gate.release(["resume", "request"])
        assert connection.read_reply(case).status == 200
    assert gate.proxy.seen(case).body == b"one two three"
    assert gate.proxy.reports(case).result("request_body", "count")["total"] == 13


@case(
    "with allow_on_headers_stop_iteration a plugin that pauses in proxy_on_request_headers is shown the body",
    envoy=AGREES,
)
def test_stop_iteration(serve):
    proxy = serve(probe(stop_iteration=True), shared=True)
    on = {
        "request_headers": [["pause"]],
        "request_body": [
            ["unless_end", [["pause"]]],
            ["if_end", [["add", "request_headers", "x-late", "{n}"], ["body", "request_body", 0, -1]]],
        ],
    }
    reply = proxy.post(b"the body", probe=on)
    assert reply.seen.body == b"the body"
    assert reply.seen.get("x-late") is not None
    assert reply.reports.result("request_body", "body") == "the body"


@case("a request that is paused at the end of its body goes on whole", envoy=AGREES)
def test_request_body(gate):
    with gate.proxy.connect() as connection:
        on = {"request_body": [["unless_end", [["pause"]]], ["if_end", HOLD]]}
        case = connection.send_head("POST", headers=[("content-length", "8")], probe=on)
        connection.send(b"the body")
        gate.parked(case, "request_body")
        assert connection.quiet_for(0.1)
        assert not any(seen.complete or seen.body for seen in gate.proxy.upstream.seen(case))
        gate.release(["resume", "request"])
        assert connection.read_reply(case).status == 200
    assert gate.proxy.seen(case).body == b"the body"


@case("a request that is paused in proxy_on_request_trailers goes on with them", envoy=AGREES, needs="request_trailers")
def test_request_trailers(gate):
    with gate.proxy.connect() as connection:
        headers = [("transfer-encoding", "chunked")]
        case = connection.send_head("POST", headers=headers, probe={"request_trailers": HOLD})
        connection.send_chunk(b"the body")
        connection.send_last_chunk([("x-end", "1")])
        gate.parked(case, "request_trailers")
        assert connection.quiet_for(0.1)
        assert not any(seen.complete for seen in gate.proxy.upstream.seen(case))
        gate.release(["resume", "request"])
        assert connection.read_reply(case).status == 200
    seen = gate.proxy.seen(case)
    assert (seen.body, seen.trailers) == (b"the body", [("x-end", "1")])


@case(
    "the client gets nothing of a response that is paused in proxy_on_response_headers, then all of it",
    envoy=AGREES,
    needs="pause_response",
)
def test_response_headers(gate):
    with gate.proxy.connect() as connection:
        case = connection.send_head(probe={"response_headers": HOLD}, upstream={"chunks": ["one", "two", "three"]})
        gate.parked(case, "response_headers")
        assert connection.quiet_for(0.15)
        gate.release(["resume", "response"])
        reply = connection.read_reply(case)
        assert (reply.status, reply.body) == (200, b"onetwothree")
    assert "response_body" in gate.proxy.reports(case).callbacks


@case("a response that is paused at the end of its body goes on whole", envoy=AGREES, needs="pause_response")
def test_response_body(gate):
    with gate.proxy.connect() as connection:
        on = {"response_body": [["unless_end", [["pause"]]], ["if_end", HOLD]]}
        case = connection.send_head(probe=on, upstream={"chunks": ["one", "two"], "chunked": True})
        assert gate.proxy.server.book.wait(
            lambda: any(one.arguments[1] for one in gate.proxy.reported(case).of("response_body").entries)
        )
        connection.socket.settimeout(0.1)
        early = b""
        try:
            early = connection.socket.recv(1 << 16)
        except TimeoutError:
            pass
        assert b"one" not in early
        connection.socket.settimeout(10)
        connection.rest = early
        gate.release(["resume", "response"])
        assert connection.read_reply(case).body == b"onetwo"


@case(
    "a response that is paused in proxy_on_response_trailers goes on with them",
    envoy=AGREES,
    needs=("pause_response", "response_trailers"),
)
def test_response_trailers(gate):
    with gate.proxy.connect() as connection:
        upstream = {"chunks": ["one", "two"], "trailers": [["x-end", "1"]]}
        case = connection.send_head(probe={"response_trailers": HOLD}, upstream=upstream)
        gate.parked(case, "response_trailers")
        connection.quiet_for(0.05)
        assert b"x-end" not in connection.rest
        gate.release(["resume", "response"])
        reply = connection.read_reply(case)
    assert (reply.body, reply.trailers) == (b"onetwo", [("x-end", "1")])


@case(
    "a response that is paused while the request's body goes on comes when it is resumed",
    envoy=AGREES,
    needs="pause_response",
)
def test_response_while_request_goes_on(gate):
    with gate.proxy.connect() as connection:
        case = connection.send_head(
            "POST",
            headers=[("transfer-encoding", "chunked")],
            probe={"response_headers": HOLD},
            upstream={"early": True, "chunks": ["one", "two", "three"], "chunked": True, "chunk_delay_ms": 400},
        )
        book = gate.proxy.server.book

        def chunks() -> int:
            return len(gate.proxy.reported(case).of("request_body"))

        connection.send_chunk(b"one")
        gate.parked(case, "response_headers")
        # Sent while the first waits to be read, the second would come with it, as one.
        assert book.wait(lambda: chunks() == 1)
        connection.send_chunk(b"two")
        assert book.wait(lambda: chunks() == 2)
        gate.release(["resume", "response"])
        connection.send_last_chunk()
        reply = connection.read_reply(case)
        assert (reply.status, reply.body) == (200, b"onetwothree")
    assert gate.proxy.seen(case).body == b"onetwo"


@case(
    "a request that is paused while the response's body goes on is whole when it is resumed",
    envoy=AGREES,
    needs="pause_response",
)
def test_request_while_response_goes_on(gate):
    with gate.proxy.connect() as connection:
        case = connection.send_head(
            "POST",
            headers=[("transfer-encoding", "chunked")],
            probe={"request_body": [["nth", 1, HOLD]]},
            upstream={"early": True, "chunks": ["one", "two", "three"], "chunked": True, "chunk_delay_ms": 150},
        )
        connection.send_chunk(b"first")
        gate.parked(case, "request_body")
        assert gate.proxy.server.book.wait(lambda: gate.proxy.reported(case).of("response_body"))
        gate.release(["resume", "request"])
        connection.send_last_chunk()
        reply = connection.read_reply(case)
        assert (reply.status, reply.body) == (200, b"onetwothree")
    assert gate.proxy.seen(case).body == b"first"


@case("one stream can pause its request and then its response", envoy=AGREES, needs=("http_callouts", "pause_response"))
def test_both_directions(proxy):
    on = {
        "request_headers": [call(["resume", "request"]), ["pause"]],
        "response_headers": [call(["resume", "response"]), ["pause"]],
    }
    reply = proxy.get(probe=on)
    assert (reply.status, reply.body) == (200, b"ok\n")
    assert reply.reports.callbacks[:4] == [
        "request_headers",
        "http_call_response",
        "response_headers",
        "http_call_response",
    ]


@case(
    "one stream can pause in every callback, one after the other",
    envoy=AGREES,
    needs=("http_callouts", "pause_response"),
)
def test_every_callback(proxy):
    request = [call(["resume", "request"]), ["pause"]]
    response = [call(["resume", "response"]), ["pause"]]
    on = {
        "request_headers": request,
        "request_body": [["if_end", request], ["unless_end", [["pause"]]]],
        "response_headers": response,
        "response_body": [["if_end", response], ["unless_end", [["pause"]]]],
    }
    reply = proxy.post(b"the body", probe=on, upstream={"echo": True})
    assert (reply.status, reply.body) == (200, b"the body")
    assert reply.seen.body == b"the body"
    assert len(reply.reports.of("http_call_response").entries) == 4


# ---- Resuming at other times ----


@case("to resume a stream that is not paused has no effect", envoy=AGREES)
@pytest.mark.parametrize(
    ("callback", "which"),
    [
        ("request_body", "request"),
        ("response_headers", "request"),
        ("response_body", "request"),
        ("response_body", "response"),
    ],
)
def test_not_paused(proxy, callback, which):
    reply = proxy.post(b"the body", probe={callback: [["resume", which]]}, upstream={"echo": True})
    assert (reply.status, reply.body) == (200, b"the body")
    assert reply.seen.body == b"the body"
    assert reply.reports.callbacks[-3:] == ENDED


@case(
    "to resume a request that is not paused, in proxy_on_request_headers, has no effect",
    envoy=Differs(
        does="sends the request to the upstream twice",
        because="a resume too many must not make one order two",
        fails_with="the upstream saw 2 requests in place of one",
    ),
)
def test_request_not_paused(proxy):
    reply = proxy.get(probe={"request_headers": [["resume", "request"]]}, upstream={"delay_ms": 100})
    assert reply.status == 200
    assert reply.reports.callbacks[-3:] == ENDED
    assert reply.seen.complete


@case(
    "to resume a response that is not paused, in proxy_on_response_headers, has no effect",
    envoy=Differs(
        does="sends the body in front of the headers, so that the client reads the headers as the body, or nothing at all",
        because="a resume too many must not spoil the message",
        fails_with=r"RemoteProtocolError|ReadError|== \(200, b'the body'\)",
    ),
)
def test_response_not_paused(serve):
    proxy = serve(probe())
    reply = proxy.post(b"the body", probe={"response_headers": [["resume", "response"]]}, upstream={"echo": True})
    assert (reply.status, reply.body) == (200, b"the body")


@case(
    "to resume a response that has not come yet has no effect",
    envoy=Differs(
        does="crashes with a segmentation fault, the whole process",
        because="a plugin must not be able to end the proxy",
        fails_with="RemoteProtocolError|ReadError|ConnectError",
    ),
)
def test_no_response_yet(serve):
    proxy = serve(probe())
    reply = proxy.post(b"the body", probe={"request_headers": [["resume", "response"]]}, upstream={"echo": True})
    assert (reply.status, reply.body) == (200, b"the body")
    assert proxy.get().status == 200


@case("to resume a stream twice at once has the effect of once", envoy=AGREES)
def test_twice(gate):
    with gate.proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": HOLD})
        gate.parked(case, "request_headers")
        gate.release(["resume", "request"], ["resume", "request"])
        assert connection.read_reply(case).body == b"ok\n"
        assert connection.quiet_for(0.1)
    assert gate.proxy.seen(case).complete
    reports = gate.proxy.reports(case)
    assert len(reports.of("response_headers").entries) == 1
    assert reports.callbacks[-3:] == ENDED


@case(
    "to resume the response does not let a paused request go on",
    envoy=Differs(
        does="crashes with a segmentation fault, the whole process",
        because="a plugin must not be able to end the proxy",
        fails_with="RemoteProtocolError|ReadError|ConnectError",
    ),
)
def test_wrong_direction(serve):
    gate = Gate(serve(probe()))
    with gate.proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": HOLD})
        gate.parked(case, "request_headers")
        gate.release(["resume", "response"])
        assert connection.quiet_for(0.1)
        assert not gate.proxy.reached_upstream(case)


@case("a resume that was asked for before the pause, in the same callback, ends it", envoy=AGREES)
def test_resume_then_pause(proxy):
    reply = proxy.get(probe={"request_headers": [["resume", "request"], ["pause"]]}, timeout=3)
    assert reply.status == 200


@case("headers can be changed by the callback that resumes", envoy=AGREES)
def test_change_when_resuming(gate):
    with gate.proxy.connect() as connection:
        case = connection.send_head(headers=[("x-a", "1")], probe={"request_headers": HOLD})
        gate.parked(case, "request_headers")
        gate.release(
            ["add", "request_headers", "x-late", "1"], ["remove", "request_headers", "x-a"], ["resume", "request"]
        )
        assert connection.read_reply(case).status == 200
    seen = gate.proxy.seen(case)
    assert (seen.get("x-late"), seen.get("x-a")) == ("1", None)


@case("a body that waits behind paused headers arrives whole and in order", envoy=AGREES)
@pytest.mark.parametrize("size", [1000, 300_000])
def test_large_body(serve, size):
    proxy = serve(ticking(["resume", "request"]), shared=True)
    body = bytes(range(256)) * (size // 256 + 1)
    reply = proxy.post(body, probe={"request_headers": HOLD}, silent=["request_body"])
    assert reply.status == 200
    assert reply.seen.size == len(body)
    assert reply.seen.body == body


@case(
    "a large response that waits behind paused headers arrives whole and in order", envoy=AGREES, needs="pause_response"
)
def test_large_response(serve):
    proxy = serve(ticking(["resume", "response"]), shared=True)
    body = "0123456789" * 60_000
    reply = proxy.post(
        body.encode(),
        probe={"response_headers": HOLD},
        upstream={"echo": True},
        silent=["request_body", "response_body"],
    )
    assert (reply.status, reply.body) == (200, body.encode())


# ---- Many, and none ----


@case("50 requests that are paused at the same time go on when one callback resumes them all", envoy=AGREES)
def test_many(gate):
    proxy = gate.proxy
    count = 50
    with ThreadPoolExecutor(count) as pool:
        replies = [pool.submit(proxy.get, probe={"request_headers": [["park"], ["pause"]]}) for _ in range(count)]
        assert eventually(
            lambda: len(proxy.get(probe={"request_headers": [["contexts"]]}).reports.result(op="contexts")) > count
        )
        assert not any(reply.done() for reply in replies)
        gate.release(["resume", "request"])
        replies = [reply.result() for reply in replies]
    assert {reply.status for reply in replies} == {200}
    assert all(reply.reports.callbacks[-3:] == ENDED for reply in replies)


@case("a paused stream whose client leaves is ended", envoy=AGREES)
@pytest.mark.parametrize("callback", ["request_headers", "response_headers"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_leaves(proxy, callback, how):
    connection = proxy.connect()
    case = connection.send_head(probe={callback: [["pause"]]})
    Gate(proxy).parked(case, callback)
    getattr(connection, how)()
    assert proxy.reports(case).callbacks[-3:] == ENDED


@case("to resume a stream that has ended meanwhile is harmless", envoy=AGREES)
def test_resume_after_end(gate):
    connection = gate.proxy.connect()
    case = connection.send_head(probe={"request_headers": HOLD})
    gate.parked(case, "request_headers")
    connection.close()
    assert gate.proxy.reports(case).callbacks[-3:] == ENDED
    gate.release(["resume", "request"])
    assert not gate.proxy.reached_upstream(case)


@case("a stream that is never resumed waits, and does not keep others from being served", envoy=AGREES)
def test_never(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": [["pause"]]})
        Gate(proxy).parked(case, "request_headers")
        for _ in range(5):
            assert proxy.get().status == 200
        assert connection.quiet_for(0.3)
    assert proxy.reports(case).callbacks == ["request_headers", *ENDED]


@case("requests behind a paused one on the connection wait for it", envoy=AGREES)
def test_pipelined(gate):
    with gate.proxy.connect() as connection:
        first = connection.send_head(path="/first", probe={"request_headers": HOLD}, upstream={"body": "first"})
        second = connection.send_head(path="/second", upstream={"body": "second"})
        gate.parked(first, "request_headers")
        assert connection.quiet_for(0.1)
        gate.release(["resume", "request"])
        assert connection.read_reply(first).body == b"first"
        assert connection.read_reply(second).body == b"second"


@case(
    "a local response that a plugin pauses on its way is sent when it resumes",
    envoy=AGREES,
    needs=("http_callouts", "pause_response"),
)
def test_local_response(proxy):
    on = {
        "request_headers": [["local", 418, [], "teapot"]],
        "response_headers": [call(["add", "response_headers", "x-late", "1"], ["resume", "response"]), ["pause"]],
    }
    reply = proxy.get(probe=on)
    assert (reply.status, reply.body, reply.get("x-late")) == (418, b"teapot", "1")
