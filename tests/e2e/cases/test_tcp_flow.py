# SPDX-License-Identifier: Apache-2.0

import pytest
from kit.cases import AGREES, case
from kit.tcp import (
    DOWNSTREAM,
    call_gate,
    each_tick,
    finish,
    is_quiet,
    open_gate,
    read,
    read_all,
    shown,
    tcp_probe,
)

AREA = "TCP"

PEER_LOCAL = 1


# ---- Pause and resume ----


@case(
    "a connection that new_connection pauses reaches no upstream until a callout's answer resumes it; its data is not lost",
    envoy=AGREES,
    needs=("tcp", "http_callouts"),
)
def test_pause_new_connection(tcp, gate):
    steps = [call_gate(["get", "call_headers", ":status"], ["resume", "downstream"]), ["pause"]]
    proxy = tcp(
        tcp_probe(on={"new_connection": steps, "downstream_data": [DOWNSTREAM]}),
        clusters=(("gate", gate.getsockname()[1]),),
    )
    client = proxy.connect(b"early data")
    assert not proxy.reaches_upstream()
    open_gate(gate)
    upstream = proxy.accept()
    assert read(upstream, 10) == b"early data"
    upstream.sendall(b"answer")
    assert read(client, 6) == b"answer"
    reports = proxy.wait("upstream_data")
    assert reports.result("http_call_response", "get") == "200"
    callbacks = reports.callbacks
    assert callbacks.index("http_call_response") < callbacks.index("downstream_data")
    assert shown(reports, "downstream_data") == "early data"


@case("a tick resumes a connection that new_connection paused", envoy=AGREES, needs="tcp")
def test_resume_new_connection_by_tick(tcp):
    on = {"new_connection": [["park"], ["pause"]], **each_tick(["resume", "downstream"])}
    proxy = tcp(tcp_probe(on=on, silent=("tick",)))
    proxy.converse(*proxy.pair())


@case("data that a plugin pauses is shown again with what comes next, and passes together", envoy=AGREES, needs="tcp")
@pytest.mark.parametrize("way", ["downstream", "upstream"])
def test_collect(tcp, way):
    on = {f"{way}_data": [["body", way, 0, -1], ["nth", 1, [["pause"]]], ["nth", 2, [["pause"]]]]}
    proxy = tcp(tcp_probe(on=on))
    client, upstream = proxy.pair()
    sender, receiver = (client, upstream) if way == "downstream" else (upstream, client)
    for count, piece in enumerate((b"one ", b"two ", b"three"), 1):
        sender.sendall(piece)
        proxy.wait(f"{way}_data", count, op="body")
        if count == 1:
            assert is_quiet(receiver)
    assert read(receiver, 13) == b"one two three"
    assert proxy.reports.results(f"{way}_data", "body") == ["one ", "one two ", "one two three"]
    assert [one.arguments[0] for one in proxy.reports.of(f"{way}_data").entries] == [4, 8, 13]
    sender.sendall(b"four")
    assert read(receiver, 4) == b"four"


@case("data that is held back can be changed as a whole", envoy=AGREES, needs="tcp")
def test_collect_and_change(tcp):
    on = {"downstream_data": [["nth", 1, [["pause"]]], ["nth", 2, [["set_body", "downstream", 0, -1, "instead"]]]]}
    proxy = tcp(tcp_probe(on=on))
    client, upstream = proxy.pair(b"one ")
    proxy.wait("downstream_data")
    client.sendall(b"two")
    assert read(upstream, 7) == b"instead"
    client.sendall(b"three")
    assert read(upstream, 5) == b"three"


@case("a tick resumes data that a plugin paused; it passes without being shown again", envoy=AGREES, needs="tcp")
def test_resume_data_by_tick(tcp):
    on = {"downstream_data": [["nth", 1, [["park"], ["pause"]]]], **each_tick(["resume", "downstream"])}
    proxy = tcp(tcp_probe(on=on, silent=("tick",)))
    client, upstream = proxy.pair(b"held")
    assert read(upstream, 4) == b"held"
    assert [one.arguments for one in proxy.wait("downstream_data").of("downstream_data").entries] == [[4, 0]]
    client.sendall(b"next")
    assert read(upstream, 4) == b"next"


@case(
    "in a tick a paused connection's data can be read and changed, by its effective context", envoy=AGREES, needs="tcp"
)
def test_change_by_tick(tcp):
    steps = [DOWNSTREAM, ["set_body", "downstream", 0, -1, "changed"], ["resume", "downstream"]]
    on = {"downstream_data": [["nth", 1, [["park"], ["pause"]]]], **each_tick(*steps)}
    proxy = tcp(tcp_probe(on=on, silent=("tick",)))
    _, upstream = proxy.pair(b"held")
    assert read(upstream, 7) == b"changed"
    book = proxy.book
    found = book.wait(lambda: book.reports.of("tick", op="body"))
    assert [one.result for one in found] == ["held"]


@case("while one direction is paused the other goes on", envoy=AGREES, needs="tcp")
def test_other_direction(tcp):
    proxy = tcp(tcp_probe(on={"downstream_data": [["nth", 1, [["pause"]]]]}))
    client, upstream = proxy.pair(b"held")
    proxy.wait("downstream_data")
    upstream.sendall(b"goes on")
    assert read(client, 7) == b"goes on"
    assert is_quiet(upstream)


@case("data that a plugin withholds at the end of the stream is shown with that end", envoy=AGREES, needs="tcp")
def test_collect_to_end(tcp):
    steps = [["unless_end", [["pause"]]], ["if_end", [DOWNSTREAM, ["set_body", "downstream", -1, 0, "!"]]]]
    proxy = tcp(tcp_probe(on={"downstream_data": steps}))
    client, upstream = proxy.pair(b"all ")
    proxy.wait("downstream_data")
    client.sendall(b"of it")
    finish(client)
    assert read_all(upstream) == b"all of it!"
    assert shown(proxy.wait("downstream_data", op="body"), "downstream_data") == "all of it"


# ---- Closing ----


@case("a plugin that closes the connection in new_connection: no upstream is asked", envoy=AGREES, needs="tcp")
def test_close_new_connection(tcp):
    proxy = tcp(tcp_probe(on={"new_connection": [["reset", "downstream"]]}))
    client = proxy.connect(b"data")
    assert read_all(client) == b""
    reports = proxy.ended()
    assert not proxy.reaches_upstream()
    assert reports.of("downstream_data") == []
    assert reports.of("downstream_connection_close")[0].arguments == [PEER_LOCAL]
    assert reports.callbacks[-3:] == ["done", "log", "delete"]


@case(
    "a plugin can close the connection in a data callback, whichever end it names; that data does not pass",
    envoy=AGREES,
    needs="tcp",
)
@pytest.mark.parametrize(
    ("way", "named"), [("downstream", "downstream"), ("downstream", "upstream"), ("upstream", "upstream")]
)
def test_close_in_data(tcp, way, named):
    proxy = tcp(tcp_probe(on={f"{way}_data": [["reset", named], ["pause"]]}))
    client, upstream = proxy.pair()
    (client if way == "downstream" else upstream).sendall(b"data")
    assert read_all(client) == b""
    assert read_all(upstream) == b""
    reports = proxy.ended()
    assert reports.of("downstream_connection_close")[0].arguments == [PEER_LOCAL]
    assert len(reports.of(f"{way}_data").entries) == 1
    assert reports.callbacks[-3:] == ["done", "log", "delete"]


@case("what had passed before a plugin closes the connection still reaches the client", envoy=AGREES, needs="tcp")
def test_close_flushes(tcp):
    on = {
        "upstream_data": [["quietly", [["fill_body", "upstream", 0, 5, 120, 3000000]]]],
        "downstream_data": [["nth", 2, [["reset", "downstream"], ["pause"]]]],
    }
    proxy = tcp(tcp_probe(on=on))
    client, upstream = proxy.pair(b"ask")
    read(upstream, 3)
    upstream.sendall(b"start")
    proxy.wait("upstream_data")
    client.sendall(b"stop")
    assert read_all(client) == b"x" * 3000000
    proxy.ended()


@case("a tick closes a connection, by its effective context", envoy=AGREES, needs="tcp")
def test_close_by_tick(tcp):
    proxy = tcp(tcp_probe(on={"downstream_data": [["park"]], **each_tick(["reset", "downstream"])}, silent=("tick",)))
    client, upstream = proxy.pair(b"data")
    assert read_all(client) == b""
    assert read_all(upstream) == b"data"
    assert proxy.ended().of("downstream_connection_close")[0].arguments == [PEER_LOCAL]
