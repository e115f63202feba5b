# SPDX-License-Identifier: Apache-2.0
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from hosts import StartFailed
from kit.cases import AGREES, Differs, case
from kit.client import eventually, new_case_id
from kit.setup import bare, probe

AREA = "Traps"

TRAP = [["trap"]]
CALL = [[":method", "GET"], [":path", "/call"], [":authority", "call.test"]]
ENDED = ["log", "done", "delete"]

RELOAD = Differs(
    does="answers 503 to everything until a back-off of about a second is over",
    because="one bad request must not cost the ones behind it",
    fails_with="assert 503 == 200",
)
HANGS = Differs(
    does="leaves the stream paused until the client gives up",
    because="nothing can resume it any more, so its client should know at once",
    fails_with="ReadTimeout",
)
OPEN = Differs(
    does="answers 503 to the streams that the plugin was in, and lets later ones pass without it",
    because="with the policy open a plugin that fails must not be in the way of any request",
    fails_with="503",
)


def status(proxy, **options):
    return proxy.get(timeout=2, **options).status


def post(proxy, callback, steps=TRAP, **options):
    """What comes of a request with a body whose plugin runs `steps` in the callback."""
    return proxy.post(b"the body", probe={callback: steps}, upstream={"echo": True}, timeout=2, **options)


def with_trailers(proxy, callback):
    """The same with trailers in both directions."""
    with proxy.connect() as connection:
        headers = [("transfer-encoding", "chunked")]
        upstream = {"echo": True, "trailers": [["x-end", "2"]]}
        case = connection.send_head("POST", headers=headers, probe={callback: TRAP}, upstream=upstream)
        connection.send_chunk(b"the body")
        connection.send_last_chunk([("x-end", "1")])
        return connection.read_reply(case)


# ---- What the client of the stream gets ----


@case(
    "a stream whose plugin traps before the response's headers have gone is answered 503, with an empty body; "
    "under the policy closed all later ones are too, and the plugin is not called again",
    envoy=AGREES,
)
@pytest.mark.parametrize("callback", ["request_headers", "request_body", "response_headers"])
def test_closed(serve, callback):
    proxy = serve(probe(policy="closed"))
    assert proxy.get().status == 200
    reply = post(proxy, callback)
    assert (reply.status, reply.body) == (503, b"")
    book = proxy.server.book
    assert book.wait(lambda: proxy.reported(reply.case).of(callback))
    for _ in range(2):
        later = proxy.get()
        assert (later.status, later.body) == (503, b"")
        assert not proxy.reached_upstream(later.case)
        assert not proxy.reported(later.case)
    assert proxy.reported(reply.case).entries[-1].callback == callback


@case("a request whose plugin traps in proxy_on_request_headers does not reach the upstream", envoy=AGREES)
def test_not_reached(serve):
    proxy = serve(probe())
    reply = post(proxy, "request_headers")
    assert reply.status == 503
    assert not proxy.reached_upstream(reply.case)


@case("a stream whose plugin traps in proxy_on_context_create is answered 503", envoy=AGREES)
def test_context_create(serve):
    proxy = serve(probe(on={"context_create": TRAP}, policy="closed"))
    assert (status(proxy), status(proxy)) == (503, 503)


@case(
    "a stream whose plugin traps in proxy_on_request_trailers is answered 503", envoy=AGREES, needs="request_trailers"
)
def test_request_trailers(serve):
    assert with_trailers(serve(probe()), "request_trailers").status == 503


@case("a response whose plugin traps after its headers have gone is cut off", envoy=AGREES)
def test_response_body(serve):
    proxy = serve(probe())
    with proxy.connect() as connection:
        upstream = {"chunks": ["one", "two", "three"], "chunk_hold": (pieces := new_case_id())}
        case = connection.send_head(probe={"response_body": [["nth", 2, TRAP]]}, upstream=upstream)
        assert proxy.server.book.wait(lambda: proxy.reported(case).of("response_body"))
        proxy.upstream.release(pieces)
        data = connection.read_until_cut()
    assert data.startswith(b"HTTP/1.1 200")
    assert b"three" not in data


@case("a response whose plugin traps in proxy_on_response_trailers is cut off", envoy=AGREES, needs="response_trailers")
def test_response_trailers(serve):
    proxy = serve(probe())
    with proxy.connect() as connection:
        upstream = {"chunks": ["one"], "trailers": [["x-end", "1"]]}
        connection.send_head(probe={"response_trailers": TRAP}, upstream=upstream)
        data = connection.read_until_cut()
    assert b"x-end" not in data
    assert not data.endswith(b"\r\n\r\n0\r\n\r\n")


@case("traps in the callbacks at the end of a stream change nothing for its client", envoy=AGREES)
def test_at_the_end(serve):
    proxy = serve(*(probe(name, vm_id=name, policy="open") for name in ENDED))
    scripts = {name: {name: TRAP} for name in ENDED}
    reply = proxy.post(b"the body", scripts=scripts, upstream={"echo": True})
    assert (reply.status, reply.body) == (200, b"the body")
    book = proxy.server.book
    assert book.wait(lambda: all(proxy.reported(reply.case).of(name, plugin=name) for name in ENDED))
    assert proxy.get(scripts={name: {} for name in ENDED}).status == 200


@case(
    "a request that waits for a callout is answered 503 when its answer's callback traps",
    envoy=HANGS,
    needs="http_callouts",
)
def test_http_call_response(serve):
    proxy = serve(probe())
    call = ["call", {"upstream": "upstream", "headers": CALL, "then": TRAP}]
    assert status(proxy, probe={"request_headers": [call, ["pause"]]}) == 503


@case(
    "a gRPC request whose plugin traps is answered with grpc-status 14, UNAVAILABLE",
    envoy=AGREES,
    needs="grpc_local_responses",
)
def test_grpc(serve):
    proxy = serve(probe())
    reply = post(proxy, "request_headers", headers=[("content-type", "application/grpc")])
    assert (reply.status, reply.get("grpc-status")) == (200, "14")


@case("a plugin that traps while a local response passes it has it replaced by 503", envoy=AGREES)
def test_in_local_response(serve):
    proxy = serve(probe())
    on = {"request_headers": [["local", 418, [], "teapot"]], "response_headers": TRAP}
    reply = proxy.get(probe=on)
    assert (reply.status, reply.body) == (503, b"")


@case("what the plugin asked for in the callback before it trapped is not done", envoy=AGREES)
def test_deferred(serve):
    proxy = serve(probe())
    reply = post(proxy, "request_headers", [["local", 418, [], "teapot"], *TRAP])
    assert (reply.status, reply.body) == (503, b"")


# ---- How it can end ----


@case("a plugin can end by exit or by the stack's end: the client gets 503, and the server goes on", envoy=AGREES)
@pytest.mark.parametrize("steps", [[["exit", 0]], [["recurse"]]], ids=["exit", "recursion"])
def test_ways(serve, steps):
    proxy = serve(probe(policy="closed"))
    assert (post(proxy, "request_headers", steps).status, status(proxy)) == (503, 503)
    assert proxy.server.alive()


@case("a trap in a plugin written in C against the bare ABI is answered 503", envoy=AGREES)
def test_bare(serve):
    proxy = serve(bare(policy="closed"))
    assert status(proxy, bare="request_headers: trap") == 503
    assert status(proxy) == 503


@case("a panic of a plugin in Rust is answered 503, and what it writes to standard error is in the log", envoy=AGREES)
def test_panic(serve):
    proxy = serve(probe())
    # The SDK does not expect that there is no such map.
    assert post(proxy, "request_headers", [["get", "response_headers", "x"]]).status == 503
    book = proxy.server.book
    assert book.wait(lambda: "unexpected status: 2" in "\n".join(one.text for one in book.records))


@case("the log names the function in which a plugin trapped", envoy=AGREES)
def test_log_function(serve):
    proxy = serve(probe("guard"))
    post(proxy, "response_headers")
    book = proxy.server.book
    pattern = "failed.*proxy_on_response_headers|proxy_on_response_headers.*failed"
    assert book.wait(lambda: re.search(pattern, "\n".join(book.lines)))


@case(
    "the log names the plugin that trapped",
    envoy=Differs(
        does="names the function only",
        because="with several plugins somebody has to know which one to mend",
        fails_with="the plugin is not named",
    ),
)
def test_log_plugin(serve):
    proxy = serve(probe("first"), probe("guard", vm_id="guard"))
    proxy.get(scripts={"guard": {"request_headers": TRAP}})
    book = proxy.server.book
    pattern = "guard.*failed.*proxy_on_request_headers|proxy_on_request_headers.*failed.*guard"
    named = book.wait(lambda: re.search(pattern, "\n".join(book.lines)), timeout=1)
    assert named, "the plugin is not named"


# ---- Streams behind it ----


@case("under the policy reload the next stream is served by a new VM", envoy=RELOAD)
@pytest.mark.parametrize("callback", ["request_headers", "response_headers", "log"])
def test_reload(serve, callback):
    proxy = serve(probe(policy="reload"))
    before = proxy.get().reports[0].vm
    failed = post(proxy, callback)
    assert failed.status == (200 if callback == "log" else 503)
    book = proxy.server.book
    assert book.wait(lambda: proxy.reported(failed.case).of(callback))
    reply = proxy.get()
    assert reply.status == 200
    assert reply.reports[0].vm != before


@case("a new VM is started and configured like the first", envoy=AGREES)
def test_reload_starts(serve):
    proxy = serve(probe(policy="reload", vm_configuration="vm", on={"configure": [["body", "plugin_config", 0, 20]]}))
    post(proxy, "request_headers")
    vm = []

    def served():
        reply = proxy.get()
        if reply.status == 200:
            vm.append(reply.reports[0].vm)
        return reply.status == 200

    assert eventually(served, timeout=4, step=0.1)
    reports = proxy.server.book.reports.of(vm=vm[0])
    assert reports.callbacks[:4] == ["context_create", "vm_start", "configure", "context_create"]
    assert reports.of("vm_start").entries[0].arguments == [2]
    assert len(reports.result("configure")) == 20


@case(
    "under the policy reload a plugin that traps in every stream answers 503, and serves again when it no longer does",
    envoy=AGREES,
)
def test_reload_again(serve):
    proxy = serve(probe(policy="reload"))
    for _ in range(5):
        assert post(proxy, "request_headers").status == 503
    assert eventually(lambda: status(proxy) == 200, timeout=8, step=0.1)


@case("under the policy open the stream in which a plugin traps goes on without it", envoy=OPEN)
@pytest.mark.parametrize("callback", ["request_headers", "request_body", "response_body"])
def test_open(serve, callback):
    if callback == "response_body":
        proxy = serve(probe(policy="open", stop_iteration=True))
        reply = proxy.get(
            probe={"response_headers": [["pause"]], "response_body": TRAP}, upstream={"body": "the body"}, timeout=3
        )
    else:
        proxy = serve(probe(policy="open"))
        reply = post(proxy, callback)
    assert (reply.status, reply.body) == (200, b"the body")
    if callback != "response_body":
        assert reply.seen.body == b"the body"


@case("under the policy open later streams pass without the plugin", envoy=AGREES)
def test_open_later(serve):
    proxy = serve(probe(policy="open"))
    post(proxy, "request_headers")
    on = {"request_headers": [["add", "request_headers", "x-seen", "1"]]}
    for _ in range(3):
        reply = proxy.get(probe=on)
        assert reply.status == 200
        assert reply.seen.get("x-seen") is None


# ---- Streams beside it ----


@case("a stream that waits for the upstream when its plugin's VM traps is answered 503", envoy=AGREES)
def test_in_flight(serve):
    proxy = serve(probe(policy="closed"))
    with proxy.connect() as connection:
        case = connection.send_head(upstream={"hold": (held := new_case_id())})
        assert proxy.upstream.wait(case)
        assert status(proxy, probe={"request_headers": TRAP}) == 503
        proxy.upstream.release(held)
        assert connection.read_reply(case).status == 503


@case("a stream that is paused when its plugin's VM traps in another one is answered 503 at once", envoy=HANGS)
def test_paused(serve):
    proxy = serve(probe(policy="reload"))
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(proxy.get, probe={"request_headers": [["pause"]]}, timeout=2)
        book = proxy.server.book
        assert book.wait(lambda: "request_headers" in book.reports.callbacks)
        assert status(proxy, probe={"request_headers": TRAP}) == 503
        assert reply.result().status == 503


@case(
    "under the policy open a stream that is paused when its plugin's VM traps goes on",
    envoy=Differs(
        does="leaves the stream paused until the client gives up",
        because="with the policy open a plugin that fails must not be in the way of any request",
        fails_with="ReadTimeout",
    ),
)
def test_paused_open(serve):
    proxy = serve(probe(policy="open"))
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(proxy.get, probe={"request_headers": [["pause"]]}, timeout=2)
        book = proxy.server.book
        assert book.wait(lambda: "request_headers" in book.reports.callbacks)
        status(proxy, probe={"request_headers": TRAP})
        assert reply.result().status == 200


@case("a trap in a tick ends the VM: a stream that is under way is answered 503", envoy=AGREES)
def test_tick(serve):
    on = {"configure": [["tick", 30]], "tick": [["each_parked", TRAP]]}
    proxy = serve(probe(on=on, silent=["tick"], policy="closed"))
    assert status_after_tick(proxy) == 503
    assert status(proxy) == 503


def status_after_tick(proxy):
    """Of a request with which the next tick traps, and which the upstream answers when it has."""
    with proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": [["park"]]}, upstream={"hold": (held := new_case_id())})
        book = proxy.server.book
        assert book.wait(lambda: re.search("failed.*proxy_on_tick|proxy_on_tick.*failed", "\n".join(book.lines)))
        proxy.upstream.release(held)
        return connection.read_reply(case).status


@case(
    "under the policy reload ticks go on after a trap in one, without a stream that wakes the plugin",
    envoy=Differs(
        does="makes the new VM when a stream needs it, so that there are no ticks until then",
        because="a plugin that lives on its ticks would stay dead",
        fails_with="no further VM",
    ),
)
def test_ticks_go_on(serve):
    on = {"configure": [["tick", 30]], "tick": [["each_parked", TRAP]]}
    proxy = serve(probe(on=on, policy="reload"))
    assert proxy.get().status == 200
    book = proxy.server.book
    known = {one.vm for one in book.reports}
    status_after_tick(proxy)
    assert book.wait(lambda: {one.vm for one in book.reports.of("tick")} - known, timeout=2), "no further VM"


@case("a trap in proxy_on_queue_ready ends the VM", envoy=AGREES)
def test_queue_ready(serve):
    on = {"configure": [["queue_register", "jobs"]], "queue_ready": TRAP}
    # Connections come to all workers: which of them is told of a queue, hosts choose.
    proxy = serve(probe(on=on, policy="closed"), workers=2)
    proxy.get(probe={"request_headers": [["queue_push", "jobs", "x"]]})
    assert eventually(lambda: status(proxy) == 503)


# ---- Other plugins ----


@case("a trap does not touch plugins of the chain that have VMs of their own", envoy=AGREES)
def test_others(serve):
    proxy = serve(probe("a"), probe("b", vm_id="b", policy="reload"), probe("c", vm_id="c"))
    reply = proxy.get(scripts={"a": {}, "b": {"request_headers": TRAP}, "c": {}})
    assert reply.status == 503
    book = proxy.server.book
    assert book.wait(lambda: proxy.reported(reply.case).of("delete", plugin="a"))
    reports = proxy.reported(reply.case)
    assert reports.of(plugin="a").callbacks == ["request_headers", "response_headers", *ENDED]
    assert not reports.of("request_headers", plugin="c")


@case("a trap in one plugin ends all that share its VM", envoy=AGREES)
def test_shared_vm(serve):
    proxy = serve(probe("a", vm_id="one", policy="closed"), probe("b", vm_id="one", policy="closed"))
    reply = proxy.get(scripts={"a": {}, "b": {"response_headers": TRAP}})
    assert reply.status == 503
    assert status(proxy) == 503
    assert not proxy.reported(reply.case).of("log")


@case("under the policy open a chain goes on with its other plugins", envoy=AGREES)
def test_others_open(serve):
    proxy = serve(probe("a"), probe("b", vm_id="b", policy="open"))
    proxy.get(scripts={"b": {"request_headers": TRAP}})
    reply = proxy.get(scripts={"a": {"request_headers": [["add", "request_headers", "x-a", "1"]]}, "b": {}})
    assert reply.status == 200
    assert reply.seen.get("x-a") == "1"


# ---- While the server starts ----


@case(
    "the server does not start when a plugin traps in proxy_on_configure, not even under the policy open", envoy=AGREES
)
def test_configure(serve):
    with pytest.raises(StartFailed):
        serve(probe(on={"configure": TRAP}, policy="open"))
