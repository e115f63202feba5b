# SPDX-License-Identifier: Apache-2.0
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from hosts import StartFailed
from kit.cases import AGREES, Differs, case
from kit.setup import bare, probe

AREA = "Limits"

LOOP = [["loop"]]
BOMB = [["bomb"]]
CALL = [[":method", "GET"], [":path", "/call"], [":authority", "call.test"]]

#: Long enough for callbacks that do their work, also when the machine is busy.
DEADLINE_MS = 300
#: Of the client where a host may hang.
PATIENCE = 2

HANGS = Differs(
    does="hangs: the worker serves nobody any more, and SIGTERM does not end the process",
    because="one plugin must not be able to stop the proxy",
    fails_with="ReadTimeout|ConnectTimeout",
)
GROWS = Differs(
    does="has no limit of its own: the VM's memory grows to 1 GiB or more before the plugin is ended",
    because="one plugin must not be able to take the memory of the machine",
    fails_with="ReadTimeout|ConnectTimeout|the process has grown",
)
MIB = 1024


@pytest.fixture
def brittle(serve):
    """As `serve`, for servers that may hang: they are not waited for."""
    proxies = []

    def start(*plugins, **setup):
        proxies.append(serve(*plugins, **setup))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.server.stop(patience=0)


def looping(policy="reload", on=None, **options):
    return probe(on=on, policy=policy, deadline_ms=DEADLINE_MS, **options)


def post(proxy, callback, steps=LOOP):
    return proxy.post(b"the body", probe={callback: steps}, upstream={"echo": True}, timeout=PATIENCE)


# ---- Time ----


@case("an endless loop is ended at the deadline: the client gets 503, the next one is served", envoy=HANGS)
@pytest.mark.parametrize("callback", ["request_headers", "response_headers"])
def test_loop(brittle, callback):
    proxy = brittle(looping())
    assert proxy.get().status == 200
    reply = post(proxy, callback)
    assert (reply.status, reply.body) == (503, b"")
    assert proxy.get().status == 200
    book = proxy.server.book
    named = book.wait(lambda: re.search(f"proxy_on_{callback}", "\n".join(book.lines)))
    assert named, "the log does not name the function"


@case("an endless loop under the policy open is ended at the deadline, and the stream goes on", envoy=HANGS)
def test_loop_open(brittle):
    proxy = brittle(looping("open"))
    reply = post(proxy, "request_headers")
    assert (reply.status, reply.body) == (200, b"the body")


@case("an endless loop in a plugin written in C is ended at the deadline", envoy=HANGS)
def test_bare_loop(brittle):
    proxy = brittle(bare(policy="closed", deadline_ms=DEADLINE_MS))
    assert proxy.get(bare="request_headers: loop", timeout=PATIENCE).status == 503


@case("an endless loop at the end of a stream is ended at the deadline", envoy=HANGS)
def test_loop_at_the_end(brittle):
    proxy = brittle(looping())
    reply = post(proxy, "log")
    assert (reply.status, reply.body) == (200, b"the body")
    assert proxy.get(timeout=PATIENCE).status == 200


@case("an endless loop in the answer to a callout is ended at the deadline", envoy=HANGS, needs="http_callouts")
def test_loop_in_call_response(brittle):
    proxy = brittle(looping())
    call = ["call", {"upstream": "upstream", "headers": CALL, "then": LOOP}]
    assert proxy.get(probe={"request_headers": [call, ["pause"]]}, timeout=PATIENCE).status == 503


@case("an endless loop in a tick is ended at the deadline, and requests are served afterwards", envoy=HANGS)
def test_loop_in_tick(brittle):
    on = {"configure": [["tick", 30]], "tick": [["each_parked", LOOP]]}
    proxy = brittle(looping(on=on, silent=["tick"]))
    options = {"probe": {"request_headers": [["park"]]}, "upstream": {"delay_ms": 500}, "timeout": PATIENCE}
    assert proxy.get(**options).status == 503
    assert proxy.get(timeout=PATIENCE).status == 200


@case(
    "a server whose plugin loops without end in proxy_on_configure says so and does not start",
    envoy=Differs(
        does="hangs while it starts",
        because="an operator who waits for the server should learn what keeps it",
        fails_with="not ready after",
    ),
)
def test_loop_in_configure(brittle):
    with pytest.raises(StartFailed) as failure:
        brittle(looping(on={"configure": LOOP}, start_deadline_ms=DEADLINE_MS), start_timeout=20)
    text = str(failure.value)
    assert "not ready after" not in text, text
    assert "proxy_on_configure" in text


@case("while one plugin loops, streams that wait for the upstream stay, and go on when it has been ended", envoy=HANGS)
def test_neighbours(brittle):
    proxy = brittle(probe("good", vm_id="good"), looping("open", name="bad", vm_id="bad"))
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(proxy.get, scripts={"good": {}}, upstream={"delay_ms": 200}, timeout=PATIENCE)
        book = proxy.server.book
        assert book.wait(lambda: book.reports.of("request_headers", plugin="good"))
        assert proxy.get(scripts={"bad": {"request_headers": LOOP}}, timeout=PATIENCE).status == 200
        reply = slow.result()
    assert reply.status == 200
    assert reply.reports.of(plugin="good").callbacks[-3:] == ["log", "done", "delete"]


@case("while a stream is paused the deadline does not run", envoy=AGREES, needs="http_callouts")
def test_paused(serve):
    proxy = serve(looping(), shared=True)
    headers = [*CALL, ["x-upstream", '{"delay_ms": 500}']]
    call = ["call", {"upstream": "upstream", "headers": headers, "then": [["resume", "request"]]}]
    assert proxy.get(probe={"request_headers": [call, ["pause"]]}).status == 200


@case("the deadline is for one callback, not for a stream", envoy=AGREES)
def test_many_callbacks(serve):
    proxy = serve(looping(), shared=True)
    upstream = {"chunks": ["x"] * 8, "chunk_delay_ms": 60}
    reply = proxy.get(upstream=upstream)
    assert (reply.status, reply.body) == (200, b"x" * 8)


# ---- Memory ----


@case(
    "a plugin that takes memory without end is ended at its limit, each time, and the process keeps its size",
    envoy=GROWS,
)
def test_bomb(brittle):
    proxy = brittle(probe(policy="reload", memory_mb=32))
    assert proxy.get().status == 200
    before = proxy.server.memory_kib(peak=True)
    for callback in ("request_headers", "response_headers", "request_body"):
        reply = post(proxy, callback, BOMB)
        assert proxy.server.memory_kib(peak=True) - before < 200 * MIB, "the process has grown"
        assert (reply.status, reply.body) == (503, b"")
        assert proxy.get().status == 200


@case("under the policy open a stream goes on without the plugin that has reached its memory limit", envoy=GROWS)
def test_bomb_open(brittle):
    proxy = brittle(probe(policy="open", memory_mb=32))
    before = proxy.server.memory_kib(peak=True)
    reply = post(proxy, "request_headers", BOMB)
    assert proxy.server.memory_kib(peak=True) - before < 200 * MIB, "the process has grown"
    assert (reply.status, reply.body) == (200, b"the body")


@case("a plugin uses memory up to its limit", envoy=AGREES)
def test_within(serve):
    proxy = serve(probe(memory_mb=32), shared=True)
    size = 4 << 20
    on = {
        "request_headers": [["remove", "request_headers", "content-length"]],
        "request_body": [["if_end", [["fill_body", "request_body", 0, 8, 120, size]]]],
    }
    reply = proxy.post(b"the body", probe=on)
    assert reply.status == 200
    assert reply.seen.size >= size


@case(
    "a plugin whose module begins with more memory than its limit does not start",
    envoy=Differs(
        does="has no limit of its own, and starts",
        because="the limit is the operator's word",
        fails_with="DID NOT RAISE",
    ),
)
def test_too_large(serve):
    with pytest.raises(StartFailed):
        serve(probe(memory_mb=1))


# ---- Stack ----


@case("recursion without end is ended at the end of the plugin's stack; others are served", envoy=AGREES)
def test_recursion(serve):
    proxy = serve(probe("good", vm_id="good"), probe("bad", vm_id="bad", policy="open"))
    proxy.get(scripts={"bad": {"request_headers": [["recurse"]]}})
    reply = proxy.get(scripts={"good": {}, "bad": {}})
    assert reply.status == 200
    assert reply.reports.of(plugin="good").callbacks[-3:] == ["log", "done", "delete"]
