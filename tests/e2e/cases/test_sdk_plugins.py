# SPDX-License-Identifier: Apache-2.0
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from hosts import StartFailed
from kit.cases import AGREES, case
from kit.client import eventually, new_case_id
from kit.setup import GUESTS, Plugin, example_filter
from kit.tcp import finish, is_quiet, read, read_all

AREA = "Plugins of the SDKs"


def pattern(name, configuration=None, **options):
    """One of the patterns in tests/guests."""
    text = "" if configuration is None else json.dumps(configuration)
    return Plugin(GUESTS / f"{name}.wasm", name=name, configuration=text, **options)


def example(name, configuration=None, **options):
    text = configuration if isinstance(configuration, str) else json.dumps(configuration)
    return example_filter(name, "" if configuration is None else text, **options)


def logged(proxy, text):
    """The records of plugins that begin so, once there is one."""
    book = proxy.server.book

    def matching():
        return [one.text for one in book.records if one.text.startswith(text)]

    found = book.wait(matching)
    assert found, f"nothing in the log begins with {text!r}"
    return found


def json_of(fields):
    """The upstream's answer with this JSON object."""
    return {"headers": [["content-type", "application/json"]], "body": json.dumps(fields)}


# ---- Four languages ----

# A Go module takes seconds to compile: each is started once.


@case(
    "a plugin made with the SDK adds headers to request and response; bodies of 64 KiB pass, 8 at a time",
    envoy=AGREES,
    timeout=120,
)
@pytest.mark.parametrize("language", ["rust", "go", "assemblyscript", "c"])
def test_add_headers(serve, language):
    added = {"request": {"x-hello": f"from {language}"}, "response": {"x-plugin": language, "x-other": "1"}}
    proxy = serve(example(f"{language}-add-headers", added))
    body = bytes(range(256)) * 256
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: proxy.post(body, upstream={"echo": True}), range(8)))
    for reply in replies:
        assert reply.status == 200
        assert reply.seen.get_all("x-hello") == [f"from {language}"]
        assert (reply.get_all("x-plugin"), reply.get_all("x-other")) == ([language], ["1"])
        assert reply.body == body


@case("without a configuration a plugin made with the SDK has its defaults", envoy=AGREES)
@pytest.mark.parametrize("language", ["rust", "assemblyscript", "c"])
def test_defaults(serve, language):
    reply = serve(example(f"{language}-add-headers")).get()
    assert reply.seen.get_all("x-proxy-wasm") == [language]
    assert reply.get_all("x-plugin") == [f"{language}-add-headers"]


@case("a configuration that a plugin refuses keeps it from starting, and the log says why", envoy=AGREES)
@pytest.mark.parametrize("name", ["rust-rewrite-json", "assemblyscript-add-headers", "c-add-headers"])
def test_refused(serve, name):
    with pytest.raises(StartFailed, match=name.split("-", 1)[1] + ": configuration refused"):
        serve(example(name, '{"unknown": 1}'))


@case(
    "block-path (Go): paths of its list are answered by the plugin and do not reach the upstream; others pass",
    envoy=AGREES,
    timeout=120,
)
def test_block_path(serve):
    proxy = serve(example("go-block-path", {"prefixes": ["/admin"], "status": 403, "body": "not here\n"}))
    for path in ("/admin", "/admin/users?x=1", "/%61dmin", "/a/../admin"):
        reply = proxy.get(path)
        assert (reply.status, reply.body, reply.get("content-type")) == (403, b"not here\n", "text/plain")
        assert not proxy.reached_upstream(reply.case)
    assert proxy.get("/administrators").status == 200


# ---- auth-callout ----


@pytest.fixture
def authorized(serve):
    """A server whose requests are asked about at the kit's upstream, at /check; x-upstream steers its answer."""
    configuration = {
        "cluster": "upstream",
        "authority": "auth.test",
        "path": "/check",
        "forward": ["authorization", "x-upstream"],
    }
    return serve(example("rust-auth-callout", configuration), shared=True)


@case(
    "auth-callout: 200 lets the request pass; the service saw its method, path and authorization",
    envoy=AGREES,
    needs="http_callouts",
)
def test_auth_allowed(authorized):
    path = f"/{new_case_id()}"
    reply = authorized.post(b"body", path, headers=[("authorization", "Bearer x")])
    assert reply.status == 200
    assert (reply.seen.method, reply.seen.body) == ("POST", b"body")
    (asked,) = (one for one in authorized.upstream.seen(path="/check") if one.get("x-original-path") == path)
    assert (asked.method, asked.get("host"), asked.get("x-original-method")) == ("GET", "auth.test", "POST")
    assert asked.get("authorization") == "Bearer x"


@case("auth-callout: another status gives 403, and nothing reaches the upstream", envoy=AGREES, needs="http_callouts")
@pytest.mark.parametrize("body", [None, b"some body"])
def test_auth_denied(authorized, body):
    reply = authorized.request("POST" if body else "GET", body=body, upstream={"status": 401})
    assert (reply.status, reply.body) == (403, b"forbidden\n")
    assert not authorized.reached_upstream(reply.case)


@case(
    "auth-callout: without an answer in time the request is refused: 503, or 403 where the proxy makes up an answer",
    envoy=AGREES,
    needs="http_callouts",
)
@pytest.mark.parametrize("why", ["refusing", "silent"])
def test_auth_unavailable(serve, request, why):
    port = request.getfixturevalue(why).port
    proxy = serve(example("rust-auth-callout", {"cluster": "auth", "timeout_ms": 200}), clusters=(("auth", port),))
    reply = proxy.get()
    assert reply.status in (403, 503)
    assert not proxy.reached_upstream(reply.case)


# ---- Other filters ----


@case("rate-limit: requests over the limit get 429 with retry-after; other clients are not concerned", envoy=AGREES)
def test_rate_limit(serve):
    # A day, so that no window ends meanwhile.
    proxy = serve(example("rust-rate-limit", {"limit": 2, "window_seconds": 86400}))
    replies = [proxy.get(headers=[("x-client-id", "a")]) for _ in range(3)]
    assert [one.status for one in replies] == [200, 200, 429]
    assert replies[2].body == b"too many requests\n"
    assert 0 < int(replies[2].get("retry-after")) <= 86400
    assert proxy.get(headers=[("x-client-id", "b")]).status == 200


@case("rate-limit: workers count together", envoy=AGREES)
def test_rate_limit_workers(serve):
    proxy = serve(example("rust-rate-limit", {"limit": 10, "window_seconds": 86400}), workers=2)
    # The first one alone: it has nothing to compare with.
    assert proxy.get().status == 200
    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(lambda _: proxy.get().status, range(29)))
    assert sorted(statuses) == [200] * 9 + [429] * 20


@pytest.fixture
def rewriting(serve):
    edit = {"set": {"by": "proxy"}, "remove": ["secret"]}
    return serve(example("rust-rewrite-json", {"request": edit, "response": edit}), shared=True)


@case("rewrite-json: fields of JSON bodies are set and removed in both directions", envoy=AGREES)
def test_rewrite_json(rewriting):
    fields = {"a": 1, "secret": "x" * 100, "b": [True, None]}
    reply = rewriting.post(
        json.dumps(fields).encode(), headers=[("content-type", "application/json")], upstream=json_of(fields)
    )
    assert json.loads(reply.body) == json.loads(reply.seen.body) == {"a": 1, "b": [True, None], "by": "proxy"}


@case("rewrite-json: a JSON body in chunks is rewritten as a whole", envoy=AGREES)
def test_rewrite_json_chunks(rewriting):
    chunks = ['{"a": "', "x" * 50000, '", "sec', 'ret": 1', "}"]
    orders = {
        "headers": [["content-type", "application/json"]],
        "chunks": chunks,
        "chunked": True,
        "chunk_delay_ms": 10,
    }
    assert json.loads(rewriting.get(upstream=orders).body) == {"a": "x" * 50000, "by": "proxy"}


@case("rewrite-json: what is not JSON passes as it came", envoy=AGREES)
def test_rewrite_json_other(rewriting):
    reply = rewriting.get(upstream={"headers": [["content-type", "text/plain"]], "body": '{"secret": 1}'})
    assert reply.body == b'{"secret": 1}'


@case("metrics: counters, a gauge and a histogram of the plugin are told by the host", envoy=AGREES, needs="metrics")
def test_metrics(serve):
    proxy = serve(example("rust-metrics", {"prefix": "sdk"}))
    for status in (200, 200, 404):
        assert proxy.get(upstream={"status": status}).status == status

    def told():
        metrics = proxy.server.metrics()
        return (metrics.get("sdk_request_duration_ms") or {}).get("count") == 3 and metrics

    metrics = eventually(told)
    assert metrics, proxy.server.metrics()
    names = ["requests_total", "responses_2xx_total", "responses_4xx_total", "requests_active"]
    assert [metrics[f"sdk_{name}"] for name in names] == [3, 2, 1, 0]


@case("body-upper (C): the response's letters become uppercase, chunk by chunk; the request's do not", envoy=AGREES)
def test_body_upper(serve):
    proxy = serve(example("c-body-upper"), shared=True)
    reply = proxy.post(b"question", upstream={"chunks": ["an ", "Answer", " \xe4 1"], "chunk_delay_ms": 10})
    assert (reply.body, reply.seen.body) == (b"AN ANSWER \xe4 1", b"question")
    compressed = proxy.get(upstream={"headers": [["content-encoding", "x-none"]], "body": "as it is"})
    assert compressed.body == b"as it is"


@case(
    "tcp (Rust): what the client sends becomes uppercase, and the log tells how much went each way",
    envoy=AGREES,
    needs="tcp",
)
def test_tcp(tcp):
    proxy = tcp(example("rust-tcp"))
    client, upstream = proxy.pair(b"hello")
    assert read(upstream, 5) == b"HELLO"
    upstream.sendall(b"good bye")
    assert read(client, 8) == b"good bye"
    finish(client)
    finish(upstream)
    book = proxy.book
    text = r"tcp: connection \d+ closed: 5 bytes from downstream, 8 from upstream"
    assert book.wait(lambda: [one for one in book.records if re.fullmatch(text, one.text)])


# ---- Patterns ----


@case("postponed: a request waits until a tick resumes it, with its body", envoy=AGREES)
def test_postponed(serve):
    proxy = serve(pattern("postponed", {"period_ms": 100}))
    reply = proxy.post(b"body")
    assert (reply.status, reply.seen.body) == (200, b"body")
    assert re.fullmatch(r"postponed: \d+ resumed by a tick", logged(proxy, "postponed: ")[0])


@case("postponed: a list that is full lets its oldest request go; the others wait", envoy=AGREES)
def test_postponed_capacity(serve):
    proxy = serve(pattern("postponed", {"period_ms": 3600000, "capacity": 1}))
    with proxy.connect() as first, proxy.connect() as second:
        one = first.send_head()
        assert first.quiet_for(0.2)
        other = second.send_head()
        assert first.read_reply(one).status == 200
        assert second.quiet_for(0.1)
        assert not proxy.reached_upstream(other)
    assert re.fullmatch(r"postponed: \d+ resumed by \d+", logged(proxy, "postponed: ")[0])


@case("postponed: a client that goes away meanwhile does no harm", envoy=AGREES)
def test_postponed_gone(serve):
    proxy = serve(pattern("postponed", {"period_ms": 3600000, "capacity": 1}))
    with proxy.connect() as gone:
        gone.send_head()
        assert gone.quiet_for(0.1)
    with proxy.connect() as first, proxy.connect() as second:
        one = first.send_head()
        assert first.quiet_for(0.2)
        second.send_head()
        assert first.read_reply(one).status == 200


@case(
    "queue-sender and queue-receiver: what a request puts into the queue reaches a service in another VM, in order",
    envoy=AGREES,
    needs="services",
)
def test_queue(serve):
    proxy = serve(pattern("queue-sender"), services=(pattern("queue-receiver", vm_id="receiver"),))
    logged(proxy, "queue-receiver: requests is queue ")
    for number in range(5):
        assert proxy.get(f"/item/{number}").status == 200
    logged(proxy, "queue-receiver: GET /item/4")
    items = [one for one in logged(proxy, "queue-receiver: ") if "/item/" in one]
    assert items == [f"queue-receiver: GET /item/{number}" for number in range(5)]


@case("queue-sender without a receiver: requests pass, and the log says that there is no queue", envoy=AGREES)
def test_queue_alone(serve):
    proxy = serve(pattern("queue-sender", {"vm_id": "nobody", "queue": "nothing"}))
    assert proxy.get().status == 200
    logged(proxy, "queue-sender: nobody has no queue nothing")


@case("body-rewrite: a text in the response is replaced, though it came in pieces and the length changes", envoy=AGREES)
@pytest.mark.parametrize("chunked", [False, True])
def test_body_rewrite(serve, chunked):
    proxy = serve(pattern("body-rewrite"), shared=True)
    orders = {"chunks": ["the sec", "ret and a", " secret"], "chunk_delay_ms": 10, "chunked": chunked}
    reply = proxy.get(upstream=orders)
    assert reply.body == b"the [hidden] and a [hidden]"


@case("body-rewrite: a text is replaced where trailers end the body", envoy=AGREES, needs="response_trailers")
def test_body_rewrite_trailers(serve):
    proxy = serve(pattern("body-rewrite"), shared=True)
    with proxy.connect() as connection:
        case = connection.send_head(upstream={"body": "a secret", "trailers": [["x-end", "1"]]})
        reply = connection.read_reply(case)
    assert (reply.body, reply.trailers) == (b"a [hidden]", [("x-end", "1")])


JSON = [("content-type", "application/json")]


@case("json-validate: a request with valid JSON passes unchanged, other types are not looked at", envoy=AGREES)
def test_json_valid(serve):
    proxy = serve(pattern("json-validate"), shared=True)
    body = json.dumps({"list": [1, 2.5, "three"] * 2000}).encode()
    assert proxy.post(body, headers=JSON).seen.body == body
    assert proxy.post(b"{no json", headers=[("content-type", "text/plain")]).seen.body == b"{no json"


@case("json-validate: a request that is not JSON gets 400", envoy=AGREES)
def test_json_invalid(serve):
    proxy = serve(pattern("json-validate"), shared=True)
    reply = proxy.post(b'{"cut', headers=JSON)
    assert reply.status == 400
    assert reply.body.startswith(b"bad JSON: ")


@case(
    "json-validate with held headers: where a pause of the headers lets the body come, a bad request never reaches the upstream",
    envoy=AGREES,
)
def test_json_hold_headers(serve):
    proxy = serve(pattern("json-validate", {"hold_headers": True}, stop_iteration=True))
    good = proxy.post(b"[1, 2]", headers=JSON)
    assert (good.status, good.seen.body) == (200, b"[1, 2]")
    bad = proxy.post(b"[1, 2", headers=JSON)
    assert bad.status == 400
    assert not proxy.reached_upstream(bad.case)


@case(
    "tcp-gate: a connection that begins with an allowed word passes, after a greeting to the upstream",
    envoy=AGREES,
    needs="tcp",
)
def test_tcp_gate(tcp):
    proxy = tcp(pattern("tcp-gate"), shared=True)
    client, upstream = proxy.pair(b"HELLO there")
    assert read(upstream, 16) == b"GATE\nHELLO there"
    client.sendall(b", more")
    assert read(upstream, 6) == b", more"
    upstream.sendall(b"welcome")
    assert read(client, 7) == b"welcome"
    finish(client)
    finish(upstream)
    book = proxy.book
    text = r"tcp-gate: connection \d+: 17 bytes from downstream, 7 from upstream"
    assert book.wait(lambda: [one for one in book.records if re.fullmatch(text, one.text)])


@case("tcp-gate: an allowed word may come in pieces", envoy=AGREES, needs="tcp")
def test_tcp_gate_pieces(tcp):
    proxy = tcp(pattern("tcp-gate"), shared=True)
    client, upstream = proxy.pair(b"HE")
    assert is_quiet(upstream)
    client.sendall(b"LLO")
    assert read(upstream, 10) == b"GATE\nHELLO"


@case(
    "tcp-gate: a connection that begins with anything else is closed, and the upstream gets nothing of it",
    envoy=AGREES,
    needs="tcp",
)
def test_tcp_gate_refused(tcp):
    proxy = tcp(pattern("tcp-gate"), shared=True)
    client, upstream = proxy.pair(b"GOOD DAY")
    assert read_all(client) == b""
    assert read_all(upstream) == b""


@case("property-log: an access log can be written from properties alone", envoy=AGREES)
def test_property_log(serve):
    proxy = serve(pattern("property-log"))
    reply = proxy.post(
        b"12345", "/some/path?x=1", headers=[("user-agent", "kit/1")], upstream={"status": 404, "body": "not here"}
    )
    assert reply.status == 404
    line = logged(proxy, "property-log: ")[0]
    expected = (
        r'property-log: 127\.0\.0\.1:\d+ "POST /some/path\?x=1 HTTP/1\.1" 404 in=5 out=8 agent="kit/1" timed=true'
    )
    assert re.fullmatch(expected, line), line
