# SPDX-License-Identifier: Apache-2.0
import json
from concurrent.futures import ThreadPoolExecutor
from zlib import crc32

import pytest
from kit.cases import AGREES, Differs, case
from kit.client import new_case_id
from kit.setup import bare, probe, script

AREA = "HTTP callouts"

STATUS = ["get", "call_headers", ":status"]
BODY = ["body", "call_body", 0, -1]
ANSWER = ["map", "call_headers"]
RESUME = ["resume", "request"]


@pytest.fixture
def path():
    """A path that only this case calls."""
    return f"/callout-{new_case_id()}"


def pseudo(path, method="GET", authority="callout.test"):
    return [[":method", method], [":path", path], [":authority", authority]]


def call(path, *then, method="GET", upstream="upstream", headers=(), orders=None, **options):
    """The step that calls `upstream`, which does what `orders` say; `then` runs when the answer comes."""
    pairs = [*pseudo(path, method), *headers]
    if orders is not None:
        pairs.append(["x-upstream", json.dumps(orders)])
    return ["call", {"upstream": upstream, "headers": pairs, "then": list(then), **options}]


def answer_of(reports):
    """Arguments of the one answer that came: token, numbers of headers, bytes and trailers."""
    answers = reports.of("http_call_response").entries
    assert len(answers) == 1, f"{len(answers)} answers in place of one"
    return answers[0].arguments


def status_of(reports):
    """The status of the one answer, by the result of ANSWER: None when it had no headers."""
    return dict(reports.result("http_call_response", "map")).get(":status")


# ---- Where calls are made ----


@case("a request that is paused for a call goes on when the answer's callback resumes it", envoy=AGREES)
def test_pause_and_resume(proxy, path):
    reply = proxy.get(probe={"request_headers": [call(path, STATUS, RESUME), ["pause"]]})
    assert reply.status == 200
    assert reply.body == b"ok\n"
    assert len(proxy.upstream.seen(path=path)) == 1
    reports = reply.reports
    assert reports.callbacks[:3] == ["request_headers", "http_call_response", "response_headers"]
    assert reports.result("http_call_response", "get") == "200"


@case("a call can be made in the callbacks of the request, which waits for the answer", envoy=AGREES)
@pytest.mark.parametrize("callback", ["request_headers", "request_body"])
def test_request_callbacks(proxy, path, callback):
    step = call(path, ANSWER, RESUME, orders={"delay_ms": 50})
    once = ["nth", 1, [step]] if callback == "request_headers" else ["if_end", [step]]
    reply = proxy.post(b"some body", probe={callback: [once, ["pause"]]})
    assert reply.status == 200
    assert reply.seen.body == b"some body"
    assert status_of(reply.reports) == "200"


@case("a call can be made in proxy_on_request_trailers", envoy=AGREES, needs="request_trailers")
def test_request_trailers_callback(proxy, path):
    steps = [call(path, ANSWER, RESUME, orders={"delay_ms": 50}), ["pause"]]
    with proxy.connect() as connection:
        case = connection.send_head(
            "POST", headers=[("transfer-encoding", "chunked")], probe={"request_trailers": steps}
        )
        connection.send_chunk(b"some body")
        connection.send_last_chunk([("x-end", "1")])
        assert connection.read_reply(case).status == 200
    seen = proxy.seen(case)
    assert (seen.body, seen.trailers) == (b"some body", [("x-end", "1")])
    assert status_of(proxy.reports(case)) == "200"


@case(
    "a call can be made in the callbacks of the response, which waits for the answer",
    envoy=AGREES,
    needs="pause_response",
)
@pytest.mark.parametrize("callback", ["response_headers", "response_body"])
def test_response_callbacks(proxy, path, callback):
    step = call(path, ANSWER, ["resume", "response"], orders={"delay_ms": 50})
    once = ["nth", 1, [step]] if callback == "response_headers" else ["if_end", [step]]
    reply = proxy.get(probe={callback: [once, ["pause"]]}, upstream={"body": "some body"})
    assert (reply.status, reply.body) == (200, b"some body")
    assert status_of(reply.reports) == "200"


@case(
    "a call can be made in proxy_on_response_trailers",
    envoy=AGREES,
    needs=("pause_response", "response_trailers"),
)
def test_response_trailers_callback(proxy, path):
    steps = [call(path, ANSWER, ["resume", "response"], orders={"delay_ms": 50}), ["pause"]]
    with proxy.connect() as connection:
        case = connection.send_head(
            probe={"response_trailers": steps}, upstream={"body": "some body", "trailers": [["x-end", "1"]]}
        )
        reply = connection.read_reply(case)
    assert (reply.status, reply.body, reply.trailers) == (200, b"some body", [("x-end", "1")])
    assert status_of(reply.reports) == "200"


@case("a call that is made when the stream ends goes out; its answer is for nobody and harms nobody", envoy=AGREES)
@pytest.mark.parametrize("callback", ["log", "done"])
def test_at_the_end(proxy, path, callback):
    reply = proxy.get(probe={callback: [call(path, STATUS)]})
    assert isinstance(reply.reports.result(callback, "call"), int)
    assert len(proxy.upstream.wait(path=path)) == 1
    again = proxy.get()
    assert again.status == 200
    assert again.reports[0].vm == reply.reports[0].vm


@case("a root context calls in its tick, and is answered itself", envoy=AGREES)
def test_tick(serve, path):
    on = {"configure": [["tick", 20]], "tick": [["nth", 1, [call(path, STATUS, BODY, orders={"body": "tock"})]]]}
    proxy = serve(probe(on=on, silent=["tick"]))
    book = proxy.server.book
    answers = book.wait(lambda: book.reports.of("http_call_response", op="body"))
    assert answers[0].result == "tock"
    assert answers[0].context == book.reports.of("configure")[0].context
    assert book.reports.results("http_call_response", "get")[0] == "200"


@case("a call in proxy_on_vm_start or proxy_on_configure is answered once the server runs", envoy=AGREES)
@pytest.mark.parametrize("callback", ["vm_start", "configure"])
def test_start(serve, path, callback):
    on = {callback: [call(path, STATUS)]}
    plugin = probe(on=on) if callback == "configure" else probe(vm_configuration=script(on))
    proxy = serve(plugin)
    book = proxy.server.book
    assert book.wait(lambda: book.reports.results("http_call_response", "get"))[0] == "200"
    assert proxy.get().status == 200


# ---- What goes out ----


@case("the call reaches its cluster with the method, path, headers and authority that the plugin gave", envoy=AGREES)
def test_request(proxy, path):
    query = path + "?a=1&b=%20"
    headers = [["x-One", "1"], ["x-two", "2"], ["x-two", "3"], ["x-empty", ""]]
    proxy.get(probe={"request_headers": [call(query, RESUME, method="DELETE", headers=headers), ["pause"]]})
    seen = proxy.upstream.wait(path=query)[0]
    assert seen.method == "DELETE"
    assert seen.get_all("host") == ["callout.test"]
    assert seen.get("x-one") == "1"
    assert seen.get_all("x-two") == ["2", "3"]
    assert seen.get("x-empty") == ""


@case("a call has nothing of the request that it is made for", envoy=AGREES)
def test_no_leak(proxy, path):
    proxy.get(headers=[("x-secret", "1")], probe={"request_headers": [call(path, RESUME), ["pause"]]})
    assert proxy.upstream.wait(path=path)[0].get_all("x-secret") == []


@case("a call's body arrives with its length", envoy=AGREES)
def test_request_body(proxy, path):
    text = "body\x00of\xffbytes"
    proxy.get(probe={"request_headers": [call(path, RESUME, method="POST", body=text), ["pause"]]})
    seen = proxy.upstream.wait(path=path)[0]
    assert seen.body == text.encode("latin-1")
    assert seen.get_all("content-length") == [str(len(text))]


@case("a call's body can have 1 MiB", envoy=AGREES)
def test_large_request_body(serve, path):
    text = "0123456789abcdef" * 65536
    step = call(path, STATUS, RESUME, method="POST", body=text)
    proxy = serve(probe(on={"request_headers": [step, ["pause"]]}))
    assert proxy.get().reports
    seen = proxy.upstream.wait(path=path)[0]
    assert (seen.size, seen.crc) == (len(text), crc32(text.encode()))


@case(
    "a call's trailers arrive after its body",
    envoy=Differs(
        does="drops the trailers of calls",
        because="the plugin gave them, and is not told that they are lost",
        fails_with=r"assert \[\] ==",
    ),
    needs="http_callouts",
)
def test_request_trailers(proxy, path):
    step = call(path, STATUS, RESUME, method="POST", body="body", trailers=[["x-end", "1"], ["x-end", "2"]])
    proxy.get(probe={"request_headers": [step, ["pause"]]})
    seen = proxy.upstream.wait(path=path)[0]
    assert seen.body == b"body"
    assert seen.trailers == [("x-end", "1"), ("x-end", "2")]


@case("a GET without a body goes out without one", envoy=AGREES)
def test_get_without_body(proxy, path):
    proxy.get(probe={"request_headers": [call(path, RESUME), ["pause"]]})
    seen = proxy.upstream.wait(path=path)[0]
    assert seen.size == 0
    assert seen.get("transfer-encoding") is None
    assert seen.get("content-length") in (None, "0")


@case("the answer to a HEAD call has its headers and no body", envoy=AGREES)
def test_head(proxy, path):
    step = call(
        path, STATUS, ["get", "call_headers", "content-length"], BODY, RESUME, method="HEAD", orders={"body": "four"}
    )
    reports = proxy.get(probe={"request_headers": [step, ["pause"]]}).reports
    assert reports.results("http_call_response") == ["200", "4", None]
    assert answer_of(reports)[2] == 0


# ---- What comes back ----


@case(
    "status, headers, body and trailers of the answer are what the service sent",
    envoy=AGREES,
    needs="http_callouts",
)
def test_answer(proxy, path):
    orders = {
        "status": 201,
        "headers": [["x-one", "1"], ["x-two", "2"], ["x-two", "3"]],
        "body": "answer",
        "trailers": [["x-end", "1"]],
    }
    then = [["map", "call_headers"], BODY, ["map", "call_trailers"], RESUME]
    reports = proxy.get(probe={"request_headers": [call(path, *then, orders=orders), ["pause"]]}).reports
    headers, body, trailers = reports.results("http_call_response")
    assert headers[0] == [":status", "201"]
    assert [pair for pair in headers if pair[0].startswith("x-") and not pair[0].startswith("x-envoy-")] == orders[
        "headers"
    ]
    assert body == "answer"
    assert trailers == [["x-end", "1"]]
    assert answer_of(reports)[1:] == [len(headers), 6, 1]


@case("an answer without a body has 0 bytes", envoy=AGREES)
@pytest.mark.parametrize("orders", [{"body": ""}, {"status": 204, "body": ""}], ids=["empty", "204"])
def test_empty_answer(proxy, path, orders):
    reports = proxy.get(probe={"request_headers": [call(path, STATUS, BODY, RESUME, orders=orders), ["pause"]]}).reports
    assert reports.results("http_call_response") == [str(orders.get("status", 200)), None]
    assert answer_of(reports)[2:] == [0, 0]


@case("an answer of the classes 3xx, 4xx and 5xx comes as any other", envoy=AGREES)
@pytest.mark.parametrize("status", [301, 404, 500, 503])
def test_other_statuses(proxy, path, status):
    step = call(path, STATUS, BODY, RESUME, orders={"status": status, "body": "why"})
    reports = proxy.get(probe={"request_headers": [step, ["pause"]]}).reports
    assert reports.results("http_call_response") == [str(status), "why"]
    assert len(proxy.upstream.seen(path=path)) == 1


@case("an answer can have 1 MiB", envoy=AGREES)
def test_large_answer(proxy, path):
    step = call(path, ["digest", "call_body"], RESUME, orders={"size": 1 << 20})
    reports = proxy.get(probe={"request_headers": [step, ["pause"]]}).reports
    assert reports.result("http_call_response", "digest") == {
        "size": 1 << 20,
        "total": 1 << 20,
        "crc": crc32(b"x" * (1 << 20)),
    }
    assert answer_of(reports)[2] == 1 << 20


@case("an answer that comes in pieces is one whole in the callback", envoy=AGREES)
def test_answer_in_pieces(proxy, path):
    orders = {"chunks": ["one ", "two ", "three"], "chunked": True, "chunk_delay_ms": 30}
    reports = proxy.get(probe={"request_headers": [call(path, BODY, RESUME, orders=orders), ["pause"]]}).reports
    assert reports.result("http_call_response", "body") == "one two three"


@case("informational answers before the answer are not the answer", envoy=AGREES)
def test_informational(proxy, path):
    step = call(path, STATUS, RESUME, orders={"informational": [103]})
    reports = proxy.get(probe={"request_headers": [step, ["pause"]]}).reports
    assert reports.result("http_call_response", "get") == "200"


@case("an answer that comes before the body of the call has been read counts", envoy=AGREES)
def test_early_answer(serve, path):
    step = call(path, ANSWER, RESUME, method="POST", body="x" * 300_000, orders={"early": True, "status": 413})
    proxy = serve(probe(on={"request_headers": [step, ["pause"]]}))
    assert proxy.get().status == 200
    book = proxy.server.book
    assert status_of(book.wait(lambda: book.reports.of("http_call_response", op="map"))) == "413"


# ---- Acting on it ----


@case("steps in the answer's callback act on the stream that made the call", envoy=AGREES)
def test_effective_context(proxy, path):
    then = [["add", "request_headers", "x-from-call", "1"], ["get", "request_headers", "x-mine"], RESUME]
    reply = proxy.get(headers=[("x-mine", "2")], probe={"request_headers": [call(path, *then), ["pause"]]})
    assert reply.seen.get("x-from-call") == "1"
    assert reply.reports.results("http_call_response") == ["2"]


@case("a local response from the answer's callback answers the request, which goes no further", envoy=AGREES)
def test_local_response(proxy, path):
    then = [["local", 403, [["x-why", "call"]], "denied"]]
    reply = proxy.get(probe={"request_headers": [call(path, *then, orders={"status": 401}), ["pause"]]})
    assert (reply.status, reply.body, reply.get("x-why")) == (403, b"denied", "call")
    assert reply.reports.callbacks[-3:] in (["log", "done", "delete"], ["done", "log", "delete"])
    assert not proxy.reached_upstream(reply.case)


@case("a call does not pause: the request goes on unless the plugin says so", envoy=AGREES)
def test_no_pause(proxy, path):
    reply = answered_meanwhile(proxy, path, probe={"request_headers": [call(path, STATUS)]})
    assert reply.status == 200
    assert reply.reports.callbacks.index("http_call_response") < reply.reports.callbacks.index("response_headers")


def answered_meanwhile(proxy, path, **steering):
    """A request that reaches the upstream, which answers when the request's one call has been answered."""
    with proxy.connect() as connection:
        before = len(proxy.server.book.reports.of("http_call_response"))
        case = connection.send_head(upstream={"hold": path}, **steering)
        assert proxy.upstream.wait(case)
        assert proxy.server.book.wait(lambda: proxy.server.book.reports.of("http_call_response")[before:])
        proxy.upstream.release(path)
        return connection.read_reply(case)


@case("an answer resumes nothing by itself", envoy=AGREES)
def test_no_resume(proxy, path):
    with proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": [call(path, STATUS), ["pause"]]})
        assert proxy.server.book.wait(lambda: proxy.reported(case).of("http_call_response", op="get"))
        assert connection.quiet_for(0.2)
        assert not proxy.reached_upstream(case)
    assert proxy.reports(case).callbacks[-1] == "delete"


@case("calls of two plugins in a chain come back to the plugin that made them", envoy=AGREES)
def test_chain(serve, path):
    proxy = serve(probe("a"), probe("b"), shared=True)

    def steps(name):
        return {"request_headers": [call(f"{path}-{name}", BODY, RESUME, orders={"body": name}), ["pause"]]}

    reply = proxy.get(scripts={"a": steps("a"), "b": steps("b")})
    assert reply.status == 200
    for name in "ab":
        assert reply.reports.results("http_call_response", "body", plugin=name) == [name]


# ---- Several ----


@case("of calls made at once each gets its own answer, in the order in which the answers come", envoy=AGREES)
def test_parallel(proxy, path):
    last = ["nth", 5, [RESUME]]
    steps = [
        call(f"{path}-{index}", BODY, last, orders={"body": f"answer {index}", "hold": f"{path}-{index}"})
        for index in range(5)
    ]
    with proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": [*steps, ["pause"]]})
        # Each comes when the plugin has the one before: the last first.
        for index in (4, 3, 2, 1, 0):
            proxy.upstream.release(f"{path}-{index}")
            answers = 5 - index
            assert proxy.server.book.wait(
                lambda: len(proxy.reported(case).results("http_call_response", "body")) == answers  # noqa: B023
            )
        reply = connection.read_reply(case)
    assert reply.status == 200
    reports = reply.reports
    tokens = reports.results("request_headers", "call")
    assert len(set(tokens)) == 5
    assert reports.results("http_call_response", "body") == [f"answer {index}" for index in (4, 3, 2, 1, 0)]
    assert [one.arguments[0] for one in reports.of("http_call_response").entries] == tokens[::-1]


@case("the answer's callback can make the next call", envoy=AGREES)
def test_sequence(proxy, path):
    third = call(f"{path}-3", BODY, RESUME, orders={"body": "three"})
    second = call(f"{path}-2", BODY, third, orders={"body": "two"})
    first = call(f"{path}-1", BODY, second, orders={"body": "one"})
    reply = proxy.get(probe={"request_headers": [first, ["pause"]]})
    assert reply.status == 200
    assert reply.reports.results("http_call_response", "body") == ["one", "two", "three"]
    tokens = reply.reports.results(op="call")
    assert len(set(tokens)) == 3


@case("50 requests at once, each with a call, each get their own answer", envoy=AGREES)
def test_many(proxy, path):
    def one(index):
        orders = {"body": f"answer {index}", "delay_ms": index % 5 * 20}
        then = [BODY, ["set", "request_headers", "x-answer", "{last}"], RESUME]
        return proxy.get(probe={"request_headers": [call(path, *then, orders=orders), ["pause"]]})

    with ThreadPoolExecutor(25) as pool:
        replies = list(pool.map(one, range(50)))
    assert [reply.status for reply in replies] == [200] * 50
    assert [reply.seen.get("x-answer") for reply in replies] == [f"answer {index}" for index in range(50)]


# ---- Calls that cannot be made ----


@case("a call to a cluster that does not exist is BadArgument", envoy=AGREES)
def test_unknown_cluster(proxy, path):
    reply = proxy.get(probe={"request_headers": [call(path, upstream="nowhere")]})
    assert reply.status == 200
    assert reply.reports.result("request_headers", "call") == {"err": 2}


@case("a call without :method, :path or :authority is BadArgument", envoy=AGREES)
@pytest.mark.parametrize("missing", [":method", ":path", ":authority"])
def test_missing_pseudo_header(proxy, path, missing):
    headers = [pair for pair in pseudo(path) if pair[0] != missing]
    reply = proxy.get(probe={"request_headers": [["call", {"upstream": "upstream", "headers": headers}]]})
    assert reply.reports.result("request_headers", "call") == {"err": 2}
    assert reply.status == 200
    assert "http_call_response" not in reply.reports.callbacks


# ---- Calls that fail ----

# The specification has them answered with no headers; Envoy puts answers of its own in place of some.


@case("a call that times out is answered once, with no headers or a 504 of the host's", envoy=AGREES)
def test_timeout(proxy, path):
    step = call(path, ANSWER, RESUME, orders={"delay_ms": 1500}, timeout_ms=150)
    reply = proxy.get(probe={"request_headers": [step, ["pause"]]})
    assert reply.status == 200
    assert status_of(reply.reports) in (None, "504")
    assert answer_of(reply.reports)[3] == 0


@case("a timeout of 0 is none", envoy=AGREES)
def test_no_timeout(proxy, path):
    step = call(path, ANSWER, RESUME, orders={"delay_ms": 300}, timeout_ms=0)
    reply = proxy.get(probe={"request_headers": [step, ["pause"]]})
    assert status_of(reply.reports) == "200"


@case("a call to a port that refuses is answered once, with no headers or a 503 of the host's", envoy=AGREES)
def test_refused(serve, refusing, path):
    proxy = serve(probe(), clusters=(("refusing", refusing.port),))
    reply = proxy.get(probe={"request_headers": [call(path, ANSWER, RESUME, upstream="refusing"), ["pause"]]})
    assert reply.status == 200
    assert status_of(reply.reports) in (None, "503")
    assert answer_of(reply.reports)[3] == 0


@case(
    "a call whose connection ends before the answer's end of headers is answered once, "
    "with no headers or a 502 or 503 of the host's",
    envoy=AGREES,
)
@pytest.mark.parametrize("fail", ["accept", "head", "reset"])
def test_closed_before_answer(proxy, path, fail):
    reply = proxy.get(probe={"request_headers": [call(path, ANSWER, RESUME, orders={"fail": fail}), ["pause"]]})
    assert reply.status == 200
    assert status_of(reply.reports) in (None, "502", "503")
    assert answer_of(reply.reports)[3] == 0


@case("a call whose answer is not HTTP is answered once, with no headers or a 502 or 503 of the host's", envoy=AGREES)
def test_malformed_answer(proxy, path):
    step = call(path, ANSWER, RESUME, orders={"raw": "what is this\r\n\r\n"})
    reply = proxy.get(probe={"request_headers": [step, ["pause"]]})
    assert reply.status == 200
    assert status_of(reply.reports) in (None, "502", "503")


@case("a call whose answer breaks off in the body is answered with no headers, no body and no trailers", envoy=AGREES)
def test_closed_in_body(proxy, path):
    step = call(path, ANSWER, BODY, RESUME, orders={"fail": "body", "body": "half of it"})
    reply = proxy.get(probe={"request_headers": [step, ["pause"]]})
    assert reply.status == 200
    assert answer_of(reply.reports)[1:] == [0, 0, 0]
    assert reply.reports.results("http_call_response") == [[], None]


@case(
    "a header of an answer that failed is NotFound",
    envoy=Differs(
        does="BadArgument, which the Rust SDK takes for a fault of its own: the VM ends and the paused request hangs",
        because="plugins look at :status first, and must live to see that there is none",
        fails_with="ReadTimeout",
    ),
)
def test_header_of_failed_call(serve, path):
    proxy = serve(probe())
    step = call(path, STATUS, RESUME, orders={"fail": "body", "body": "half of it"})
    reply = proxy.get(probe={"request_headers": [step, ["pause"]]}, timeout=2)
    assert reply.status == 200
    assert reply.reports.results("http_call_response") == [None]


@case("an answer that comes when its stream has ended is for nobody, and the plugin lives on", envoy=AGREES)
def test_answer_after_end(proxy, path):
    with proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": [call(path, RESUME, orders={"hold": path}), ["pause"]]})
        assert proxy.upstream.wait(path=path)
    reports = proxy.reports(case)
    assert reports.callbacks[-1] == "delete"
    proxy.upstream.release(path)
    # Comes after the first one.
    other = proxy.get(probe={"request_headers": [call(path, STATUS, RESUME, orders={"delay_ms": 300}), ["pause"]]})
    assert other.status == 200
    assert other.reports.result("http_call_response", "get") == "200"
    assert other.reports[0].vm == reports[0].vm
    assert "http_call_response" not in proxy.reports(case).callbacks


# ---- What the SDKs hide ----


def serialized(pairs):
    """A header map as hostcalls take it: a string of the bare guest."""
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    data = len(encoded).to_bytes(4, "little")
    data += b"".join(len(part).to_bytes(4, "little") for pair in encoded for part in pair)
    data += b"".join(part + b"\0" for pair in encoded for part in pair)
    return "'" + "".join(f"%{byte:02x}" for byte in data) + "'"


def http_call(path, timeout=5000):
    return f"proxy_http_call 'upstream' {serialized(pseudo(path))} '' '' {timeout} @"


@case("an answer comes to the root context of the plugin, not to the context that called", envoy=AGREES)
def test_answered_at_root(serve, path):
    proxy = serve(bare())
    reply = proxy.get(bare=f"request_headers: {http_call(path)}", upstream={"delay_ms": 100})
    assert reply.status == 200
    called = reply.reports.of("request_headers", op="proxy_http_call")[0]
    assert called.result == 0
    book = proxy.server.book
    answer = book.wait(lambda: book.reports.of("http_call_response"))[0]
    assert answer.arguments[0] == called.out[0]
    assert answer.context == book.reports.of("context_create", vm=called.vm)[0].context
    assert answer.context != called.context


@case("headers and body of an answer are there in its callback only", envoy=AGREES)
def test_only_in_callback(serve, path):
    look = "proxy_get_header_map_pairs 6 @ @; proxy_get_buffer_bytes 4 0 100 @ @"
    proxy = serve(bare(f"http_call_response: {look}"))
    calling = f"request_headers: {http_call(path)}; response_headers: {look}"
    later = answered_meanwhile(proxy, path, bare=calling).reports
    headers, body = proxy.server.book.reports.of("http_call_response")[1:]
    assert ":status" in headers.value
    assert body.value == "ok\n"
    assert later.of("response_headers", op="proxy_get_header_map_pairs")[0].out == [0, 0]
    assert later.result("response_headers", "proxy_get_buffer_bytes") == 1


@case("headers and body of an answer cannot be changed", envoy=AGREES)
def test_read_only(serve, path):
    change = "proxy_add_header_map_value 6 'x-a' '1'; proxy_set_buffer_bytes 4 0 0 'more'"
    proxy = serve(bare(f"http_call_response: {change}"))
    assert answered_meanwhile(proxy, path, bare=f"request_headers: {http_call(path)}").reports
    assert proxy.server.book.reports.results("http_call_response") == [2, 2]


@case("a call with a header map that is malformed is BadArgument, and makes no call", envoy=AGREES)
@pytest.mark.parametrize("headers", ["''", "'%01%00%00%00'", "'%ff%ff%ff%ff'"], ids=["none", "short", "huge"])
def test_malformed_headers(serve, headers):
    reply = serve(bare(), shared=True).get(bare=f"request_headers: proxy_http_call 'upstream' {headers} '' '' 5000 @")
    assert reply.status == 200
    assert reply.reports.result("request_headers", "proxy_http_call") == 2
