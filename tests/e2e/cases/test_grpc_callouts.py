# SPDX-License-Identifier: Apache-2.0
import json
from concurrent.futures import ThreadPoolExecutor
from zlib import crc32

import pytest
from kit.cases import AGREES, Differs, case
from kit.client import new_case_id
from kit.grpc_upstream import SERVICE
from kit.setup import GUESTS, Plugin, bare, probe
from kit.upstream import Refusing, Silent

AREA = "gRPC callouts"

MESSAGE = ["body", "grpc_message", 0, -1]
STATUS = ["grpc_status"]
INITIAL = ["map", "grpc_initial"]
TRAILING = ["map", "grpc_trailing"]
RESUME = ["resume", "request"]
PAUSE = ["pause"]
NEEDS = "grpc_callouts"
DEADLINE_EXCEEDED, UNAVAILABLE = 4, 14


@pytest.fixture(scope="session")
def clusters(grpc_upstream):
    """Clusters of the shared server: names with "grpc" in them speak HTTP/2."""
    refusing, silent = Refusing(), Silent()
    yield (("grpc", grpc_upstream.port), ("grpc-refused", refusing.port), ("grpc-silent", silent.port))
    refusing.close()
    silent.close()


@pytest.fixture
def proxy(serve, clusters):
    return serve(probe(), shared=True, clusters=clusters)


@pytest.fixture
def name():
    """What the server knows this case's call by."""
    return new_case_id()


def target(name, method, orders=None, metadata=(), upstream="grpc"):
    pairs = [["x-call", name], *([["x-orders", json.dumps(orders)]] if orders else []), *metadata]
    return {"upstream": upstream, "service": SERVICE, "method": method, "metadata": pairs}


def unary(name, *then, message="question", orders=None, metadata=(), upstream="grpc", **options):
    """The step of a call."""
    call = {**target(name, "Unary", orders, metadata, upstream), "message": message, "then": list(then)}
    return ["grpc_call", {**call, **options}]


def stream(name, method, orders=None, metadata=(), upstream="grpc", **lists):
    """The step that opens a stream: `initial`, `then`, `trailing` and `closed` are what is done in its callbacks."""
    return ["grpc_stream", {**target(name, method, orders, metadata, upstream), **lists}]


def asked(proxy, *steps, **options):
    """A request that waits for what `steps` begin."""
    reply = proxy.get(probe={"request_headers": [*steps, PAUSE]}, **options)
    assert reply.status == 200
    return reply


def ends(reports):
    """Statuses that close callbacks gave."""
    return [one.arguments[1] for one in reports.of("grpc_close").entries]


def received(reports):
    return reports.results("grpc_receive", "body")


# ---- Calls of one message ----


@case(
    "a call is answered with the message of the service, and the request that waited goes on", envoy=AGREES, needs=NEEDS
)
def test_unary(proxy, name):
    reports = asked(proxy, unary(name, MESSAGE, RESUME)).reports
    assert received(reports) == ["question"]
    token = reports.result("request_headers", "grpc_call")
    assert [one.arguments for one in reports.of("grpc_receive").entries] == [[token, 8]]
    assert ends(reports) == []


@case("the service sees the method, the message, the metadata and the time that is left", envoy=AGREES, needs=NEEDS)
def test_request(proxy, grpc_upstream, name):
    metadata = [["x-one", "1"], ["x-two", "2"], ["x-two", "3"], ["x-raw-bin", "\0\1\xff"]]
    asked(proxy, unary(name, RESUME, message="some\0\xff bytes", metadata=metadata, timeout_ms=5000))
    call = grpc_upstream.wait(name, lambda call: call.half_closed)
    assert call.messages == [b"some\0\xff bytes"]
    assert (call.get_all("x-one"), call.get_all("x-two")) == (["1"], ["2", "3"])
    assert call.get_all("x-raw-bin") == [b"\0\1\xff"]
    assert 0 < call.left <= 5


@case("a call has nothing of the request that it is made for", envoy=AGREES, needs=NEEDS)
def test_no_leak(proxy, grpc_upstream, name):
    asked(proxy, unary(name, RESUME), headers=[("x-secret", "1")])
    assert grpc_upstream.wait(name).get_all("x-secret") == []


@case("an empty message goes out and comes back", envoy=AGREES, needs=NEEDS)
def test_empty(proxy, grpc_upstream, name):
    reports = asked(proxy, unary(name, MESSAGE, RESUME, message="")).reports
    assert [one.arguments[1] for one in reports.of("grpc_receive").entries] == [0]
    assert grpc_upstream.wait(name).messages == [b""]


@case(
    "a status that is not OK comes as a close with its code; the status' message can be read", envoy=AGREES, needs=NEEDS
)
@pytest.mark.parametrize("early", [False, True])
def test_error(proxy, name, early):
    orders = {"status": 5, "message": "no such thing", "early": early}
    reports = asked(proxy, unary(name, STATUS, RESUME, orders=orders)).reports
    assert ends(reports) == [5]
    assert received(reports) == []
    code, message = reports.result("grpc_close", "grpc_status")
    assert code == 5
    # A host may add to it.
    assert message.startswith("no such thing")


@case("each code of a service comes as it is", envoy=AGREES, needs=NEEDS)
def test_codes(proxy, name):
    for code in range(1, 17):
        reports = asked(proxy, unary(f"{name}-{code}", RESUME, orders={"status": code})).reports
        assert ends(reports) == [code]


@case(
    "a call without an answer in time ends with 4, DEADLINE_EXCEEDED",
    envoy=Differs(
        does="gives 14, UNAVAILABLE, as if the service could not be reached",
        because="gRPC has a code of its own for it, and plugins may try again after 14",
        fails_with=r"assert \[14\] == \[4\]",
    ),
    needs=NEEDS,
)
def test_timeout(proxy, name):
    # A service that takes the call would end it itself when the time is up.
    reports = asked(proxy, unary(name, STATUS, RESUME, upstream="grpc-silent", timeout_ms=150)).reports
    assert ends(reports) == [DEADLINE_EXCEEDED]
    assert reports.result("grpc_close", "grpc_status")[0] == DEADLINE_EXCEEDED


@case("a service that refuses the connection: the call ends with 14, UNAVAILABLE", envoy=AGREES, needs=NEEDS)
def test_refused(proxy, name):
    reports = asked(proxy, unary(name, STATUS, RESUME, upstream="grpc-refused")).reports
    assert ends(reports) == [UNAVAILABLE]
    assert reports.result("grpc_close", "grpc_status")[0] == UNAVAILABLE


@case("a cluster that nobody knows: the hostcall answers 4, PARSE_FAILURE", envoy=AGREES, needs=NEEDS)
def test_unknown_cluster(proxy, name):
    steps = [unary(name, upstream="unknown"), stream(name, "Chat", upstream="unknown")]
    reports = proxy.get(probe={"request_headers": steps}).reports
    assert reports.results("request_headers") == [{"err": 4}, {"err": 4}]
    assert "grpc_close" not in reports.callbacks


@case(
    "the upstream can be a serialized envoy.config.core.v3.GrpcService with a cluster_name", envoy=AGREES, needs=NEEDS
)
def test_grpc_service(proxy, name):
    # Field 1, envoy_grpc: field 1, cluster_name.
    service = "\x0a\x06\x0a\x04grpc"
    assert received(asked(proxy, unary(name, MESSAGE, RESUME, upstream=service)).reports) == ["question"]


@case("an answer can have 1 MiB", envoy=AGREES, needs=NEEDS)
def test_large_answer(proxy, name):
    orders = {"size": 1 << 20}
    reports = asked(proxy, unary(name, ["digest", "grpc_message"], RESUME, orders=orders)).reports
    digest = reports.result("grpc_receive", "digest")
    assert (digest["size"], digest["crc"]) == (1 << 20, crc32(b"x" * (1 << 20)))


@case("a message of 1 MiB reaches the service", envoy=AGREES, needs=NEEDS)
def test_large_message(serve, clusters, grpc_upstream, name):
    text = "0123456789abcdef" * 65536
    step = unary(name, ["digest", "grpc_message"], RESUME, message=text)
    proxy = serve(probe(on={"request_headers": [step, PAUSE]}), clusters=clusters)
    reply = proxy.get()
    assert reply.reports.result("grpc_receive", "digest")["size"] == 1 << 20
    assert grpc_upstream.wait(name).messages == [text.encode()]


@case("a part of an answer's message can be read", envoy=AGREES, needs=NEEDS)
def test_range(proxy, name):
    parts = [["body", "grpc_message", *part] for part in ((0, 3), (5, 3), (5, 100), (8, 1))]
    assert received(asked(proxy, unary(name, *parts, RESUME)).reports) == ["que", "ion", "ion", None]


@case("20 requests at once each get the answer of their own call", envoy=AGREES, needs=NEEDS)
def test_parallel(proxy, name):
    def one(number):
        return asked(proxy, unary(f"{name}-{number}", MESSAGE, RESUME, message=f"{number}", orders={"delay_ms": 50}))

    with ThreadPoolExecutor(20) as threads:
        replies = list(threads.map(one, range(20)))
    assert [received(reply.reports) for reply in replies] == [[f"{number}"] for number in range(20)]


@case("several calls of one request are each answered once", envoy=AGREES, needs=NEEDS)
def test_several(proxy, name):
    calls = [unary(f"{name}-{number}", MESSAGE, message=f"{number}") for number in range(5)]
    last = unary(name, MESSAGE, RESUME, message="last", orders={"delay_ms": 500})
    reports = asked(proxy, *calls, last).reports
    assert sorted(received(reports)) == ["0", "1", "2", "3", "4", "last"]
    tokens = reports.results("request_headers", "grpc_call")
    assert sorted(one.arguments[0] for one in reports.of("grpc_receive").entries) == sorted(tokens)


@case("a call can be made in an answer's callback", envoy=AGREES, needs=NEEDS)
def test_chained(proxy, name):
    second = unary(name, MESSAGE, RESUME, message="second")
    assert received(asked(proxy, unary(name, MESSAGE, second, message="first")).reports) == ["first", "second"]


@case(
    "a call can be made in the response's callbacks, which waits for the answer",
    envoy=AGREES,
    needs=(NEEDS, "pause_response"),
)
@pytest.mark.parametrize("callback", ["response_headers", "response_body"])
def test_response(proxy, name, callback):
    call = unary(name, MESSAGE, ["set", "response_headers", "x-got", "{last}"], ["resume", "response"])
    if callback == "response_body":
        call = ["if_end", [unary(name, MESSAGE, ["resume", "response"])]]
    reply = proxy.get(probe={callback: [call, PAUSE]}, upstream={"body": "some body"})
    assert (reply.status, reply.body) == (200, b"some body")
    assert received(reply.reports) == ["question"]
    assert callback == "response_body" or reply.get("x-got") == "question"


@case("a root context calls in its tick and is answered itself", envoy=AGREES, needs=NEEDS)
def test_tick(serve, clusters, name):
    on = {"configure": [["tick", 20]], "tick": [["nth", 1, [unary(name, MESSAGE)]]]}
    proxy = serve(probe(on=on, silent=["tick"]), clusters=clusters)
    book = proxy.server.book
    answer = book.wait(lambda: book.reports.of("grpc_receive", op="body"))[0]
    assert answer.result == "question"
    assert answer.context == book.reports.of("configure", vm=answer.vm)[0].context


@case(
    "an answer that comes when its stream has ended is for nobody, and the plugin lives on", envoy=AGREES, needs=NEEDS
)
def test_after_end(proxy, grpc_upstream, name):
    first = proxy.get(probe={"request_headers": [unary(name, MESSAGE, orders={"delay_ms": 500})]})
    assert first.reports.callbacks[-1] == "delete"
    assert not grpc_upstream.wait(name, lambda call: call.over).cancelled
    again = asked(proxy, unary(name, MESSAGE, RESUME))
    assert received(again.reports) == ["question"]
    assert again.reports[0].vm == first.reports[0].vm
    assert received(first.reports) == []


@case("a call that is cancelled is not answered, and the service learns of it", envoy=AGREES, needs=NEEDS)
@pytest.mark.parametrize("how", ["grpc_cancel", "grpc_close"])
def test_cancel(proxy, grpc_upstream, name, how):
    with proxy.connect() as connection:
        # The second callback cancels, when the call has gone out.
        other = unary(f"{name}-other", [how], RESUME, orders={"delay_ms": 300})
        long = unary(name, MESSAGE, RESUME, orders={"delay_ms": 3000})
        connection.send_head(probe={"request_headers": [other, long, PAUSE]}, case=name)
        assert connection.read_reply(name).status == 200
    assert grpc_upstream.wait(name, lambda call: call.over).cancelled
    reports = proxy.reports(name)
    assert reports.results("grpc_receive", how) == []
    assert received(reports) == []
    assert ends(reports) == []


# ---- Streams ----


@case(
    "a stream of both: messages go out and come back, then trailing metadata and the close with 0",
    envoy=AGREES,
    needs=NEEDS,
)
def test_chat(proxy, grpc_upstream, name):
    steps = [stream(name, "Chat", then=[MESSAGE], closed=[RESUME])]
    steps += [["grpc_send", "one", False], ["grpc_send", "two", False], ["grpc_send", "three", True]]
    reports = asked(proxy, *steps).reports
    assert received(reports) == ["one", "two", "three"]
    assert ends(reports) == [0]
    callbacks = [one for one in reports.callbacks if one.startswith("grpc_")]
    assert callbacks == [
        "grpc_receive_initial_metadata",
        *["grpc_receive"] * 3,
        "grpc_receive_trailing_metadata",
        "grpc_close",
    ]
    token = reports.result("request_headers", "grpc_stream")
    assert {one.arguments[0] for one in reports.entries if one.callback.startswith("grpc_")} == {token}
    call = grpc_upstream.wait(name, lambda call: call.over)
    assert (call.messages, call.half_closed, call.cancelled) == ([b"one", b"two", b"three"], True, False)


@case("what a stream gets can be answered in its callback", envoy=AGREES, needs=NEEDS)
def test_ping_pong(proxy, name):
    then = [MESSAGE, ["nth", 1, [["grpc_send", "second", False]]], ["nth", 2, [["grpc_send", "third", True]]]]
    reports = asked(proxy, stream(name, "Chat", then=then, closed=[RESUME]), ["grpc_send", "first", False]).reports
    assert received(reports) == ["first", "second", "third"]
    assert ends(reports) == [0]


@case("initial and trailing metadata of a stream can be read in their callbacks", envoy=AGREES, needs=NEEDS)
def test_metadata(proxy, name):
    orders = {"initial": [["x-i", "1"], ["x-i", "2"]], "trailing": [["x-t", "3"], ["x-u", ""]]}
    steps = [stream(name, "Chat", orders, initial=[INITIAL], trailing=[TRAILING], closed=[RESUME])]
    reports = asked(proxy, *steps, ["grpc_send", "", True]).reports
    initial = reports.result("grpc_receive_initial_metadata", "map")
    assert [one for one in initial if one[0] == "x-i"] in ([["x-i", "1"], ["x-i", "2"]], [["x-i", "1,2"]])
    trailing = reports.result("grpc_receive_trailing_metadata", "map")
    assert ["x-t", "3"] in trailing
    assert ["x-u", ""] in trailing


@case(
    "metadata in -bin: the host encodes the bytes that a plugin sends; what comes is shown as on the wire, in base64",
    envoy=AGREES,
    needs=NEEDS,
)
def test_binary_metadata(proxy, grpc_upstream, name):
    orders = {"trailing_bin": [["x-raw-bin", "00017fff"]]}
    steps = [stream(name, "Chat", orders, [["x-own-bin", "\xff\0"]], trailing=[TRAILING], closed=[RESUME])]
    reports = asked(proxy, *steps, ["grpc_send", "", True]).reports
    assert grpc_upstream.wait(name).get_all("x-own-bin") == [b"\xff\0"]
    trailing = reports.result("grpc_receive_trailing_metadata", "map")
    assert dict(trailing)["x-raw-bin"].rstrip("=") == "AAF//w"


@case("a service that sends a stream: its messages come in order", envoy=AGREES, needs=NEEDS)
def test_server_stream(proxy, name):
    steps = [stream(name, "Server", {"count": 20}, then=[MESSAGE], closed=[RESUME]), ["grpc_send", "n", True]]
    reports = asked(proxy, *steps).reports
    assert received(reports) == [f"n {number}" for number in range(20)]
    assert ends(reports) == [0]


@case(
    "a service that takes a stream answers when it has been half closed, by a send or a close",
    envoy=AGREES,
    needs=NEEDS,
)
@pytest.mark.parametrize("how", ["grpc_send", "grpc_close"])
def test_client_stream(proxy, grpc_upstream, name, how):
    sends = [["grpc_send", "a", False], ["grpc_send", "b", False]]
    sends += [["grpc_send", "c", True]] if how == "grpc_send" else [["grpc_send", "c", False], ["grpc_close"]]
    reports = asked(proxy, stream(name, "Client", then=[MESSAGE], closed=[RESUME]), *sends).reports
    assert received(reports) == ["abc"]
    assert ends(reports) == [0]


@case("a stream ends with the service's status; its message can be read", envoy=AGREES, needs=NEEDS)
@pytest.mark.parametrize("early", [False, True])
def test_stream_error(proxy, name, early):
    orders = {"status": 9, "message": "not now", "early": early}
    reports = asked(
        proxy, stream(name, "Chat", orders, then=[MESSAGE], closed=[STATUS, RESUME]), ["grpc_send", "x", True]
    ).reports
    assert ends(reports) == [9]
    assert received(reports) == ([] if early else ["x"])
    code, message = reports.result("grpc_close", "grpc_status")
    assert (code, message.startswith("not now")) == (9, True)


@case("a stream to a service that refuses the connection closes with 14, UNAVAILABLE", envoy=AGREES, needs=NEEDS)
def test_stream_refused(proxy, name):
    reports = asked(proxy, stream(name, "Chat", upstream="grpc-refused", closed=[RESUME])).reports
    assert ends(reports) == [UNAVAILABLE]


@case("a stream that is cancelled gets nothing more, and the service learns of it", envoy=AGREES, needs=NEEDS)
def test_stream_cancel(proxy, grpc_upstream, name):
    then = [MESSAGE, ["grpc_cancel"], RESUME]
    reports = asked(proxy, stream(name, "Chat", {"end_ms": 3000}, then=then), ["grpc_send", "one", False]).reports
    assert grpc_upstream.wait(name, lambda call: call.over).cancelled
    assert received(reports) == ["one"]
    assert ends(reports) == []


@case("100 messages of 10 KiB each way keep their order", envoy=AGREES, needs=NEEDS)
def test_many(serve, clusters, grpc_upstream, name):
    steps = [stream(name, "Chat", then=[["count", "grpc_message"]], closed=[RESUME])]
    texts = [f"{number:04}" + "x" * 10240 for number in range(100)]
    steps += [["grpc_send", text, number == 99] for number, text in enumerate(texts)]
    on = {"request_headers": [*steps, PAUSE]}
    proxy = serve(probe(on=on, silent=["grpc_receive"]), clusters=clusters)
    reply = proxy.get()
    assert reply.status == 200
    assert ends(reply.reports) == [0]
    call = grpc_upstream.wait(name, lambda call: call.over)
    assert call.messages == [text.encode() for text in texts]


# ---- What the hostcalls answer ----


def grpc_call(name):
    return f"proxy_grpc_call 'grpc' '{SERVICE}' 'Unary' '' '{name}' 5000 @"


def grpc_stream(name="Chat"):
    return f"proxy_grpc_stream 'grpc' '{SERVICE}' '{name}' '' @"


def statuses(reports, callback="request_headers"):
    return [(one.op, one.result) for one in reports.of(callback) if one.op is not None]


@pytest.fixture
def bare_proxy(serve, clusters):
    return serve(bare(), shared=True, clusters=clusters)


@case("an id that no call has: NOT_FOUND, or BAD_ARGUMENT where its kind is another", envoy=AGREES, needs=NEEDS)
def test_unknown_ids(bare_proxy):
    calls = [
        ("proxy_grpc_send 4001 'x' 0", 2),  # that of a call
        ("proxy_grpc_send 4000 'x' 0", 2),  # that of an HTTP call
        ("proxy_grpc_send 4002 'x' 0", 1),
        ("proxy_grpc_close 4001", 1),
        ("proxy_grpc_close 4002", 1),
        ("proxy_grpc_close 4000", 2),
        ("proxy_grpc_cancel 4001", 1),
        ("proxy_grpc_cancel 4002", 1),
        ("proxy_grpc_cancel 4000", 2),
    ]
    reply = bare_proxy.get(bare="request_headers: " + "; ".join(call for call, _ in calls))
    assert statuses(reply.reports) == [(call.split()[0], status) for call, status in calls]


@case("a message cannot be sent on a call, nor on a stream that was cancelled", envoy=AGREES, needs=NEEDS)
def test_send_on_others(bare_proxy):
    script = (
        f"request_headers: {grpc_call('x')}; proxy_grpc_send $0 'x' 0; proxy_grpc_cancel $0; proxy_grpc_cancel $0; "
    )
    script += f"{grpc_stream()}; proxy_grpc_send $1 'x' 0; proxy_grpc_cancel $1; proxy_grpc_send $1 'x' 0; proxy_grpc_cancel $1"
    reply = bare_proxy.get(bare=script)
    assert [status for _, status in statuses(reply.reports)] == [0, 2, 0, 1, 0, 0, 0, 1, 1]


@case("answers come to the root context", envoy=AGREES, needs=NEEDS)
def test_root(bare_proxy):
    reply = bare_proxy.get(bare=f"request_headers: {grpc_call('hello')}")
    called = reply.reports.of("request_headers", op="proxy_grpc_call")[0]
    assert called.result == 0
    book = bare_proxy.server.book

    def answered():
        return [
            one for one in book.reports.of("grpc_receive", vm=called.vm).entries if one.arguments[0] == called.out[0]
        ]

    answer = book.wait(answered)[0]
    assert answer.arguments[1] == 5
    assert answer.context == book.reports.of("context_create", vm=called.vm)[0].context != called.context


@case("the ids of calls and of streams differ in their kind", envoy=AGREES, needs=NEEDS)
def test_id_kinds(bare_proxy):
    script = f"request_headers: {grpc_call('a')}; {grpc_call('b')}; {grpc_stream()}; proxy_grpc_cancel $2"
    outs = [one.out[0] for one in bare_proxy.get(bare=script).reports.of("request_headers") if one.out]
    assert [one % 4 for one in outs] == [1, 1, 2]
    assert len(set(outs)) == 3


# ---- A plugin ----


@case("a plugin asks a gRPC service about each request (grpc-auth)", envoy=AGREES, needs=NEEDS)
def test_auth(serve, clusters):
    configuration = {"upstream": "grpc", "service": SERVICE, "method": "Unary", "timeout_ms": 2000, "allow": "Hello"}
    proxy = serve(
        Plugin(GUESTS / "grpc-auth.wasm", name="grpc-auth", configuration=json.dumps(configuration)), clusters=clusters
    )
    allowed = proxy.get(headers=[("x-user", "Hello Ann")])
    assert (allowed.status, allowed.seen.get_all("x-greeting")) == (200, ["Hello Ann"])
    for headers, status in (([("x-user", "Bob")], 403), ([], 401)):
        reply = proxy.get(headers=headers)
        assert reply.status == status
        assert not proxy.reached_upstream(reply.case)


@case("a plugin whose gRPC service is not there refuses requests (grpc-auth)", envoy=AGREES, needs=NEEDS)
@pytest.mark.parametrize("cluster", ["grpc-refused", "unknown"])
def test_auth_unavailable(serve, clusters, cluster):
    configuration = json.dumps({"upstream": cluster})
    proxy = serve(Plugin(GUESTS / "grpc-auth.wasm", name="grpc-auth", configuration=configuration), clusters=clusters)
    reply = proxy.get(headers=[("x-user", "Ann")])
    assert reply.status == 503
    assert not proxy.reached_upstream(reply.case)
