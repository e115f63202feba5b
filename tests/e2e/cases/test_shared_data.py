# SPDX-License-Identifier: Apache-2.0
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from kit.cases import AGREES, case
from kit.client import new_case_id
from kit.setup import bare, probe

AREA = "Shared data"


@pytest.fixture
def key():
    """A key that only this case uses."""
    return f"key-{new_case_id()}"


def in_request(proxy, *steps, **options):
    """Results of steps in one request."""
    reply = proxy.get(probe={"request_headers": list(steps)}, **options)
    assert reply.status == 200
    return reply.reports.results("request_headers")


@case("a key that was never written is NotFound", envoy=AGREES)
def test_missing(proxy, key):
    assert in_request(proxy, ["shared_get", key]) == [[None, None]]


@case("a value that is written can be read, and comes with a cas that is not 0", envoy=AGREES)
def test_set_get(proxy, key):
    written, (value, cas) = in_request(proxy, ["shared_set", key, "value", None], ["shared_get", key])
    assert (written, value) == (True, "value")
    assert cas > 0


@case("a value outlives the stream that wrote it", envoy=AGREES)
def test_outlives_stream(proxy, key):
    first = proxy.get(probe={"request_headers": [["shared_set", key, "value", None]]})
    assert first.reports.callbacks[-1] == "delete"
    assert in_request(proxy, ["shared_get", key])[0][0] == "value"


@case("each write gives another cas", envoy=AGREES)
def test_cas_changes(proxy, key):
    results = in_request(
        proxy,
        ["shared_set", key, "same", None],
        ["shared_get", key],
        ["shared_set", key, "same", None],
        ["shared_get", key],
        ["shared_get", key],
    )
    first, second, again = (results[index][1] for index in (1, 3, 4))
    assert first != second
    assert second == again


@case("a write with the cas that was read succeeds", envoy=AGREES)
def test_cas_matches(proxy, key):
    steps = [
        ["shared_set", key, "one", None],
        ["shared_get", key],
        ["shared_set", key, "two", "{cas}"],
        ["shared_get", key],
    ]
    results = in_request(proxy, *steps)
    assert results[2] is True
    assert results[3][0] == "two"


@case("a write with an outdated cas is CasMismatch and changes nothing", envoy=AGREES)
def test_cas_mismatch(proxy, key):
    steps = [
        ["shared_set", key, "one", None],
        ["shared_get", key],
        ["shared_set", key, "two", None],
        ["shared_set", key, "three", "{cas}"],
        ["shared_get", key],
    ]
    results = in_request(proxy, *steps)
    assert results[3] == {"err": 8}
    assert results[4][0] == "two"


@case("a write with cas 0 has no condition", envoy=AGREES)
def test_cas_zero(proxy, key):
    steps = [["shared_set", key, "one", None], ["shared_set", key, "two", 0], ["shared_get", key]]
    results = in_request(proxy, *steps)
    assert results[1] is True
    assert results[2][0] == "two"


@case("the first write of a key ignores the cas", envoy=AGREES)
def test_cas_of_missing(proxy, key):
    assert in_request(proxy, ["shared_set", key, "one", 12345])[0] is True
    assert in_request(proxy, ["shared_get", key])[0][0] == "one"


@case("an empty value is Ok with a cas, and so told from a key that is missing", envoy=AGREES)
def test_empty_value(serve, key):
    get = f"proxy_get_shared_data '{key}' @ @ @"
    reply = serve(bare(), shared=True).get(bare=f"request_headers: {get}; proxy_set_shared_data '{key}' '' 0; {get}")
    missing, empty = reply.reports.of("request_headers", op="proxy_get_shared_data")
    assert missing.result == 1
    assert empty.result == 0
    assert empty.out[:2] == [0, 0]
    assert empty.out[2] > 0


@case("writing an empty value does not remove the key", envoy=AGREES)
def test_empty_over_value(proxy, key):
    steps = [["shared_set", key, "value", None], ["shared_set", key, "", None], ["shared_get", key]]
    value, cas = in_request(proxy, *steps)[2]
    assert value in ("", None)
    assert cas > 0


@case("keys and values can have any bytes, and keys any length", envoy=AGREES)
@pytest.mark.parametrize(
    "key", ["%00", "a%00b", "%ff%fe", "k" * 1000, ""], ids=["nul", "inner_nul", "no_utf8", "long", "empty"]
)
def test_binary(serve, key):
    script = f"request_headers: proxy_set_shared_data '{key}' 'v%00%ff%0a' 0; proxy_get_shared_data '{key}' @ @ @"
    reply = serve(bare(), shared=True).get(bare=script)
    got = reply.reports.of(op="proxy_get_shared_data")[0]
    assert (got.result, got.value) == (0, "v\x00\xff\n")


@case("a value can have 1 MiB", envoy=AGREES)
def test_large_value(serve, key):
    proxy = serve(probe(), body_limit=4 << 20, shared=True)
    keep = ["quietly", [["body", "request_body", 0, -1], ["shared_set", key, "{last}", None]]]
    body = b"0123456789abcdef" * 65536
    wrote = proxy.post(body, probe={"request_body": [["unless_end", [["pause"]]], ["if_end", [keep]]]})
    assert wrote.status == 200
    read = proxy.get(probe={"request_headers": [["quietly", [["shared_get", key]]], ["local", 200, [], "{last}"]]})
    assert json.loads(read.body)[0].encode() == body


@case("plugins with the same VM id share data, though they have VMs of their own; others do not", envoy=AGREES)
def test_vm_ids(serve, key):
    proxy = serve(
        probe("a", vm_id="one", vm_configuration="a"),
        probe("b", vm_id="one", vm_configuration="b"),
        probe("c", vm_id="two", vm_configuration="b"),
        shared=True,
    )
    get = {"request_headers": [["shared_get", key]]}
    write = {"request_headers": [["shared_set", key, "value", None]]}
    reports = proxy.get(scripts={"a": write, "b": get, "c": get}).reports
    assert reports.result("request_headers", "shared_get", plugin="b")[0] == "value"
    assert reports.result("request_headers", "shared_get", plugin="c") == [None, None]
    assert len({one.vm for one in reports}) == 3


@case("what the VMs of all workers count with compare-and-swap is exact", envoy=AGREES)
def test_contention(serve):
    proxy = serve(probe(), workers=4)
    clients, requests, times = 8, 5, 50

    def client(_):
        for _ in range(requests):
            assert proxy.get(probe={"request_headers": [["shared_add", "count", times]]}).status == 200

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    value, _ = in_request(proxy, ["shared_get", "count"])[0]
    assert int(value) == clients * requests * times


@case("what one worker writes the others read", envoy=AGREES)
def test_workers(serve):
    proxy = serve(probe(), workers=3)
    writer = proxy.get(probe={"request_headers": [["shared_set", "key", "value", None]]})
    assert writer.reports
    readers = [proxy.get(probe={"request_headers": [["shared_get", "key"]]}) for _ in range(20)]
    assert {reader.reports.result("request_headers", "shared_get")[0] for reader in readers} == {"value"}


@case("what the start of a plugin and its ticks write is there for its streams, and the other way round", envoy=AGREES)
def test_root_contexts(serve):
    on = {
        "configure": [["shared_set", "configured", "yes", None], ["tick", 20]],
        "tick": [["shared_set", "ticked", "yes", None], ["shared_get", "requested"]],
    }
    proxy = serve(probe(on=on, silent=["tick"]))
    assert in_request(proxy, ["shared_get", "configured"])[0][0] == "yes"
    assert in_request(proxy, ["shared_set", "requested", "yes", None]) == [True]
    book = proxy.server.book
    assert book.wait(lambda: [one for one in book.reports.of("tick", op="shared_get") if one.result[0] == "yes"])
    assert in_request(proxy, ["shared_get", "ticked"])[0][0] == "yes"


@case("a service and a filter with the same VM id share data", envoy=AGREES, needs="services")
def test_service(serve):
    service = probe("service", {"configure": [["shared_set", "key", "of the service", None]]}, type="root", vm_id="one")
    proxy = serve(probe(vm_id="one"), services=(service,))
    assert in_request(proxy, ["shared_get", "key"])[0][0] == "of the service"


@case("data outlives the VM that wrote it", envoy=AGREES)
def test_trap(serve):
    # The second never sees a request that the first answers.
    proxy = serve(probe("a", vm_id="one", vm_configuration="a"), probe("b", vm_id="one", vm_configuration="b"))
    write = {"request_headers": [["shared_set", "key", "value", None], ["trap"]]}
    assert proxy.get(scripts={"b": write}).status == 503
    read = {"request_headers": [["shared_get", "key"], ["local", 200, [], None]]}
    reply = proxy.get(scripts={"a": read})
    assert reply.reports.result("request_headers", "shared_get")[0] == "value"
