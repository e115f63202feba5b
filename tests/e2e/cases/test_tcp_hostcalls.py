# SPDX-License-Identifier: Apache-2.0
import struct

import pytest
from kit.cases import AGREES, Differs, case
from kit.client import eventually
from kit.setup import bare
from kit.tcp import call_gate, each_tick, finish, is_quiet, open_gate, read, read_all, reset, tcp_probe

AREA = "TCP"


# ---- Hostcalls ----


@case("properties tell a connection's addresses and ports, its upstream and its id", envoy=AGREES, needs="tcp")
def test_properties(tcp):
    names = ["source.address", "destination.address", "upstream.address"]
    numbers = ["source.port", "destination.port", "upstream.port", "connection.id"]
    steps = [["property", name.split(".")] for name in names + numbers]
    proxy = tcp(tcp_probe(on={"new_connection": steps[:2], "downstream_data": steps, "log": steps[:2]}))
    clients = [proxy.connect(b"data") for _ in range(2)]
    upstreams = [proxy.accept() for _ in clients]
    for upstream in upstreams:
        assert read(upstream, 4) == b"data"
    reports = proxy.wait("downstream_data", 14, op="property")
    ids = []
    for client in clients:
        own = [f"127.0.0.1:{port}" for port in (client.getsockname()[1], proxy.server.port)]
        (context,) = {one.context for one in reports.of("new_connection", op="property") if one.result == own[0]}
        mine = reports.of(context=context)
        assert mine.results("new_connection") == own
        results = mine.results("downstream_data")
        assert results[:3] == [*own, f"127.0.0.1:{upstreams[0].getsockname()[1]}"]
        ports = [struct.unpack("<q", one.encode("latin-1"))[0] for one in results[3:]]
        assert ports[:3] == [client.getsockname()[1], proxy.server.port, upstreams[0].getsockname()[1]]
        ids.append(ports[3])
        reset(client)
    assert ids[0] != ids[1]
    ended = proxy.ended(2)
    assert sorted(ended.results("log", "property")) == sorted(ended.results("new_connection", "property"))


@case("in a tick the effective context gives the properties of a connection", envoy=AGREES, needs="tcp")
def test_effective_context(tcp):
    steps = [["property", ["source", "address"]]]
    proxy = tcp(tcp_probe(on={"downstream_data": [["park"]], **each_tick(*steps)}, silent=("tick",)))
    client, _ = proxy.pair(b"data")
    book = proxy.book
    found = book.wait(lambda: book.reports.of("tick", op="property"))
    assert [one.result for one in found] == [f"127.0.0.1:{client.getsockname()[1]}"]


@case(
    "a callout from a data callback is answered while the connection goes on",
    envoy=AGREES,
    needs=("tcp", "http_callouts"),
)
def test_callout(tcp, gate):
    steps = [["nth", 1, [call_gate(["get", "call_headers", ":status"])]]]
    proxy = tcp(tcp_probe(on={"downstream_data": steps}), clusters=(("gate", gate.getsockname()[1]),))
    client, upstream = proxy.pair(b"data")
    assert read(upstream, 4) == b"data"
    open_gate(gate)
    proxy.wait("http_call_response", op="get")
    assert proxy.reports.result("http_call_response", "get") == "200"
    proxy.converse(client, upstream)


@case(
    "the answer of a callout comes after its connection has ended, and harms nobody",
    envoy=AGREES,
    needs=("tcp", "http_callouts"),
)
def test_callout_after_end(tcp, gate):
    proxy = tcp(
        tcp_probe(on={"new_connection": [call_gate(["get", "call_headers", ":status"])]}),
        clusters=(("gate", gate.getsockname()[1]),),
    )
    proxy.converse(*proxy.pair())
    vm = proxy.ended()[0].vm
    open_gate(gate)
    proxy.converse(*proxy.pair())
    assert {one.vm for one in proxy.ended(2)} == {vm}


@case("a plugin in TCP counts connections in a metric", envoy=AGREES, needs=("tcp", "metrics"))
def test_metric(tcp):
    on = {"new_connection": [["metric", "counter", "tcp_connections"], ["metric_add", "tcp_connections", 1]]}
    proxy = tcp(tcp_probe(on=on))
    for _ in range(2):
        proxy.converse(*proxy.pair())
    assert eventually(lambda: proxy.server.metrics().get("tcp_connections") == 2)


@case("hostcalls about headers find none in a connection, and a local response does nothing", envoy=AGREES, needs="tcp")
def test_http_hostcalls(tcp):
    calls = [
        ("proxy_get_header_map_value 0 'x-a' @ @", 2),
        ("proxy_get_header_map_pairs 0 @ @", 0),
        ("proxy_get_header_map_size 0 @", 2),
        ("proxy_add_header_map_value 0 'x-a' '1'", 2),
        ("proxy_replace_header_map_value 0 'x-a' '1'", 2),
        ("proxy_remove_header_map_value 0 'x-a'", 2),
        ("proxy_set_header_map_pairs 0 ''", 2),
        ("proxy_get_header_map_value 2 'x-a' @ @", 2),
        ("proxy_continue_stream 0", 0),
        ("proxy_continue_stream 1", 0),
        ("proxy_close_stream 0", 0),
        ("proxy_close_stream 1", 0),
        ("proxy_send_local_response 200 '' '' '' -1", 0),
    ]
    proxy = tcp(bare("downstream_data: nth 1; " + "; ".join(call for call, _ in calls)))
    client, upstream = proxy.pair(b"data")
    assert read(upstream, 4) == b"data"
    reports = proxy.wait("downstream_data", op="proxy_send_local_response")
    results = [one for one in reports.of("downstream_data") if one.op is not None]
    assert [(one.op, one.result) for one in results] == [(call.split()[0], status) for call, status in calls]
    assert next(one for one in results if one.op == "proxy_get_header_map_pairs").out == [0, 0]
    upstream.sendall(b"answer")
    assert read(client, 6) == b"answer"


@case(
    "a buffer that is not there, the other direction's or a body's, is NOT_FOUND",
    envoy=Differs(
        does="gives OK and nothing to one who reads, and BAD_ARGUMENT to one who writes",
        because="the specification has NOT_FOUND for it; SDKs make the same of both when they read",
        fails_with=r"assert \[0, 0, 2, 2\] ==",
    ),
    needs="tcp",
)
def test_missing_buffers(tcp):
    proxy = tcp(
        bare(
            "downstream_data: nth 1; proxy_get_buffer_bytes 0 0 10 @ @; proxy_get_buffer_bytes 3 0 10 @ @; "
            "proxy_set_buffer_bytes 0 0 0 'x'; proxy_set_buffer_bytes 3 0 0 'x'"
        )
    )
    _, upstream = proxy.pair(b"data")
    assert read(upstream, 4) == b"data"
    proxy.wait("downstream_data", 2, op="proxy_set_buffer_bytes")
    results = proxy.reports.results("downstream_data")
    assert results == [1, 1, 1, 1]


@case("hostcalls about a connection's data: what succeeds and what is a bad argument", envoy=AGREES, needs="tcp")
def test_data_hostcalls(tcp):
    calls = [
        ("proxy_get_buffer_bytes 2 1 2 @ @", 0),
        ("proxy_set_buffer_bytes 2 2 1 'x'", 2),
        ("proxy_continue_stream 2", 0),
        ("proxy_continue_stream 3", 12),
        ("proxy_continue_stream 4", 2),
        ("proxy_close_stream 4", 2),
        ("proxy_get_buffer_status 2 @ @", 0),
    ]
    proxy = tcp(bare("downstream_data: nth 1; " + "; ".join(call for call, _ in calls)))
    _, upstream = proxy.pair(b"data")
    assert read(upstream, 4) == b"data"
    reports = proxy.wait("downstream_data", op="proxy_get_buffer_status")
    results = [one for one in reports.of("downstream_data") if one.op is not None]
    assert [(one.op, one.result) for one in results] == [(call.split()[0], status) for call, status in calls]
    assert results[0].value == "at"
    assert results[-1].out[0] == 4


# ---- Chains ----


def marker(name):
    on = {way + "_data": [["unless_end", [["set_body", way, -1, 0, name]]]] for way in ("downstream", "upstream")}
    return tcp_probe(name, on)


@case(
    "two plugins: the client's data passes the first one first, the upstream's the last one", envoy=AGREES, needs="tcp"
)
def test_chain(tcp):
    proxy = tcp(marker("a"), marker("b"))
    client, upstream = proxy.pair(b"ping ")
    assert read(upstream, 7) == b"ping ab"
    upstream.sendall(b"pong ")
    assert read(client, 7) == b"pong ba"
    reports = proxy.wait("upstream_data", plugin="a")
    assert [one.plugin for one in reports.of("new_connection")] == ["a", "b"]
    assert [one.arguments[0] for one in reports.of("downstream_data", plugin="b").entries] == [6]
    assert [one.arguments[0] for one in reports.of("upstream_data", plugin="a").entries] == [6]
    finish(client)
    finish(upstream)
    ended = proxy.ended(2)
    for name in ("a", "b"):
        assert ended.of(plugin=name).callbacks[-3:] == ["done", "log", "delete"]


@case("what the first plugin holds back does not reach the second, nor the upstream", envoy=AGREES, needs="tcp")
def test_chain_pause(tcp):
    proxy = tcp(tcp_probe("a", {"downstream_data": [["nth", 1, [["pause"]]]]}), tcp_probe("b"))
    client, upstream = proxy.pair(b"one ")
    proxy.wait("downstream_data", plugin="a")
    assert is_quiet(upstream)
    assert proxy.reports.of("downstream_data", plugin="b") == []
    client.sendall(b"two")
    assert read(upstream, 7) == b"one two"
    shown_to_b = proxy.wait("downstream_data", plugin="b").of("downstream_data", plugin="b")
    assert [one.arguments[0] for one in shown_to_b.entries] == [7]


@case(
    "the first plugin's pause in new_connection keeps the second from seeing the connection", envoy=AGREES, needs="tcp"
)
def test_chain_pause_new_connection(tcp):
    on = {"new_connection": [["park"], ["pause"]], **each_tick(["resume", "downstream"])}
    proxy = tcp(tcp_probe("a", on, silent=("tick",)), tcp_probe("b", {"new_connection": [["log", 2, "here"]]}))
    proxy.converse(*proxy.pair())
    assert [one.plugin for one in proxy.ended(2).of("new_connection")] == ["a", "b"]


# ---- Traps ----

TRAPS = {
    "new_connection": {"new_connection": [["trap"]]},
    "downstream_data": {"downstream_data": [["trap"]]},
    "upstream_data": {"upstream_data": [["trap"]]},
}


@case("a trap closes the connection, and nothing more is called for it", envoy=AGREES, needs="tcp")
@pytest.mark.parametrize("callback", TRAPS)
def test_trap(tcp, callback):
    proxy = tcp(tcp_probe(on=TRAPS[callback]))
    client = proxy.connect(b"data")
    if callback == "upstream_data":
        upstream = proxy.accept()
        assert read(upstream, 4) == b"data"
        upstream.sendall(b"answer")
    assert read_all(client) == b""
    callbacks = proxy.wait(callback).callbacks
    assert callbacks[-1] == callback
    if callback != "new_connection":
        upstream = proxy.accept() if callback == "downstream_data" else upstream
        assert read_all(upstream) == b""
    assert proxy.server.alive()
    assert proxy.reports.callbacks == callbacks


#: A connection traps when it says the second word, or later.
SECOND_WORD = {"downstream_data": [["nth", 2, [["trap"]]]]}


def trap_once(proxy):
    """Makes a connection trap; returns the name of its VM."""
    client, upstream = proxy.pair(b"one")
    assert read(upstream, 3) == b"one"
    client.sendall(b"two")
    assert read_all(client) == b""
    return proxy.wait("downstream_data")[0].vm


def is_served(proxy):
    """Whether a new connection passes, with one word each way."""
    client = proxy.connect(b"one")
    try:
        upstream = proxy.accept(1)
    except TimeoutError:
        return False
    if read(upstream, 3) != b"one":
        return False
    upstream.sendall(b"1")
    return read(client, 1) == b"1"


@case('policy "reload": after a trap new connections are served by a new VM', envoy=AGREES, needs="tcp")
def test_reload(tcp):
    proxy = tcp(tcp_probe(on=SECOND_WORD, policy="reload"))
    before = trap_once(proxy)
    assert eventually(lambda: is_served(proxy))
    assert proxy.book.wait(lambda: any(one.vm != before for one in proxy.reports))


@case("a trap closes the other connections of the same VM when they go on", envoy=AGREES, needs="tcp")
def test_trap_others(tcp):
    proxy = tcp(tcp_probe(on=SECOND_WORD, policy="reload"))
    client, upstream = proxy.pair(b"one")
    assert read(upstream, 3) == b"one"
    trap_once(proxy)
    client.sendall(b"more")
    assert read_all(client) == b""
    assert read_all(upstream) == b""


@case('policy "closed": after a trap new connections are closed', envoy=AGREES, needs="tcp")
def test_closed(tcp):
    proxy = tcp(tcp_probe(on=SECOND_WORD, policy="closed"))
    trap_once(proxy)
    for _ in range(3):
        client = proxy.connect(b"one")
        assert read_all(client) == b""
    assert not proxy.reaches_upstream()
    assert proxy.server.alive()


@case('policy "open": after a trap new connections pass without the plugin', envoy=AGREES, needs="tcp")
def test_open(tcp):
    proxy = tcp(tcp_probe(on={"downstream_data": [["trap"]]}, policy="open"))
    client = proxy.connect(b"one")
    proxy.accept()
    proxy.wait("downstream_data")
    client.close()
    for _ in range(2):
        proxy.converse(*proxy.pair())
    assert len(proxy.reports.of("new_connection")) == 1


@case(
    'policy "open": the connection whose callback trapped goes on without the plugin',
    envoy=Differs(
        does="closes it",
        because="whoever chose open wants traffic rather than the plugin, and nothing of the connection is lost",
        fails_with=r"assert b'' == b'one'",
    ),
    needs="tcp",
)
def test_open_same_connection(tcp):
    proxy = tcp(tcp_probe(on={"downstream_data": [["trap"]]}, policy="open"))
    client, upstream = proxy.pair(b"one")
    assert read(upstream, 3) == b"one"
    upstream.sendall(b"two")
    assert read(client, 3) == b"two"
