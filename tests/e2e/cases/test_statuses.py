# SPDX-License-Identifier: Apache-2.0
"""What hostcalls answer, as the bare guest sees it: SDKs hide statuses and what they leave in the places for results."""

import pytest
from kit.bare import UNTOUCHED, calls, pairs
from kit.cases import AGREES, Differs, case
from kit.setup import bare

AREA = "Statuses"
OK, NOT_FOUND, BAD_ARGUMENT, PARSE_FAILURE, EMPTY, UNIMPLEMENTED = 0, 1, 2, 4, 7, 12
#: What a request meets when the process behind it ends, or when nobody answers it.
CRASH = r"RemoteProtocolError|ReadError|ConnectError|ReadTimeout"

HEADERS = [(":method", "GET"), (":path", "/from-plugin"), (":authority", "conformance.test")]


def http_call(upstream="upstream", timeout: int | str = 2000, trailers="") -> str:
    return f"proxy_http_call '{upstream}' '{pairs(HEADERS)}' '' '{trailers}' {timeout} @"


def statuses(proxy, script: str, callback="request_headers") -> list:
    return [one.result for one in calls(proxy, script, callback)]


@pytest.fixture
def guest(serve):
    return serve(bare(), shared=True)


# ---- Numbers that mean nothing ----


@case("a header map of a number that there is not: BAD_ARGUMENT", envoy=AGREES)
@pytest.mark.parametrize("number", [8, -1, 0x7FFFFFFF])
def test_unknown_map(guest, number):
    script = (
        f"proxy_get_header_map_value {number} ':path' @ @; proxy_get_header_map_pairs {number} @ @; "
        f"proxy_get_header_map_size {number} @; proxy_add_header_map_value {number} 'x' '1'; "
        f"proxy_replace_header_map_value {number} 'x' '1'; proxy_remove_header_map_value {number} ':path'; "
        f"proxy_set_header_map_pairs {number} ''"
    )
    assert statuses(guest, script) == [BAD_ARGUMENT] * 7


@case("a buffer of a number that there is not: BAD_ARGUMENT", envoy=AGREES)
@pytest.mark.parametrize("number", [9, -1, 0x7FFFFFFF])
def test_unknown_buffer(guest, number):
    script = (
        f"proxy_get_buffer_bytes {number} 0 10 @ @; proxy_get_buffer_status {number} @ @; "
        f"proxy_set_buffer_bytes {number} 0 0 'x'"
    )
    assert statuses(guest, script) == [BAD_ARGUMENT] * 3


@case("a stream of a number that there is not cannot be resumed or closed: BAD_ARGUMENT", envoy=AGREES)
@pytest.mark.parametrize("number", [4, -1, 0x7FFFFFFF])
def test_unknown_stream(guest, number):
    assert statuses(guest, f"proxy_continue_stream {number}; proxy_close_stream {number}") == [BAD_ARGUMENT] * 2


@case("to resume the upstream side of a connection: UNIMPLEMENTED", envoy=AGREES)
def test_continue_upstream(guest):
    assert statuses(guest, "proxy_continue_stream 3") == [UNIMPLEMENTED]


@case("to resume or close a connection, in a request: OK, without effect", envoy=AGREES)
def test_connection_in_request(guest):
    script = "proxy_continue_stream 2; proxy_close_stream 2; proxy_close_stream 3"
    assert statuses(guest, script) == [OK] * 3


@case("a metric of a type that there is not is no metric: BAD_ARGUMENT, and no id", envoy=AGREES)
def test_unknown_metric_type(guest):
    (defined,) = calls(guest, "proxy_define_metric 3 'no_metric' @")
    assert (defined.result, defined.out) == (BAD_ARGUMENT, [UNTOUCHED[0]])


@case(
    "the id of an HTTP call is none of a gRPC call: BAD_ARGUMENT, and the call is answered",
    envoy=AGREES,
    needs="http_callouts",
)
def test_http_call_is_no_grpc_call(guest):
    script = f"{http_call()}; proxy_grpc_cancel $0; proxy_grpc_close $0; proxy_grpc_send $0 'x' 1"
    made, *others = calls(guest, script)
    assert made.result == OK
    assert [one.result for one in others] == [BAD_ARGUMENT] * 3
    book = guest.server.book
    answers = book.wait(
        lambda: [one for one in book.reports.of("http_call_response", vm=made.vm) if one.arguments[0] == made.out[0]]
    )
    assert answers[0].arguments[1] > 0


@case("ids of callouts that are of no kind: BAD_ARGUMENT", envoy=AGREES)
@pytest.mark.parametrize("number", [0, 3, -1])
def test_no_kind(guest, number):
    script = f"proxy_grpc_cancel {number}; proxy_grpc_close {number}; proxy_grpc_send {number} 'x' 0"
    assert statuses(guest, script) == [BAD_ARGUMENT] * 3


# ---- What is not there now ----


@case("the header maps of callouts outside of their callbacks: BAD_ARGUMENT, and no pairs", envoy=AGREES)
@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_maps_of_callouts(guest, number):
    script = (
        f"proxy_get_header_map_value {number} ':status' @ @; proxy_get_header_map_size {number} @; "
        f"proxy_add_header_map_value {number} 'x' '1'; proxy_replace_header_map_value {number} 'x' '1'; "
        f"proxy_remove_header_map_value {number} 'x'; proxy_set_header_map_pairs {number} ''; "
        f"proxy_get_header_map_pairs {number} @ @"
    )
    *others, got = calls(guest, script)
    assert [one.result for one in others] == [BAD_ARGUMENT] * 6
    assert (got.result, got.out) == (OK, [0, 0])


@case(
    "a trailer of an answer that has none, in its callback: NOT_FOUND",
    envoy=Differs(
        does="answers BAD_ARGUMENT, at which the Rust SDK ends the plugin",
        because="an answer without trailers is an ordinary one",
        fails_with=r"assert \[2, 0\] == \[1, 0\]",
    ),
    needs="http_callouts",
)
def test_no_trailers_of_answer(serve):
    read = "proxy_get_header_map_value 7 'x' @ @; proxy_get_header_map_pairs 7 @ @"
    proxy = serve(bare(f"request_headers: {http_call()}; http_call_response: {read}"))
    assert proxy.get().status == 200
    book = proxy.server.book
    results = book.wait(lambda: len(found := book.reports.results("http_call_response")) == 2 and found)
    assert results == [NOT_FOUND, OK]


@case("bodies outside of their callbacks have no bytes and cannot be changed", envoy=AGREES)
@pytest.mark.parametrize("callback", ["request_headers", "response_headers", "log"])
def test_bodies_elsewhere(guest, callback):
    script = (
        "proxy_get_buffer_bytes 0 0 10 @ @; proxy_set_buffer_bytes 0 0 0 'x'; "
        "proxy_get_buffer_bytes 1 0 10 @ @; proxy_set_buffer_bytes 1 0 0 'x'"
    )
    reply = guest.post(b"the body", bare=f"{callback}: {script}", upstream={"echo": True})
    assert (reply.status, reply.body) == (200, b"the body")
    read_request, write_request, read_response, write_response = [one for one in reply.reports if one.op]
    assert not read_request.value
    assert not read_response.value
    assert OK not in (write_request.result, write_response.result)


@case("data of connections and of callouts, in a request's body: no bytes, and no change", envoy=AGREES)
def test_other_buffers(guest):
    numbers = (2, 3, 4, 5, 8)
    script = "; ".join(
        f"proxy_get_buffer_bytes {number} 0 10 @ @; proxy_set_buffer_bytes {number} 0 0 'x'" for number in numbers
    )
    reply = guest.post(b"the body", bare=f"request_body: nth 1; {script}")
    assert reply.seen.body == b"the body"
    results = [one for one in reply.reports if one.op]
    assert len(results) == 2 * len(numbers)
    assert not any(one.value for one in results)
    assert OK not in [one.result for one in results if one.op == "proxy_set_buffer_bytes"]


@case("the size of a buffer is that of what the callback is shown; it has no flags", envoy=AGREES)
def test_buffer_status(guest):
    reply = guest.post(b"four", bare="request_body: nth 1; proxy_get_buffer_status 0 @ @")
    (status,) = [one for one in reply.reports if one.op]
    assert (status.result, status.out) == (OK, [4, 0])


@pytest.mark.parametrize("version, status", [("0.1.0", OK), ("0.2.0", NOT_FOUND), ("0.2.1", NOT_FOUND)])
@case(
    "in the log, a header of a map that the stream never had: OK and empty in ABI 0.1.0, later NOT_FOUND", envoy=AGREES
)
def test_never_had(serve, version, status):
    script = "; ".join(f"proxy_get_header_map_value {number} 'x' @ @" for number in (1, 3))
    results = calls(serve(bare(version=version), shared=True), script, "log")
    expected = [0, 0] if status == OK else [UNTOUCHED[0]] * 2
    assert [(one.result, one.out) for one in results] == [(status, expected)] * 2


@pytest.mark.parametrize("version, status", [("0.1.0", OK), ("0.2.0", NOT_FOUND), ("0.2.1", NOT_FOUND)])
@case("a header that is missing: OK and empty in ABI 0.1.0, later NOT_FOUND", envoy=AGREES)
def test_missing_header(serve, version, status):
    (missing,) = calls(serve(bare(version=version), shared=True), "proxy_get_header_map_value 0 'x-missing' @ @")
    assert (missing.result, missing.out) == (status, [0, 0] if status == OK else [UNTOUCHED[0]] * 2)


@case("proxy_get_status before any callout: OK, code 0, no message", envoy=AGREES)
def test_status_before_callouts(serve):
    (status,) = calls(serve(bare()), "proxy_get_status @ @ @")
    assert (status.result, status.out) == (OK, [0, 0, 0])


@case("a path of bytes that are no UTF-8 is a property that nobody knows, until it is set", envoy=AGREES)
def test_property_of_any_bytes(guest):
    script = (
        "proxy_get_property '%ff%fe' @ @; proxy_get_property 'request%00%ff' @ @; "
        "proxy_set_property '%ff%fe' '%00%ff'; proxy_get_property '%ff%fe' @ @"
    )
    results = calls(guest, script)
    assert [one.result for one in results] == [NOT_FOUND, NOT_FOUND, OK, OK]
    assert results[-1].value == "\x00\xff"


# ---- What is given ----


@case(
    "a map is given as count, lengths, and names and values with a NUL each; its size is that of names and values",
    envoy=AGREES,
)
def test_encoding(guest):
    got, size = calls(
        guest,
        "proxy_get_header_map_pairs 0 @ @; proxy_get_header_map_size 0 @",
        headers=[("x-own", ""), ("x-own", "1")],
    )
    data = got.value.encode("latin-1")

    def number(at):
        return int.from_bytes(data[at : at + 4], "little")

    count = number(0)
    lengths = [number(4 + 4 * index) for index in range(2 * count)]
    at, texts = 4 + 8 * count, []
    for length in lengths:
        texts.append(data[at : at + length])
        assert data[at + length : at + length + 1] == b"\x00"
        at += length + 1
    assert at == len(data)
    own = [texts[index + 1] for index in range(0, len(texts), 2) if texts[index] == b"x-own"]
    assert own == [b"", b"1"]
    assert (size.result, size.out) == (OK, [sum(lengths)])


@case("the guest is asked for exactly as many bytes as it is given", envoy=AGREES)
def test_exact_size(guest):
    script = "allocate: nth 99; request_headers: proxy_get_header_map_value 0 'x-own' @ @; proxy_get_property 'request%00method' @ @"
    reply = guest.get(bare=script, headers=[("x-own", "12345")])
    assert [one.arguments for one in reply.reports.of("allocate").entries] == [[5], [3]]
    assert [one.out[1] for one in reply.reports.of("request_headers") if one.op] == [5, 3]


@case("what is empty is OK, address 0 and size 0, and the guest is not asked for memory", envoy=AGREES)
def test_empty(guest):
    script = (
        "proxy_get_header_map_value 0 'x-empty' @ @; proxy_get_header_map_pairs 1 @ @; "
        "proxy_get_property 'plugin_root_id' @ @; proxy_call_foreign_function 'clear_route_cache' '' @ @"
    )
    reply = guest.get(bare=f"allocate: return 0; request_headers: {script}", headers=[("x-empty", "")])
    assert [(one.result, one.out) for one in reply.reports.of("request_headers") if one.op] == [(OK, [0, 0])] * 4
    assert reply.reports.of("allocate") == []


#: Hostcalls that fail, and their status.
FAILING = {
    "proxy_get_header_map_value 0 'x-missing' @ @": NOT_FOUND,
    "proxy_get_header_map_value 2 ':status' @ @": BAD_ARGUMENT,
    "proxy_get_header_map_pairs 8 @ @": BAD_ARGUMENT,
    "proxy_get_header_map_size 2 @": BAD_ARGUMENT,
    "proxy_get_buffer_bytes 9 0 10 @ @": BAD_ARGUMENT,
    "proxy_get_buffer_status 9 @ @": BAD_ARGUMENT,
    "proxy_get_property 'no%00such' @ @": NOT_FOUND,
    "proxy_get_shared_data 'no such key' @ @ @": NOT_FOUND,
    "proxy_resolve_shared_queue '' 'no such queue' @": NOT_FOUND,
    "proxy_dequeue_shared_queue 99999 @ @": NOT_FOUND,
    "proxy_define_metric 3 'no_metric' @": BAD_ARGUMENT,
    "proxy_get_metric 0x7ffffff0 @8": NOT_FOUND,
    "proxy_call_foreign_function 'no such function' '' @ @": NOT_FOUND,
}


@case("a hostcall that fails leaves the places for its results as they were", envoy=AGREES)
@pytest.mark.parametrize("call", list(FAILING), ids=lambda call: call.replace(" ", "_").replace("'", ""))
def test_untouched(guest, call):
    (one,) = calls(guest, call)
    assert one.result == FAILING[call]
    assert one.out
    assert all(cell in UNTOUCHED for cell in one.out)


@case("an empty queue: EMPTY, and the places for the item are as they were", envoy=AGREES)
def test_empty_queue(guest):
    _, popped = calls(guest, "proxy_register_shared_queue 'statuses' @; proxy_dequeue_shared_queue $0 @ @")
    assert (popped.result, popped.out) == (EMPTY, [UNTOUCHED[0]] * 2)


@case("0.1.0: proxy_get_configuration in a stream gives the VM's configuration", envoy=AGREES)
def test_configuration_in_stream(serve):
    vm = "vm_start: proxy_log 2 'started'"
    proxy = serve(bare("configure: nth 99", version="0.1.0", vm_configuration=vm), shared=True)
    (got,) = calls(proxy, "proxy_get_configuration @ @")
    assert (got.result, got.value) == (OK, vm)


# ---- Callouts ----


@case(
    "an HTTP call to a cluster without a name, or with less than no time: BAD_ARGUMENT",
    envoy=AGREES,
    needs="http_callouts",
)
def test_http_call_arguments(guest):
    script = f"{http_call(upstream='')}; {http_call(timeout=-1)}; {http_call(timeout=0x80000000)}"
    assert statuses(guest, script) == [BAD_ARGUMENT] * 3


@case(
    "a gRPC call or stream to a cluster that there is not: PARSE_FAILURE, and no id",
    envoy=AGREES,
    needs="grpc_callouts",
)
def test_grpc_to_nobody(guest):
    script = "proxy_grpc_call 'no such' 'a.B' 'C' '' '' 1000 @; proxy_grpc_stream 'no such' 'a.B' 'C' '' @"
    results = calls(guest, script)
    assert [(one.result, one.out) for one in results] == [(PARSE_FAILURE, [UNTOUCHED[0]])] * 2


@case("a gRPC call may have as much time as 32 bits hold", envoy=AGREES, needs="grpc_callouts")
def test_grpc_call_time(serve, grpc_upstream):
    proxy = serve(bare(), shared=True, clusters=(("grpc", grpc_upstream.port),))
    assert statuses(proxy, "proxy_grpc_call 'grpc' 'a.B' 'C' '' '' -1 @; proxy_grpc_cancel $0") == [OK, OK]


@case(
    "a gRPC call or stream to a cluster without a name: PARSE_FAILURE",
    envoy=Differs(
        does="crashes, the whole process",
        because="a plugin must not be able to end the proxy",
        fails_with=CRASH,
    ),
    needs="grpc_callouts",
)
@pytest.mark.parametrize("call", ["proxy_grpc_call '' 'a.B' 'C' '' '' 1000 @", "proxy_grpc_stream '' 'a.B' 'C' '' @"])
def test_grpc_without_cluster(serve, call):
    proxy = serve(bare())
    assert statuses(proxy, call) == [PARSE_FAILURE]
    assert proxy.get().status == 200


# ---- Too late ----


@case("to resume a stream that has ended: OK, without effect", envoy=AGREES)
@pytest.mark.parametrize("callback", ["log", "done", "delete"])
def test_continue_ended(guest, callback):
    assert statuses(guest, "proxy_continue_stream 0; proxy_continue_stream 1", callback) == [OK, OK]


@case(
    "to close or answer a stream that has ended: OK, without effect",
    envoy=Differs(
        does="crashes, the whole process",
        because="a plugin must not be able to end the proxy",
        fails_with=CRASH,
    ),
)
@pytest.mark.parametrize("callback", ["log", "done", "delete"])
def test_answer_ended(serve, callback):
    proxy = serve(bare())
    reply = proxy.get(bare=f"{callback}: proxy_send_local_response 403 '' '' '' -1; proxy_close_stream 0", timeout=3)
    assert reply.status == 200
    assert [one.result for one in reply.reports if one.op] == [OK, OK]
    assert proxy.get().status == 200


@case("to resume or close a stream with its root context as the effective one: OK, without effect", envoy=AGREES)
def test_root_resumes(guest):
    assert statuses(guest, f"{as_root(guest)}; proxy_continue_stream 0; proxy_close_stream 0") == [OK] * 3


def as_root(proxy) -> str:
    vm = proxy.get(bare="").reports[0].vm
    root = proxy.server.book.reports.of("configure", vm=vm)[0].context
    return f"proxy_set_effective_context {root}"


@case(
    "to answer with the root context as the effective one: OK, and it is no answer to the stream's request",
    envoy=Differs(
        does="answers nobody, and stops the request for ever",
        because="the answer was none to this request, which may go on",
        fails_with="ReadTimeout",
    ),
)
def test_root_answers(serve):
    proxy = serve(bare())
    script = f"request_headers: {as_root(proxy)}; proxy_send_local_response 403 '' '' '' -1"
    reply = proxy.get(bare=script, timeout=2)
    assert reply.status == 200
    assert [one.result for one in reply.reports if one.op] == [OK, OK]
