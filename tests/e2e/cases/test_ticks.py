# SPDX-License-Identifier: Apache-2.0
import time

from kit.cases import AGREES, case
from kit.setup import probe

AREA = "Ticks"


def worker(proxy):
    """The VM that serves streams."""
    return proxy.get().reports[0].vm


def ticks(proxy, vm):
    return proxy.server.book.reports.of("tick", vm=vm).entries


def wait_for(proxy, vm, count, timeout=5):
    book = proxy.server.book
    return book.wait(lambda: len(ticks(proxy, vm)) >= count and ticks(proxy, vm), timeout)


@case("a tick comes again and again, with the period that was set", envoy=AGREES)
def test_period(serve):
    proxy = serve(probe(on={"configure": [["tick", 100]], "tick": [["time"]]}))
    vm = worker(proxy)
    book = proxy.server.book
    assert book.wait(lambda: len(book.reports.of("tick", op="time", vm=vm)) >= 4)
    times = [one.result for one in book.reports.of("tick", op="time", vm=vm)]
    # A busy machine delays ticks, also so that two of them are nearer to each other than the period.
    assert (times[3] - times[0]) / 1e9 >= 0.15


@case("a tick is a callback of the root context", envoy=AGREES)
def test_root(serve):
    proxy = serve(probe(on={"configure": [["tick", 50]]}))
    vm = worker(proxy)
    root = proxy.server.book.reports.of("configure", vm=vm)[0].context
    assert {one.context for one in wait_for(proxy, vm, 2)} == {root}


@case("without a period there is no tick", envoy=AGREES)
def test_none(serve):
    proxy = serve(probe(on={"configure": [["tick", 0]]}))
    vm = worker(proxy)
    time.sleep(0.2)
    assert not ticks(proxy, vm)


@case("period 0 ends the ticks", envoy=AGREES)
def test_stop(serve):
    proxy = serve(probe(on={"configure": [["tick", 20]], "tick": [["nth", 3, [["tick", 0]]]]}))
    vm = worker(proxy)
    assert wait_for(proxy, vm, 3)
    time.sleep(0.2)
    assert len(ticks(proxy, vm)) == 3


@case("a period that is set again replaces the one before: there is one timer", envoy=AGREES)
def test_replace(serve):
    proxy = serve(probe(on={"configure": [["tick", 20], ["tick", 60_000]]}))
    vm = worker(proxy)
    time.sleep(0.2)
    assert not ticks(proxy, vm)
    proxy.get(probe={"request_headers": [["tick", 20]]})
    assert wait_for(proxy, vm, 2)


@case("a tick may change its own period", envoy=AGREES)
def test_change(serve):
    proxy = serve(probe(on={"configure": [["tick", 20]], "tick": [["tick", 60_000]]}))
    vm = worker(proxy)
    assert wait_for(proxy, vm, 1)
    time.sleep(0.2)
    assert len(ticks(proxy, vm)) == 1


@case("a period that a stream sets is the root context's, and outlives the stream", envoy=AGREES)
def test_of_stream(serve):
    proxy = serve(probe())
    reply = proxy.get(probe={"request_headers": [["tick", 50]]})
    vm = reply.reports[0].vm
    before = len(ticks(proxy, vm))
    root = proxy.server.book.reports.of("configure", vm=vm)[0].context
    assert {one.context for one in wait_for(proxy, vm, before + 2)} == {root}


@case("plugins that share a VM have a timer each", envoy=AGREES)
def test_each_root(serve):
    fast, slow = {"configure": [["tick", 20]]}, {"configure": [["tick", 60_000]]}
    proxy = serve(probe("a", fast, vm_id="v"), probe("b", slow, vm_id="v"))
    vm = worker(proxy)
    assert wait_for(proxy, vm, 3)
    assert {one.plugin for one in ticks(proxy, vm)} == {"a"}


@case("ticks go on while requests pass, and while one is held back", envoy=AGREES)
def test_with_requests(serve):
    proxy = serve(probe(on={"configure": [["tick", 50]]}))
    vm = worker(proxy)
    for _ in range(5):
        assert proxy.get().status == 200
    with proxy.connect() as connection:
        held = connection.send_head(probe={"request_headers": [["pause"]]})
        book = proxy.server.book
        (entry,) = book.wait(lambda: [one for one in book.reports if one.id == held])
        assert wait_for(proxy, vm, len(ticks(proxy, vm)) + 2)
        proxy.get(probe={"request_headers": [["effective", entry.context], ["resume", "request"]]})
        assert connection.read_reply(held).status == 200


@case("ticks go on after requests that failed", envoy=AGREES)
def test_after_failure(serve):
    proxy = serve(probe(on={"configure": [["tick", 50]]}))
    vm = worker(proxy)
    assert proxy.get(upstream={"fail": "accept"}).status >= 500
    with proxy.connect() as connection:
        connection.send_head(probe={"request_headers": [["pause"]]})
        connection.reset()
    assert wait_for(proxy, vm, len(ticks(proxy, vm)) + 3)


@case("a service has ticks though no stream passes it", envoy=AGREES, needs="services")
def test_service(serve):
    service = probe("service", {"configure": [["tick", 50]]}, type="root")
    proxy = serve(services=(service,))
    book = proxy.server.book
    assert book.wait(lambda: len(book.reports.of("tick", plugin="service")) >= 3)
    assert not book.reports.of("request_headers")
