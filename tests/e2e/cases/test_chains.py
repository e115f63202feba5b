# SPDX-License-Identifier: Apache-2.0
import pytest
from kit.cases import AGREES, case
from kit.setup import bare, probe

AREA = "Chains"

NAMES = ("a", "b", "c")
LOCAL = ["local", 418, [["x-local", "1"]], "teapot"]
CALL = [[":method", "GET"], [":path", "/call"], [":authority", "call.test"]]
ENDED = ["log", "done", "delete"]


def chain(*names, **options):
    """Probes with a VM each."""
    return [probe(name, vm_id=name, **options) for name in names]


def order(reports, callback):
    """The plugins in the order in which they were called."""
    return [one.plugin for one in reports.of(callback).entries]


def call(*then):
    return ["call", {"upstream": "upstream", "headers": CALL, "then": list(then)}]


@pytest.fixture
def three(serve):
    """A server with the probes a, b and c, shared with other cases."""
    return serve(*chain(*NAMES), shared=True)


def scripts(**own):
    """A script for each of a, b and c; those that are not named do nothing."""
    return {name: own.get(name, {}) for name in NAMES}


# ---- Order ----


@case("requests pass the plugins in the order of the chain, responses in the opposite one", envoy=AGREES)
def test_order(three):
    reports = three.post(b"body", scripts=scripts()).reports
    assert order(reports, "request_headers") == ["a", "b", "c"]
    assert order(reports, "response_headers") == ["c", "b", "a"]
    # A host may show the end of a body by itself, after its bytes.
    assert order(reports, "request_body")[:3] == ["a", "b", "c"]
    assert order(reports, "response_body")[:3] == ["c", "b", "a"]


@case(
    "trailers pass the plugins in the same orders as headers",
    envoy=AGREES,
    needs=("request_trailers", "response_trailers"),
)
def test_order_of_trailers(three):
    with three.connect() as connection:
        case = connection.send_head(
            "POST",
            headers=[("transfer-encoding", "chunked")],
            scripts=scripts(),
            upstream={"trailers": [["x-end", "1"]]},
        )
        connection.send_chunk(b"body")
        connection.send_last_chunk([("x-end", "1")])
        connection.read_reply(case)
    reports = three.reports(case)
    assert order(reports, "request_trailers") == ["a", "b", "c"]
    assert order(reports, "response_trailers") == ["c", "b", "a"]


@case("at the end of a stream all plugins log before the first one is done", envoy=AGREES)
def test_order_at_the_end(three):
    reports = three.get(scripts=scripts()).reports
    assert [one.callback for one in reports.entries if one.callback in ("log", "done")] == ["log"] * 3 + ["done"] * 3


@case("proxy_on_log is called in the order of the chain", envoy=AGREES)
def test_order_of_log(three):
    assert order(three.get(scripts=scripts()).reports, "log") == ["a", "b", "c"]


@case("in the order of the chain each plugin is done and deleted before the next one is", envoy=AGREES)
def test_order_of_done(three):
    reports = three.get(scripts=scripts()).reports
    ends = [(one.plugin, one.callback) for one in reports.entries if one.callback in ("done", "delete")]
    assert ends == [(plugin, callback) for plugin in ("a", "b", "c") for callback in ("done", "delete")]


# ---- What the others changed ----


@case("each plugin sees the request's headers as those before it left them", envoy=AGREES)
def test_request_headers(three):
    add = ["add", "request_headers", "x-trace", "{last}"]
    own = {
        "a": [["add", "request_headers", "x-trace", "a"], ["set", "request_headers", "x-mine", "a"]],
        "b": [["get", "request_headers", "x-mine"], ["set", "request_headers", "x-mine", "b"]],
        "c": [["get", "request_headers", "x-mine"], add, ["remove", "request_headers", "x-mine"]],
    }
    reply = three.get(scripts=scripts(**{name: {"request_headers": steps} for name, steps in own.items()}))
    assert reply.reports.result("request_headers", plugin="b") == "a"
    assert reply.reports.result("request_headers", plugin="c") == "b"
    assert reply.seen.get_all("x-trace") == ["a", "b"]
    assert reply.seen.get("x-mine") is None


@case("each plugin sees the response's headers as those behind it in the chain left them", envoy=AGREES)
def test_response_headers(three):
    own = {
        name: {
            "response_headers": [
                ["get", "response_headers", "x-last"],
                ["set", "response_headers", "x-last", name],
                ["add", "response_headers", "x-all", name],
            ]
        }
        for name in NAMES
    }
    reply = three.get(scripts=own)
    reports = reply.reports
    assert [reports.result("response_headers", plugin=name) for name in ("c", "b", "a")] == [None, "c", "b"]
    assert reply.get("x-last") == "a"
    assert reply.get_all("x-all") == ["c", "b", "a"]


@case("each plugin sees the request's body as those before it left it", envoy=AGREES)
def test_request_body(three):
    def collects(name):
        tail = [["body", "request_body", 0, -1], ["set_body", "request_body", 1000, 0, name]]
        return {
            "request_headers": [["remove", "request_headers", "content-length"]],
            "request_body": [["unless_end", [["pause"]]], ["if_end", tail]],
        }

    reply = three.post(b"body-", scripts={name: collects(name) for name in NAMES})
    reports = reply.reports
    assert [reports.result("request_body", plugin=name) for name in NAMES] == ["body-", "body-a", "body-ab"]
    assert reply.seen.body == b"body-abc"


@case("each plugin sees the response's body as those behind it in the chain left it", envoy=AGREES)
def test_response_body(three):
    def collects(name):
        tail = [["body", "response_body", 0, -1], ["set_body", "response_body", 1000, 0, name]]
        return {
            "response_headers": [["remove", "response_headers", "content-length"]],
            "response_body": [["unless_end", [["pause"]]], ["if_end", tail]],
        }

    reply = three.get(scripts={name: collects(name) for name in NAMES}, upstream={"body": "body-"})
    reports = reply.reports
    assert [reports.result("response_body", plugin=name) for name in ("c", "b", "a")] == ["body-", "body-c", "body-cb"]
    assert reply.body == b"body-cba"


@case("a plugin that collects the body and one behind it that streams get the same bytes", envoy=AGREES)
def test_collect_and_stream(three):
    size = 200_000
    collect = {"request_body": [["unless_end", [["pause"]]], ["if_end", [["digest", "request_body"]]]]}
    stream = {"request_body": [["count", "request_body"]]}
    own = scripts(a=stream, b=collect, c=stream)
    reply = three.post(b"z" * size, scripts=own, silent=["request_body"])
    assert reply.seen.size == size
    found = [
        reply.reports.result("request_body", op, plugin=name)
        for name, op in (("a", "count"), ("b", "digest"), ("c", "count"))
    ]
    assert {(one["total"], one["crc"]) for one in found} == {(size, reply.seen.crc)}


@case("a plugin without body callbacks between two that have them is no hindrance", envoy=AGREES)
def test_without_callbacks(serve):
    proxy = serve(*chain("a"), bare(name="between"), *chain("c"), shared=True)
    count = {"request_body": [["count", "request_body"]]}
    reply = proxy.post(b"the body", scripts={"a": count, "c": count}, silent=["request_body"])
    assert reply.status == 200
    assert reply.seen.body == b"the body"
    assert [reply.reports.result("request_body", plugin=name)["total"] for name in ("a", "c")] == [8, 8]


# ---- Pauses ----


@case("while the second plugin pauses the request the third does not see it", envoy=AGREES)
def test_pause(three):
    with three.connect() as connection:
        case = connection.send_head(scripts=scripts(b={"request_headers": [["park"], ["pause"]]}))
        book = three.server.book
        assert book.wait(lambda: three.reported(case).of("request_headers", plugin="b"))
        assert connection.quiet_for(0.1)
        assert order(three.reported(case), "request_headers") == ["a", "b"]
        release = {"request_headers": [["each_parked", [["resume", "request"]]]]}
        three.get(scripts=scripts(b=release))
        assert connection.read_reply(case).status == 200
    assert order(three.reports(case), "request_headers") == ["a", "b", "c"]


@case(
    "when the second plugin resumes the request, the third sees it and the first does not see it again",
    envoy=AGREES,
    needs="http_callouts",
)
def test_resume(three):
    own = scripts(
        b={"request_headers": [call(["add", "request_headers", "x-b", "1"], ["resume", "request"]), ["pause"]]},
        c={"request_headers": [["get", "request_headers", "x-b"]]},
    )
    reply = three.get(scripts=own)
    assert reply.status == 200
    assert order(reply.reports, "request_headers") == ["a", "b", "c"]
    assert reply.reports.result("request_headers", "get", plugin="c") == "1"


@case(
    "plugins that pause one after the other each hold the request until they resume it",
    envoy=AGREES,
    needs="http_callouts",
)
def test_pause_all(three):
    own = {name: {"request_headers": [call(["resume", "request"]), ["pause"]]} for name in NAMES}
    reply = three.post(b"the body", scripts=own)
    assert reply.status == 200
    assert reply.seen.body == b"the body"
    steps = ("request_headers", "http_call_response")
    entries = [(one.callback, one.plugin) for one in reply.reports.entries if one.callback in steps]
    assert entries == [(callback, name) for name in NAMES for callback in ("request_headers", "http_call_response")]


@case("a plugin that resumes while one behind it pauses does not let the request go", envoy=AGREES)
def test_resume_of_another(three):
    with three.connect() as connection:
        hold = {"request_headers": [["park"], ["pause"]]}
        case = connection.send_head(scripts=scripts(a=hold, b=hold))
        book = three.server.book

        def reached(name):
            return three.reported(case).of("request_headers", plugin=name)

        release = {"request_headers": [["each_parked", [["resume", "request"]]]]}
        assert book.wait(lambda: reached("a"))
        three.get(scripts=scripts(a=release))
        assert book.wait(lambda: reached("b"))
        assert connection.quiet_for(0.1)
        assert not reached("c")
        assert not three.reached_upstream(case)
        three.get(scripts=scripts(b=release))
        assert connection.read_reply(case).status == 200


@case(
    "a plugin that pauses the response holds it from those before it in the chain", envoy=AGREES, needs="pause_response"
)
def test_pause_response(three):
    with three.connect() as connection:
        case = connection.send_head(scripts=scripts(b={"response_headers": [["park"], ["pause"]]}))
        book = three.server.book
        assert book.wait(lambda: three.reported(case).of("response_headers", plugin="b"))
        assert connection.quiet_for(0.1)
        assert order(three.reported(case), "response_headers") == ["c", "b"]
        three.get(scripts=scripts(b={"request_headers": [["each_parked", [["resume", "response"]]]]}))
        assert connection.read_reply(case).body == b"ok\n"


# ---- Local responses and resets ----


@case(
    "a local response of the second plugin passes the second and the first; the third has no part in the stream",
    envoy=AGREES,
)
def test_local_response(three):
    reply = three.get(scripts=scripts(b={"request_headers": [LOCAL]}))
    assert (reply.status, reply.body) == (418, b"teapot")
    reports = reply.reports
    assert reports.of(plugin="a").callbacks == ["request_headers", "response_headers", "response_body", *ENDED]
    assert reports.of(plugin="b").callbacks == ["request_headers", "response_headers", "response_body", *ENDED]
    assert order(reports, "response_headers") == ["b", "a"]
    assert "request_headers" not in reports.of(plugin="c").callbacks
    assert not three.reached_upstream(reply.case)


@case("the first plugin can change the local response of the second", envoy=AGREES)
def test_change_local_response(three):
    change = {
        "response_headers": [["set", "response_headers", ":status", "451"], ["add", "response_headers", "x-a", "1"]]
    }
    reply = three.get(scripts=scripts(a=change, b={"request_headers": [LOCAL]}))
    assert (reply.status, reply.get("x-a"), reply.body) == (451, "1", b"teapot")


@case("the first plugin can put a local response of its own in the place of the second one's", envoy=AGREES)
def test_replace_local_response(three):
    own = scripts(
        a={"response_headers": [LOCAL]}, b={"request_headers": [["local", 500, [["x-b", "1"]], "error of b"]]}
    )
    reply = three.get(scripts=own)
    assert (reply.status, reply.body, reply.get("x-b")) == (418, b"teapot", None)
    assert all(reply.reports.of(plugin=name).callbacks[-3:] == ENDED for name in ("a", "b"))


@case("a local response of the second plugin in the response is not shown to the first", envoy=AGREES)
def test_local_in_response(three):
    reply = three.get(scripts=scripts(b={"response_headers": [LOCAL]}))
    assert (reply.status, reply.body) == (418, b"teapot")
    assert order(reply.reports, "response_headers") == ["c", "b"]


@case("a plugin that was passed by a local response is told of the stream's end all the same", envoy=AGREES)
def test_log_of_the_third(serve):
    proxy = serve(*chain("a"), *chain("b", on={"request_headers": [LOCAL]}), *chain("c"))
    assert proxy.get().status == 418
    # It has not seen the request, so its reports know of no id.
    book = proxy.server.book
    (deleted,) = book.wait(lambda: book.reports.of("delete", plugin="c"))
    assert book.reports.of(vm=deleted.vm, context=deleted.context).callbacks == ["context_create", *ENDED]


# ---- VMs and contexts ----


@case("the same module with two configurations runs as two plugins, each with its own root context", envoy=AGREES)
@pytest.mark.parametrize("vm_ids", [("", ""), ("a", "b")], ids=["one-vm", "two-vms"])
def test_two_configurations(serve, vm_ids):
    def adds(name):
        return {"request_headers": [["add", "request_headers", "x-from", name]]}

    proxy = serve(
        *(probe(name, adds(name), vm_id=vm_id) for name, vm_id in zip("ab", vm_ids, strict=True)), shared=True
    )
    reply = proxy.get()
    assert reply.seen.get_all("x-from") == ["a", "b"]
    reports = reply.reports
    streams = [reports.of("request_headers", plugin=name)[0] for name in "ab"]
    assert len({(one.vm, one.context) for one in streams}) == 2
    roots = [proxy.server.book.reports.of("configure", plugin=one.plugin, vm=one.vm)[0] for one in streams]
    assert len({(one.vm, one.context) for one in roots}) == 2


@case("two plugins in one VM pause and resume a request each for itself", envoy=AGREES, needs="http_callouts")
def test_shared_vm(serve):
    proxy = serve(probe("a", vm_id="one"), probe("b", vm_id="one"), shared=True)
    own = {name: {"request_headers": [call(["resume", "request"]), ["pause"]]} for name in "ab"}
    reply = proxy.get(scripts=own)
    assert reply.status == 200
    reports = reply.reports
    assert len({one.vm for one in reports}) == 1
    entries = [(one.callback, one.plugin) for one in reports.entries][:4]
    assert entries == [(callback, name) for name in "ab" for callback in ("request_headers", "http_call_response")]


@case(
    "of two plugins in one VM, the one that answers in the place of the upstream is told of its response before the other",
    envoy=AGREES,
)
def test_local_in_shared_vm(serve):
    proxy = serve(probe("a", vm_id="one"), probe("b", vm_id="one"), shared=True)
    reply = proxy.get(scripts={"a": {}, "b": {"request_headers": [LOCAL]}})
    assert (reply.status, reply.body) == (418, b"teapot")
    assert order(reply.reports, "response_headers") == ["b", "a"]
    assert order(reply.reports, "log") == ["a", "b"]


@case("a plugin twice in the chain, with nothing to tell the two apart, sees each request twice", envoy=AGREES)
def test_twice(serve):
    proxy = serve(probe("a"), probe("a"), shared=True)
    reply = proxy.get(scripts={"a": {"request_headers": [["add", "request_headers", "x-a", "{c}"]]}})
    assert reply.status == 200
    first, second = reply.seen.get_all("x-a")
    assert first != second
    assert len(reply.reports.of("delete").entries) == 2
