# SPDX-License-Identifier: Apache-2.0
import struct
import time

import pytest
from kit.cases import AGREES, Differs, case
from kit.setup import bare, probe

AREA = "Properties"


def number(text):
    """An integer, a timestamp or a duration: 8 bytes, little endian. None stays None."""
    if text is None:
        return None
    data = text.encode("latin-1")
    assert len(data) == 8, f"not 8 bytes: {data}"
    return int.from_bytes(data, "little")


def pairs(text):
    data = text.encode("latin-1")
    (count,) = struct.unpack_from("<I", data)
    sizes = [struct.unpack_from("<II", data, 4 + 8 * index) for index in range(count)]
    at, found = 4 + 8 * count, []
    for key, value in sizes:
        found.append(
            (data[at : at + key].decode("latin-1"), data[at + key + 1 : at + key + 1 + value].decode("latin-1"))
        )
        at += key + value + 2
    assert at == len(data)
    return found


def path(name):
    return ["property", name.split(".")]


def reads(*names):
    return [path(name) for name in names]


def read(proxy, *names, callback="request_headers", **options):
    """What properties are in one callback of a request."""
    reply = proxy.request(probe={callback: reads(*names)}, **options)
    return reply.reports.results(callback, "property")


# ---- The request ----


@case("request.path is the path with its query, url_path the path alone, query the rest", envoy=AGREES)
def test_path(proxy):
    found = read(proxy, "request.path", "request.url_path", "request.query", path="/a/b%20c?x=1&y=/?z")
    assert found == ["/a/b%20c?x=1&y=/?z", "/a/b%20c", "x=1&y=/?z"]


@case("request.query is empty where the path has none", envoy=AGREES)
def test_no_query(serve):
    reply = serve(bare(), shared=True).get("/a", bare="request_headers: proxy_get_property 'request%00query' @ @")
    (report,) = reply.reports.of("request_headers", op="proxy_get_property")
    assert (report.result, report.out) == (0, [0, 0])


@case("request.method, host, scheme and protocol", envoy=AGREES)
def test_request_line(proxy):
    names = ("request.method", "request.host", "request.scheme", "request.protocol")
    found = read(proxy, *names, method="PUT", headers=[("host", "conformance.test:81")], body=b"")
    assert found == ["PUT", "conformance.test:81", "http", "HTTP/1.1"]


@case("request.protocol of a request of HTTP/1.0", envoy=AGREES)
def test_http10(proxy):
    with proxy.connect() as connection:
        pairs = proxy.headers("http10", {"request_headers": reads("request.protocol")})
        head = "".join(f"{name}: {value}\r\n" for name, value in pairs)
        connection.send(f"GET / HTTP/1.0\r\nhost: conformance.test\r\n{head}\r\n".encode())
        assert connection.read_to_end().startswith(b"HTTP/1.")
    assert proxy.reports("http10").result("request_headers", "property") == "HTTP/1.0"


@case("request.protocol of a request of HTTP/2", envoy=AGREES, needs="http2")
def test_http2(serve):
    proxy = serve(probe(), shared=True, http2=True)
    assert read(proxy, "request.protocol") == ["HTTP/2"]


@case("request.referer and request.useragent are those headers", envoy=AGREES)
def test_common_headers(proxy):
    headers = [("referer", "http://a/"), ("user-agent", "one/1.0")]
    assert read(proxy, "request.referer", "request.useragent", headers=headers) == ["http://a/", "one/1.0"]


@case("request.referer and request.useragent of requests without those headers: NOT_FOUND", envoy=AGREES)
def test_no_common_headers(serve):
    with serve(bare(), shared=True).connect() as connection:
        text = "; ".join(f"proxy_get_property 'request%00{name}' @ @" for name in ("referer", "useragent"))
        reply = connection.read_reply(connection.send_head(bare=f"request_headers: {text}"))
    assert reply.reports.results("request_headers", "proxy_get_property") == [1, 1]


@case("request.id is the header x-request-id", envoy=AGREES)
def test_id(proxy):
    reply = proxy.get(
        headers=[("x-request-id", "id-of-the-case")],
        probe={"request_headers": [["get", "request_headers", "x-request-id"], *reads("request.id")]},
    )
    header, found = reply.reports.results("request_headers")
    assert found == header


@case("request.headers.NAME is a header, in whatever case the plugin writes its name", envoy=AGREES)
def test_header(proxy):
    names = ("request.headers.x-a", "request.headers.X-A", "request.headers.x-none")
    assert read(proxy, *names, headers=[("X-a", "1")]) == ["1", "1", None]


@case("a header that is repeated is one property, its values joined by commas", envoy=AGREES)
def test_repeated_header(proxy):
    assert read(proxy, "request.headers.x-a", headers=[("x-a", "1"), ("x-a", "2")]) == ["1,2"]


@case("request.headers is all headers, as pairs", envoy=AGREES)
def test_header_map(proxy):
    (found,) = read(proxy, "request.headers", headers=[("x-a", "1"), ("x-b", "")])
    found = dict(pairs(found))
    assert (found[":method"], found["x-a"], found["x-b"]) == ("GET", "1", "")


@case("request.headers tells what plugins have changed", envoy=AGREES)
def test_changed_header(proxy):
    reply = proxy.get(
        headers=[("x-a", "1")],
        probe={"request_headers": [["set", "request_headers", "x-a", "2"], *reads("request.headers.x-a")]},
    )
    assert reply.reports.result("request_headers", "property") == "2"


@case("request.time is when the request came, in nanoseconds since 1970", envoy=AGREES)
def test_time(proxy):
    before = time.time_ns()
    found = number(read(proxy, "request.time")[0])
    # Clocks of hosts may be a little behind.
    assert before - 1e9 < found < time.time_ns() + 1e9


@case("request.duration is known when the stream is logged, in nanoseconds", envoy=AGREES)
def test_duration(proxy):
    (found,) = read(proxy, "request.duration", callback="log", upstream={"delay_ms": 200})
    assert 0.15e9 < number(found) < 10e9


@case("request.size is the size of the body; total_size also has the headers", envoy=AGREES)
def test_request_size(proxy):
    size, total, headers = map(
        number,
        read(
            proxy,
            *("request.size", "request.total_size", "request.headers_bytes"),
            callback="log",
            method="POST",
            body=b"x" * 1000,
        ),
    )
    assert size == 1000
    assert 100 < headers < 5000
    assert 1100 < total < 6000


# ---- The response ----


@case("response.code is a number", envoy=AGREES)
def test_code(proxy):
    assert number(read(proxy, "response.code", callback="log", upstream={"status": 404})[0]) == 404


@case("response.code is known when the plugin sees the response's headers", envoy=AGREES)
def test_code_early(proxy):
    assert number(read(proxy, "response.code", callback="response_headers", upstream={"status": 404})[0]) == 404


@case("response.code of a response that a plugin made", envoy=AGREES)
def test_code_local(proxy):
    reply = proxy.get(probe={"request_headers": [["local", 418, [], None]], "log": reads("response.code")})
    assert number(reply.reports.result("log", "property")) == 418


@case("response.headers, all and by name; values of repeated ones are joined by commas", envoy=AGREES)
def test_response_headers(proxy):
    whole, one, none = read(
        proxy,
        *("response.headers", "response.headers.x-a", "response.headers.x-none"),
        callback="response_headers",
        upstream={"headers": [["x-a", "1"], ["x-a", "2"]]},
    )
    assert [pair for pair in pairs(whole) if pair[0] == "x-a"] == [("x-a", "1,2")]
    assert (one, none) == ("1,2", None)


@case("response.trailers, all and by name, when the stream is logged", envoy=AGREES, needs="response_trailers")
def test_response_trailers(proxy):
    whole, one = read(
        proxy,
        *("response.trailers", "response.trailers.x-a"),
        callback="log",
        upstream={"trailers": [["x-a", "1"]]},
    )
    assert (pairs(whole), one) == ([("x-a", "1")], "1")


@case("response.size is the size of the body; total_size also has the headers", envoy=AGREES)
def test_response_size(proxy):
    names = ("response.size", "response.total_size", "response.headers_bytes")
    size, total, headers = map(number, read(proxy, *names, callback="log", upstream={"size": 10000}))
    assert size == 10000
    assert 10 < headers < 2000
    assert 10000 < total < 12000


@case("response.grpc_status is the status of a gRPC response", envoy=AGREES)
def test_grpc_status(proxy):
    headers = [["content-type", "application/grpc"], ["grpc-status", "7"]]
    found = read(
        proxy,
        "response.grpc_status",
        callback="log",
        headers=[("content-type", "application/grpc")],
        upstream={"headers": headers, "body": ""},
    )
    assert number(found[0]) == 7


@pytest.mark.parametrize(("code", "status"), [(200, 2), (401, 16), (403, 7), (404, 12), (503, 14)])
@case("response.grpc_status of other responses is what gRPC makes of their status", envoy=AGREES)
def test_no_grpc_status(proxy, code, status):
    assert number(read(proxy, "response.grpc_status", callback="log", upstream={"status": code})[0]) == status


@case("response.code_details says that the response came by the upstream", envoy=AGREES)
def test_code_details(proxy):
    assert read(proxy, "response.code_details", callback="log") == ["via_upstream"]


@case("response.code_details are those that a plugin gave with its response, spaces as underscores", envoy=AGREES)
def test_local_details(serve):
    reply = serve(bare(), shared=True).get(
        bare="request_headers: proxy_send_local_response 403 'not for you' 'no' '' -1; "
        "log: proxy_get_property 'response%00code_details' @ @"
    )
    (report,) = reply.reports.of("log", op="proxy_get_property")
    assert (report.result, report.value) == (0, "not_for_you")


@case("response.flags are 0 when all went well", envoy=AGREES)
def test_flags(proxy):
    assert number(read(proxy, "response.flags", callback="log")[0]) == 0


@case("response.flags say that the upstream could not be reached, as bit 0x20", envoy=AGREES)
def test_flags_refused(serve, refusing):
    proxy = serve(probe(), upstream_port=refusing.port)
    code, flags = map(number, read(proxy, "response.code", "response.flags", callback="log"))
    assert code in (502, 503)
    assert flags == 0x20


@case("response.flags say that the upstream closed without an answer, as bit 0x40", envoy=AGREES)
def test_flags_closed(proxy):
    assert number(read(proxy, "response.flags", callback="log", upstream={"fail": "accept"})[0]) == 0x40


@case("response.backend_latency is how long the upstream took, in nanoseconds", envoy=AGREES)
def test_latency(proxy):
    (found,) = read(proxy, "response.backend_latency", callback="log", upstream={"delay_ms": 200})
    assert 0.15e9 < number(found) < 10e9


@case("properties of the response are NOT_FOUND before there is one", envoy=AGREES)
def test_no_response(proxy):
    names = ("response.code", "response.code_details", "response.headers.x-a", "response.grpc_status")
    assert read(proxy, *names) == [None] * 4


# ---- Connections ----


@case("source and destination are the two ends of the client's connection, address and port", envoy=AGREES)
def test_addresses(proxy):
    names = ("source.address", "source.port", "destination.address", "destination.port")
    with proxy.connect() as connection:
        case_id = connection.send_head(probe={"request_headers": reads(*names)})
        reply = connection.read_reply(case_id)
        (here, here_port), (there, there_port) = connection.socket.getsockname(), connection.socket.getpeername()
    source, source_port, destination, destination_port = reply.reports.results("request_headers")
    assert (source, number(source_port)) == (f"{here}:{here_port}", here_port)
    assert (destination, number(destination_port)) == (f"{there}:{there_port}", there_port)


@case("connection.id is the same for all requests of a connection, and another for another one", envoy=AGREES)
def test_connection_id(proxy):
    script = {"request_headers": reads("connection.id")}
    found = []
    with proxy.connect() as connection:
        for _ in range(2):
            reply = connection.read_reply(connection.send_head(probe=script))
            found.append(number(reply.reports.result("request_headers", "property")))
    found.append(number(proxy.get(probe=script).reports.result("request_headers", "property")))
    assert found[0] == found[1] != found[2]


@case("connection_id, of one segment, is the older name of connection.id", envoy=AGREES)
def test_old_connection_id(proxy):
    new, old = read(proxy, "connection.id", "connection_id")
    assert new == old is not None


@case("connection.mtls is one byte, 0 without TLS", envoy=AGREES)
def test_mtls(proxy):
    assert read(proxy, "connection.mtls") == ["\0"]


@case("names and certificates of TLS are NOT_FOUND without TLS", envoy=AGREES)
def test_no_tls(proxy):
    names = ("tls_version", "requested_server_name", "subject_peer_certificate", "sha256_peer_certificate_digest")
    assert read(proxy, *(f"connection.{name}" for name in names)) == [None] * 4


@case("upstream.address and upstream.port say where the request went", envoy=AGREES)
def test_upstream(proxy):
    address, port = read(proxy, "upstream.address", "upstream.port", callback="response_headers")
    assert (address, number(port)) == (f"127.0.0.1:{proxy.upstream.port}", proxy.upstream.port)


@case("upstream.local_address is the proxy's end of the connection to the upstream", envoy=AGREES)
def test_upstream_local(proxy):
    (found,) = read(proxy, "upstream.local_address", callback="log")
    address, port = found.rsplit(":", 1)
    assert address == "127.0.0.1" and 0 < int(port) < 65536


@case("upstream is NOT_FOUND before the request has gone there", envoy=AGREES)
def test_no_upstream(proxy):
    assert read(proxy, "upstream.address", "upstream.port", "upstream.local_address") == [None] * 3


# ---- Paths ----


@case("a property that nobody knows: NOT_FOUND", envoy=AGREES)
def test_unknown(proxy):
    names = ("unknown", "request.unknown", "request.path.more", "response.unknown", "no.such.thing")
    assert read(proxy, *names, callback="log") == [None] * 5


@case("an empty path: SERIALIZATION_FAILURE", envoy=AGREES)
def test_empty_path(serve):
    reply = serve(bare(), shared=True).get(bare="request_headers: proxy_get_property '' @ @")
    assert reply.reports.result("request_headers", "proxy_get_property") == 3


@case("a NUL at the end of a path is ignored", envoy=AGREES)
def test_trailing_nul(serve):
    reply = serve(bare(), shared=True).get(
        bare="request_headers: proxy_get_property 'request%00method%00' @ @; proxy_get_property 'plugin_name%00' @ @"
    )
    found = reply.reports.of("request_headers", op="proxy_get_property")
    assert [(one.result, one.value) for one in found] == [(0, "GET"), (0, "bare")]


@case("a segment with a dot is one segment: request.method is found as two only", envoy=AGREES)
def test_dots(proxy):
    reply = proxy.get(
        probe={"request_headers": [["property", ["request.method"]], ["property", ["request", "method"]]]}
    )
    assert reply.reports.results("request_headers") == [None, "GET"]


# ---- What plugins set ----


@case("what a plugin sets it can read, in the same callback and in all later ones of the stream", envoy=AGREES)
def test_set(proxy):
    reply = proxy.get(
        probe={
            "request_headers": [["set_property", ["case"], "value"], *reads("case")],
            "response_headers": reads("case"),
            "log": reads("case"),
        }
    )
    assert reply.reports.results(op="property") == ["value"] * 3


@case("what is set belongs to the stream: others do not have it", envoy=AGREES)
def test_set_stream(proxy):
    script = {"request_headers": [*reads("case"), ["set_property", ["case"], "value"]]}
    with proxy.connect() as connection:
        for _ in range(2):
            reply = connection.read_reply(connection.send_head(probe=script))
            assert reply.reports.result("request_headers", "property") is None


@case("what is set again has the new value", envoy=AGREES)
def test_set_again(proxy):
    reply = proxy.get(
        probe={
            "request_headers": [["set_property", ["case"], "1"], ["set_property", ["case"], "22"], *reads("case")],
            "log": [["set_property", ["case"], "333"], *reads("case")],
        }
    )
    assert reply.reports.results(op="property") == ["22", "333"]


@case("a value is any bytes", envoy=AGREES)
def test_set_bytes(serve):
    value = "%00%01%7f%80%ff"
    reply = serve(bare(), shared=True).get(
        bare=f"request_headers: proxy_set_property 'case' '{value}'; proxy_get_property 'case' @ @"
    )
    assert reply.reports.result("request_headers", "proxy_set_property") == 0
    (report,) = reply.reports.of("request_headers", op="proxy_get_property")
    assert (report.result, report.value) == (0, "\x00\x01\x7f\x80\xff")


@case("a value that is empty is there, and empty", envoy=AGREES)
def test_set_empty(serve):
    reply = serve(bare(), shared=True).get(
        bare="request_headers: proxy_set_property 'case' 'x'; proxy_set_property 'case' ''; "
        "proxy_get_property 'case' @ @"
    )
    (report,) = reply.reports.of("request_headers", op="proxy_get_property")
    assert (report.result, report.out) == (0, [0, 0])


@case(
    "a property of several segments can be set and read",
    envoy=Differs(
        does="It can be set, and is NOT_FOUND ever after.",
        because="What a plugin was told is stored should be there.",
        fails_with=r"\[None, None\] == \['value', 'value'\]",
    ),
)
def test_set_segments(proxy):
    reply = proxy.get(
        probe={
            "request_headers": [["set_property", ["case", "part"], "value"], *reads("case.part")],
            "log": reads("case.part"),
        }
    )
    assert reply.reports.results(op="property") == ["value", "value"]


@case("a plugin reads what another one in the chain has set", envoy=AGREES)
def test_set_other(serve):
    proxy = serve(probe("a"), probe("b"), shared=True)
    reply = proxy.get(
        scripts={
            "a": {"request_headers": [["set_property", ["case"], "of a"]]},
            "b": {"request_headers": reads("case")},
        }
    )
    assert reply.reports.result("request_headers", "property", "b") == "of a"


@pytest.mark.parametrize("name", ["plugin_name", "request.method"])
@case("attributes of the host keep their values whatever a plugin sets", envoy=AGREES)
def test_set_builtin(serve, name):
    text = name.replace(".", "%00")
    reply = serve(bare(), shared=True).get(
        bare=f"request_headers: proxy_set_property '{text}' 'other'; proxy_get_property '{text}' @ @"
    )
    (report,) = reply.reports.of("request_headers", op="proxy_get_property")
    assert (report.result, report.value) == (0, "bare" if name == "plugin_name" else "GET")


@case("a root context without a stream cannot set a property: NOT_FOUND", envoy=AGREES)
def test_set_root(serve):
    proxy = serve(bare("configure: proxy_set_property 'case' 'value'"))
    vm = proxy.get(bare="").reports[0].vm
    (report,) = proxy.server.book.reports.of("configure", op="proxy_set_property", vm=vm)
    assert report.result == 1


# ---- When ----


@pytest.mark.parametrize("callback", ["request_body", "response_headers", "response_body", "done"])
@case(
    "attributes of the request are there in every later callback of the stream",
    envoy=Differs(
        does="They are NOT_FOUND from the end of the request headers until log.",
        because="A plugin that looks at a response wants to know what it answers.",
        fails_with=r"\[None, None, None\] == \['POST', ",
    ),
)
def test_later(proxy, callback):
    names = ("request.method", "request.path", "request.headers.x-a")
    found = read(proxy, *names, callback=callback, method="POST", path="/a?b", headers=[("x-a", "1")], body=b"abc")
    assert found[:3] == ["POST", "/a?b", "1"]


# ---- Envoy's own ----


@case("xds.node is a message, whose fields are segments of the path", envoy=AGREES, needs="envoy_attributes")
def test_node(proxy):
    assert read(proxy, "xds.node.id", "xds.node.cluster") == ["conformance-node", "conformance-cluster"]


@case(
    "xds.route_name, cluster_name, virtual_host_name are those of the configuration",
    envoy=AGREES,
    needs="envoy_attributes",
)
def test_route(proxy):
    assert read(proxy, "xds.route_name", "xds.cluster_name", "xds.virtual_host_name") == ["main", "main", "all"]


@case("xds.listener_direction is a number", envoy=AGREES, needs="envoy_attributes")
def test_direction(proxy):
    assert number(read(proxy, "xds.listener_direction")[0]) == 0
