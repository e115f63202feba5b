# SPDX-License-Identifier: Apache-2.0
"""Tests the gRPC calls of `proxywasm-example serve`. serve_grpc.py PROGRAM PLUGIN; PLUGIN is behave_grpc.c compiled.

Needs h2; the tests with gRPC's own server need grpcio.
"""

import http.client
import importlib.util
import socket
import sys
import threading
import time

import grpc_upstream
import harness
from harness import expect

program, plugin = sys.argv[1], sys.argv[2]
CANCELLED, UNKNOWN, DEADLINE, EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 1, 2, 4, 8, 12, 13, 14
HEAD = "  :status=200\n  content-type=application/grpc\n"


class Proxy(harness.Proxy):
    def __init__(self, threads=1, **clusters):
        arguments = [
            "--listen",
            "127.0.0.1:0",
            "--upstream",
            "127.0.0.1:1",
            "--plugin",
            plugin,
            "--threads",
            str(threads),
        ]
        for name, port in clusters.items():
            arguments += ["--cluster", f"{name}=127.0.0.1:{port}"]
        super().__init__(program, *arguments)

    def call(self, method, svc="odd", service="test.Odd", **headers):
        """What the plugin reports of a call."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        fields = {"x-svc": svc, "x-service": service, "x-method": method}
        fields.update({"x-" + name.replace("_", "-"): value for name, value in headers.items()})
        client.request("GET", "/", headers=fields)
        response = client.getresponse()
        report = response.read().decode()
        client.close()
        return report if response.status == 200 else f"{response.status} {report}"

    def __exit__(self, kind, *_):
        code, errors = self.stop()
        if kind is None:
            expect(code == 0 and "rror" not in errors, code, errors)


def equal(have, wanted):
    expect(have == wanted, "expected", wanted, "got", have)


def closed(report, status, text=""):
    """The report has one line: the close."""
    expect(report.startswith(f"close {status} ") and text in report and report.count("\n") == 1, status, text, report)


def wait_for(condition, *what):
    end = time.monotonic() + 5
    while not condition():
        expect(time.monotonic() < end, *what)
        time.sleep(0.01)


def unused_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# ---- Tests ------------------------------------------------------------------------------------------------------------


def unary_calls():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        equal(proxy.call("Echo", message="hello"), "message 5 hello\n")
        equal(proxy.call("Echo"), "message 0 \n")
        equal(proxy.call("Bytes", message="in pieces"), "message 9 in pieces\n")
        equal(proxy.call("Continue", message="after 103"), "message 9 after 103\n")
        expect(proxy.call("Largest").startswith(f"message {4 << 20} aaa"))
        equal(odd.connections, 1)
        equal(odd.resets, [])


def whom_to_call():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        equal(proxy.call("Echo", message="a", proto="e"), "message 1 a\n")
        sent = proxy.call("Metadata", proto="m")
        expect("|:authority=there|" in sent and "|x-own=y" in sent, sent)
        equal(proxy.call("Echo", proto="g"), "open failed 4\n")
        equal(proxy.call("Echo", svc="nobody"), "open failed 4\n")
        equal(proxy.call("Echo", svc="nobody", proto="e"), "open failed 4\n")
        equal(proxy.call("Echo", svc="nobody", start="s"), "open failed 4\n")
        equal(proxy.call("bad name"), "open failed 10\n")


def request_headers():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        report = proxy.call("Metadata", meta="text", meta_bin="AAH/", meta_raw="yes", timeout="123456000")
        equal(
            report.split(" ", 2)[2].strip().split("|"),
            [
                ":method=POST",
                ":scheme=http",
                ":path=/test.Odd/Metadata",
                ":authority=odd",
                "te=trailers",
                "content-type=application/grpc",
                "grpc-accept-encoding=identity",
                "x-meta=text",
                "x-meta-bin=QUFILw==",
                "x-raw-bin=AAH/",
                "grpc-timeout=123456S",
            ],
        )


def streams():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        initial = "initial 4\n" + HEAD + "  x-initial=one\n  x-initial=two\n"
        trailing = "trailing 3\n  grpc-status=0\n  x-trailing=three\n  x-more-bin=AAH/\nclose 0 \n"
        for start, answers in (("ssh", 2), ("se", 2), ("h", 0), ("m" * 3 + "h", 3)):
            report = proxy.call("Chat", message="you", start=start)
            expect(report.startswith(initial) and report.endswith(trailing), start, report)
            equal(report.count("\nmessage "), answers)
        expect("message 9 heard you\n" in proxy.call("Chat", message="you", start="sh"))
        # Sent from inside a callback.
        report = proxy.call("Chat", message="you", start="s", each="e")
        equal(report.count("message 9 heard you\n"), 2)
        report = proxy.call("Chat", message="you", start="h", each="s")
        expect("close 0" in report, report)
        report = proxy.call("Chat", message="you", start="s", each="hs")
        expect("send failed 2\n" in report and report.endswith(trailing), report)
        report = proxy.call("Burst", start="h")
        equal(
            report,
            "initial 2\n" + HEAD + "message 3 one\nmessage 0 \nmessage 5 three\nmessage 4 four\n"
            "trailing 1\n  grpc-status=0\nclose 0 \n",
        )
        equal(odd.connections, 1)
        equal(odd.resets, [])


def beside_a_stream():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        report = proxy.call("Chat", message="you", start="us", each="h")
        expect("beside 9 heard you\n" in report and report.endswith("close 0 \n"), report)
        report = proxy.call("Chat", message="you", start="s", each="uh")
        expect("message 9 heard you\n" in report and report.endswith("close 0 \n"), report)


def cancelled():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        equal(proxy.call("Chat", start="xr"), "")
        report = proxy.call("Chat", message="you", start="ss", each="xshxr")
        equal(report.split("message 9 heard you\n", 1)[1], "send failed 1\nclose failed 1\ncancel failed 1\n")
        equal(proxy.call("Hang", message="a", timeout="200"), f"close {DEADLINE} the time is over\n")
        wait_for(lambda: [("Chat", 8), ("Hang", 8)] == odd.resets[-2:], odd.resets)
        equal(proxy.call("Echo", message="still"), "message 5 still\n")
        equal(odd.connections, 1)


def answers_without_success():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        equal(proxy.call("TrailersOnly"), "close 5 no such \u00e4%zz%\n")
        equal(
            proxy.call("TrailersOnly", start="h"),
            "initial 0\ntrailing 4\n" + HEAD + "  grpc-status=5\n  grpc-message=no%20such %C3%A4%zz%\n"
            "close 5 no such \u00e4%zz%\n",
        )
        equal(proxy.call("TrailersOnly404"), "close 9 told\n")
        equal(proxy.call("Fails", message="ignored"), "close 7 \n")
        closed(proxy.call("OddStatus"), UNKNOWN)
        for status, wanted in (
            (400, INTERNAL),
            (401, 16),
            (403, 7),
            (404, UNIMPLEMENTED),
            (418, UNKNOWN),
            (429, UNAVAILABLE),
            (500, UNKNOWN),
            (502, UNAVAILABLE),
            (503, UNAVAILABLE),
            (504, UNAVAILABLE),
        ):
            closed(proxy.call("Http", message=str(status)), wanted, f"HTTP status {status}")
        closed(proxy.call("Html"), UNKNOWN, "not gRPC")
        for error, wanted in (
            (0, INTERNAL),
            (1, INTERNAL),
            (2, INTERNAL),
            (5, UNKNOWN),
            (7, UNAVAILABLE),
            (8, CANCELLED),
            (11, EXHAUSTED),
            (12, 7),
        ):
            closed(proxy.call("Reset", message=str(error)), wanted, "stream reset")
        equal(proxy.call("Reset", message="8", start="e"), "initial 0\ntrailing 0\nclose 1 stream reset: CANCEL\n")
        equal(odd.connections, 1)


def answers_that_are_wrong():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        closed(proxy.call("NoStatus", message="a"), UNKNOWN, "no status")
        closed(proxy.call("NoMessage"), INTERNAL, "no message")
        closed(proxy.call("TwoMessages", message="a"), INTERNAL, "more than one")
        closed(proxy.call("Compressed", message="a"), INTERNAL, "compressed")
        closed(proxy.call("OddFlag", message="a"), INTERNAL, "malformed")
        closed(proxy.call("TooLarge"), EXHAUSTED, "too large")
        closed(proxy.call("Cut", message="a"), INTERNAL, "inside a message")
        closed(proxy.call("LargeHeaders"), INTERNAL)
        equal(proxy.call("Echo", message="still"), "message 5 still\n")
        equal(odd.connections, 1)


def more_than_is_taken():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        expect(proxy.call("Chat", start="b").endswith(f"close {EXHAUSTED} message to send is too large\n"))
        # Nothing is read of this stream: 20 MiB may not collect.
        report = proxy.call("Full", start="m" * 20)
        expect(f"close {EXHAUSTED} the upstream does not take" in report and "send failed 1\n" in report, report)
        equal(proxy.call("Echo", message="still"), "message 5 still\n")


def ended_by_the_server():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        report = proxy.call("Early", start="s", message="a")
        expect(report.endswith("close 8 \n"), report)
        wait_for(lambda: ("Early", 0) in odd.resets, odd.resets)


def lost_connections():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port, nobody=unused_port()) as proxy:
        for _ in range(3):
            closed(proxy.call("Echo", svc="nobody"), UNAVAILABLE, "cannot connect")
        equal(proxy.call("Echo", svc="nobody", start="s")[:21], "initial 0\ntrailing 0\n")
        for number in range(1, 4):
            equal(proxy.call("Echo", message="a"), "message 1 a\n")
            closed(proxy.call("Close"), UNAVAILABLE, "connection lost")
            equal(odd.connections, number)
        # With others under way.
        reports = []
        calls = [threading.Thread(target=lambda: reports.append(proxy.call("Hang"))) for _ in range(10)]
        for one in calls:
            one.start()
        time.sleep(0.3)
        proxy.call("Close")
        for one in calls:
            one.join()
        for report in reports:
            closed(report, UNAVAILABLE, "connection lost")
        equal(len(reports), 10)


def servers_that_go_away():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        reports = []
        leaving = threading.Thread(target=lambda: reports.append(proxy.call("GoAway", message="last")))
        leaving.start()
        time.sleep(0.15)
        equal(proxy.call("Echo", message="next"), "message 4 next\n")
        leaving.join()
        equal(reports, ["message 4 last\n"])
        equal(odd.connections, 2)
        closed(proxy.call("GoAwayUnheard"), UNAVAILABLE)
        equal(proxy.call("Echo", message="next"), "message 4 next\n")
        equal(odd.connections, 3)


def not_http2():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            for _ in range(2):
                peer, _ = listener.accept()
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                time.sleep(0.5)
                peer.close()

        threading.Thread(target=answer, daemon=True).start()
        with Proxy(old=listener.getsockname()[1]) as proxy:
            closed(proxy.call("Echo", svc="old", message="a"), UNAVAILABLE)
            expect(proxy.call("Echo", svc="old", message="a", start="s").endswith("\n"))


def many_at_once():
    odd = grpc_upstream.OddServer(max_streams=3)
    with Proxy(odd=odd.port, threads=2) as proxy:
        reports = []
        calls = [
            threading.Thread(target=lambda one=one: reports.append(proxy.call("Echo", message=str(one))))
            for one in range(60)
        ]
        for one in calls:
            one.start()
        for one in calls:
            one.join()
        equal(sorted(reports), sorted(f"message {len(str(one))} {one}\n" for one in range(60)))
        expect(odd.connections <= 2, odd.connections)


def stops_with_calls_under_way():
    odd = grpc_upstream.OddServer()
    with Proxy(odd=odd.port) as proxy:
        threading.Thread(target=lambda: proxy_call_is_cut(proxy), daemon=True).start()
        equal(proxy.call("Chat", start="sr", message="a"), "")
        time.sleep(0.2)


def proxy_call_is_cut(proxy):
    try:
        proxy.call("Hang")
    except (OSError, http.client.HTTPException):
        pass


def real_server():
    server, port = grpc_upstream.real_server()
    with Proxy(real=port) as proxy:

        def call(method, **headers):
            return proxy.call(method, svc="real", service="test.Real", **headers)

        equal(
            call("Unary", message="a", meta="b", meta_raw="yes", timeout="5000"),
            "message 24 a b b'\\x00\\x01\\xff' True\n",
        )
        equal(call("Unary", message="a", meta="b"), "message 14 a b None False\n")
        equal(call("Unary", message="fail"), "close 15 lost: 100% \u00e4\n")
        closed(call("Unary", message="slow", timeout="300"), DEADLINE)
        closed(call("Nothing", message="a"), UNIMPLEMENTED)
        report = call("Chat", message="abc", start="smsh")
        for part in ("  x-first=1\n", "message 3 0 3\n", "message 9 1 1048576\n", "message 3 2 3\n", "  x-last=2\n"):
            expect(part in report, part, report)
        expect(report.endswith("close 0 \n"), report)
        report = call("Unary", message="a", meta_raw="yes", start="e")
        expect("  x-echo-bin=AAH/\n" in report, report)
        server.stop(0.2)
        closed(call("Unary", message="a"), UNAVAILABLE)


TESTS = [
    unary_calls,
    whom_to_call,
    request_headers,
    streams,
    beside_a_stream,
    cancelled,
    answers_without_success,
    answers_that_are_wrong,
    more_than_is_taken,
    ended_by_the_server,
    lost_connections,
    servers_that_go_away,
    not_http2,
    many_at_once,
    stops_with_calls_under_way,
]

if importlib.util.find_spec("grpc"):
    TESTS += [real_server]

harness.run("serve: gRPC", TESTS)
