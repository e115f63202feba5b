# SPDX-License-Identifier: Apache-2.0
"""`compat ngx_wasm_module;`: what plugins made for that module find as it was there, and nobody else."""

import json
import socket

import pytest
from kit.client import new_case_id

LOCATION = "location / { proxy_wasm probe; return 200 ok; }"
COMPAT = "compat ngx_wasm_module;"


@pytest.fixture(params=[True, False], ids=["compat", "default"])
def compat(request):
    return request.param


@pytest.fixture
def start(nginx, upstream, compat):
    """start(…) → a server; without a place for locations one that passes requests on through a plugin that a tick lets go."""
    on = {
        "configure": [["tick", 30]],
        "tick": [["quietly", [["each_parked", [["resume", "request"], ["resume", "response"]]]]]],
    }
    configuration = json.dumps({"name": "probe", "type": "http", "on": on, "silent": ["tick"]})

    def start(server=None, wasm="", **places):
        passing = f"location / {{ proxy_wasm waiter; proxy_pass http://127.0.0.1:{upstream.port}; }}"
        wasm += f"plugin waiter {{ module probe; configuration '{configuration}'; }}"
        return nginx(wasm=(COMPAT if compat else "") + wasm, server=server or passing, **places)

    return start


# ---- Local responses ----


@pytest.mark.parametrize("callback", ["request_headers", "request_body", "response_headers"])
def test_newline(start, compat, callback):
    proxy = start(LOCATION)
    reply = proxy.post("body", probe={callback: [["local", 403, [["x-why", "no"]], "refused"]]})
    assert (reply.status, reply.get("x-why")) == (403, "no")
    assert reply.body == (b"refused\n" if compat else b"refused")
    assert reply.get("content-length") == ("8" if compat else "7")


def test_no_newline(start):
    proxy = start(LOCATION)
    reply = proxy.get(probe={"request_headers": [["local", 401, [], None]]})
    assert (reply.status, reply.body, reply.get("content-length")) == (401, b"", "0")
    grpc = [("content-type", "application/grpc")]
    reply = proxy.get(headers=grpc, probe={"request_headers": [["local", 403, [], "refused"]]})
    assert (reply.status, reply.get("grpc-message"), reply.body) == (200, "refused", b"")


# ---- End of stream ----


def ends(reply, callback):
    return [one.arguments[1] for one in reply.reports.of(callback).entries]


@pytest.mark.parametrize("pause", [[], [["park"], ["pause"]]], ids=["passes", "pauses"])
@pytest.mark.parametrize("content", ["", "body"])
def test_end_of_request(start, compat, content, pause):
    reply = start().post(content, probe={"request_headers": pause})
    assert (reply.status, reply.body, reply.seen.body) == (200, b"ok\n", content.encode())
    assert ends(reply, "request_headers") == [int(not compat and not content)]
    # What has no body has no callback for it, as in that module.
    assert ends(reply, "request_body")[-1:] == ([1] if content else [])


@pytest.mark.parametrize("pause", [[], [["park"], ["pause"]]], ids=["passes", "pauses"])
@pytest.mark.parametrize(
    ("method", "answer", "body", "end"),
    [
        ("GET", {"body": "all of it"}, b"all of it", False),
        ("GET", {"chunks": ["a", "b"], "chunked": True}, b"ab", False),
        ("GET", {"body": ""}, b"", True),
        ("GET", {"status": 204}, b"", True),
        ("HEAD", {}, b"", True),
    ],
    ids=["body", "chunks", "empty", "204", "head"],
)
def test_end_of_response(start, compat, pause, method, answer, body, end):
    proxy = start()
    with proxy.connect() as connection:
        for _ in range(2):  # the connection is as good as new
            case = connection.send_head(method, upstream=answer, probe={"response_headers": pause})
            reply = connection.read_reply(case, method)
            assert (reply.status, reply.body) == (answer.get("status", 200), body)
            assert ends(reply, "response_headers") == [int(end and not compat)]
            shown = ends(reply, "response_body")
            if body:
                assert shown[-1] == 1
            else:
                # The end of an empty body is told, since the headers did not; where there cannot be one, nothing is.
                assert shown == ([1] if compat and method == "GET" and answer.get("status") != 204 else [])


def test_body_that_is_collected(start):
    """The rest of a message works when headers do not say where it ends."""
    proxy = start()
    collect = [["unless_end", [["pause"]]], ["if_end", [["body", "response_body", 0, -1]]]]
    script = {"response_headers": [["remove", "response_headers", "content-length"]], "response_body": collect}
    reply = proxy.get(upstream={"chunks": ["one ", "two ", "three"], "chunk_delay_ms": 30}, probe=script)
    assert reply.body == b"one two three"
    assert reply.reports.result("response_body") == "one two three"


# ---- :authority ----


def test_authority(start, compat):
    proxy = start("server_name first.test second.test; " + LOCATION)
    steps = [["get", "request_headers", ":authority"], ["get", "request_headers", "host"], ["map", "request_headers"]]
    # httpx would send the port of the connection.
    with proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": steps})
        reply = connection.read_reply(case)
    authority, host, pairs = reply.reports.results("request_headers")
    assert host == "conformance.test"
    assert authority == (f"first.test:{proxy.port}" if compat else host)
    assert [pair for pair in pairs if pair[0] in (":authority", "host")] == (
        [[":authority", authority], ["host", host]] if compat else [[":authority", host]]
    )


def test_authority_without_a_name(start, compat):
    reply = start(LOCATION).get(probe={"request_headers": [["get", "request_headers", ":authority"]]})
    authority = reply.reports.result("request_headers")
    port = reply.proxy.port
    assert authority == (f"{socket.gethostname()}:{port}" if compat else f"127.0.0.1:{port}").lower()


def test_authority_that_is_set(start):
    """By either name; the upstream gets it."""
    server = "proxy_set_header host $http_host;"
    for name in (":authority", "host"):
        reply = start(http=server).get(probe={"request_headers": [["set", "request_headers", name, "other.test"]]})
        assert reply.seen.get("host") == "other.test"


def test_map_that_is_written_back(start):
    """A plugin that sets what it has read changes nothing."""
    proxy = start(http="proxy_set_header host $http_host;")
    pairs = proxy.get(probe={"request_headers": [["map", "request_headers"]]}).reports.result("request_headers")
    case = new_case_id()
    again = [pair for pair in pairs if pair[0] != "x-case"] + [["x-case", case]]
    assert proxy.get(probe={"request_headers": [["set_map", "request_headers", again]]}).status == 200
    (seen,) = proxy.upstream.wait(case)
    assert seen.get("host") == f"127.0.0.1:{proxy.port}"


# ---- Shared data ----


def test_cas(start, compat):
    proxy = start(LOCATION)
    steps = [
        ["shared_set", "key", "1", 0],
        ["shared_set", "key", "2", 0],
        ["shared_set", "key", "3", None],
        ["quietly", [["shared_get", "key"]]],
        ["shared_set", "key", "4", "{cas}"],
        ["shared_get", "key"],
    ]
    first, second, third, fourth, (value, _) = proxy.get(probe={"request_headers": steps}).reports.results()
    mismatch = {"err": 8}
    assert (first, fourth, value) == (True, True, "4")
    # Without a number, SDKs send 0.
    assert (second, third) == ((mismatch, mismatch) if compat else (True, True))


# ---- Maps of more than 100 ----


@pytest.mark.parametrize("count", [60, 130])
def test_long_map(start, compat, count):
    proxy = start(LOCATION)
    headers = [(f"x-many-{n}", "v" * n) for n in range(count)]
    steps = [["map", "request_headers"], ["get", "request_headers", f"x-many-{count - 1}"]]
    reply = proxy.get(headers=headers, probe={"request_headers": steps})
    pairs, last = reply.reports.results("request_headers")
    # One of them is not in the list: the script.
    assert len(pairs) + 1 == min(reply.reports.of("request_headers").entries[0].arguments[0], 100 if compat else 999)
    many = [pair for pair in pairs if pair[0].startswith("x-many-")]
    assert many == [list(pair) for pair in headers[: len(many)]]
    assert len(many) == count or compat and len(many) > 80
    # All of them are there all the same.
    assert last == "v" * (count - 1)


def test_long_map_of_a_response(start, compat):
    headers = [[f"x-many-{n}", "v"] for n in range(130)]
    reply = start().get(upstream={"headers": headers}, probe={"response_headers": [["map", "response_headers"]]})
    assert len(reply.headers) > 130
    pairs = reply.reports.result("response_headers")
    assert len(pairs) == 100 if compat else len(pairs) > 130
