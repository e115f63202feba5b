# SPDX-License-Identifier: Apache-2.0
from contextlib import contextmanager

import pytest
from kit.cases import AGREES, case
from kit.client import eventually, new_case_id
from kit.setup import bare, probe

AREA = "Queues"


@pytest.fixture
def name():
    """A queue that only this case uses."""
    return f"queue-{new_case_id()}"


def in_request(proxy, *steps, **options):
    """Results of steps in one request."""
    reply = proxy.get(probe={"request_headers": list(steps)}, **options)
    assert reply.status == 200
    return reply.reports.results("request_headers")


def chain(serve, vm_id="receiver", **callbacks):
    """A server with a receiver that registers the queue "q", and a sender with another VM id. The receiver's own script for streams is free."""
    on = {"configure": [["queue_register", "q"]], **callbacks}
    return serve(probe("receiver", on, vm_id=vm_id), probe("sender", vm_id="sender"))


def send(proxy, *steps):
    reply = proxy.get(scripts={"sender": {"request_headers": [["queue_resolve", "receiver", "q"], *steps]}})
    assert reply.status == 200
    return reply.reports.results("request_headers", plugin="sender")


@case("registering a queue again gives the same id", envoy=AGREES)
def test_register_twice(proxy, name):
    first, second = in_request(proxy, ["queue_register", name], ["queue_register", name])
    assert first == second
    assert in_request(proxy, ["queue_register", name]) == [first]


@case("queues with different names have different ids", envoy=AGREES)
def test_two_names(proxy, name):
    one, two = in_request(proxy, ["queue_register", name], ["queue_register", name + "-2"])
    assert one != two


@case("a queue is found by VM id and name", envoy=AGREES)
def test_resolve(serve, name):
    proxy = serve(probe(vm_id="here"), shared=True)
    one, same = in_request(proxy, ["queue_register", name], ["queue_resolve", "here", name])
    assert one == same


@case("an empty VM id stands for the plugin's own when a queue is looked for", envoy=AGREES)
def test_resolve_own(serve, name):
    proxy = serve(probe(vm_id="here"), shared=True)
    one, same = in_request(proxy, ["queue_register", name], ["queue_resolve", "", name])
    assert one == same


@case("a queue that nobody registered, or another VM id did, is NotFound", envoy=AGREES)
def test_resolve_unknown(serve, name):
    proxy = serve(probe(vm_id="here"), shared=True)
    results = in_request(
        proxy,
        ["queue_resolve", "here", name],
        ["queue_register", name],
        ["queue_resolve", "there", name],
        ["queue_resolve", "here", name + "-2"],
    )
    assert [results[0], *results[2:]] == [None, None, None]


@case("items come out in the order in which they went in, then there are none", envoy=AGREES)
def test_order(proxy, name):
    pushes = [["queue_push", name, f"item {index}"] for index in range(5)]
    results = in_request(proxy, ["queue_register", name], *pushes, *[["queue_pop", name]] * 6)
    assert results[1:6] == [True] * 5
    assert results[6:] == [*(f"item {index}" for index in range(5)), None]


@case("items outlive the stream that pushed them", envoy=AGREES)
def test_outlive_stream(proxy, name):
    in_request(proxy, ["queue_register", name], ["queue_push", name, "item"])
    assert in_request(proxy, ["queue_pop", name]) == ["item"]


@case("an empty queue is Empty; an item of no bytes is Ok", envoy=AGREES)
def test_empty(serve, name):
    pop = "proxy_dequeue_shared_queue $0 @ @"
    script = f"request_headers: proxy_register_shared_queue '{name}' @; {pop}; proxy_enqueue_shared_queue $0 ''; {pop}; {pop}"
    reply = serve(bare(), shared=True).get(bare=script)
    pops = reply.reports.of(op="proxy_dequeue_shared_queue")
    assert [one.result for one in pops] == [7, 0, 7]
    assert pops[1].out == [0, 0]


@case("pushing to and popping from a queue that does not exist is NotFound", envoy=AGREES)
def test_unknown_id(proxy):
    assert in_request(proxy, ["queue_push", 99999, "item"], ["queue_pop", 99999]) == [{"err": 1}, {"err": 1}]


@case("names and items can have any bytes", envoy=AGREES)
def test_binary(serve):
    name, item = "q%00%ff", "i%00%ff%0a"
    script = (
        f"request_headers: proxy_register_shared_queue '{name}' @; proxy_resolve_shared_queue '' '{name}' @; "
        f"proxy_enqueue_shared_queue $1 '{item}'; proxy_dequeue_shared_queue $0 @ @"
    )
    reply = serve(bare(), shared=True).get(bare=script)
    reports = reply.reports
    assert reports.results("request_headers") == [0, 0, 0, 0]
    assert reports.of(op="proxy_dequeue_shared_queue")[0].value == "i\x00\xff\n"


@case("an item can have 1 MiB", envoy=AGREES)
def test_large_item(serve, name):
    proxy = serve(probe(), body_limit=4 << 20, shared=True)
    body = b"0123456789abcdef" * 65536
    push = ["quietly", [["queue_register", name], ["body", "request_body", 0, -1], ["queue_push", name, "{last}"]]]
    sent = proxy.post(body, probe={"request_body": [["unless_end", [["pause"]]], ["if_end", [push]]]})
    assert sent.status == 200
    got = proxy.get(probe={"request_headers": [["quietly", [["queue_pop", name]]], ["local", 200, [], "{last}"]]})
    assert got.body == body


@case(
    "proxy_on_queue_ready runs once for each item, in the root context that registered the queue, with the queue's id",
    envoy=AGREES,
)
def test_queue_ready(serve):
    proxy = chain(serve, queue_ready=[["queue_pop", "q"]])
    items = [f"item {index}" for index in range(5)]
    queue, *pushed = send(proxy, *(["queue_push", "q", item] for item in items))
    assert pushed == [True] * 5
    book = proxy.server.book
    popped = book.wait(lambda: len(found := book.reports.results("queue_ready", "queue_pop")) >= 5 and found)
    assert popped == items
    entries = book.reports.of("queue_ready").entries
    assert [one.arguments for one in entries] == [[queue]] * 5
    assert {one.plugin for one in entries} == {"receiver"}
    assert len({(one.vm, one.context) for one in entries}) == 1
    registered = book.reports.of("configure", vm=entries[0].vm)[0]
    assert registered.context == entries[0].context


@case("one proxy_on_queue_ready may take several items; the others then find none", envoy=AGREES)
def test_drain(serve):
    proxy = chain(serve, queue_ready=[["queue_pop", "q"], ["queue_pop", "q"], ["queue_pop", "q"]])
    send(proxy, ["queue_push", "q", "one"], ["queue_push", "q", "two"])
    book = proxy.server.book
    popped = book.wait(lambda: len(found := book.reports.results("queue_ready", "queue_pop")) >= 6 and found)
    assert sorted(item for item in popped if item) == ["one", "two"]
    assert len(popped) == 6


@case("a plugin can push to its own queue and is told", envoy=AGREES)
def test_own_queue(serve):
    proxy = serve(probe(on={"configure": [["queue_register", "q"]], "queue_ready": [["queue_pop", "q"]]}))
    assert in_request(proxy, ["queue_push", "q", "mine"]) == [True]
    book = proxy.server.book
    assert book.wait(lambda: book.reports.results("queue_ready", "queue_pop")) == ["mine"]


@case("a queue can be filled in proxy_on_queue_ready: work is handed on", envoy=AGREES)
def test_hand_on(serve):
    on = {
        "configure": [["queue_register", "q"]],
        "queue_ready": [["queue_pop", "q"], ["nth", 1, [["queue_push", "q", "second"]]]],
    }
    proxy = serve(probe(on=on))
    in_request(proxy, ["queue_push", "q", "first"])
    book = proxy.server.book
    popped = book.wait(lambda: len(found := book.reports.results("queue_ready", "queue_pop")) >= 2 and found)
    assert popped == ["first", "second"]


@case("whoever registers a queue last is told", envoy=AGREES)
def test_last_registrant(serve):
    on = {"configure": [["queue_register", "q"]], "queue_ready": [["queue_pop", "q"]]}
    proxy = serve(
        probe("a", on, vm_id="receiver", vm_configuration="a"),
        probe("b", on, vm_id="receiver", vm_configuration="b"),
    )
    # The registration in this request is later than all that came with the start.
    reply = proxy.get(
        scripts={"a": {"request_headers": [["queue_register", "q"], ["queue_push", "q", "item"]]}, "b": {}}
    )
    assert reply.status == 200
    book = proxy.server.book
    popped = book.wait(lambda: book.reports.of("queue_ready", op="queue_pop"))
    assert [(one.plugin, one.result) for one in popped] == [("a", "item")]


@case("1,000 items all arrive", envoy=AGREES)
def test_many(serve):
    on = {
        "configure": [["queue_register", "q"]],
        "queue_ready": [["quietly", [["queue_pop", "q"], ["shared_add", "{last}", 1]]]],
    }
    proxy = serve(probe("receiver", on, vm_id="receiver", silent=("queue_ready",)), probe("sender", vm_id="sender"))
    send(proxy, ["quietly", [["repeat", 1000, [["queue_push", "q", "item"]]]]])
    count = {"request_headers": [["shared_get", "item"]]}

    def arrived():
        reply = proxy.get(scripts={"receiver": count})
        value, _ = reply.reports.result("request_headers", "shared_get")
        return value == "1000"

    assert eventually(arrived, step=0.1)
    popped = proxy.get(scripts={"receiver": {"request_headers": [["queue_pop", "q"]]}})
    assert popped.reports.result("request_headers", "queue_pop") is None


@case("a service takes from a queue what filters push", envoy=AGREES, needs="services")
def test_service(serve):
    on = {"configure": [["queue_register", "q"]], "queue_ready": [["queue_pop", "q"]]}
    service = probe("service", on, type="root", vm_id="receiver")
    proxy = serve(probe("sender", vm_id="sender"), services=(service,))
    assert send(proxy, ["queue_push", "q", "one"], ["queue_push", "q", "two"])[1:] == [True, True]
    book = proxy.server.book
    popped = book.wait(lambda: len(found := book.reports.of("queue_ready", op="queue_pop")) >= 2 and found)
    assert [(one.plugin, one.result) for one in popped] == [("service", "one"), ("service", "two")]


@case("filters of all workers push to the queue of one service", envoy=AGREES, needs="services")
def test_workers(serve):
    on = {"configure": [["queue_register", "q"]], "queue_ready": [["queue_pop", "q"]]}
    service = probe("service", on, type="root", vm_id="receiver")
    proxy = serve(probe("sender", vm_id="sender"), services=(service,), workers=3)
    for index in range(12):
        send(proxy, ["queue_push", "q", f"item {index}"])
    book = proxy.server.book
    popped = book.wait(lambda: len(found := book.reports.results("queue_ready", "queue_pop")) >= 12 and found)
    assert popped == [f"item {index}" for index in range(12)]


# ---- From one worker to another ----


@contextmanager
def stream_with_queue(serve, ready, *steps, **options):
    """A stream on one of two workers that has registered the queue "q": the proxy, its connection and case. `ready` is done for it
    when the queue is."""
    proxy = serve(probe(on={"queue_ready": [["queue_pop", "q"], ["each_parked", ready]]}, vm_id="receiver"), workers=2)
    with proxy.connect() as connection:
        case = connection.send_head(probe={"request_headers": [["queue_register", "q"], ["park"], *steps]}, **options)
        assert proxy.server.book.wait(lambda: proxy.reported(case).of(op="queue_register"))
        yield proxy, connection, case


def push_elsewhere(proxy, case):
    """Pushes to the queue of this stream from another worker."""
    own = proxy.reported(case)[0].vm
    push = {"request_headers": [["queue_resolve", "receiver", "q"], ["queue_push", "q", "item"]]}
    for _ in range(100):
        with proxy.connect() as connection:
            if connection.read_reply(connection.send_head()).reports[0].vm != own:
                pushed = connection.read_reply(connection.send_head(probe=push))
                assert pushed.reports.results(op="queue_push") == [True]
                return
    pytest.fail("all connections are for one worker")


@case("what another worker pushes reaches a worker whose only stream waits, and changes and resumes it", envoy=AGREES)
def test_notice_from_other_worker(serve):
    ready = [["add", "request_headers", "x-notice", "here"], ["resume", "request"]]
    with stream_with_queue(serve, ready, ["pause"]) as (proxy, connection, case):
        push_elsewhere(proxy, case)
        assert connection.read_reply(case).seen.get("x-notice") == "here"


@case("what another worker pushes reaches a worker whose only stream waits for the upstream", envoy=AGREES)
def test_notice_while_upstream_waits(serve, name):
    ready = [["property", ["source", "address"]]]
    with stream_with_queue(serve, ready, upstream={"hold": name}) as (proxy, connection, case):
        assert proxy.upstream.wait(case)
        push_elsewhere(proxy, case)
        book = proxy.server.book
        address, port = connection.socket.getsockname()
        assert book.wait(lambda: book.reports.results("queue_ready", "property")) == [f"{address}:{port}"]
        proxy.upstream.release(name)
        assert connection.read_reply(case).status == 200
