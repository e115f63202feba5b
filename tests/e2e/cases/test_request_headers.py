# SPDX-License-Identifier: Apache-2.0
import pytest
from kit.cases import AGREES, Differs, case
from kit.client import new_case_id
from kit.setup import bare, probe

AREA = "Request headers"
HEADERS = "request_headers"


def own(pairs) -> list:
    """The headers of a case, without those of the client and of proxies."""
    return [(name, value) for name, value in pairs if name.startswith("x-own")]


def read(proxy, *steps, **options):
    """Sends a GET and runs steps on its headers; what they gave, and the reply."""
    reply = proxy.get(probe={HEADERS: list(steps)}, **options)
    assert reply.status == 200
    return reply.reports.results(HEADERS), reply


# ---- Reading ----


@case("the value of a header is its first one", envoy=AGREES)
def test_get_first(proxy):
    results, _ = read(proxy, ["get", HEADERS, "x-a"], headers=[("x-a", "1"), ("x-a", "2")])
    assert results == ["1"]


@case("a header that is not there has no value", envoy=AGREES)
def test_get_missing(proxy):
    results, _ = read(proxy, ["get", HEADERS, "x-missing"])
    assert results == [None]


@case("headers are found whatever the letter case of the name that is asked for, or was sent", envoy=AGREES)
def test_get_letter_case(proxy):
    results, _ = read(
        proxy, ["get", HEADERS, "X-LOWER"], ["get", HEADERS, "x-upper"], headers=[("x-lower", "1"), ("X-UPPER", "2")]
    )
    assert results == ["1", "2"]


@case("the map of headers has all pairs in the order in which they came, names in lower case", envoy=AGREES)
def test_map(proxy):
    sent = [("X-Own-B", "1"), ("x-own-a", "2"), ("X-OWN-B", "3")]
    results, _ = read(proxy, ["map", HEADERS], headers=sent)
    assert own(results[0]) == [("x-own-b", "1"), ("x-own-a", "2"), ("x-own-b", "3")]


@case("the pseudo headers :method, :path, :authority and :scheme come first in the map", envoy=AGREES)
def test_pseudo_headers(proxy):
    results, _ = read(proxy, ["map", HEADERS], path="/a/b?c=d%20e", headers=[("host", "conformance.test")])
    pairs = [tuple(pair) for pair in results[0]]
    assert set(pairs[:4]) == {
        (":method", "GET"),
        (":path", "/a/b?c=d%20e"),
        (":authority", "conformance.test"),
        (":scheme", "http"),
    }
    assert not [name for name, _ in pairs[4:] if name.startswith(":") or name == "host"]


@case("host is another name of :authority", envoy=AGREES)
def test_host_is_authority(proxy):
    results, reply = read(
        proxy,
        ["get", HEADERS, "host"],
        ["set", HEADERS, "host", "changed.test"],
        ["get", HEADERS, ":authority"],
        headers=[("host", "conformance.test")],
    )
    assert results == ["conformance.test", "changed.test"]
    assert reply.seen.get_all("host") == ["changed.test"]


@case("the callback is told the number of headers, as many as the map has pairs", envoy=AGREES)
@pytest.mark.parametrize("count", [0, 3])
def test_count(proxy, count):
    results, reply = read(proxy, ["map", HEADERS], headers=[("x-own", str(n)) for n in range(count)])
    # The map is shown without the script.
    assert reply.reports.of(HEADERS).entries[0].arguments[0] == len(results[0]) + 1


@case("an empty value is kept, and read as empty", envoy=AGREES)
def test_empty_value(proxy):
    results, reply = read(proxy, ["get", HEADERS, "x-own"], ["map", HEADERS], headers=[("x-own", "")])
    assert results[0] == ""
    assert own(results[1]) == [("x-own", "")]
    assert reply.seen.get_all("x-own") == [""]


@case("a value keeps the blanks inside it and loses those around it", envoy=AGREES)
def test_blanks(proxy):
    with proxy.connect() as connection:
        case = connection.send_head(
            headers=[("x-own", " \t one  two\tthree \t ")], probe={HEADERS: [["get", HEADERS, "x-own"]]}
        )
        assert connection.read_reply(case).status == 200
    assert proxy.reports(case).result(HEADERS) == "one  two\tthree"
    assert proxy.seen(case).get("x-own") == "one  two\tthree"


@case("repeated headers stay fields of their own, in order", envoy=AGREES)
def test_repeated(proxy):
    sent = [("x-own", "1"), ("cookie", "a=1"), ("x-own", "2, 3"), ("cookie", "b=2"), ("x-own", "1")]
    results, reply = read(proxy, ["map", HEADERS], headers=sent)
    assert [value for name, value in results[0] if name == "x-own"] == ["1", "2, 3", "1"]
    assert [value for name, value in results[0] if name == "cookie"] == ["a=1", "b=2"]
    assert reply.seen.get_all("x-own") == ["1", "2, 3", "1"]
    assert reply.seen.get_all("cookie") == ["a=1", "b=2"]


@case("bytes from 0x80 to 0xFF in values are read and written unchanged", envoy=AGREES)
def test_bytes(proxy):
    value = bytes(range(0x80, 0x100)).decode("latin-1")
    results, reply = read(
        proxy, ["get", HEADERS, "x-own-a"], ["set", HEADERS, "x-own-b", value + "!"], headers=[("x-own-a", value)]
    )
    assert results == [value]
    assert own(reply.seen.headers) == [("x-own-a", value), ("x-own-b", value + "!")]


@case("200 headers are read, and reach the upstream", envoy=AGREES)
def test_many(proxy):
    sent = [(f"x-own-{n}", str(n)) for n in range(200)]
    results, reply = read(proxy, ["map", HEADERS], headers=sent)
    assert own(results[0]) == sent
    assert own(reply.seen.headers) == sent


@case("a plugin adds 200 headers", envoy=AGREES)
def test_add_many(proxy):
    names = [f"x-own-{n}" for n in range(200)]
    _, reply = read(proxy, *(["add", HEADERS, name, "1"] for name in names))
    assert [name for name, _ in own(reply.seen.headers)] == names


@case("a value of 32 KiB is read and written", envoy=AGREES)
def test_long_value(proxy):
    value = "0123456789abcdef" * 2048
    results, reply = read(
        proxy, ["get", HEADERS, "x-own-a"], ["set", HEADERS, "x-own-b", "{last}"], headers=[("x-own-a", value)]
    )
    assert results == [value]
    assert own(reply.seen.headers) == [("x-own-a", value), ("x-own-b", value)]


@case(
    "header fields that the client's connection header names are for the proxy, not for plugins and the upstream",
    envoy=AGREES,
)
def test_hop_by_hop(proxy):
    sent = [("connection", "x-own-hop"), ("x-own-hop", "1"), ("x-own", "2"), ("keep-alive", "timeout=5")]
    results, reply = read(proxy, ["map", HEADERS], headers=sent)
    assert own(results[0]) == [("x-own", "2")]
    assert not [name for name, _ in results[0] if name in ("connection", "keep-alive")]
    assert own(reply.seen.headers) == [("x-own", "2")]


# ---- Changing ----


@case("a header that is added reaches the upstream beside one of the same name", envoy=AGREES)
def test_add(proxy):
    reply = proxy.get(headers=[("x-a", "1")], probe={HEADERS: [["add", HEADERS, "x-a", "2"]]})
    assert reply.status == 200
    assert reply.seen.get_all("x-a") == ["1", "2"]


@case("a header that is added where there is none of its name reaches the upstream", envoy=AGREES)
def test_add_new(proxy):
    results, reply = read(proxy, ["add", HEADERS, "x-own", "1"], ["get", HEADERS, "x-own"])
    assert results == ["1"]
    assert reply.seen.get_all("x-own") == ["1"]


@case("replacing a header leaves the new value alone, however many there were", envoy=AGREES)
@pytest.mark.parametrize("before", [[], ["1"], ["1", "2", "3"]], ids=["none", "one", "several"])
def test_replace(proxy, before):
    results, reply = read(
        proxy, ["set", HEADERS, "x-own", "new"], ["map", HEADERS], headers=[("x-own", value) for value in before]
    )
    assert own(results[0]) == [("x-own", "new")]
    assert reply.seen.get_all("x-own") == ["new"]


@case("removing a header takes all fields of its name away; it may be missing", envoy=AGREES)
@pytest.mark.parametrize("before", [[], ["1"], ["1", "2", "3"]], ids=["none", "one", "several"])
def test_remove(proxy, before):
    sent = [*(("x-own", value) for value in before), ("x-own-other", "1")]
    results, reply = read(proxy, ["remove", HEADERS, "X-Own"], ["map", HEADERS], headers=sent)
    assert own(results[0]) == [("x-own-other", "1")]
    assert own(reply.seen.headers) == [("x-own-other", "1")]


@case("setting the whole map leaves the headers that it names, in its order", envoy=AGREES)
def test_set_map(proxy):
    path = f"/{new_case_id()}"
    pairs = [[":method", "GET"], [":path", path], [":authority", "set.test"], [":scheme", "http"]]
    # Without x-forwarded-proto Envoy finds no route.
    pairs += [["x-forwarded-proto", "http"], ["x-own-b", "1"], ["x-own-a", ""], ["X-Own-B", "2"]]
    reply = proxy.get(headers=[("x-own-c", "1")], probe={HEADERS: [["set_map", HEADERS, pairs], ["map", HEADERS]]})
    assert reply.status == 200
    expected = [("x-own-b", "1"), ("x-own-a", ""), ("x-own-b", "2")]
    assert own(reply.reports.result(HEADERS)) == expected
    seen = proxy.upstream.wait(path=path)[0]
    assert own(seen.headers) == expected
    assert seen.get("host") == "set.test"
    assert seen.get("user-agent") is None


@case("an empty value that a plugin writes goes on as an empty value", envoy=AGREES)
def test_write_empty_value(proxy):
    results, reply = read(
        proxy,
        ["set", HEADERS, "x-own-a", ""],
        ["add", HEADERS, "x-own-b", ""],
        ["get", HEADERS, "x-own-a"],
        headers=[("x-own-a", "1")],
    )
    assert results == [""]
    assert own(reply.seen.headers) == [("x-own-a", ""), ("x-own-b", "")]


@case("names that a plugin writes in upper case go out in lower case", envoy=AGREES)
def test_lower_case(serve, raw_upstream):
    steps = [["add", HEADERS, "X-Own-A", "A"], ["set", HEADERS, "X-OWN-B", "B"], ["map", HEADERS]]
    reply, wire = on_wire(serve, raw_upstream, *steps)
    assert own(reply.reports.result(HEADERS)) == [("x-own-a", "A"), ("x-own-b", "B")]
    assert b"\r\nx-own-a: A\r\n" in wire
    assert b"\r\nx-own-b: B\r\n" in wire


@case("a :path that a plugin writes is what the upstream gets", envoy=AGREES)
def test_rewrite_path(proxy):
    results, reply = read(proxy, ["set", HEADERS, ":path", "/new?q=%20"], ["get", HEADERS, ":path"], path="/old?p")
    assert results == ["/new?q=%20"]
    assert reply.seen.path == "/new?q=%20"


@case("a :method that a plugin writes is what the upstream gets", envoy=AGREES)
def test_rewrite_method(proxy):
    _, reply = read(proxy, ["set", HEADERS, ":method", "DELETE"])
    assert reply.seen.method == "DELETE"


@case("an :authority that a plugin writes is the upstream's host", envoy=AGREES)
def test_rewrite_authority(proxy):
    _, reply = read(proxy, ["set", HEADERS, ":authority", "new.test:8080"], headers=[("host", "old.test")])
    assert reply.seen.get_all("host") == ["new.test:8080"]


@case("a request whose :method or :path a plugin removed is refused by the proxy", envoy=AGREES)
@pytest.mark.parametrize("name", [":method", ":path"])
def test_remove_required(proxy, name):
    reply = proxy.get(probe={HEADERS: [["remove", HEADERS, name]]})
    assert 400 <= reply.status <= 599
    assert not proxy.reached_upstream(reply.case)


@case(
    "a request whose :authority a plugin removed does not go on as HTTP/1.1 without host",
    envoy=Differs(
        does="sends the request without a host field",
        because="HTTP/1.1 demands one: servers answer 400, or take their default site",
        fails_with=r"assert b'GET / HTTP/",
    ),
)
def test_remove_authority(serve, raw_upstream):
    reply, wire = on_wire(serve, raw_upstream, ["remove", HEADERS, ":authority"])
    assert wire == b""
    assert reply.status >= 400


@case("a :path or :method that a plugin writes cannot bring lines of its own into the request", envoy=AGREES)
@pytest.mark.parametrize(
    "name, value",
    [
        (":path", "/ HTTP/1.1\r\nx-evil: 1\r\n\r\n"),
        (":method", "GET /evil HTTP/1.1\r\n\r\nGET"),
    ],
    ids=["path", "method"],
)
def test_request_line_injection(serve, raw_upstream, name, value):
    reply, wire = on_wire(serve, raw_upstream, ["set", HEADERS, name, value])
    assert wire == b""
    assert reply.status >= 400


@case(
    "a request with a blank in :path or :method, which a plugin wrote, does not go on",
    envoy=Differs(
        does="sends a request line of four words",
        because="servers disagree about what such a line asks for",
        fails_with=r"assert b'GET /evil",
    ),
)
@pytest.mark.parametrize("name, value", [(":path", "/evil b"), (":method", "GET /evil")], ids=["path", "method"])
def test_blank_in_request_line(serve, raw_upstream, name, value):
    reply, wire = on_wire(serve, raw_upstream, ["set", HEADERS, name, value])
    assert wire == b""
    assert reply.status >= 400


@case(
    "a request in which a plugin writes a value with CR, LF or NUL is refused and nothing of it goes on", envoy=AGREES
)
@pytest.mark.parametrize(
    "value", ["a\r\nx-evil: 1", "a\nx-evil: 1", "a\rx-evil: 1", "a\0b"], ids=["crlf", "lf", "cr", "nul"]
)
def test_value_injection(serve, raw_upstream, value):
    reply, wire = on_wire(serve, raw_upstream, ["set", HEADERS, "x-own", value])
    assert wire == b""
    assert reply.status >= 400


@case(
    "a request in which a plugin writes a header whose name is none is refused and nothing of it goes on", envoy=AGREES
)
@pytest.mark.parametrize("name", ["x-own\r\nx-evil", "x own", "x-own:"], ids=["crlf", "blank", "colon"])
def test_name_injection(serve, raw_upstream, name):
    reply, wire = on_wire(serve, raw_upstream, ["add", HEADERS, name, "1"])
    assert wire == b""
    assert reply.status >= 400


@case("a value that cannot be sent costs its request alone: the plugin's VM goes on", envoy=AGREES)
def test_bad_value_spares_vm(serve):
    proxy = serve(probe())
    first = proxy.get()
    assert proxy.get(probe={HEADERS: [["set", HEADERS, "x-own", "a\r\nb"]]}).status >= 500
    last = proxy.get()
    assert (first.status, last.status) == (200, 200)
    assert first.reports[0].vm == last.reports[0].vm


def on_wire(serve, upstream, *steps, **options):
    """Sends a GET, or a POST when there is a body, and runs steps on its headers; the reply, and the bytes that the upstream got."""
    proxy = serve(probe(), shared=True, upstream_port=upstream.port)
    method = "POST" if "body" in options else "GET"
    reply = proxy.request(method, probe={HEADERS: list(steps)}, **options)
    return reply, upstream.heard(reply.case)


# ---- Lengths and the end of the stream ----


@case("end of stream is true in the headers of a request without a body", envoy=AGREES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_end_without_body(proxy, method):
    reply = proxy.request(method)
    assert reply.reports.of(HEADERS).entries[0].arguments[1] == 1
    assert "request_body" not in reply.reports.callbacks


@case("end of stream is false in the headers of a request with a body", envoy=AGREES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_end_with_body(proxy, chunked):
    reply = proxy.post(iter([b"x"]) if chunked else b"x")
    assert reply.reports.of(HEADERS).entries[0].arguments[1] == 0
    assert reply.seen.body == b"x"


@case("plugins see the content-length of the request", envoy=AGREES)
def test_content_length(proxy):
    reply = proxy.post(b"12345", probe={HEADERS: [["get", HEADERS, "content-length"]]})
    assert reply.reports.result(HEADERS) == "5"


@case("a body whose content-length a plugin removes goes on in full", envoy=AGREES)
def test_remove_content_length(proxy):
    reply = proxy.post(b"12345", probe={HEADERS: [["remove", HEADERS, "content-length"]]})
    assert reply.status == 200
    assert reply.seen.body == b"12345"


@case(
    "a content-length that a plugin makes smaller cannot turn the rest of the body into another request",
    envoy=Differs(
        does="sends the smaller content-length and all of the body: the upstream takes the rest for its next request",
        because="that is request smuggling, by any client whose plugin changes lengths",
        fails_with=r"assert b'GET /evil",
    ),
)
def test_smaller_content_length(serve, raw_upstream):
    body = b"12GET /evil HTTP/1.1\r\nhost: evil\r\n\r\n"
    _, wire = on_wire(serve, raw_upstream, ["set", HEADERS, "content-length", "2"], body=body)
    head, _, sent = wire.partition(b"\r\n\r\n")
    rest = sent[2:] if b"\r\ncontent-length: 2\r\n" in head + b"\r\n" else b""
    assert rest == b""


@case(
    "a content-length that a plugin writes where there is no body does not make the upstream wait",
    envoy=Differs(
        does="sends the content-length: the upstream waits for a body that never comes",
        because="the whole request is there, so its length is known",
        fails_with="ReadTimeout",
    ),
)
def test_content_length_without_body(proxy):
    reply = proxy.get(probe={HEADERS: [["set", HEADERS, "content-length", "5"]]}, timeout=2.5)
    assert reply.status == 200
    assert reply.seen.get("content-length") in (None, "0")


# ---- Other phases ----


@case("request headers can be read in the log callback, with the changes that plugins made", envoy=AGREES)
def test_read_in_log(proxy):
    reply = proxy.get(
        headers=[("x-own-a", "1")],
        probe={HEADERS: [["add", HEADERS, "x-own-b", "2"]], "log": [["get", HEADERS, "x-own-a"], ["map", HEADERS]]},
    )
    value, pairs = reply.reports.results("log")
    assert value == "1"
    assert own(pairs) == [("x-own-a", "1"), ("x-own-b", "2")]


@case(
    "request headers can be read while the body and the response pass",
    envoy=Differs(
        does="answers BAD_ARGUMENT once the request headers went on, which SDKs take for the end of the plugin",
        because="plugins look at the request when its body or the response comes",
        fails_with=r"assert \[\(2, None\)",
    ),
)
def test_read_later(serve):
    read = "proxy_get_header_map_value 0 'x-own' @ @"
    script = "; ".join(
        f"{callback}: nth 1; {read}" for callback in ("request_body", "response_headers", "response_body")
    )
    reply = serve(bare(), shared=True).post(b"body", headers=[("x-own", "1")], bare=script)
    assert [(one.result, one.value) for one in reply.reports if one.op] == [(0, "1")] * 3


@case("request headers that went on can no longer be changed: BAD_ARGUMENT", envoy=AGREES)
def test_change_later(serve):
    changes = ["proxy_add_header_map_value 0 'x-own' '2'", "proxy_replace_header_map_value 0 'x-own' '2'"]
    changes += ["proxy_remove_header_map_value 0 'x-own'", "proxy_set_header_map_pairs 0 '%00%00%00%00'"]
    script = f"request_body: nth 1; {'; '.join(changes)}; response_headers: {'; '.join(changes)}"
    reply = serve(bare(), shared=True).post(b"body", headers=[("x-own", "1")], bare=script)
    assert [one.result for one in reply.reports if one.op] == [2] * 8
    assert reply.seen.get_all("x-own") == ["1"]


@case(
    "header pairs that cannot be read as such change nothing",
    envoy=Differs(
        does="takes them for an empty map: the request loses all its headers",
        because="losing every header is never what was meant",
        fails_with=r"assert .*404",
    ),
)
@pytest.mark.parametrize("pairs", ["xx", "%05%00%00%00%00%00%00%00"], ids=["short", "cut"])
def test_malformed_pairs(serve, pairs):
    reply = serve(bare(), shared=True).get(
        bare=f"request_headers: proxy_set_header_map_pairs 0 '{pairs}'", headers=[("x-own", "1")]
    )
    assert reply.status == 200
    assert reply.reports.result(HEADERS) == 2
    assert reply.seen.get("x-own") == "1"


@case("requests of HTTP/1.0 clients pass the plugin, and are answered without chunks", envoy=AGREES)
def test_http10(proxy):
    case = new_case_id()
    steering = proxy.headers(
        case, {HEADERS: [["add", HEADERS, "x-own", "1"]]}, {"chunks": ["one ", "two"], "chunked": True}
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in steering)
    with proxy.connect() as connection:
        connection.send(f"GET / HTTP/1.0\r\nhost: conformance.test\r\n{head}\r\n".encode())
        answer = connection.read_to_end()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == b"200"
    assert b"transfer-encoding" not in head.lower()
    assert body == b"one two"
    assert proxy.seen(case).get("x-own") == "1"
    assert proxy.reports(case).callbacks[:2] == ["request_headers", "response_headers"]
