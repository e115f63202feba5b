# SPDX-License-Identifier: Apache-2.0
import zlib

import pytest
from kit.cases import AGREES, Differs, case
from kit.client import new_case_id
from kit.setup import bare, probe

AREA = "Bodies"
MIB = 1 << 20
BOTH = pytest.mark.parametrize("side", ["request", "response"])


def send(proxy, side: str, body: bytes, steps: list, *, chunked: bool = False, headers: list | None = None, **options):
    """A request, or a response, with this body and these steps in its body callback; what came out at the other end, and the reply."""
    probe = {f"{side}_body": steps}
    # Who changes a body removes its content-length.
    if headers is None:
        headers = [["remove", f"{side}_headers", "content-length"]]
    probe[f"{side}_headers"] = headers
    if side == "request":
        reply = proxy.post(iter([body]) if chunked else body, probe=probe, **options)
        return (reply.seen.body if proxy.reached_upstream(reply.case) else None), reply
    # What is long does not fit into a header.
    content = {"body": body.decode("latin-1")} if len(body) < 10_000 else {"size": len(body)}
    assert len(body) < 10_000 or not body.strip(b"x")
    upstream = {"chunked": chunked, **content}
    reply = proxy.get(probe=probe, upstream=upstream, **options)
    return reply.body, reply


def calls(reply, side: str) -> list:
    """[size, end of stream] of each body callback."""
    return [one.arguments for one in reply.reports.of(f"{side}_body").entries]


def collect(*steps) -> list:
    """Steps that hold the body back until its end, and run others then."""
    return [["unless_end", [["pause"]]], ["if_end", list(steps)]]


# ---- Passing ----


@case("a request with content-length 0 has no body callback and stays empty", envoy=AGREES)
def test_empty(proxy):
    reply = proxy.post(b"")
    assert "request_body" not in reply.reports.callbacks
    assert (reply.seen.size, reply.seen.get("content-length")) == (0, "0")


@case("body callbacks show every byte, and the end of the stream exactly once, at the end", envoy=AGREES)
@BOTH
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [1, 300_000])
def test_sizes(proxy, side, chunked, size):
    body = b"x" * size
    got, reply = send(proxy, side, body, [["count", f"{side}_body"]], chunked=chunked, headers=[])
    seen = calls(reply, side)
    assert [end for _, end in seen] == [0] * (len(seen) - 1) + [1]
    assert sum(count for count, _ in seen) == size
    digest = reply.reports.result(f"{side}_body", "count")
    assert (digest["total"], digest["crc"]) == (size, zlib.crc32(body))
    assert got == body


@case("a chunked message without a byte has one body callback, of size 0, with the end of the stream", envoy=AGREES)
@BOTH
def test_empty_chunked(proxy, side):
    got, reply = send(proxy, side, b"", [], chunked=True)
    assert calls(reply, side) == [[0, 1]]
    assert got == b""


@case("all values of bytes are read and written unchanged", envoy=AGREES)
@BOTH
def test_binary(proxy, side):
    body = bytes(range(256))
    steps = collect(["body", f"{side}_body", 0, 1000], ["set_body", f"{side}_body", 0, 1000, "{last}{last}"])
    got, reply = send(proxy, side, body, steps)
    assert reply.reports.result(f"{side}_body") == body.decode("latin-1")
    assert got == body * 2


@case("one MiB there and back passes a plugin that reads all of it", envoy=AGREES)
def test_mebibyte(proxy):
    body = bytes(range(256)) * (MIB // 256)
    steps = {"request_body": [["count", "request_body"]], "response_body": [["count", "response_body"]]}
    reply = proxy.post(body, probe=steps, silent=["request_body", "response_body"], upstream={"echo": True})
    expected = {"total": MIB, "crc": zlib.crc32(body)}
    for side in ("request_body", "response_body"):
        digest = reply.reports.result(side, "count")
        assert {"total": digest["total"], "crc": digest["crc"]} == expected
    assert reply.body == body


@case("100 MiB of upload stream through a plugin that reads every chunk, in bounded memory", envoy=AGREES)
def test_upload(serve):
    proxy = serve(probe())
    assert proxy.get().status == 200
    before = proxy.server.memory_kib()
    piece = bytes(range(256)) * 1024
    crc = 0
    case = new_case_id()
    with proxy.connect() as connection:
        steering = {"probe": {"request_body": [["count", "request_body"]]}, "silent": ["request_body"]}
        connection.send_head("POST", headers=[("content-length", str(100 * MIB))], case=case, **steering)
        for _ in range(400):
            connection.send(piece)
            crc = zlib.crc32(piece, crc)
        connection.socket.settimeout(30)
        assert connection.read_reply(case).status == 200
    digest = proxy.reports(case).result("request_body", "count")
    seen = proxy.seen(case)
    assert (digest["total"], digest["crc"]) == (100 * MIB, crc)
    assert (seen.size, seen.crc) == (100 * MIB, crc)
    assert proxy.server.memory_kib() - before < 64 * 1024


@case("100 MiB of download stream through a plugin that reads every chunk, in bounded memory", envoy=AGREES)
def test_download(serve):
    proxy = serve(probe())
    assert proxy.get().status == 200
    before = proxy.server.memory_kib()
    case = new_case_id()
    steps = {"response_body": [["count", "response_body"]]}
    headers = proxy.headers(case, steps, {"size": 100 * MIB}, silent=["response_body"])
    size = crc = 0
    with proxy.http.stream("GET", "/", headers=headers) as answer:
        for piece in answer.iter_raw(1 << 16):
            size += len(piece)
            crc = zlib.crc32(piece, crc)
    digest = proxy.reports(case).result("response_body", "count")
    assert (digest["total"], digest["crc"]) == (100 * MIB, crc)
    assert size == 100 * MIB
    assert proxy.server.memory_kib() - before < 64 * 1024


@case("pieces that come one after the other are shown one by one, and go on at once", envoy=AGREES)
def test_pieces_of_request(proxy):
    reply = send_pieces(proxy, [["body", "request_body", 0, 100]])
    assert [text for text in reply.reports.results("request_body") if text] == ["one", "three"]
    assert [size for size, _ in calls(reply, "request") if size] == [3, 5]
    assert reply.seen.body == b"onethree"


@case("a piece of a body that streams can be replaced", envoy=AGREES)
def test_edit_piece(proxy):
    reply = send_pieces(proxy, [["nth", 1, [["set_body", "request_body", 0, 100, "1 and "]]]])
    assert reply.seen.body == b"1 and three"


def send_pieces(proxy, steps: list):
    """A request whose body is "one" and "three", the second of which is sent when the plugin has seen the first."""
    with proxy.connect() as connection:
        case = connection.send_head("POST", headers=[("transfer-encoding", "chunked")], probe={"request_body": steps})
        for number, piece in enumerate((b"one", b"three"), 1):
            connection.send_chunk(piece)
            assert wait_for_pieces(proxy, case, number)
        connection.send_last_chunk()
        reply = connection.read_reply(case)
    assert reply.status == 200
    return reply


def wait_for_pieces(proxy, case: str, count: int, callback: str = "request_body") -> bool:
    """Waits until the plugin has seen so many pieces of a body."""
    return proxy.server.book.wait(lambda: len(proxy.reported(case).of(callback).entries) >= count)


@case("pieces of a response that come one after the other are shown one by one", envoy=AGREES)
def test_pieces_of_response(serve, tcp_upstream):
    proxy = serve(probe(), upstream_port=tcp_upstream.port)
    with proxy.connect() as connection:
        case = connection.send_head(probe={"response_body": [["body", "response_body", 0, 100]]})
        with tcp_upstream.accept() as upstream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += upstream.recv(1 << 16)
            upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n")
            for number, piece in enumerate((b"one", b"three"), 1):
                upstream.sendall(piece)
                assert wait_for_pieces(proxy, case, number, "response_body")
            reply = connection.read_reply(case)
    assert [text for text in reply.reports.results("response_body") if text] == ["one", "three"]
    assert [size for size, _ in calls(reply, "response") if size] == [3, 5]
    assert reply.body == b"onethree"


@case("a client that expects 100 Continue gets it, and its body passes the plugin", envoy=AGREES)
def test_expect_continue(proxy):
    with proxy.connect() as connection:
        steering = {"probe": {"request_body": [["count", "request_body"]]}}
        case = connection.send_head("POST", headers=[("expect", "100-continue"), ("content-length", "4")], **steering)
        assert connection.socket.recv(1 << 16).startswith(b"HTTP/1.1 100 ")
        connection.send(b"body")
        assert connection.read_reply(case).status == 200
    assert proxy.reports(case).result("request_body", "count")["total"] == 4
    assert proxy.seen(case).body == b"body"


# ---- Reading ----


@case("a read is cut off at the end of the body; beyond it, and with nothing asked for, there is nothing", envoy=AGREES)
@BOTH
@pytest.mark.parametrize(
    "start, most, expected",
    [
        (0, -1, "hello"),
        (0, 5, "hello"),
        (1, 2, "el"),
        (3, 100, "lo"),
        (4, 1, "o"),
        (5, 5, None),
        (9, 1, None),
        (0, 0, None),
    ],
)
def test_ranges(proxy, side, start, most, expected):
    _, reply = send(proxy, side, b"hello", collect(["body", f"{side}_body", start, most]))
    assert reply.reports.result(f"{side}_body") == expected


@case("a body that is held back is shown from its beginning each time, with its size so far", envoy=AGREES)
def test_size_when_collected(proxy):
    reply = proxy.get(
        probe={
            "response_headers": [["remove", "response_headers", "content-length"]],
            "response_body": [["body", "response_body", 0, 100], ["unless_end", [["pause"]]]],
        },
        upstream={"chunks": ["one", "two", "three"], "chunk_delay_ms": 50},
    )
    texts = reply.reports.results("response_body")
    assert [len(text) for text in texts] == [size for size, _ in calls(reply, "response")]
    assert all("onetwothree".startswith(text) for text in texts)
    assert texts[-1] == "onetwothree"
    assert reply.body == b"onetwothree"


@case("the request's body can neither be read nor changed once it went on", envoy=AGREES)
def test_request_body_later(serve):
    calls = ["proxy_get_buffer_bytes 0 0 100 @ @", "proxy_set_buffer_bytes 0 0 100 'zz'"]
    script = f"response_headers: {'; '.join(calls)}"
    reply = serve(bare(), shared=True).post(b"body", bare=script)
    read, write = [one for one in reply.reports if one.op]
    assert not read.value
    assert write.result != 0
    assert reply.seen.body == b"body"


@case("the response's body can neither be read nor changed before it came", envoy=AGREES)
def test_response_body_early(serve):
    calls = ["proxy_get_buffer_bytes 1 0 100 @ @", "proxy_set_buffer_bytes 1 0 100 'zz'"]
    script = f"request_body: nth 1; {'; '.join(calls)}"
    reply = serve(bare(), shared=True).post(b"body", bare=script)
    read, write = [one for one in reply.reports if one.op]
    assert not read.value
    assert write.result != 0
    assert reply.body == b"ok\n"


# ---- Changing ----

EDITS = {
    "shorter": (0, 100, "new", b"new"),
    "longer": (0, 100, "something longer", b"something longer"),
    "prepend": (0, 0, "<<", b"<<hello"),
    "append": (100, 0, ">>", b"hello>>"),
    "append at the end": (5, 0, ">>", b"hello>>"),
    "head": (0, 2, "YYY", b"YYYllo"),
    "drop head": (0, 2, "", b"llo"),
    "empty": (0, 100, "", b""),
}


@case("a body that is held back can be replaced, extended at both ends, changed at its head and emptied", envoy=AGREES)
@BOTH
@pytest.mark.parametrize("edit", list(EDITS))
def test_edit(proxy, side, edit):
    start, size, text, expected = EDITS[edit]
    steps = collect(["set_body", f"{side}_body", start, size, text], ["digest", f"{side}_body"])
    got, reply = send(proxy, side, b"hello", steps)
    assert reply.status == 200
    assert reply.reports.result(f"{side}_body", "digest")["size"] == len(expected)
    assert got == expected


@case("a body can be made a MiB long", envoy=AGREES)
@BOTH
def test_fill(serve, side):
    proxy = serve(probe(), shared=True, body_limit=4 * MIB)
    steps = collect(["fill_body", f"{side}_body", 0, 100, 97, MIB])
    got, _ = send(proxy, side, b"hello", steps)
    assert got == b"a" * MIB


@case("a range in the middle of a body cannot be replaced: BAD_ARGUMENT, and nothing changes", envoy=AGREES)
def test_edit_middle(serve):
    script = "request_body: nth 1; proxy_set_buffer_bytes 0 1 1 'zz'"
    reply = serve(bare(), shared=True).post(b"hello", bare=script)
    assert reply.reports.result("request_body") == 2
    assert reply.seen.body == b"hello"


@case("the connection goes on after bodies whose length a plugin changed", envoy=AGREES)
def test_keep_alive(proxy):
    steps = {
        "request_headers": [["remove", "request_headers", "content-length"]],
        "request_body": collect(["set_body", "request_body", 0, 100, "longer than it was"]),
        "response_headers": [["remove", "response_headers", "content-length"]],
        "response_body": collect(["set_body", "response_body", 0, 100, "n"]),
    }
    with proxy.connect() as connection:
        for _ in range(3):
            case = connection.send_head("POST", headers=[("content-length", "5")], probe=steps)
            connection.send(b"hello")
            reply = connection.read_reply(case)
            assert (reply.status, reply.body) == (200, b"n")
            assert proxy.seen(case).body == b"longer than it was"


@case(
    "a request whose body a plugin changed, but not its content-length, is not sent with the wrong length",
    envoy=Differs(
        does="sends the old content-length: the upstream waits for the rest, or takes what is too much for the next request",
        because="a message with a wrong length is a danger to all that follow on its connection",
        fails_with=r"assert \(200 >= 500",
    ),
)
@pytest.mark.parametrize("text", ["n", "longer than it was"], ids=["shorter", "longer"])
def test_stale_length(serve, raw_upstream, text):
    proxy = serve(probe(), shared=True, upstream_port=raw_upstream.port)
    steps = {"request_body": collect(["set_body", "request_body", 0, 100, text])}
    reply = proxy.post(b"hello", probe=steps)
    wire = raw_upstream.heard(reply.case)
    right = f"\r\ncontent-length: {len(text)}\r\n".encode() in wire.lower()
    assert reply.status >= 500 or right


@case(
    "a response whose body a plugin made longer, but not its content-length, gives the client no byte too much",
    envoy=Differs(
        does="sends the old content-length and all of the body: the client takes the rest for the next response",
        because="a message with a wrong length is a danger to all that follow on its connection",
        fails_with=r"assert b'hello, and more' == b'hello'|assert .*and more",
    ),
)
def test_stale_length_of_response(proxy):
    with proxy.connect() as connection:
        steps = {"response_body": collect(["set_body", "response_body", 100, 0, ", and more"])}
        connection.send_head(headers=[("connection", "close")], probe=steps, upstream={"body": "hello"})
        try:
            head, _, body = connection.read_to_end().partition(b"\r\n\r\n")
        except ConnectionResetError:
            return
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), None)
    assert length is None or body[length:] == b""


@case("a plugin that held the headers back as well sets the content-length of the body that it made", envoy=AGREES)
@BOTH
def test_fix_length(serve, side):
    proxy = serve(probe(stop_iteration=True), shared=True)
    change = [["set_body", f"{side}_body", 0, 100, "new body"], ["set", f"{side}_headers", "content-length", "8"]]
    got, reply = send(proxy, side, b"hello", collect(*change), headers=[["pause"]])
    assert reply.status == 200
    assert got == b"new body"
    lengths = reply.seen.get_all("content-length") if side == "request" else reply.get_all("content-length")
    assert lengths == ["8"]


# ---- Holding back ----


@case("a body that is held back to its end goes on in full", envoy=AGREES)
@BOTH
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_collect(proxy, side, chunked):
    body = b"x" * 50_000
    got, reply = send(proxy, side, body, collect(["digest", f"{side}_body"]), chunked=chunked, headers=[])
    digest = reply.reports.result(f"{side}_body", "digest")
    assert (digest["size"], digest["crc"]) == (len(body), zlib.crc32(body))
    assert got == body


@case("no byte of a request's body reaches the upstream while a plugin holds it back", envoy=AGREES)
def test_collect_holds(proxy):
    with proxy.connect() as connection:
        steps = {"request_body": collect(["digest", "request_body"])}
        case = connection.send_head("POST", headers=[("content-length", "10")], probe=steps)
        connection.send(b"first")
        assert wait_for_pieces(proxy, case, 1)
        assert not [one for one in proxy.upstream.seen(case) if one.size]
        connection.send(b"after")
        assert connection.read_reply(case).status == 200
    assert proxy.seen(case).body == b"firstafter"


@case("a local response in place of a body that was held back", envoy=AGREES)
def test_collect_then_local(proxy):
    got, reply = send(proxy, "request", b"hello", collect(["local", 403, [["x-own", "1"]], "no"]), chunked=True)
    assert (reply.status, reply.body, reply.get("x-own")) == (403, b"no", "1")
    assert not got


@case("a request's body that is held back beyond the limit is answered with 413", envoy=AGREES)
def test_request_limit(serve):
    proxy = serve(probe(), shared=True, body_limit=65536)
    _, reply = send(proxy, "request", b"x" * 200_000, collect(), chunked=True)
    assert reply.status == 413
    assert not any(end for _, end in calls(reply, "request"))
    assert not [one for one in proxy.upstream.seen(reply.case) if one.complete]


@case("a response's body that is held back beyond the limit is answered with 500", envoy=AGREES)
def test_response_limit(serve):
    proxy = serve(probe(stop_iteration=True), shared=True, body_limit=65536)
    _, reply = send(proxy, "response", b"x" * 200_000, collect(), headers=[["pause"]])
    assert reply.status == 500


@case("a body of just the limit can be held back", envoy=AGREES)
@BOTH
def test_at_limit(serve, side):
    proxy = serve(probe(), shared=True, body_limit=65536)
    body = b"x" * 65536
    got, reply = send(proxy, side, body, collect(["digest", f"{side}_body"]))
    assert reply.status == 200
    assert reply.reports.result(f"{side}_body", "digest")["size"] == 65536
    assert got == body


@case("a body beyond the limit passes a plugin that does not hold it back", envoy=AGREES)
@BOTH
def test_limit_of_streaming(serve, side):
    proxy = serve(probe(), shared=True, body_limit=65536)
    body = b"x" * 400_000
    got, reply = send(proxy, side, body, [["count", f"{side}_body"]])
    assert reply.status == 200
    assert got == body


@case(
    "while request headers are paused the body callbacks wait, and run when it goes on",
    envoy=AGREES,
    needs="http_callouts",
)
def test_paused_headers(proxy):
    reply = proxy.post(b"body", probe=paused_by_call())
    assert reply.status == 200
    callbacks = [name for name in reply.reports.callbacks if not name.startswith("response")]
    assert callbacks[:2] == ["request_headers", "http_call_response"]
    assert callbacks[2] == "request_body"
    assert reply.seen.body == b"body"


@case(
    "with allow_on_headers_stop_iteration the body callbacks run while the headers are paused",
    envoy=AGREES,
    needs="http_callouts",
)
def test_paused_headers_only(serve):
    proxy = serve(probe(stop_iteration=True), shared=True)
    case = new_case_id()
    steering = proxy.headers(case, paused_by_call() | {"request_body": [["pause"]]})
    lines = [
        "POST / HTTP/1.1",
        "host: conformance.test",
        "content-length: 4",
        *(f"{name}: {value}" for name, value in steering),
    ]
    with proxy.connect() as connection:
        # In one piece: the body is there before the callout is answered.
        connection.send("\r\n".join([*lines, "", "body"]).encode())
        assert connection.read_reply(case).status == 200
    callbacks = proxy.reports(case).callbacks
    assert callbacks.index("request_body") < callbacks.index("http_call_response")
    assert proxy.seen(case).body == b"body"


def paused_by_call() -> dict:
    """Pauses the request until a callout has been answered, which takes a while."""
    headers = [
        [":method", "GET"],
        [":path", "/"],
        [":authority", "conformance.test"],
        ["x-upstream", '{"delay_ms": 200}'],
    ]
    call = {"upstream": "upstream", "headers": headers, "timeout_ms": 5000, "then": [["resume", "request"]]}
    return {"request_headers": [["call", call], ["pause"]]}


@case("request headers that are held back can still be changed from the body callback", envoy=AGREES)
def test_headers_from_body(serve):
    proxy = serve(probe(stop_iteration=True), shared=True)
    change = ["set", "request_headers", "x-own", "from body"]
    _, reply = send(proxy, "request", b"hello", collect(change), headers=[["pause"]])
    assert reply.status == 200
    assert reply.seen.get("x-own") == "from body"
