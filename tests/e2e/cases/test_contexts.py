# SPDX-License-Identifier: Apache-2.0
import pytest
from kit.cases import AGREES, Differs, case
from kit.setup import bare, probe

AREA = "Contexts"

#: No host makes so many contexts.
NOBODY = 3_000_000_000


def paused(proxy, connection, **options):
    """Sends a request that its plugin pauses in the request headers; its context, once it is."""
    case_id = connection.send_head(probe={"request_headers": [["park"], ["pause"]]}, **options)
    (entry,) = proxy.server.book.wait(lambda: proxy.reported(case_id))
    return case_id, entry.context


@case("a tick acts on a stream that is paused: it reads and writes its headers, and resumes it", envoy=AGREES)
def test_tick_to_stream(serve):
    steps = [
        ["get", "request_headers", "x-a"],
        ["add", "request_headers", "x-tick", "1"],
        ["property", ["request", "method"]],
        ["resume", "request"],
    ]
    proxy = serve(probe(on={"configure": [["tick", 50]], "tick": [["each_parked", steps]]}))
    reply = proxy.get(headers=[("x-a", "1")], probe={"request_headers": [["park"], ["pause"]]})
    assert reply.status == 200
    assert reply.seen.get("x-tick") == "1"
    vm = reply.reports[0].vm
    assert proxy.server.book.reports.of("tick", op="get", vm=vm)[0].result == "1"
    assert proxy.server.book.reports.of("tick", op="property", vm=vm)[0].result == "GET"


@case("a tick acts on several paused streams one after the other, on each as itself", envoy=AGREES)
def test_tick_to_streams(serve):
    steps = [["get", "request_headers", "x-a"], ["set", "request_headers", "x-b", "{last}"], ["resume", "request"]]
    # Both are parked by the time of the tick.
    on = {"tick": [["each_parked", steps], ["tick", 0]]}
    proxy = serve(probe(on=on))
    with proxy.connect() as one, proxy.connect() as other:
        first, _ = paused(proxy, one, headers=[("x-a", "1")])
        second, _ = paused(proxy, other, headers=[("x-a", "2")])
        proxy.get(probe={"request_headers": [["tick", 20]]})
        assert one.read_reply(first).status == other.read_reply(second).status == 200
    assert (proxy.seen(first).get("x-b"), proxy.seen(second).get("x-b")) == ("1", "2")


@case("a stream acts on another one that is paused, and then on itself again", envoy=AGREES)
def test_stream_to_stream(proxy):
    with proxy.connect() as one:
        first, context = paused(proxy, one, headers=[("x-a", "of the first")])
        steps = [
            ["effective", context],
            ["get", "request_headers", "x-a"],
            ["add", "request_headers", "x-b", "2"],
            ["resume", "request"],
            ["effective", "{c}"],
            ["get", "request_headers", "x-a"],
            ["add", "request_headers", "x-c", "3"],
        ]
        second = proxy.get(headers=[("x-a", "of the second")], probe={"request_headers": steps})
        assert one.read_reply(first).status == 200
    assert second.reports.results("request_headers", "get") == ["of the first", "of the second"]
    assert (proxy.seen(first).get("x-b"), proxy.seen(first).get("x-c")) == ("2", None)
    assert (second.seen.get("x-b"), second.seen.get("x-c")) == (None, "3")


@case("the effective context is that of one callback: the next one begins with its own", envoy=AGREES)
def test_reset(proxy):
    read = ["property", ["connection", "id"]]
    with proxy.connect() as one:
        first, context = paused(proxy, one)
        second = proxy.post(
            b"abc",
            probe={
                "request_headers": [read, ["effective", context], read],
                "request_body": [["if_end", [read]]],
            },
        )
        own, other = second.reports.results("request_headers")
        assert own != other
        assert second.reports.result("request_body", "property") == own
        proxy.get(probe={"request_headers": [["effective", context], ["resume", "request"]]})
        assert one.read_reply(first).status == 200


@case("a context that never was: BAD_ARGUMENT, and the effective context stays", envoy=AGREES)
def test_unknown(proxy):
    reply = proxy.get(
        headers=[("x-a", "1")], probe={"request_headers": [["effective", NOBODY], ["get", "request_headers", "x-a"]]}
    )
    assert reply.reports.results("request_headers") == [{"err": 2}, "1"]


@case("the context of a stream that has ended: BAD_ARGUMENT", envoy=AGREES)
def test_ended(proxy):
    context = proxy.get().reports[0].context
    reply = proxy.get(probe={"request_headers": [["effective", context]]})
    assert reply.reports.results("request_headers") == [{"err": 2}]


@case("a stream may make its root context the effective one: it then has no stream", envoy=AGREES)
def test_root(serve):
    proxy = serve(bare(), shared=True)
    vm = proxy.get(bare="").reports[0].vm
    root = proxy.server.book.reports.of("configure", vm=vm)[0].context
    reply = proxy.get(
        headers=[("x-a", "1")],
        bare=f"request_headers: proxy_set_effective_context {root}; proxy_get_property 'request%00method' @ @; "
        "proxy_set_effective_context *; proxy_get_property 'request%00method' @ @",
    )
    assert reply.reports.results("request_headers", "proxy_set_effective_context") == [0, 0]
    assert reply.reports.results("request_headers", "proxy_get_property") == [1, 0]


#: What acts on a stream, and the status that it has where there is none.
WITHOUT_STREAM = {
    "proxy_get_header_map_value 0 'x-a' @ @": 2,
    "proxy_get_header_map_size 0 @": 2,
    "proxy_add_header_map_value 0 'x-a' '1'": 2,
    "proxy_replace_header_map_value 2 'x-a' '1'": 2,
    "proxy_remove_header_map_value 0 'x-a'": 2,
    "proxy_set_header_map_pairs 0 '%00%00%00%00'": 2,
    "proxy_get_property 'request%00path' @ @": 1,
    "proxy_get_property 'source%00address' @ @": 1,
}


def call_without_stream(serve, callback, calls):
    ticks = "configure: proxy_set_tick_period_milliseconds 50; tick: proxy_set_tick_period_milliseconds 0; "
    proxy = serve(bare((ticks if callback == "tick" else "") + f"{callback}: " + "; ".join(calls)))
    vm = proxy.get(bare="").reports[0].vm
    # A tick's first step ends the ticks.
    before = 1 if callback == "tick" else 0

    def results() -> list:
        return proxy.server.book.reports.of(vm=vm).results(callback)[before:]

    assert proxy.server.book.wait(lambda: len(results()) >= len(calls))
    return results()


@pytest.mark.parametrize("callback", ["configure", "tick"])
@case("a root context without a stream has neither headers nor attributes of streams, as statuses say", envoy=AGREES)
def test_without_stream(serve, callback):
    calls = list(WITHOUT_STREAM)
    assert dict(zip(calls, call_without_stream(serve, callback, calls), strict=True)) == WITHOUT_STREAM


@pytest.mark.parametrize("callback", ["configure", "tick"])
@case(
    "bodies are NOT_FOUND in a root context without a stream",
    envoy=Differs(
        does="Reading one is OK and empty, writing one BAD_ARGUMENT.",
        because="The specification says NOT_FOUND for a buffer that is not available; empty ones are available.",
        fails_with=r"\[0, 0, 2\] == \[1, 1, 1\]",
    ),
)
def test_no_bodies(serve, callback):
    calls = ["proxy_get_buffer_bytes 0 0 10 @ @", "proxy_get_buffer_status 1 @ @", "proxy_set_buffer_bytes 0 0 0 'x'"]
    assert call_without_stream(serve, callback, calls) == [1, 1, 1]


@case("all pairs of a map that is not there: OK, and empty", envoy=AGREES)
def test_no_pairs(serve):
    proxy = serve(bare("configure: proxy_get_header_map_pairs 0 @ @"))
    vm = proxy.get(bare="").reports[0].vm
    (read,) = proxy.server.book.reports.of("configure", op="proxy_get_header_map_pairs", vm=vm)
    assert (read.result, read.out) == (0, [0, 0])


@case("resuming and closing streams in a root context without one is OK and does nothing", envoy=AGREES)
def test_no_stream_to_resume(serve):
    calls = "; ".join(f"proxy_{what}_stream {kind}" for what in ("continue", "close") for kind in (0, 1))
    proxy = serve(bare(f"configure: {calls}"))
    reply = proxy.get(bare="")
    assert reply.status == 200
    vm = reply.reports[0].vm
    assert proxy.server.book.reports.of(vm=vm).results("configure") == [0, 0, 0, 0]


@case("context 0 is no stream: the effective context is that of the callback", envoy=AGREES)
def test_zero(serve):
    reply = serve(bare(), shared=True).get(
        bare="request_headers: proxy_set_effective_context 0; proxy_get_property 'request%00method' @ @"
    )
    assert reply.status == 200
    assert reply.reports.results("request_headers") == [0, 0]


@case("a plugin that shares the VM acts on a stream of another one", envoy=AGREES)
def test_other_plugin(serve):
    proxy = serve(probe("a", vm_id="v"), probe("b", vm_id="v"), shared=True)
    with proxy.connect() as one:
        # The stream's context in "a", which is the first in the chain.
        first = one.send_head(scripts={"a": {"request_headers": [["park"], ["pause"]]}})
        book = proxy.server.book
        (entry,) = book.wait(lambda: [report for report in book.reports if report.id == first])
        steps = [["effective", entry.context], ["get", "request_headers", "x-case"], ["resume", "request"]]
        second = proxy.get(scripts={"a": {}, "b": {"request_headers": steps}})
        assert one.read_reply(first).status == 200
    assert second.reports.result("request_headers", "get", "b") == first
