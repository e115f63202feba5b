# SPDX-License-Identifier: Apache-2.0
import pytest
from kit.cases import AGREES, Differs, case
from kit.client import new_case_id
from kit.setup import bare, probe

AREA = "Local responses"

LOCAL = ["local", 418, [["x-local", "1"]], "teapot"]
CALL = [[":method", "GET"], [":path", "/call"], [":authority", "call.test"]]
ENDED = ["log", "done", "delete"]


def is_local(reply):
    """Whether LOCAL has come, whole and in place of everything else."""
    return (reply.status, reply.get_all("x-local"), reply.body) == (418, ["1"], b"teapot")


# ---- From where ----


@case("a response from proxy_on_request_headers is the client's; the upstream is not reached", envoy=AGREES)
def test_request_headers(proxy):
    reply = proxy.get(probe={"request_headers": [LOCAL]})
    assert is_local(reply)
    assert reply.get("content-length") == "6"
    assert reply.reports.callbacks[-3:] == ENDED
    assert not proxy.reached_upstream(reply.case)


@case("what the callback returns beside a local response does not matter", envoy=AGREES)
@pytest.mark.parametrize("steps", [[LOCAL, ["pause"]], [LOCAL]], ids=["pause", "continue"])
def test_action(proxy, steps):
    reply = proxy.post(b"body", probe={"request_headers": steps})
    assert is_local(reply)
    assert "request_body" not in reply.reports.callbacks
    assert not proxy.reached_upstream(reply.case)


@case("a response at the end of the request's body is the client's while the headers were held back", envoy=AGREES)
def test_request_body(serve):
    proxy = serve(probe(stop_iteration=True), shared=True)
    reply = proxy.post(b"body", probe={"request_headers": [["pause"]], "request_body": [["if_end", [LOCAL]]]})
    assert is_local(reply)
    assert reply.reports.callbacks[-3:] == ENDED
    assert not proxy.reached_upstream(reply.case)


@case("after a response at the first piece of a body the plugin gets no more of it", envoy=AGREES)
def test_first_chunk(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(
            "POST", headers=[("transfer-encoding", "chunked")], probe={"request_body": [["nth", 1, [LOCAL]]]}
        )
        connection.send_chunk(b"first")
        assert is_local(connection.read_reply(case))
        try:
            connection.send_chunk(b"second")
            connection.send_last_chunk()
        except OSError:
            pass  # the proxy may have closed
        reports = proxy.reports(case)
    assert len(reports.of("request_body").entries) == 1
    assert reports.callbacks[-3:] == ENDED
    assert not any(seen.complete for seen in proxy.upstream.seen(case))


@case("a response from proxy_on_request_trailers is the client's", envoy=AGREES, needs="request_trailers")
def test_request_trailers(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(
            "POST", headers=[("transfer-encoding", "chunked")], probe={"request_trailers": [LOCAL]}
        )
        connection.send_chunk(b"body")
        connection.send_last_chunk([("x-end", "1")])
        assert is_local(connection.read_reply(case))
    assert proxy.reports(case).callbacks[-3:] == ENDED
    assert not any(seen.complete for seen in proxy.upstream.seen(case))


@case("a response from proxy_on_response_headers takes the place of the upstream's", envoy=AGREES)
def test_response_headers(proxy):
    upstream = {"status": 201, "headers": [["x-upstream-only", "1"]], "body": "from the upstream"}
    reply = proxy.get(probe={"response_headers": [LOCAL]}, upstream=upstream)
    assert is_local(reply)
    assert reply.get("x-upstream-only") is None
    assert reply.seen.complete
    callbacks = reply.reports.callbacks
    assert "response_body" not in callbacks
    assert callbacks[-3:] == ENDED


@case(
    "a response from proxy_on_response_body takes the place of the upstream's while the headers were held back",
    envoy=AGREES,
    needs="pause_response",
)
def test_response_body_in_time(serve):
    proxy = serve(probe(stop_iteration=True), shared=True)
    on = {"response_headers": [["pause"]], "response_body": [["unless_end", [["pause"]]], ["if_end", [LOCAL]]]}
    reply = proxy.get(probe=on, upstream={"headers": [["x-upstream-only", "1"]], "body": "from the upstream"})
    assert is_local(reply)
    assert reply.get("x-upstream-only") is None
    assert reply.reports.callbacks[-3:] == ENDED


@case("a response when the response's headers have gone cuts the connection", envoy=AGREES)
def test_response_body_too_late(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(
            probe={"response_body": [["nth", 2, [LOCAL]]]},
            upstream={"chunks": ["one", "two"], "chunk_hold": (second := new_case_id())},
        )
        # The headers and the first piece have gone by then.
        data = connection.socket.recv(1 << 16)
        while b"one" not in data:
            data += connection.socket.recv(1 << 16)
        proxy.upstream.release(second)
        data += connection.read_until_cut()
        assert data.startswith(b"HTTP/1.1 200 ")
        assert b"one" in data
        assert b"two" not in data
        assert b"teapot" not in data
    assert proxy.reports(case).callbacks[-3:] == ENDED


@case(
    "a response from proxy_on_response_trailers, when the headers have gone, cuts the connection",
    envoy=AGREES,
    needs="response_trailers",
)
def test_response_trailers(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(
            probe={"response_trailers": [LOCAL]}, upstream={"chunks": ["one"], "trailers": [["x-end", "1"]]}
        )
        data = connection.read_until_cut()
        assert b"\r\n0\r\n" not in data
        assert b"teapot" not in data
    assert proxy.reports(case).callbacks[-3:] == ENDED


@case("a response from the answer to a callout ends a request that waits for it", envoy=AGREES, needs="http_callouts")
def test_call_response(proxy):
    call = ["call", {"upstream": "upstream", "headers": CALL, "then": [LOCAL]}]
    reply = proxy.get(probe={"request_headers": [call, ["pause"]]})
    assert is_local(reply)
    assert reply.reports.callbacks[-3:] == ENDED
    assert not proxy.reached_upstream(reply.case)


@case(
    "a response from the answer to a callout takes the place of the upstream's response that waits for it",
    envoy=AGREES,
    needs=("http_callouts", "pause_response"),
)
def test_call_response_while_response_waits(proxy):
    call = ["call", {"upstream": "upstream", "headers": CALL, "then": [LOCAL]}]
    reply = proxy.get(probe={"response_headers": [call, ["pause"]]})
    assert is_local(reply)
    assert reply.seen.complete
    assert reply.reports.callbacks[-3:] == ENDED


@case("a response from a tick, for a stream as the effective context, ends that stream", envoy=AGREES)
def test_tick(serve):
    proxy = serve(probe(on={"configure": [["tick", 30]], "tick": [["each_parked", [LOCAL]]]}, silent=["tick"]))
    reply = proxy.get(probe={"request_headers": [["park"], ["pause"]]})
    assert is_local(reply)
    assert reply.reports.callbacks[-3:] == ENDED
    assert not proxy.reached_upstream(reply.case)


# ---- What ----


@case("the status is what the plugin said", envoy=AGREES)
@pytest.mark.parametrize("status", [200, 201, 302, 404, 500, 599])
def test_status(proxy, status):
    reply = proxy.get(probe={"request_headers": [["local", status, [], "text"]]})
    assert (reply.status, reply.body) == (status, b"text")


@case("headers of a local response come in order, and repeated ones stay so", envoy=AGREES)
def test_headers(proxy):
    pairs = [["set-cookie", "a=1"], ["x-one", "1"], ["set-cookie", "b=2"], ["x-empty", ""]]
    reply = proxy.get(probe={"request_headers": [["local", 403, pairs, "no"]]})
    assert reply.get_all("set-cookie") == ["a=1", "b=2"]
    assert reply.get("x-one") == "1"
    assert reply.get("x-empty") == ""


@case("a local response without a body has content-length: 0 and no content-type", envoy=AGREES)
@pytest.mark.parametrize("body", [None, ""], ids=["none", "empty"])
def test_no_body(proxy, body):
    reply = proxy.get(probe={"request_headers": [["local", 403, [["x-local", "1"]], body]]})
    assert (reply.status, reply.body, reply.get("x-local")) == (403, b"", "1")
    assert reply.get("content-length") == "0"
    assert reply.get("content-type") is None


@case("a body has the content-type text/plain unless the plugin gives one", envoy=AGREES)
@pytest.mark.parametrize(
    ("headers", "content_type"),
    [([], "text/plain"), ([["content-type", "application/json"]], "application/json")],
    ids=["none", "given"],
)
def test_content_type(proxy, headers, content_type):
    reply = proxy.get(probe={"request_headers": [["local", 403, headers, "{}"]]})
    assert reply.get_all("content-type") == [content_type]
    assert reply.body == b"{}"


@case("a content-length that the plugin gives does not count: the body's does", envoy=AGREES)
def test_content_length(proxy):
    reply = proxy.get(probe={"request_headers": [["local", 403, [["content-length", "3"]], "longer"]]})
    assert reply.body == b"longer"
    assert reply.get_all("content-length") == ["6"]


@case("a local response with status 204 has neither body nor content-length", envoy=AGREES)
def test_204(proxy):
    with proxy.connect() as connection:
        for _ in range(2):
            case = connection.send_head(probe={"request_headers": [["local", 204, [["x-local", "1"]], None]]})
            reply = connection.read_reply(case)
            assert (reply.status, reply.get("x-local"), reply.body) == (204, "1", b"")
            assert reply.get("content-length") is None


@case("the answer to HEAD has the length of the body, and no body", envoy=AGREES)
def test_head(proxy):
    with proxy.connect() as connection:
        for _ in range(2):
            case = connection.send_head("HEAD", probe={"request_headers": [LOCAL]})
            reply = connection.read_reply(case, "HEAD")
            assert (reply.status, reply.get("x-local"), reply.body) == (418, "1", b"")
            assert reply.get("content-length") == "6"


@case("a local body of 1 MiB arrives whole", envoy=AGREES)
def test_large_body(serve):
    text = "0123456789abcdef" * 65536
    proxy = serve(bare(f"request_headers: proxy_send_local_response 403 '' '{text}' '' -1"))
    reply = proxy.get()
    assert reply.status == 403
    assert reply.body == text.encode()


@case("bytes of a body that are no text stay as they are", envoy=AGREES)
def test_binary_body(proxy):
    reply = proxy.get(probe={"request_headers": [["local", 200, [], "".join(map(chr, range(256)))]]})
    assert reply.body == bytes(range(256))


# ---- The plugins on the way back ----


@case(
    "the plugin that answered sees its response in proxy_on_response_headers and _body, and can change it", envoy=AGREES
)
def test_own_callbacks(proxy):
    on = {
        "request_headers": [LOCAL],
        "response_headers": [
            ["get", "response_headers", ":status"],
            ["get", "response_headers", "x-local"],
            ["add", "response_headers", "x-seen", "1"],
        ],
        "response_body": [["body", "response_body", 0, -1]],
    }
    reply = proxy.get(probe=on)
    assert is_local(reply)
    assert reply.get("x-seen") == "1"
    reports = reply.reports
    assert reports.callbacks[-6:] == ["request_headers", "response_headers", "response_body", *ENDED]
    assert reports.results("response_headers") == ["418", "1"]
    assert reports.results("response_body") == ["teapot"]
    assert reports.of("response_body").entries[0].arguments == [6, 1]


@case("a local response without a body is at its end with proxy_on_response_headers", envoy=AGREES)
def test_end_of_stream(proxy):
    reports = proxy.get(probe={"request_headers": [["local", 403, [], None]]}).reports
    assert reports.of("response_headers").entries[0].arguments[1] == 1
    assert "response_body" not in reports.callbacks


@case("a local response from proxy_on_response_headers is not shown to the plugin again", envoy=AGREES)
def test_not_shown_again(proxy):
    reply = proxy.get(probe={"response_headers": [LOCAL]})
    assert is_local(reply)
    assert reply.reports.callbacks == ["request_headers", "response_headers", *ENDED]


@case("the local response can be changed: other status, other body", envoy=AGREES)
def test_change(proxy):
    on = {
        "request_headers": [LOCAL],
        "response_headers": [
            ["set", "response_headers", ":status", "451"],
            ["remove", "response_headers", "content-length"],
        ],
        "response_body": [["set_body", "response_body", 0, 100, "another body"]],
    }
    reply = proxy.get(probe=on)
    assert (reply.status, reply.body) == (451, b"another body")


@case(
    "what a plugin may not write into a response it may not write into its local response either",
    envoy=Differs(
        does="writes the bytes as they are: the client reads headers that nobody wrote, or a status line that is none",
        because="that is response splitting, by anybody whose text a plugin copies into a header",
        fails_with=r"= b'HTTP/1.1 (418|99) ",
    ),
)
@pytest.mark.parametrize(
    "step",
    [
        ["set", "response_headers", "x-own", "a\r\nx-evil: 1"],
        ["add", "response_headers", "x-own\r\nx-evil", "1"],
        ["set", "response_headers", ":status", "99"],
    ],
    ids=["value", "name", "status"],
)
def test_spoil(proxy, step):
    with proxy.connect() as connection:
        on = {"request_headers": [LOCAL], "response_headers": [step]}
        connection.send_head(headers=[("connection", "close")], probe=on)
        head, _, body = connection.read_to_end(3).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert b"x-evil" not in head
    assert body != b"teapot"


# ---- More than one thing at once ----


@case("of two local responses in one callback the first is sent", envoy=AGREES)
def test_two(proxy):
    reply = proxy.get(probe={"request_headers": [LOCAL, ["local", 500, [["x-second", "1"]], "second"]]})
    assert is_local(reply)
    assert reply.get("x-second") is None
    assert reply.reports.callbacks[-3:] == ENDED


@case("a local response can take the place of another that passes proxy_on_response_headers", envoy=AGREES)
def test_in_local(proxy):
    on = {"request_headers": [["local", 500, [["x-first", "1"]], "first"]], "response_headers": [LOCAL]}
    reply = proxy.get(probe=on)
    assert is_local(reply)
    assert reply.get("x-first") is None
    assert reply.reports.callbacks == ["request_headers", "response_headers", *ENDED]


@case("a second local response after the headers of the first have gone cuts the connection", envoy=AGREES)
def test_in_local_body(proxy):
    with proxy.connect() as connection:
        on = {"request_headers": [LOCAL], "response_body": [["local", 500, [], "second"]]}
        case = connection.send_head(probe=on)
        data = connection.read_until_cut()
    assert b"teapot" not in data
    assert b"second" not in data
    assert proxy.reports(case).callbacks[-3:] == ENDED


@case("a resume after a local response in the same callback does not send the request on", envoy=AGREES)
def test_then_resume(proxy):
    reply = proxy.get(probe={"request_headers": [LOCAL, ["resume", "request"], ["pause"]]})
    assert is_local(reply)
    assert reply.reports.callbacks[-3:] == ENDED
    assert not proxy.reached_upstream(reply.case)


@case("a local response after a resume is what the client gets", envoy=AGREES, needs="http_callouts")
def test_after_resume(proxy):
    call = ["call", {"upstream": "upstream", "headers": CALL, "then": [["resume", "request"], LOCAL]}]
    reply = proxy.get(probe={"request_headers": [call, ["pause"]]}, upstream={"delay_ms": 200})
    assert is_local(reply)
    assert reply.reports.callbacks[-3:] == ENDED


# ---- Around it ----


@case("the connection serves further requests after a local response", envoy=AGREES)
def test_keep_alive(proxy):
    with proxy.connect() as connection:
        for _ in range(3):
            on = {"request_body": [["if_end", [LOCAL]]]}
            case = connection.send_head("POST", headers=[("content-length", "4")], probe=on)
            connection.send(b"body")
            assert is_local(connection.read_reply(case))
        case = connection.send_head()
        assert connection.read_reply(case).body == b"ok\n"


@case("a request behind it on the connection waits until the local response has gone", envoy=AGREES)
def test_pipelined(proxy):
    with proxy.connect() as connection:
        first = connection.send_head(probe={"request_headers": [LOCAL]})
        second = connection.send_head()
        assert is_local(connection.read_reply(first))
        assert connection.read_reply(second).body == b"ok\n"


@case("a large body that the client still sends does not keep it from the local response", envoy=AGREES)
def test_upload_goes_on(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(
            "POST", headers=[("content-length", str(1 << 20))], probe={"request_headers": [LOCAL]}
        )
        connection.send(b"x" * 1000)
        assert is_local(connection.read_reply(case))


@case("response.code in proxy_on_log is the local response's", envoy=AGREES)
def test_code_in_log(proxy):
    reports = proxy.get(probe={"request_headers": [LOCAL], "log": [["property", ["response", "code"]]]}).reports
    assert int.from_bytes(reports.result("log").encode("latin-1"), "little") == 418


@case("the details of a local response are response.code_details, with _ for spaces", envoy=AGREES)
def test_details(serve):
    script = (
        "request_headers: proxy_send_local_response 403 'my own reason' '' '' -1; "
        "log: proxy_get_property 'response%00code_details' @ @"
    )
    reports = serve(bare(), shared=True).get(bare=script).reports
    assert reports.of("log", op="proxy_get_property")[0].value == "my_own_reason"


# ---- gRPC ----


@case(
    "to a gRPC request a local response goes as trailers-only with its grpc-status and message",
    envoy=AGREES,
    needs="grpc_local_responses",
)
def test_grpc(proxy):
    reply = proxy.post(
        b"\0\0\0\0\0",
        headers=[("content-type", "application/grpc")],
        probe={"request_headers": [["local", 200, [["x-local", "1"]], "not you", 7]]},
    )
    assert (reply.status, reply.body) == (200, b"")
    assert reply.get("content-type") == "application/grpc"
    assert (reply.get("grpc-status"), reply.get("grpc-message"), reply.get("x-local")) == ("7", "not you", "1")
    assert reply.reports.of("response_headers").entries[0].arguments[1] == 1
    assert "response_body" not in reply.reports.callbacks


@case(
    "a local response without a gRPC status gets the one that goes with its HTTP status",
    envoy=AGREES,
    needs="grpc_local_responses",
)
@pytest.mark.parametrize(("status", "grpc"), [(401, "16"), (403, "7"), (404, "12"), (503, "14"), (418, "2")])
def test_grpc_by_status(proxy, status, grpc):
    reply = proxy.post(
        b"\0\0\0\0\0",
        headers=[("content-type", "application/grpc")],
        probe={"request_headers": [["local", status, [], "not you"]]},
    )
    assert (reply.status, reply.get("grpc-status"), reply.get("grpc-message")) == (200, grpc, "not you")


@case("the message of a gRPC response is percent-encoded", envoy=AGREES, needs="grpc_local_responses")
def test_grpc_message(proxy):
    reply = proxy.post(
        b"\0\0\0\0\0",
        headers=[("content-type", "application/grpc+proto")],
        probe={"request_headers": [["local", 200, [], "50 %\nof \u00c3\u00a9", 3]]},
    )
    assert (reply.get("grpc-status"), reply.get("grpc-message")) == ("3", "50 %25%0Aof %C3%A9")
