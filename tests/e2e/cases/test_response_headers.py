# SPDX-License-Identifier: Apache-2.0
import pytest
from kit.cases import AGREES, Differs, case
from kit.setup import bare

AREA = "Response headers"
HEADERS = "response_headers"


def own(pairs) -> list:
    """The headers of a case, without those of proxies."""
    return [(name, value) for name, value in pairs if name.startswith("x-own")]


def read(proxy, *steps, headers=(), **options):
    """Lets the upstream answer with these headers and runs steps on them; what they gave, and the reply."""
    reply = proxy.get(probe={HEADERS: list(steps)}, upstream={"headers": list(headers), **options})
    return reply.reports.results(HEADERS), reply


def raw_answer(proxy, *steps, method: str = "GET", **options) -> tuple[bytes, bytes, str]:
    """As `read`, with the answer as bytes: head, rest, and the case's id."""
    with proxy.connect() as connection:
        case = connection.send_head(
            method, headers=[("connection", "close")], probe={HEADERS: list(steps)}, upstream=options
        )
        try:
            head, _, rest = connection.read_to_end(3).partition(b"\r\n\r\n")
        except ConnectionResetError:
            head, rest = b"", b""
    return head + b"\r\n", rest, case


# ---- Reading ----


@case("the value of a response header is its first one", envoy=AGREES)
def test_get_first(proxy):
    results, _ = read(proxy, ["get", HEADERS, "x-own"], headers=[("x-own", "1"), ("x-own", "2")])
    assert results == ["1"]


@case("a response header that is not there has no value", envoy=AGREES)
def test_get_missing(proxy):
    results, _ = read(proxy, ["get", HEADERS, "x-missing"])
    assert results == [None]


@case("response headers are found whatever the letter case of the name that is asked for, or was sent", envoy=AGREES)
def test_get_letter_case(proxy):
    steps = [["get", HEADERS, "X-OWN-A"], ["get", HEADERS, "x-own-b"]]
    results, _ = read(proxy, *steps, headers=[("x-own-a", "1"), ("X-OWN-B", "2")])
    assert results == ["1", "2"]


@case("the map of response headers has all pairs in order, names in lower case, :status first", envoy=AGREES)
def test_map(proxy):
    sent = [("X-Own-B", "1"), ("x-own-a", "2"), ("x-own-b", "3")]
    results, _ = read(proxy, ["map", HEADERS], headers=sent, status=203)
    assert results[0][0] == [":status", "203"]
    assert own(results[0]) == [("x-own-b", "1"), ("x-own-a", "2"), ("x-own-b", "3")]


@case("the callback is told the number of response headers, as many as the map has pairs", envoy=AGREES)
@pytest.mark.parametrize("count", [0, 3])
def test_count(proxy, count):
    results, reply = read(proxy, ["map", HEADERS], headers=[("x-own", str(n)) for n in range(count)])
    assert reply.reports.of(HEADERS).entries[0].arguments[0] == len(results[0])


@case("an empty value in a response is kept, and read as empty", envoy=AGREES)
def test_empty_value(proxy):
    results, reply = read(proxy, ["get", HEADERS, "x-own"], headers=[("x-own", "")])
    assert results == [""]
    assert own(reply.headers) == [("x-own", "")]


@case("a value in a response keeps the blanks inside it and loses those around it", envoy=AGREES)
def test_blanks(proxy):
    raw = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-own:  \t one  two\tthree \t \r\n\r\n"
    results, reply = read(proxy, ["get", HEADERS, "x-own"], raw=raw)
    assert results == ["one  two\tthree"]
    assert reply.get("x-own") == "one  two\tthree"


@case("repeated response headers stay fields of their own, set-cookie above all", envoy=AGREES)
def test_repeated(proxy):
    sent = [
        ("set-cookie", "a=1; path=/, x"),
        ("x-own", "1"),
        ("set-cookie", "b=2"),
        ("x-own", "2"),
        ("set-cookie", "a=1"),
    ]
    results, reply = read(proxy, ["map", HEADERS], headers=sent)
    cookies = ["a=1; path=/, x", "b=2", "a=1"]
    assert [value for name, value in results[0] if name == "set-cookie"] == cookies
    assert reply.get_all("set-cookie") == cookies
    assert reply.get_all("x-own") == ["1", "2"]


@case("a set-cookie that a plugin adds stands beside those of the upstream", envoy=AGREES)
def test_add_cookie(proxy):
    steps = [["add", HEADERS, "set-cookie", "c=3"]]
    _, reply = read(proxy, *steps, headers=[("set-cookie", "a=1"), ("set-cookie", "b=2")])
    assert reply.get_all("set-cookie") == ["a=1", "b=2", "c=3"]


@case("bytes from 0x80 to 0xFF in values of responses are read and written unchanged", envoy=AGREES)
def test_bytes(proxy):
    value = bytes(range(0x80, 0x100)).decode("latin-1")
    steps = [["get", HEADERS, "x-own-a"], ["set", HEADERS, "x-own-b", value + "!"]]
    results, reply = read(proxy, *steps, headers=[("x-own-a", value)])
    assert results == [value]
    assert own(reply.headers) == [("x-own-a", value), ("x-own-b", value + "!")]


@case("200 headers of a response are read, and reach the client", envoy=AGREES)
def test_many(proxy):
    sent = [(f"x-own-{n}", str(n)) for n in range(200)]
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent)
    results, reply = read(proxy, ["map", HEADERS], raw=f"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{lines}\r\n")
    assert own(results[0]) == sent
    assert own(reply.headers) == sent


@case("a plugin adds 200 headers to a response", envoy=AGREES)
def test_add_many(proxy):
    names = [f"x-own-{n}" for n in range(200)]
    _, reply = read(proxy, *(["add", HEADERS, name, "1"] for name in names))
    assert [name for name, _ in own(reply.headers)] == names


@case("a value of 32 KiB in a response is read and written", envoy=AGREES)
def test_long_value(proxy):
    value = "0123456789abcdef" * 2048
    raw = f"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-own-a: {value[:32]}\r\n\r\n"
    steps = [["get", HEADERS, "x-own-a"], ["set", HEADERS, "x-own-b", "{last}" * 1024], ["get", HEADERS, "x-own-b"]]
    results, reply = read(proxy, *steps, raw=raw)
    assert results == [value[:32], value]
    assert reply.get("x-own-b") == value


# ---- Changing ----


@case("a response header that is added reaches the client beside one of the same name", envoy=AGREES)
def test_add(proxy):
    _, reply = read(proxy, ["add", HEADERS, "x-own", "2"], headers=[("x-own", "1")])
    assert reply.status == 200
    assert reply.get_all("x-own") == ["1", "2"]


@case("replacing a response header leaves the new value alone, however many there were", envoy=AGREES)
@pytest.mark.parametrize("before", [[], ["1"], ["1", "2", "3"]], ids=["none", "one", "several"])
def test_replace(proxy, before):
    _, reply = read(proxy, ["set", HEADERS, "X-Own", "new"], headers=[("x-own", value) for value in before])
    assert own(reply.headers) == [("x-own", "new")]


@case("removing a response header takes all fields of its name away; it may be missing", envoy=AGREES)
@pytest.mark.parametrize("before", [[], ["1"], ["1", "2", "3"]], ids=["none", "one", "several"])
def test_remove(proxy, before):
    sent = [*(("x-own", value) for value in before), ("x-own-other", "1")]
    _, reply = read(proxy, ["remove", HEADERS, "X-Own"], headers=sent)
    assert own(reply.headers) == [("x-own-other", "1")]


@case("setting the whole map of a response leaves the headers that it names, in its order", envoy=AGREES)
def test_set_map(proxy):
    pairs = [[":status", "202"], ["x-own-b", "1"], ["x-own-a", ""], ["X-Own-B", "2"]]
    results, reply = read(
        proxy, ["set_map", HEADERS, pairs], ["map", HEADERS], headers=[("x-own-c", "1"), ("etag", "a")]
    )
    expected = [("x-own-b", "1"), ("x-own-a", ""), ("x-own-b", "2")]
    assert own(results[0]) == expected
    assert own(reply.headers) == expected
    assert reply.get("etag") is None
    assert (reply.status, reply.body) == (202, b"ok\n")


@case("names that a plugin writes in upper case reach the client in lower case", envoy=AGREES)
def test_lower_case(proxy):
    head, _, _ = raw_answer(proxy, ["add", HEADERS, "X-Own-A", "A"], ["set", HEADERS, "X-OWN-B", "B"])
    assert b"\r\nx-own-a: A\r\n" in head
    assert b"\r\nx-own-b: B\r\n" in head


@case("a :status that a plugin writes is the client's", envoy=AGREES)
@pytest.mark.parametrize("status", [201, 404, 503, 599])
def test_rewrite_status(proxy, status):
    results, reply = read(proxy, ["set", HEADERS, ":status", str(status)], ["get", HEADERS, ":status"])
    assert results == [str(status)]
    assert (reply.status, reply.body) == (status, b"ok\n")


@case(
    "a response to which a plugin gives status 204 has no body on the wire",
    envoy=Differs(
        does="sends the body behind the head of the 204",
        because="the client takes it for the beginning of the next response",
        fails_with=r"assert b'.*ok\\n.*' == b''",
    ),
)
def test_rewrite_status_204(proxy):
    head, rest, _ = raw_answer(proxy, ["set", HEADERS, ":status", "204"], ["remove", HEADERS, "content-length"])
    assert head.split()[1] == b"204"
    assert rest == b""


@case("a response whose :status a plugin removed or made no number is answered with 502", envoy=AGREES)
@pytest.mark.parametrize(
    "step",
    [["remove", HEADERS, ":status"], ["set", HEADERS, ":status", "abc"], ["set", HEADERS, ":status", "200 OK"]],
    ids=["removed", "text", "line"],
)
def test_bad_status(proxy, step):
    _, reply = read(proxy, step)
    assert reply.status == 502


@case(
    "a :status that HTTP does not have is answered with 502",
    envoy=Differs(
        does="writes the number into the status line",
        because="the line is none then, and clients break the connection off",
        fails_with="illegal status line",
    ),
)
@pytest.mark.parametrize("status", ["99", "1000"])
def test_status_out_of_range(proxy, status):
    _, reply = read(proxy, ["set", HEADERS, ":status", status])
    assert reply.status == 502


@case(
    "what a plugin writes with CR, LF or NUL into a response header does not reach the client as lines of its own",
    envoy=Differs(
        does="writes the bytes as they are: the client reads headers that nobody wrote",
        because="that is response splitting, by anybody whose text a plugin copies into a header",
        fails_with=r"assert .*x-evil|assert .*a\\x00b",
    ),
)
@pytest.mark.parametrize(
    "value", ["a\r\nx-evil: 1", "a\nx-evil: 1", "a\rx-evil: 1", "a\0b"], ids=["crlf", "lf", "cr", "nul"]
)
def test_value_injection(proxy, value):
    head, _, _ = raw_answer(proxy, ["set", HEADERS, "x-own", value])
    assert head.startswith(b"HTTP/1.1 ")
    assert not [line for line in head.split(b"\r\n") if b"x-evil" in line or b"\0" in line]
    assert int(head.split()[1]) >= 500


@case(
    "a name that is none, which a plugin writes into a response, does not reach the client",
    envoy=Differs(
        does="writes the bytes as they are: the client reads headers that nobody wrote",
        because="that is response splitting, by anybody whose text a plugin copies into a name",
        fails_with=r"assert not \[.*(x-evil|x own)",
    ),
)
@pytest.mark.parametrize("name", ["x-own\r\nx-evil", "x own"], ids=["crlf", "blank"])
def test_name_injection(proxy, name):
    head, _, _ = raw_answer(proxy, ["add", HEADERS, name, "1"])
    assert not [line for line in head.split(b"\r\n") if b"x-evil" in line or b"x own" in line]
    assert int(head.split()[1]) >= 500


# ---- Lengths and the end of the stream ----


@case("end of stream is true in the headers of a response without a body", envoy=AGREES)
@pytest.mark.parametrize(
    "method, orders",
    [("GET", {"status": 204}), ("GET", {"status": 304}), ("HEAD", {"size": 1000}), ("GET", {"body": ""})],
    ids=["204", "304", "HEAD", "empty"],
)
def test_end_without_body(proxy, method, orders):
    reply = proxy.request(method, upstream=orders)
    assert reply.status == orders.get("status", 200)
    assert reply.reports.of(HEADERS).entries[0].arguments[1] == 1
    assert "response_body" not in reply.reports.callbacks


@case("end of stream is false in the headers of a response with a body", envoy=AGREES)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_end_with_body(proxy, chunked):
    reply = proxy.get(upstream={"chunked": chunked})
    assert reply.reports.of(HEADERS).entries[0].arguments[1] == 0
    assert reply.body == b"ok\n"


@case("the content-length of a response to HEAD is shown to plugins and reaches the client", envoy=AGREES)
def test_head(proxy):
    reply = proxy.request("HEAD", probe={HEADERS: [["get", HEADERS, "content-length"]]}, upstream={"size": 12345})
    assert reply.reports.result(HEADERS) == "12345"
    assert reply.get("content-length") == "12345"
    assert reply.body == b""


@case("a response whose content-length a plugin removes reaches the client in full", envoy=AGREES)
def test_remove_content_length(proxy):
    _, reply = read(proxy, ["remove", HEADERS, "content-length"], size=100000)
    assert reply.body == b"x" * 100000


@case(
    "a content-length that a plugin makes smaller cannot turn the rest of the body into another response",
    envoy=Differs(
        does="sends the smaller content-length and all of the body: the client takes the rest for the next response",
        because="that is response splitting: the next request on the connection gets an answer of the first one's making",
        fails_with=r"assert b'HTTP/1\.1 200 EVIL",
    ),
)
def test_smaller_content_length(proxy):
    body = "okHTTP/1.1 200 EVIL\r\n\r\n"
    head, rest, _ = raw_answer(proxy, ["set", HEADERS, "content-length", "2"], body=body)
    too_much = rest[2:] if b"\r\ncontent-length: 2\r\n" in head else b""
    assert too_much == b""


# ---- Other phases ----


@case("response headers can neither be read nor changed before they came: BAD_ARGUMENT, and no pairs", envoy=AGREES)
def test_too_early(serve):
    calls = [
        "proxy_get_header_map_value 2 'x-own' @ @",
        "proxy_get_header_map_pairs 2 @ @",
        "proxy_get_header_map_size 2 @",
    ]
    calls += ["proxy_add_header_map_value 2 'x-own' '2'", "proxy_replace_header_map_value 2 'x-own' '2'"]
    calls += ["proxy_remove_header_map_value 2 'x-own'", "proxy_set_header_map_pairs 2 '%00%00%00%00'"]
    reply = serve(bare(), shared=True).get(
        bare=f"request_headers: {'; '.join(calls)}", upstream={"headers": [("x-own", "1")]}
    )
    assert [one.result for one in reply.reports if one.op] == [2, 0, 2, 2, 2, 2, 2]
    assert reply.get_all("x-own") == ["1"]


@case("response headers can be read in the log callback, with the changes that plugins made", envoy=AGREES)
def test_read_in_log(proxy):
    reply = proxy.get(
        probe={HEADERS: [["add", HEADERS, "x-own-b", "2"]], "log": [["get", HEADERS, ":status"], ["map", HEADERS]]},
        upstream={"headers": [("x-own-a", "1")], "status": 203},
    )
    status, pairs = reply.reports.results("log")
    assert status == "203"
    assert own(pairs) == [("x-own-a", "1"), ("x-own-b", "2")]


@case("headers cannot be changed in the log callback: BAD_ARGUMENT", envoy=AGREES)
def test_change_in_log(serve):
    changes = [
        f"proxy_{change} {which} 'x-own'{value}"
        for which in (0, 2)
        for change, value in (
            ("add_header_map_value", " '2'"),
            ("replace_header_map_value", " '2'"),
            ("remove_header_map_value", ""),
        )
    ]
    reply = serve(bare(), shared=True).get(bare=f"log: {'; '.join(changes)}")
    assert [one.result for one in reply.reports if one.op] == [2] * 6


@case(
    "response headers can be read while the body passes",
    envoy=Differs(
        does="answers BAD_ARGUMENT once the response headers went on, which SDKs take for the end of the plugin",
        because="what to do with a body depends on its content-type",
        fails_with=r"assert \[\(2, None\)",
    ),
)
def test_read_later(serve):
    script = "response_body: nth 1; proxy_get_header_map_value 2 'x-own' @ @"
    reply = serve(bare(), shared=True).get(bare=script, upstream={"headers": [("x-own", "1")]})
    assert [(one.result, one.value) for one in reply.reports if one.op] == [(0, "1")]


@case("response headers that went on can no longer be changed: BAD_ARGUMENT", envoy=AGREES)
def test_change_later(serve):
    changes = ["proxy_add_header_map_value 2 'x-own' '2'", "proxy_replace_header_map_value 2 'x-own' '2'"]
    changes += ["proxy_remove_header_map_value 2 'x-own'", "proxy_set_header_map_pairs 2 '%00%00%00%00'"]
    script = f"response_body: nth 1; {'; '.join(changes)}"
    reply = serve(bare(), shared=True).get(bare=script, upstream={"headers": [("x-own", "1")]})
    assert [one.result for one in reply.reports if one.op] == [2] * 4
    assert reply.get_all("x-own") == ["1"]


@case("informational responses are not shown to plugins: there is one response, the final one", envoy=AGREES)
def test_informational(proxy):
    _, reply = read(proxy, ["get", HEADERS, ":status"], informational=[103])
    assert reply.status == 200
    assert reply.reports.results(HEADERS) == ["200"]


@case("a response without length and chunks, which ends with its connection, passes in full", envoy=AGREES)
def test_until_close(proxy):
    _, reply = read(proxy, ["add", HEADERS, "x-own", "1"], raw="HTTP/1.1 200 OK\r\n\r\nuntil the end")
    assert (reply.status, reply.body) == (200, b"until the end")
    assert reply.get("x-own") == "1"
