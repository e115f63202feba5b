# SPDX-License-Identifier: Apache-2.0
"""What curl cannot do: tests `proxywasm-example serve` over plain sockets. serve.py PROGRAM FILTERS UPSTREAM_PORT [BEHAVE]

BEHAVE is behave.c compiled; without it the tests that need it are left out.
"""

import json
import signal
import socket
import sys
import time

import harness
from harness import expect, read_all

program, filters, upstream = sys.argv[1], sys.argv[2], sys.argv[3]
behave = sys.argv[4] if len(sys.argv) > 4 else None


def Proxy(*arguments, to=None):
    return harness.Proxy(program, "--listen", "127.0.0.1:0", "--upstream", f"127.0.0.1:{to or upstream}", *arguments)


def request(path="/", method="GET", headers="", body=b"", close=True):
    end = "connection: close\r\n" if close else ""
    return f"{method} {path} HTTP/1.1\r\nhost: a.test\r\n{headers}{end}\r\n".encode("latin-1") + body


def body_of(response):
    body = response.split(b"\r\n\r\n", 1)[1]
    if header(response, "transfer-encoding") != ["chunked"]:
        expect(header(response, "content-length") == [str(len(body))], response)
        return body
    whole = b""
    while True:
        size, body = body.split(b"\r\n", 1)
        if int(size, 16) == 0:
            return whole
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]


def told(response):
    return json.loads(body_of(response))


def header(response, name):
    head = response.split(b"\r\n\r\n", 1)[0].decode("latin-1").lower()
    return [line.split(":", 1)[1].strip() for line in head.split("\r\n")[1:] if line.split(":")[0] == name]


def plugin(name, options=""):
    return ["--plugin", f"{filters}/{name}.wasm{options}"]


# ---- Tests ------------------------------------------------------------------------------------------------------------


def chunked_request_with_trailers():
    with Proxy(*plugin("rust-add-headers")) as proxy:
        answer = told(
            proxy.exchange(
                request("/", "POST", "transfer-encoding: chunked\r\n", b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n")
            )
        )
        expect(answer["body"] == "abcde" and answer["trailers"] == [["x-sum", "5"]], answer)


def response_trailers_and_framings():
    with Proxy(*plugin("c-body-upper")) as proxy:
        answer = proxy.exchange(request("/trailers"))
        expect(
            header(answer, "transfer-encoding") == ["chunked"] and answer.endswith(b"\r\n0\r\nx-sum: 5\r\n\r\n"), answer
        )
        expect(b"ABC" in answer and b"DE" in answer, answer)
        answer = proxy.exchange(request("/until-close"))
        expect(b"NO LENGTH" in answer and header(answer, "transfer-encoding") == ["chunked"], answer)
        answer = proxy.exchange(b"GET /until-close HTTP/1.0\r\n\r\n")
        expect(answer.endswith(b"\r\n\r\nNO LENGTH") and not header(answer, "transfer-encoding"), answer)
        answer = proxy.exchange(request("/continue"))
        expect(answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"OK"), answer)


def no_body_where_there_is_none():
    with Proxy(*plugin("c-body-upper")) as proxy:
        data = (
            request("/x", "HEAD", close=False) + request("/empty", close=False) + request("/not-modified", close=False)
        )
        answer = proxy.exchange(data + request("/last"))
        heads = answer.split(b"HTTP/1.1 ")[1:]
        expect([one[:3] for one in heads] == [b"200", b"204", b"304", b"200"], answer)
        expect(all(one.endswith(b"\r\n\r\n") for one in heads[:3]), answer)
        expect(b"content-length: 77" in heads[2] and b"content-length" not in heads[1], answer)


def pipelining_keeps_order():
    with Proxy(*plugin("rust-add-headers")) as proxy:
        data = b"".join(request(f"/{i}", "POST", "content-length: 2\r\n", b"ab", close=False) for i in range(50))
        answer = proxy.exchange(data + request("/50"))
        paths = [int(part.split(b'"')[0]) for part in answer.split(b'"path": "/')[1:]]
        expect(paths == list(range(51)), paths)


def expect_continue():
    with Proxy(*plugin("rust-add-headers")) as proxy, proxy.connect() as client:
        client.sendall(request("/", "POST", "content-length: 3\r\nexpect: 100-continue\r\n"))
        expect(client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(b"abc")
        expect(told(read_all(client))["body"] == "abc")


def no_continue_for_a_refused_request():
    config = ',config={"prefixes":["/admin"]}'
    with Proxy(*plugin("go-block-path", config)) as proxy:
        answer = proxy.exchange(request("/admin", "POST", "content-length: 3\r\nexpect: 100-continue\r\n", close=False))
        expect(answer.startswith(b"HTTP/1.1 403") and header(answer, "connection") == ["close"], answer)
        # With the whole body there, the connection can be kept.
        data = request("/admin", "POST", "content-length: 3\r\n", b"abc", close=False)
        answer = proxy.exchange(data + data + request("/open"))
        expect(answer.count(b"HTTP/1.1 403") == 2 and answer.count(b"HTTP/1.1 200") == 1, answer)


def no_smuggling():
    bad = {
        "length and chunks": (400, "content-length: 3\r\ntransfer-encoding: chunked\r\n"),
        "two lengths": (400, "content-length: 3\r\ncontent-length: 4\r\n"),
        "odd length": (400, "content-length: +3\r\n"),
        "unknown coding": (501, "transfer-encoding: gzip, chunked\r\n"),
        "chunked twice": (501, "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
        "not quite chunked": (501, "transfer-encoding: xchunked\r\n"),
        "folded": (400, "x-a: 1\r\n b: 2\r\n"),
        "space before colon": (400, "content-length : 3\r\n"),
        "second host": (400, "host: b.test\r\n"),
        "bare carriage return": (400, "x-a: 1\rb: 2\r\n"),
        "nul": (400, "x-a: 1\0\r\n"),
        "too long": (431, "x-a: " + "a" * 100000 + "\r\n"),
    }
    with Proxy(*plugin("rust-add-headers")) as proxy:
        for what, (status, headers) in bad.items():
            answer = proxy.exchange(request("/", "POST", headers, b"0\r\n\r\nGET /x HTTP/1.1\r\n", close=False))
            expect(answer.startswith(f"HTTP/1.1 {status}".encode()) and answer.count(b"HTTP/1.1") == 1, what, answer)
        answer = proxy.exchange(request("/smuggle"))
        expect(answer.startswith(b"HTTP/1.1 502"), answer)
        answer = proxy.exchange(b"GET / HTTP/1.1\r\n\r\n")
        expect(answer.startswith(b"HTTP/1.1 400"), answer)
        answer = told(
            proxy.exchange(
                b"GET http://b.test/p?q HTTP/1.1\r\nhost: a.test\r\nconnection: close, x-hop\r\nx-hop: 1\r\n\r\n"
            )
        )
        names = [name for name, _ in answer["headers"]]
        expect(["host", "b.test"] in answer["headers"] and answer["path"] == "/p?q" and "x-hop" not in names, answer)


def failing_upstreams():
    with Proxy(*plugin("rust-add-headers")) as proxy:
        answer = proxy.exchange(request("/reset"))
        expect(answer.startswith(b"HTTP/1.1 502") and header(answer, "x-plugin"), answer)
        answer = proxy.exchange(request("/cut", close=False))
        # What came, and a length that tells that it is not all.
        expect(b"content-length: 100\r\n" in answer and answer.endswith(b"\r\n\r\nonly this"), answer)
        answer = proxy.exchange(request("/early", "POST", "content-length: 9000000\r\n", b"a" * 9000000, close=False))
        expect(answer.startswith(b"HTTP/1.1 413") and b"early" in answer, answer)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with Proxy(*plugin("rust-add-headers"), to=unused.getsockname()[1]) as proxy:
            answer = proxy.exchange(request())
            expect(answer.startswith(b"HTTP/1.1 503") and header(answer, "x-plugin"), answer)


def callouts_and_pauses():
    config = ',config={"cluster":"auth","path":"/check","timeout_ms":700}'
    arguments = [
        *plugin("rust-auth-callout", config),
        *plugin("rust-add-headers"),
        "--cluster",
        f"auth=127.0.0.1:{upstream}",
        "--pause-timeout-ms",
        "300",
    ]
    with Proxy(*arguments) as proxy:
        good = "authorization: good\r\n"
        answer = told(proxy.exchange(request("/", "POST", good + "content-length: 3\r\n", b"abc")))
        expect(answer["body"] == "abc", answer)
        data = b"".join(request(f"/{i}", "GET", good, close=False) for i in range(20))
        expect(proxy.exchange(data + request("/20", "GET", good)).count(b"HTTP/1.1 200") == 21)
        expect(proxy.exchange(request("/", "GET", "authorization: bad\r\n")).startswith(b"HTTP/1.1 403"))
        began = time.monotonic()
        answer = proxy.exchange(request("/", "GET", "authorization: slow\r\n"))
        expect(answer.startswith(b"HTTP/1.1 504") and time.monotonic() - began < 0.9, answer)
        # Many at once, each paused.
        clients = [proxy.connect() for _ in range(50)]
        for client in clients:
            client.sendall(request("/", "GET", good))
        expect(all(read_all(client).startswith(b"HTTP/1.1 200") for client in clients))
        # Clients that go away meanwhile.
        for _ in range(20):
            with proxy.connect() as client:
                client.sendall(request("/", "GET", "authorization: slow\r\n"))
        time.sleep(0.2)
        expect(proxy.exchange(request("/", "GET", good)).startswith(b"HTTP/1.1 200"))
    no_pause_timeout = [one for one in arguments if one not in ("--pause-timeout-ms", "300")]
    with Proxy(*no_pause_timeout) as proxy:
        answer = proxy.exchange(request("/", "GET", "authorization: silent\r\n"))
        expect(answer.startswith(b"HTTP/1.1 503") and b"not available" in answer, answer)


def clients_that_go_away():
    with Proxy(
        *plugin("rust-add-headers"), *plugin("rust-rewrite-json", ',config={"request":{"set":{"a":1}}}')
    ) as proxy:
        partial = [
            b"GET / HT",
            request("/", "POST", "content-length: 100\r\n", b"abc"),
            request("/hang"),
            request("/", "POST", "transfer-encoding: chunked\r\n", b"5\r\nabc"),
            request("/big/50000000"),
            request("/", "POST", "content-type: application/json\r\ncontent-length: 100\r\n", b"{"),
        ]
        for data in partial * 5:
            with proxy.connect() as client:
                client.sendall(data)
                time.sleep(0.01)
        expect(proxy.exchange(request()).startswith(b"HTTP/1.1 200"))
        code, errors = proxy.stop()
        expect(code == 0, code, errors)


def rewritten_bodies():
    config = ',config={"request":{"set":{"a":1}},"response":{"remove":["headers","trailers"]}}'
    with Proxy(*plugin("rust-rewrite-json", config)) as proxy:
        answer = proxy.exchange(
            request("/", "POST", "content-type: application/json\r\ncontent-length: 8\r\n", b'{"b": 2}')
        )
        expect("headers" not in told(answer) and told(answer)["body"] == '{"b":2,"a":1}', answer)


def held_bodies_have_a_limit():
    config = ',max_body=1000,config={"request":{"set":{"a":1}}}'
    with Proxy(*plugin("rust-rewrite-json", config)) as proxy:
        body = b'{"b": "' + b"x" * 200000 + b'"}'
        answer = proxy.exchange(
            request(
                "/", "POST", f"content-type: application/json\r\ncontent-length: {len(body)}\r\n", body, close=False
            )
        )
        expect(answer.startswith(b"HTTP/1.1 413"), answer)


def back_pressure():
    with Proxy(*plugin("rust-add-headers")) as proxy, proxy.connect() as client:
        client.sendall(request("/big/300000000"))
        time.sleep(1)  # nothing is read: the proxy must not collect 300 MB
        resident = proxy.resident_kb()
        expect(resident < 200_000, resident)
        size = 0
        while piece := client.recv(1 << 20):
            size += len(piece)
        expect(size > 300_000_000, size)


def metrics():
    with Proxy(*plugin("rust-metrics", ',config={"prefix":"demo"}'), "--metrics-path", "/metrics") as proxy:
        proxy.exchange(request())
        answer = proxy.exchange(request("/metrics"))
        expect(b"demo_requests_total 1" in answer, answer)


def threads_share_data():
    arguments = [*plugin("rust-rate-limit", ',config={"limit":10,"window_seconds":600}'), "--threads", "3"]
    with Proxy(*arguments) as proxy:
        answers = [proxy.exchange(request("/", "GET", "x-client-id: 1\r\n"))[:12] for _ in range(30)]
        expect(answers.count(b"HTTP/1.1 200") == 10 and answers.count(b"HTTP/1.1 429") == 20, answers)
        code, errors = proxy.stop()
        expect(code == 0, code, errors)


def graceful_stop():
    config = ',config={"cluster":"auth","path":"/check","timeout_ms":3000}'
    with Proxy(*plugin("rust-auth-callout", config), "--cluster", f"auth=127.0.0.1:{upstream}") as proxy:
        idle, busy = proxy.connect(), proxy.connect()
        busy.sendall(request("/", "GET", "authorization: slow\r\n", close=False))
        time.sleep(0.3)
        proxy.process.send_signal(signal.SIGTERM)
        expect(read_all(idle) == b"")
        answer = read_all(busy)
        expect(answer.startswith(b"HTTP/1.1 403") and header(answer, "connection") == ["close"], answer)
        expect(proxy.process.wait(timeout=10) == 0)
    with Proxy("--stop-timeout-ms", "300") as proxy, proxy.connect() as client:
        client.sendall(request("/hang"))
        time.sleep(0.2)
        began = time.monotonic()
        code, _ = proxy.stop()
        expect(code == 0 and time.monotonic() - began < 2)


def status_of(response):
    return int(response.split(b" ")[1]) if response.startswith(b"HTTP/1.1 ") else None


def do(what, path="/", method="GET", headers="", body=b""):
    return request(path, method, f"x-do: {what}\r\n" + headers, body)


POST = ("POST", "content-length: 3\r\n", b"abc")


def local_responses_of_every_phase():
    with Proxy("--plugin", behave) as proxy:
        for what in ("local-request", "local-request-body"):
            answer = proxy.exchange(do(what, "/", *POST))
            expect(status_of(answer) == 418 and body_of(answer) == b"short and stout\n", what, answer)
            expect(header(answer, "x-behave") == ["seen"], what, answer)
        answer = proxy.exchange(do("local-response"))
        expect(status_of(answer) == 418 and body_of(answer) == b"short and stout\n", answer)
        answer = proxy.exchange(do("local-response-body"))
        expect(answer.endswith(b"<reset>") or status_of(answer) in (418, 500), answer)


def pauses_of_every_phase():
    with Proxy("--plugin", behave) as proxy:
        for what in ("pause-request", "pause-request-body", "pause-response"):
            began = time.monotonic()
            answer = proxy.exchange(do(what, "/", *POST))
            expect(told(answer)["body"] == "abc" and time.monotonic() - began < 3, what, answer)
        answer = proxy.exchange(do("hold-response", "/trailers"))
        expect(body_of(answer) == b"abcde" and answer.endswith(b"x-sum: 5\r\n\r\n"), answer)
        answer = proxy.exchange(do("pause-response-trailers", "/trailers"))
        expect(answer.endswith(b"x-sum: 5\r\n\r\n"), answer)


def pauses_without_end():
    with Proxy("--plugin", behave, "--pause-timeout-ms", "300") as proxy:
        for what in ("stuck-request", "stuck-response"):
            answer = proxy.exchange(do(what, "/", *POST))
            expect(status_of(answer) == 504, what, answer)
            expect(header(answer, "x-behave") == (["seen"] if what == "stuck-request" else []), what, answer)


def closed_streams():
    with Proxy("--plugin", behave) as proxy:
        expect(proxy.exchange(do("close")) in (b"", b"<reset>"))
        expect(status_of(proxy.exchange(request())) == 200)


def failing_plugins():
    with Proxy("--plugin", behave + ",deadline_ms=200") as proxy:
        for what in ("trap-request", "loop", "trap-response"):
            answer = proxy.exchange(do(what, "/", *POST))
            expect(status_of(answer) == 503, what, answer)
            expect(status_of(proxy.exchange(request())) == 200, what)
            proxy.exchange(request())
        answer = proxy.exchange(do("trap-response-body"))
        expect(answer.endswith(b"<reset>") or status_of(answer) == 503, answer)
        expect(status_of(proxy.exchange(request())) == 200)
        expect(status_of(proxy.exchange(do("trap-log"))) == 200)
        expect(status_of(proxy.exchange(request())) == 200)
    with Proxy("--plugin", behave + ",policy=open") as proxy:
        for what in ("trap-request", "trap-response"):
            expect(told(proxy.exchange(do(what, "/", *POST)))["body"] == "abc", what)
    with Proxy("--plugin", behave + ",policy=closed") as proxy:
        expect([status_of(proxy.exchange(one)) for one in (do("trap-request"), request())] == [503, 503])


def odd_changes():
    with Proxy("--plugin", behave) as proxy:
        expect(told(proxy.exchange(do("new-path")))["path"] == "/rewritten?a=b")
        expect(status_of(proxy.exchange(do("new-status"))) == 299)
        expect(status_of(proxy.exchange(do("no-path"))) == 503)
        expect(status_of(proxy.exchange(do("bad-status"))) == 502)
        expect(status_of(proxy.exchange(do("inject"))) == 503)
        expect(dict(told(proxy.exchange(do("property")))["headers"])["x-source"].startswith("127.0.0.1:"))
        answer = proxy.exchange(do("trailers"))
        expect(answer.endswith(b"\r\n0\r\nx-end: 1\r\n\r\n"), answer)
        for what in ("grow", "shrink"):  # with a content-length that is wrong then
            answer = proxy.exchange(do(what))
            right = (
                status_of(answer) == 200 and header(answer, "content-length") == [str(len(body_of(answer)))]
                if not answer.endswith(b"<reset>") and status_of(answer)
                else True
            )
            expect(right, what, answer)


def denied_capabilities():
    callbacks = [
        "proxy_on_context_create",
        "proxy_on_configure",
        "proxy_on_request_headers",
        "proxy_on_response_headers",
    ]
    hostcalls = ["proxy_get_header_map_value", "proxy_replace_header_map_value"]
    allowed = "".join(f",allow={name}" for name in callbacks + hostcalls)
    with Proxy("--plugin", behave + allowed) as proxy:
        answer = proxy.exchange(do("local-request"))  # of proxy_send_local_response nothing comes
        expect(status_of(answer) == 200 and header(answer, "x-behave") == ["seen"], answer)
        expect(status_of(proxy.exchange(do("trap-log"))) == 200)  # proxy_on_log is not called
        code, errors = proxy.stop()
        expect(code == 0 and "trap" not in errors, errors)


TESTS = [
    chunked_request_with_trailers,
    response_trailers_and_framings,
    no_body_where_there_is_none,
    pipelining_keeps_order,
    expect_continue,
    no_continue_for_a_refused_request,
    no_smuggling,
    failing_upstreams,
    callouts_and_pauses,
    clients_that_go_away,
    rewritten_bodies,
    held_bodies_have_a_limit,
    back_pressure,
    metrics,
    threads_share_data,
    graceful_stop,
]

if behave:
    TESTS += [
        local_responses_of_every_phase,
        pauses_of_every_phase,
        pauses_without_end,
        closed_streams,
        failing_plugins,
        odd_changes,
        denied_capabilities,
    ]

harness.run("serve", TESTS)
