# SPDX-License-Identifier: Apache-2.0
import h11
import pytest
from kit.cases import AGREES, Differs, case
from kit.client import Reply
from kit.setup import bare

AREA = "Trailers"
BOTH = pytest.mark.parametrize("side", ["request", "response"])
NEEDS = "{side}_trailers"
NEW = "new_{side}_trailers"


def exchange(proxy, side: str, trailers, body: str = "body", **steering) -> tuple[list, Reply]:
    """A chunked request or response with these trailers; those that came out at the other end, and the reply."""
    with proxy.connect() as connection:
        if side == "request":
            headers = [("transfer-encoding", "chunked"), ("te", "trailers")]
            case = connection.send_head("POST", headers=headers, upstream={"chunked": True}, **steering)
            if body:
                connection.send_chunk(body.encode())
            connection.send_last_chunk(trailers)
        else:
            orders = {"chunked": True, "trailers": list(trailers), "body": body}
            case = connection.send_head(headers=[("te", "trailers")], upstream=orders, **steering)
        reply = connection.read_reply(case)
    if side == "response":
        return reply.trailers, reply
    return (reply.seen.trailers if proxy.reached_upstream(case) else []), reply


def steps(side: str, *list_of_steps) -> dict:
    return {f"{side}_trailers": list(list_of_steps)}


SENT = [("x-own-b", "1"), ("x-own-a", "2"), ("x-own-b", "3")]


@case("trailers are shown to plugins in order, with their number, and go on", envoy=AGREES, needs=NEEDS)
@BOTH
def test_read(proxy, side):
    trailers = f"{side}_trailers"
    script = steps(side, ["map", trailers], ["get", trailers, "X-Own-B"], ["get", trailers, "x-missing"])
    got, reply = exchange(proxy, side, SENT, probe=script)
    pairs, value, missing = reply.reports.results(trailers)
    assert [tuple(pair) for pair in pairs] == SENT
    assert (value, missing) == ("1", None)
    assert reply.reports.of(trailers).entries[0].arguments == [3]
    assert got == SENT


CHANGES = {
    "add": (["add", "", "x-own-a", "new"], [*SENT, ("x-own-a", "new")]),
    "add new": (["add", "", "X-Own-C", "new"], [*SENT, ("x-own-c", "new")]),
    "replace": (["set", "", "x-own-a", "new"], [("x-own-b", "1"), ("x-own-a", "new"), ("x-own-b", "3")]),
    "replace missing": (["set", "", "x-own-c", "new"], [*SENT, ("x-own-c", "new")]),
    "remove": (["remove", "", "x-own-b"], [("x-own-a", "2")]),
    "remove missing": (["remove", "", "x-own-c"], SENT),
    "set map": (["set_map", "", [["x-own-c", "1"], ["x-own-d", ""]]], [("x-own-c", "1"), ("x-own-d", "")]),
}


@case("trailers can be added, replaced and removed, one by one and all together", envoy=AGREES, needs=NEEDS)
@BOTH
@pytest.mark.parametrize("change", list(CHANGES))
def test_change(proxy, side, change):
    (op, _, *arguments), expected = CHANGES[change]
    got, reply = exchange(proxy, side, SENT, probe=steps(side, [op, f"{side}_trailers", *arguments]))
    assert reply.status == 200
    assert sorted(got) == sorted(expected)


@case("a message all of whose trailers a plugin removes ends in order", envoy=AGREES, needs=NEEDS)
@BOTH
def test_remove_all(proxy, side):
    script = steps(side, *(["remove", f"{side}_trailers", name] for name in ("x-own-a", "x-own-b")))
    got, reply = exchange(proxy, side, SENT, probe=script)
    assert reply.status == 200
    assert got == []


@case("bytes from 0x80 to 0xFF in trailers are read and written unchanged", envoy=AGREES, needs=NEEDS)
@BOTH
def test_bytes(proxy, side):
    value = bytes(range(0x80, 0x100)).decode("latin-1")
    trailers = f"{side}_trailers"
    script = steps(side, ["get", trailers, "x-own-a"], ["set", trailers, "x-own-b", "{last}!"])
    got, reply = exchange(proxy, side, [("x-own-a", value)], probe=script)
    assert reply.reports.result(trailers) == value
    assert sorted(got) == [("x-own-a", value), ("x-own-b", value + "!")]


@case("trailers come after the body, which then has no end of stream of its own", envoy=AGREES, needs=NEEDS)
@BOTH
def test_order(proxy, side):
    _, reply = exchange(proxy, side, SENT)
    names = [name for name in reply.reports.callbacks if name.startswith(side)]
    assert names[0] == f"{side}_headers"
    assert names[-1] == f"{side}_trailers"
    bodies = reply.reports.of(f"{side}_body").entries
    assert names == [f"{side}_headers", *[f"{side}_body"] * len(bodies), f"{side}_trailers"]
    assert sum(one.arguments[0] for one in bodies) == 4
    assert not any(one.arguments[1] for one in bodies)
    assert reply.reports.of(f"{side}_headers").entries[0].arguments[1] == 0


@case("trailers after an empty body are shown, and go on", envoy=AGREES, needs=NEEDS)
@BOTH
def test_empty_body(proxy, side):
    got, reply = exchange(proxy, side, SENT, body="")
    assert f"{side}_trailers" in reply.reports.callbacks
    assert not any(any(one.arguments) for one in reply.reports.of(f"{side}_body").entries)
    assert got == SENT


@case("a message without trailers has no trailers callback", envoy=AGREES, needs=NEEDS)
@BOTH
def test_none(proxy, side):
    got, reply = exchange(proxy, side, [])
    assert f"{side}_trailers" not in reply.reports.callbacks
    assert got == []


@case("a local response has no trailers callback, whatever the request had", envoy=AGREES, needs="request_trailers")
def test_local_response(proxy):
    got, reply = exchange(proxy, "request", SENT, probe={"request_headers": [["local", 403, [], "no"]]})
    assert reply.status == 403
    assert "response_trailers" not in reply.reports.callbacks
    assert "request_trailers" not in reply.reports.callbacks
    assert (got, reply.trailers) == ([], [])


@case("a local response from the trailers callback is the client's", envoy=AGREES, needs="request_trailers")
def test_local_response_from_trailers(proxy):
    script = {"request_body": [["pause"]], **steps("request", ["local", 403, [], "no"])}
    _, reply = exchange(proxy, "request", SENT, probe=script)
    assert (reply.status, reply.body) == (403, b"no")


@case(
    "a body that is held back is still there, whole, when the trailers come, and goes on with them",
    envoy=AGREES,
    needs=NEEDS,
)
@BOTH
def test_body_held_back(proxy, side):
    script = {
        f"{side}_body": [["pause"]],
        **steps(side, ["body", f"{side}_body", 0, 100], ["set_body", f"{side}_body", 4, 0, " and more"]),
    }
    got, reply = exchange(proxy, side, SENT, probe=script)
    assert reply.reports.result(f"{side}_trailers") == "body"
    body = reply.seen.body if side == "request" else reply.body
    assert body == b"body and more"
    assert got == SENT


@case(
    "a message that was paused in its trailers goes on when it is resumed",
    envoy=AGREES,
    needs=(NEEDS, "http_callouts"),
)
@BOTH
def test_pause(proxy, side):
    headers = [
        [":method", "GET"],
        [":path", "/"],
        [":authority", "conformance.test"],
        ["x-upstream", '{"delay_ms": 100}'],
    ]
    then = [["resume", side]]
    call = {"upstream": "upstream", "headers": headers, "timeout_ms": 5000, "then": then}
    got, reply = exchange(proxy, side, SENT, probe=steps(side, ["call", call], ["pause"]))
    callbacks = reply.reports.callbacks
    assert callbacks.index("http_call_response") == callbacks.index(f"{side}_trailers") + 1
    assert reply.status == 200
    assert got == SENT


@case("trailers are made from the last body callback of a message that has none", envoy=AGREES, needs=NEW)
@BOTH
def test_new(proxy, side):
    trailers = f"{side}_trailers"
    script = {f"{side}_body": [["if_end", [["add", trailers, "X-Own", "1"], ["get", trailers, "x-own"]]]]}
    got, reply = exchange(proxy, side, [], probe=script)
    assert reply.reports.result(f"{side}_body") == "1"
    assert got == [("x-own", "1")]
    assert trailers not in reply.reports.callbacks


@case(
    "trailers cannot be read or made before they came and the body ended: BAD_ARGUMENT, and no pairs",
    envoy=AGREES,
    needs=NEEDS,
)
@pytest.mark.parametrize("side, number", [("request", 1), ("response", 3)], ids=["request", "response"])
def test_too_early(serve, side, number):
    calls = [f"proxy_get_header_map_value {number} 'x-own-a' @ @", f"proxy_get_header_map_pairs {number} @ @"]
    calls += [f"proxy_get_header_map_size {number} @", f"proxy_add_header_map_value {number} 'x-own-c' '1'"]
    calls += [
        f"proxy_replace_header_map_value {number} 'x-own-c' '1'",
        f"proxy_remove_header_map_value {number} 'x-own-a'",
    ]
    script = f"{side}_headers: {'; '.join(calls)}; {side}_body: nth 1; {'; '.join(calls)}"
    got, reply = exchange(serve(bare(), shared=True), side, SENT, bare=script)
    for callback in (f"{side}_headers", f"{side}_body"):
        assert [one.result for one in reply.reports.of(callback) if one.op] == [2, 0, 2, 2, 2, 2]
    assert got == SENT


@case("trailers of the response can be read in the log callback", envoy=AGREES, needs="response_trailers")
def test_log(proxy):
    _, reply = exchange(proxy, "response", SENT, probe={"log": [["get", "response_trailers", "x-own-a"]]})
    assert reply.reports.result("log") == "2"


@case(
    "trailers of the request can be read in the log callback",
    envoy=Differs(
        does="has no request trailers there",
        because="a record of the request may need them, as it may need its headers",
        fails_with=r"assert None == '2'",
    ),
    needs="request_trailers",
)
def test_log_of_request(proxy):
    _, reply = exchange(proxy, "request", SENT, probe={"log": [["get", "request_trailers", "x-own-a"]]})
    assert reply.reports.result("log") == "2"


@case(
    "a trailer that a plugin writes with CR and LF does not reach the other side as a line of its own",
    envoy=Differs(
        does="writes the bytes as they are: the other side reads trailers that nobody wrote",
        because="anybody whose text a plugin copies into a trailer could write more of them",
        fails_with=r"assert 'x-evil' not in",
    ),
    needs=NEEDS,
)
@BOTH
def test_injection(proxy, side):
    script = steps(side, ["set", f"{side}_trailers", "x-own-a", "1\r\nx-evil: 1"])
    try:
        got, _ = exchange(proxy, side, SENT, probe=script)
    except (OSError, h11.RemoteProtocolError):
        got = []  # the response is broken off
    assert "x-evil" not in dict(got)
