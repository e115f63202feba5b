# SPDX-License-Identifier: Apache-2.0
"""Bodies of requests that NGINX sends on as they come, calls of gRPC, and what must not be taken for the next message."""

import grpc
import pytest
from http_site import call, entered
from kit.client import eventually
from kit.grpc_upstream import SERVICE, GrpcUpstream

STREAMED = """
    location /streamed {
        proxy_wasm probe;
        proxy_http_version 1.1;
        proxy_request_buffering off;
        proxy_pass http://127.0.0.1:{upstream};
    }
"""
CHANGE = [["set_body", "request_body", 0, 100, "a longer body"]]


def streamed(site):
    return site(STREAMED)


def test_change_of_chunked(site):
    """Its frame says where it ends: any length will do."""
    proxy = streamed(site)
    book = proxy.server.book
    with proxy.connect() as connection:
        headers = [("transfer-encoding", "chunked")]
        steps = {"request_body": [["unless_end", [["set_body", "request_body", 0, 100, "piece."]]]]}
        case = connection.send_head("POST", "/streamed", headers, probe=steps)
        for number in range(3):
            connection.send_chunk(b"x" * 10)
            assert book.wait(lambda n=number: len(book.reports.of("request_body").entries) > n)
        assert eventually(lambda: [one.complete for one in proxy.upstream.seen(case)] == [False])
        connection.send_last_chunk()
        assert connection.read_reply(case).status == 200
    seen = proxy.seen(case)
    assert seen.body == b"piece." * 3
    assert seen.get("transfer-encoding") == "chunked"


def test_length_that_was_left(site):
    """The upstream was told another one: it gets no whole request, and nothing that is taken for the next."""
    proxy = streamed(site)
    with proxy.connect() as connection:
        case = connection.send_head("POST", "/streamed", [("content-length", "20")], probe={"request_body": CHANGE})
        connection.send(b"x" * 5)
        assert entered(proxy, case, "request_body")
        connection.send(b"x" * 15)
        reply = connection.read_reply(case)
    assert reply.status == 500
    assert not any(one.complete for one in proxy.upstream.seen(case))
    assert reply.reports.ends == [1, 1, 1]


def test_length_that_was_removed(site):
    """All of the body is waited for; the upstream is told what its length has become."""
    proxy = streamed(site)
    steps = {"request_headers": [["remove", "request_headers", "content-length"]], "request_body": CHANGE}
    reply = proxy.post(b"body", "/streamed", probe=steps)
    assert reply.status == 200
    assert reply.seen.body == b"a longer body"
    assert reply.seen.get_all("content-length") == ["13"]


@pytest.mark.parametrize("body", [b"in one piece", b"x" * 300_000], ids=["small", "large"])
def test_pause(site, body):
    """The end of the body waits for a plugin, though the upstream has the beginning."""
    proxy = streamed(site)
    steps = {"request_body": [["if_end", [["pause"], call(["resume", "request"])]]]}
    reply = proxy.post(body, "/streamed", probe=steps, upstream={"echo": True})
    assert (reply.status, reply.body) == (200, body)
    assert reply.reports.ends == [1, 1, 1]


def test_pause_of_mirrored(site):
    """`mirror` has all of the body read, before the content handler that would send it on as it comes."""
    proxy = site(
        STREAMED.replace("proxy_wasm probe;", "proxy_wasm probe; mirror /mirrored;", 1)
        + "location /mirrored { internal; proxy_wasm_subrequests off; proxy_pass http://127.0.0.1:{upstream}; }"
    )
    steps = {"request_body": [["if_end", [["set_body", "request_body", 0, 100, "a longer body"]]]]}
    steps["request_body"] += [["if_end", [["pause"], call(["resume", "request"])]]]
    reply = proxy.post(b"body", "/streamed", probe=steps, upstream={"echo": True})
    assert (reply.status, reply.body) == (200, b"a longer body")
    assert {one.body for one in proxy.upstream.wait(reply.case, count=2)} == {b"a longer body"}


def test_local_response(site):
    """The upstream's request breaks off."""
    proxy = streamed(site)
    with proxy.connect() as connection:
        steps = {"request_body": [["nth", 2, [["local", 403, [], "no"]]]]}
        case = connection.send_head("POST", "/streamed", [("content-length", "100000")], probe=steps)
        connection.send(b"x" * 1000)
        assert entered(proxy, case, "request_body")
        connection.send(b"x" * 1000)
        reply = connection.read_reply(case)
        assert (reply.status, reply.body) == (403, b"no")
    assert reply.reports.ends == [1, 1, 1]
    assert not any(one.complete for one in proxy.upstream.seen(case))


@pytest.mark.parametrize("path", ["/proxied", "/streamed", "/return"])
def test_rest_of_a_body_is_no_request(site, path):
    """A plugin has answered before all of the body came."""
    proxy = streamed(site)
    smuggled = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
    with proxy.connect() as connection:
        length = 1000 + len(smuggled)
        steps = {"request_body": [["local", 403, [], "no"]]}
        case = connection.send_head("POST", path, [("content-length", str(length))], probe=steps)
        connection.send(b"x" * 1000)
        assert connection.read_reply(case).status == 403
        connection.send(smuggled)
        after = connection.send_head(path="/none")
        assert connection.read_reply(after).body == b"none"
    assert not proxy.upstream.seen(path="/smuggled")


# ---- gRPC ----


@pytest.fixture
def service():
    server = GrpcUpstream()
    yield server
    server.close()


@pytest.fixture
def channel(nginx, service):
    """A client of the service behind NGINX, with a probe between them."""
    opened = []

    def start(**on):
        server = f"location / {{ proxy_wasm probe; grpc_pass grpc://127.0.0.1:{service.port}; }}"
        proxy = nginx(listen="http2", server=server)
        one = grpc.insecure_channel(f"127.0.0.1:{proxy.port}")
        opened.append(one)
        script = dict(proxy.headers("call", on))["x-probe"]
        return proxy, one, [("x-call", "call"), ("x-probe", script)]

    yield start
    for one in opened:
        one.close()


def test_chat(channel, service):
    """Messages go both ways before either side has ended."""
    proxy, client, metadata = channel()

    def messages():
        yield b"0"
        for number in range(1, 4):
            # The service has the one before.
            assert service.wait("call", lambda call, n=number: len(call.messages) >= n)
            yield str(number).encode()

    chat = client.stream_stream(f"/{SERVICE}/Chat")
    assert list(chat(messages(), metadata=metadata, timeout=10)) == [b"0", b"1", b"2", b"3"]
    reports = proxy.reports("call")
    assert reports.ends == [1, 1, 1]
    assert "response_trailers" in reports.callbacks


def test_trailers(channel):
    """A plugin reads those of the service, changes them, and adds one."""
    steps = [
        ["get", "response_trailers", "grpc-status"],
        ["get", "response_trailers", "x-end"],
        ["set", "response_trailers", "x-end", "of the plugin"],
        ["add", "response_trailers", "x-own", "1"],
    ]
    proxy, client, metadata = channel(response_trailers=steps)
    orders = ("x-orders", '{"trailing": [["x-end", "of the service"]]}')
    unary = client.unary_unary(f"/{SERVICE}/Unary")
    answer, ended = unary.with_call(b"hello", metadata=[*metadata, orders], timeout=10)
    assert answer == b"hello"
    assert proxy.reports("call").results("response_trailers")[:2] == ["0", "of the service"]
    trailing = {(one.key, one.value) for one in ended.trailing_metadata()}
    assert {("x-end", "of the plugin"), ("x-own", "1")} <= trailing


def test_local_response_to_grpc(channel, service):
    proxy, client, metadata = channel(request_body=[["local", 403, [], "denied"]])
    with pytest.raises(grpc.RpcError) as failure:
        client.unary_unary(f"/{SERVICE}/Unary")(b"hello", metadata=metadata, timeout=10)
    assert failure.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert not any(one.half_closed for one in service.calls("call"))
    assert proxy.reports("call").ends == [1, 1, 1]


def test_trailers_of_a_plugin(site):
    """At the end of a chunked response; in one with a length there is no room for them."""
    proxy = site()
    steps = {"response_body": [["if_end", [["add", "response_trailers", "x-own", "1"]]]]}
    for chunked, expected in ((True, [("x-own", "1")]), (False, [])):
        with proxy.connect() as connection:
            case = connection.send_head(path="/unbuffered", probe=steps, upstream={"chunked": chunked})
            reply = connection.read_reply(case)
        assert (reply.status, reply.body, reply.trailers) == (200, b"ok\n", expected)
