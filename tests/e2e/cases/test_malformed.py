# SPDX-License-Identifier: Apache-2.0
"""Addresses outside of the guest's memory, an allocator that fails, header pairs that are none: what no SDK does, but a broken plugin."""

import pytest
from kit.bare import UNTOUCHED, calls, pairs, word
from kit.cases import AGREES, Differs, case
from kit.setup import bare, probe

AREA = "Statuses"
OK, BAD_ARGUMENT, INVALID_MEMORY_ACCESS = 0, 2, 6
#: 16 bytes below the end of what 32 bits can address.
WILD = "0xFFFFFFF0"

CALL = pairs([(":method", "GET"), (":path", "/from-plugin"), (":authority", "conformance.test")])


def statuses(proxy, *script: str) -> list:
    return [(one.op, one.result) for one in calls(proxy, "; ".join(script))]


def all_refused(script) -> list:
    return [(call.split()[0], INVALID_MEMORY_ACCESS) for call in script]


@pytest.fixture
def guest(serve):
    return serve(bare(), shared=True)


# ---- Addresses ----

#: {} is an address and a length.
READ_BY_HOST = {
    "log": ["proxy_log 2 {}"],
    "headers": [
        "proxy_get_header_map_value 0 {} @ @",
        "proxy_add_header_map_value 0 {} '1'",
        "proxy_add_header_map_value 0 'x-own' {}",
        "proxy_replace_header_map_value 0 {} '1'",
        "proxy_replace_header_map_value 0 'x-own' {}",
        "proxy_remove_header_map_value 0 {}",
        "proxy_set_header_map_pairs 0 {}",
    ],
    "local response": [
        "proxy_send_local_response 403 {} '' '' -1",
        "proxy_send_local_response 403 '' {} '' -1",
        "proxy_send_local_response 403 '' '' {} -1",
    ],
    "properties": ["proxy_get_property {} @ @", "proxy_set_property {} 'x'", "proxy_set_property 'x' {}"],
    "shared data": [
        "proxy_get_shared_data {} @ @ @",
        "proxy_set_shared_data {} 'x' 0",
        "proxy_set_shared_data 'malformed' {} 0",
    ],
    "queues": [
        "proxy_register_shared_queue {} @",
        "proxy_resolve_shared_queue {} 'x' @",
        "proxy_resolve_shared_queue '' {} @",
    ],
    "metrics": ["proxy_define_metric 0 {} @"],
    "foreign function": [
        "proxy_call_foreign_function {} '' @ @",
        "proxy_call_foreign_function 'clear_route_cache' {} @ @",
    ],
    "HTTP call": [
        f"proxy_http_call {{}} '{CALL}' '' '' 1000 @",
        "proxy_http_call 'upstream' {} '' '' 1000 @",
        f"proxy_http_call 'upstream' '{CALL}' {{}} '' 1000 @",
        f"proxy_http_call 'upstream' '{CALL}' '' {{}} 1000 @",
    ],
    "gRPC call": [
        "proxy_grpc_call {} 'a.B' 'C' '' '' 1000 @",
        "proxy_grpc_call 'upstream' {} 'C' '' '' 1000 @",
        "proxy_grpc_call 'upstream' 'a.B' {} '' '' 1000 @",
        "proxy_grpc_call 'upstream' 'a.B' 'C' {} '' 1000 @",
        "proxy_grpc_call 'upstream' 'a.B' 'C' '' {} 1000 @",
    ],
    "gRPC stream": [
        "proxy_grpc_stream {} 'a.B' 'C' '' @",
        "proxy_grpc_stream 'upstream' {} 'C' '' @",
        "proxy_grpc_stream 'upstream' 'a.B' {} '' @",
        "proxy_grpc_stream 'upstream' 'a.B' 'C' {} @",
    ],
}


@case(
    "what the host is to read lies outside of the memory, wholly or in part: INVALID_MEMORY_ACCESS, and nothing happens",
    envoy=AGREES,
)
@pytest.mark.parametrize("kind", list(READ_BY_HOST))
def test_read_outside(guest, kind):
    # Beyond the end; beyond what 32 bits can address; all that they can, from an address inside.
    script = [call.format(span) for call in READ_BY_HOST[kind] for span in (f"{WILD} 8", f"{WILD} 64", "64 -1")]
    reply = guest.get(bare=f"request_headers: {'; '.join(script)}", headers=[("x-own", "kept")])
    assert reply.status == 200
    assert [(one.op, one.result) for one in reply.reports if one.op] == all_refused(script)
    assert not any(cell not in UNTOUCHED for one in reply.reports for cell in one.out or ())
    assert reply.seen.get_all("x-own") == ["kept"]


#: {} is an address where the host is to write.
WRITTEN_BY_HOST = {
    "numbers": [
        "proxy_get_log_level {}",
        "proxy_get_current_time_nanoseconds {}",
        "proxy_get_header_map_size 0 {}",
        "proxy_get_status {} @ @",
        "proxy_get_status @ {} @",
        "proxy_get_status @ @ {}",
        "proxy_register_shared_queue 'malformed' {}",
        "proxy_define_metric 0 'malformed' {}",
        f"proxy_http_call 'upstream' '{CALL}' '' '' 1000 {{}}",
    ],
    "headers": [
        "proxy_get_header_map_value 0 ':path' {} @",
        "proxy_get_header_map_value 0 ':path' @ {}",
        "proxy_get_header_map_pairs 0 {} @",
        "proxy_get_header_map_pairs 0 @ {}",
        "proxy_get_header_map_pairs 2 {} @",
    ],
    "properties": [
        "proxy_get_property 'request%00method' {} @",
        "proxy_get_property 'request%00method' @ {}",
        "proxy_get_property 'plugin_root_id' {} @",
    ],
    "foreign function": [
        "proxy_call_foreign_function 'clear_route_cache' '' {} @",
        "proxy_call_foreign_function 'clear_route_cache' '' @ {}",
    ],
}


@case("the place for a result lies outside of the memory, wholly or in part: INVALID_MEMORY_ACCESS", envoy=AGREES)
@pytest.mark.parametrize("kind", list(WRITTEN_BY_HOST))
def test_write_outside(guest, kind):
    script = [call.format(place) for call in WRITTEN_BY_HOST[kind] for place in (WILD, "0xFFFFFFFF")]
    assert statuses(guest, *script) == all_refused(script)
    assert guest.get().status == 200


@case("the place for a part of a body, or its size, lies outside of the memory: INVALID_MEMORY_ACCESS", envoy=AGREES)
def test_body_outside(guest):
    script = [f"proxy_get_buffer_bytes 0 0 10 {WILD} @", f"proxy_get_buffer_bytes 0 0 10 @ {WILD}"]
    script += [f"proxy_get_buffer_status 0 {WILD} @", f"proxy_set_buffer_bytes 0 0 10 {WILD} 64"]
    reply = guest.post(b"the body", bare=f"request_body: nth 1; {'; '.join(script)}")
    assert [(one.op, one.result) for one in reply.reports if one.op] == all_refused(script)
    assert reply.seen.body == b"the body"


@case("shared data whose value, cas or size could not be given is as it was", envoy=AGREES)
def test_shared_data_outside(guest):
    key = "malformed.shared"
    script = [f"proxy_set_shared_data '{key}' 'value' 0", f"proxy_set_shared_data '{key}' {WILD} 64 0"]
    script += [f"proxy_get_shared_data '{key}' {places}" for places in (f"{WILD} @ @", f"@ {WILD} @", f"@ @ {WILD}")]
    first, *others, last = calls(guest, "; ".join([*script, f"proxy_get_shared_data '{key}' @ @ @"]))
    assert first.result == OK
    assert [one.result for one in others] == [INVALID_MEMORY_ACCESS] * 4
    assert (last.result, last.value) == (OK, "value")


@case(
    "an item of a queue that the guest has no place for stays in the queue",
    envoy=Differs(
        does="has taken the item out of the queue before it finds that out",
        because="what nobody got is not done",
        fails_with=r"assert \(7, None\) == \(0, 'item'\)",
    ),
)
def test_dequeue_outside(guest):
    script = f"proxy_register_shared_queue 'malformed.queue' @; proxy_enqueue_shared_queue $0 {WILD} 64; "
    script += f"proxy_enqueue_shared_queue $0 'item'; proxy_dequeue_shared_queue $0 {WILD} @; "
    script += f"proxy_dequeue_shared_queue $0 @ {WILD}; proxy_dequeue_shared_queue $0 @ @"
    *others, last = calls(guest, script)
    assert [one.result for one in others[:4]] == [OK, INVALID_MEMORY_ACCESS, OK, INVALID_MEMORY_ACCESS]
    assert (last.result, last.value) == (0, "item")


@case("WASI functions with addresses outside of the memory: EFAULT", envoy=AGREES)
def test_wasi_outside(guest):
    script = [
        f"fd_write 1 {WILD} 1 @",
        f"fd_write 1 [{WILD} 32] 1 @",
        f"fd_write 1 ['x'] 1 {WILD}",
        "fd_write 1 0 -1 @",
    ]
    script += [f"random_get {WILD} 17", f"clock_time_get 0 1 {WILD}", f"environ_sizes_get {WILD} @"]
    assert statuses(guest, *script) == [(call.split()[0], 21) for call in script]


# ---- The guest's allocator ----

GIVEN = [
    "proxy_get_header_map_value 0 ':method' @ @",
    "proxy_get_header_map_pairs 0 @ @",
    "proxy_get_property 'request%00method' @ @",
    "proxy_set_shared_data 'malformed.given' 'value' 0",
    "proxy_get_shared_data 'malformed.given' @ @ @",
]


@case(
    "the guest has no memory for a value, or none that there is: INVALID_MEMORY_ACCESS, and the places are as they were",
    envoy=AGREES,
)
@pytest.mark.parametrize("address", ["0", WILD, "0xFFFFFFFF", "0x7FFFFFFF"])
def test_failing_allocator(guest, address):
    reply = guest.get(bare=f"allocate: return {address}; request_headers: {'; '.join(GIVEN)}")
    assert reply.status == 200
    results = [one for one in reply.reports.of("request_headers") if one.op]
    assert [one.result for one in results if one.op != "proxy_set_shared_data"] == [INVALID_MEMORY_ACCESS] * 4
    assert all(cell in UNTOUCHED for one in results for cell in one.out)
    assert len(reply.reports.of("allocate").entries) == 4
    assert calls(guest, GIVEN[0])[0].value == "GET"


@case("the guest's allocator may write to the log", envoy=AGREES)
def test_allocator_logs(guest):
    reply = guest.get(bare=f"allocate: proxy_log 2 'from the allocator'; request_headers: {GIVEN[0]}")
    assert reply.reports.result("allocate") == OK
    assert reply.reports.of("request_headers", op="proxy_get_header_map_value")[0].value == "GET"


@case("the guest's allocator may make no other hostcall: it has no effect, and the plugin traps", envoy=AGREES)
def test_allocator_calls(serve):
    # The probe's VM is another one, which sees the same shared data.
    proxy = serve(probe(vm_id="one"), bare(vm_id="one"))
    reply = proxy.get(
        probe={"log": [["shared_get", "malformed.restricted"]]},
        bare=f"allocate: proxy_set_shared_data 'malformed.restricted' 'x' 0; request_headers: {GIVEN[0]}",
    )
    assert reply.status == 503
    assert not proxy.reached_upstream(reply.case)
    assert proxy.server.book.reports.results("allocate") == []
    assert reply.reports.result("log", "shared_get")[0] is None


@case("a trap in the guest's allocator ends the callback: the request is answered with 503", envoy=AGREES)
def test_allocator_traps(serve):
    proxy = serve(bare())
    reply = proxy.get(bare=f"allocate: trap; request_headers: {GIVEN[0]}")
    assert reply.status == 503
    assert not proxy.reached_upstream(reply.case)


# ---- Header pairs ----

WIPED = Differs(
    does="takes them for an empty map and removes all headers",
    because="losing every header is never what was meant",
    fails_with=r"assert \(0, \[0\]\) == \(2, \[\d+\]\)",
)

#: One pair, "a": "bc".
MALFORMED = {
    "count cut off": "%01%00",
    "lengths cut off": word(1) + word(1),
    "value cut off": word(1) + word(1) + word(2) + "a%00b",
    "no NUL at the end": word(1) + word(1) + word(2) + "a%00bc",
    "another byte for the first NUL": word(1) + word(1) + word(2) + "a!bc%00",
    "another byte for the last NUL": word(1) + word(1) + word(2) + "a%00bc!",
    "a byte more": word(1) + word(1) + word(2) + "a%00bc%00%00",
    "a byte more than no pairs": word(0) + "%00",
    "a name of 4 GiB": word(1) + word(0xFFFFFFFF) + word(2) + "a%00bc%00",
    "lengths that overflow": word(2) + word(0xFFFFFFFF) * 4 + "a%00bc%00",
    "4 billion pairs": word(0xFFFFFFFF) + word(1) + word(2) + "a%00bc%00",
}


def set_pairs(text: str, map: int = 0) -> str:
    """A script that sets a map, reads its size before and after, and puts back what was there."""
    size = f"proxy_get_header_map_size {map} @"
    script = f"proxy_get_header_map_pairs {map} @ @; {size}; proxy_set_header_map_pairs {map} '{text}'; {size}"
    return f"{script}; proxy_set_header_map_pairs {map} $0 $1"


def unchanged(results) -> None:
    _, before, answer, after, _ = results
    assert (answer.result, after.out) == (BAD_ARGUMENT, before.out)


@case("malformed pairs: BAD_ARGUMENT, and the headers stay as they are", envoy=WIPED)
@pytest.mark.parametrize(
    "callback, map", [("request_headers", 0), ("response_headers", 2)], ids=["request", "response"]
)
@pytest.mark.parametrize("kind", list(MALFORMED))
def test_malformed(guest, kind, callback, map):
    unchanged(calls(guest, set_pairs(MALFORMED[kind], map), callback))


@case("no bytes, a zero byte and a count of 0 are a map without pairs: all headers are removed", envoy=AGREES)
@pytest.mark.parametrize("text", ["", "%00", word(0)], ids=["nothing", "zero byte", "count"])
def test_no_pairs(guest, text):
    _, before, answer, after, restored = calls(guest, set_pairs(text))
    assert before.out[0] > 0
    assert (answer.result, after.out, restored.result) == (OK, [0], OK)


def in_configuration(serve, headers) -> list:
    """Runs set_pairs from the configuration: no header could hold so much."""
    proxy = serve(bare(f"request_headers: {set_pairs(pairs(headers))}"))
    assert proxy.get().status == 200
    book = proxy.server.book
    return book.wait(lambda: len(found := [one for one in book.reports.of("request_headers") if one.op]) == 5 and found)


@case("a map may be set to 1,024 pairs", envoy=AGREES)
def test_most_pairs(serve):
    headers = [(f"x-{number}", "1") for number in range(1024)]
    _, _, answer, after, restored = in_configuration(serve, headers)
    size = sum(len(name) + len(value) for name, value in headers)
    assert (answer.result, after.out, restored.result) == (OK, [size], OK)


@case("more than 1,024 pairs, or 1 MiB of them: BAD_ARGUMENT, and the headers stay as they are", envoy=WIPED)
@pytest.mark.parametrize(
    "headers", [[("x", "1")] * 1025, [("x", "1" * (1 << 20))]], ids=["1025 pairs", "more than 1 MiB"]
)
def test_too_many_pairs(serve, headers):
    unchanged(in_configuration(serve, headers))


@case("a local response with malformed pairs goes out without them", envoy=AGREES)
@pytest.mark.parametrize("kind", ["count cut off", "a byte more"])
def test_malformed_in_local_response(guest, kind):
    script = f"request_headers: proxy_send_local_response 403 '' 'no' '{MALFORMED[kind]}' -1; return 1"
    reply = guest.get(bare=script)
    assert (reply.status, reply.body, reply.get("a")) == (403, b"no", None)
    assert reply.reports.result("request_headers") == OK


@case(
    "an HTTP call with malformed trailers: BAD_ARGUMENT, and no call",
    envoy=Differs(
        does="makes the call without them",
        because="it would be another call than the one that was meant",
        fails_with=r"assert \[0\] == \[2\]",
    ),
    needs="http_callouts",
)
def test_malformed_trailers_of_call(guest):
    (call,) = calls(guest, f"proxy_http_call 'upstream' '{CALL}' '' '{MALFORMED['a byte more']}' 1000 @")
    assert [call.result] == [BAD_ARGUMENT]


@case(
    "a gRPC call or stream with malformed metadata: BAD_ARGUMENT, and no call",
    envoy=Differs(
        does="makes the call without it",
        because="metadata is where the caller says who it is",
        fails_with=r"assert \[0\] == \[2\]",
    ),
    needs="grpc_callouts",
)
@pytest.mark.parametrize(
    "call", ["proxy_grpc_call 'grpc' 'a.B' 'C' {} '' 1000 @", "proxy_grpc_stream 'grpc' 'a.B' 'C' {} @"]
)
def test_malformed_metadata(serve, grpc_upstream, call):
    proxy = serve(bare(), shared=True, clusters=(("grpc", grpc_upstream.port),))
    script = call.format(f"'{MALFORMED['a byte more']}'")
    assert [one.result for one in calls(proxy, script)] == [BAD_ARGUMENT]
