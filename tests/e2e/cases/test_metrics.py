# SPDX-License-Identifier: Apache-2.0
from concurrent.futures import ThreadPoolExecutor

import pytest
from kit.cases import AGREES, case
from kit.client import eventually, new_case_id
from kit.setup import bare, probe

AREA = "Metrics"


@pytest.fixture
def name():
    """A metric that only this case uses."""
    return "metric_" + new_case_id().replace("-", "_")


def in_request(proxy, *steps, **options):
    """Results of steps in one request."""
    reply = proxy.get(probe={"request_headers": list(steps)}, **options)
    assert reply.status == 200
    return reply.reports.results("request_headers")


def in_bare(serve, script):
    """Statuses of the hostcalls of a bare guest's request, and its reports."""
    reports = serve(bare(), shared=True).get(bare=f"request_headers: {script}").reports
    return reports.results("request_headers"), reports


def exported(proxy, name, value):
    """What the host tells of a metric, once it is `value`."""
    eventually(lambda: proxy.server.metrics().get(name) == value)
    return proxy.server.metrics().get(name)


@case("a counter begins at 0, and increments add up", envoy=AGREES)
def test_counter(proxy, name):
    steps = [["metric_get", name], ["metric_add", name, 1], ["metric_add", name, 41], ["metric_get", name]]
    assert in_request(proxy, ["metric", "counter", name], *steps)[1:] == [0, True, True, 42]


@case("a gauge begins at 0, is set, and goes up and down", envoy=AGREES)
def test_gauge(proxy, name):
    steps = [
        ["metric_get", name],
        ["metric_set", name, 10],
        ["metric_add", name, 5],
        ["metric_add", name, -8],
        ["metric_get", name],
        ["metric_set", name, 3],
        ["metric_get", name],
    ]
    assert in_request(proxy, ["metric", "gauge", name], *steps)[1:] == [0, True, True, True, 7, True, 3]


@case("recording into a histogram is Ok", envoy=AGREES)
def test_histogram(proxy, name):
    assert in_request(proxy, ["metric", "histogram", name], ["metric_set", name, 10])[1:] == [True]


@case("recording into a counter adds", envoy=AGREES)
def test_record_counter(proxy, name):
    steps = [["metric_set", name, 2], ["metric_set", name, 3], ["metric_get", name]]
    assert in_request(proxy, ["metric", "counter", name], *steps)[-1] == 5


@case("a metric that is defined again is the same metric", envoy=AGREES)
def test_define_again(proxy, name):
    steps = [["metric", "counter", name], ["metric_add", name, 1]]
    assert in_request(proxy, *steps, *steps, ["metric_get", name])[-1] == 2
    assert in_request(proxy, ["metric", "counter", name], ["metric_get", name])[-1] == 2


@case("a metric outlives the stream that defined it, and another stream knows it by its id", envoy=AGREES)
def test_id_outlives_stream(serve, name):
    proxy = serve(bare(), shared=True)
    first = proxy.get(bare=f"request_headers: proxy_define_metric 0 '{name}' @; proxy_increment_metric $0 5").reports
    (number,) = first.of(op="proxy_define_metric")[0].out
    got = proxy.get(bare=f"request_headers: proxy_get_metric {number} @8").reports.of(op="proxy_get_metric")[0]
    assert (got.result, got.out) == (0, [5])


@case("a metric that is first defined in a stream counts as one defined at the start", envoy=AGREES, needs="metrics")
def test_defined_late(serve, name):
    on = {"configure": [["metric", "counter", name + "_early"]]}
    proxy = serve(probe(on=on))
    in_request(proxy, ["metric_add", name + "_early", 1], ["metric", "counter", name], ["metric_add", name, 2])
    assert exported(proxy, name + "_early", 1) == 1
    assert exported(proxy, name, 2) == 2


@case("a name can have dots, dashes and underscores", envoy=AGREES)
def test_dots(proxy, name):
    name = f"plugin.{name}-a.requests_total"
    assert in_request(proxy, ["metric", "counter", name], ["metric_add", name, 3], ["metric_get", name])[-1] == 3


@case("counters go beyond 32 bits", envoy=AGREES)
def test_large_counter(proxy, name):
    steps = [["metric_add", name, 1 << 40], ["metric_add", name, 1], ["metric_get", name]]
    assert in_request(proxy, ["metric", "counter", name], *steps)[-1] == (1 << 40) + 1


@case("gauges go beyond 32 bits", envoy=AGREES)
def test_large_gauge(proxy, name):
    steps = [["metric_set", name, (1 << 62) + 1], ["metric_get", name]]
    assert in_request(proxy, ["metric", "gauge", name], *steps)[-1] == (1 << 62) + 1


@case("a gauge that went below 0 comes up again", envoy=AGREES)
def test_negative_gauge(proxy, name):
    steps = [["metric_add", name, -5], ["metric_add", name, 8], ["metric_get", name]]
    assert in_request(proxy, ["metric", "gauge", name], *steps)[-1] == 3


@case("an id that no metric has is NotFound", envoy=AGREES)
@pytest.mark.parametrize("number", [0, 40000, 40001, 0x7FFFFFFC])
def test_unknown(serve, number):
    script = f"proxy_increment_metric {number} 1; proxy_record_metric {number} 1; proxy_get_metric {number} @8"
    assert in_bare(serve, script)[0] == [1, 1, 1]


@case("a counter cannot be decremented: BadArgument, and it keeps its value", envoy=AGREES)
def test_decrement_counter(serve, name):
    script = f"proxy_define_metric 0 '{name}' @; proxy_increment_metric $0 5; proxy_increment_metric $0 -1; proxy_get_metric $0 @8"
    statuses, reports = in_bare(serve, script)
    assert statuses == [0, 0, 2, 0]
    assert reports.of(op="proxy_get_metric")[0].out == [5]


@case("a histogram has no value to get and none to increment: BadArgument", envoy=AGREES)
def test_histogram_rules(serve, name):
    script = f"proxy_define_metric 2 '{name}' @; proxy_record_metric $0 5; proxy_get_metric $0 @8; proxy_increment_metric $0 1"
    assert in_bare(serve, script)[0] == [0, 0, 2, 2]


@case("a type that does not exist is BadArgument", envoy=AGREES)
@pytest.mark.parametrize("kind", [3, -1])
def test_unknown_type(serve, name, kind):
    assert in_bare(serve, f"proxy_define_metric {kind} '{name}' @")[0] == [2]


@case("the same name with another type is another metric", envoy=AGREES)
def test_same_name_other_type(proxy, name):
    steps = [["metric", "counter", name], ["metric_add", name, 5], ["metric", "gauge", name], ["metric_get", name]]
    assert in_request(proxy, *steps)[-1] == 0


@case("the host tells the values of counters and gauges", envoy=AGREES, needs="metrics")
def test_exported(proxy, name):
    steps = [
        ["metric", "counter", name],
        ["metric_add", name, 3],
        ["metric", "gauge", name + "_g"],
        ["metric_set", name + "_g", 12],
    ]
    in_request(proxy, *steps)
    assert exported(proxy, name, 3) == 3
    assert exported(proxy, name + "_g", 12) == 12


@case("the host tells how many values a histogram has and their sum", envoy=AGREES, needs="metrics")
def test_exported_histogram(proxy, name):
    steps = [["metric_set", name, value] for value in (1, 10, 100)]
    in_request(proxy, ["metric", "histogram", name], *steps)
    eventually(lambda: (proxy.server.metrics().get(name) or {}).get("count") == 3)
    found = proxy.server.metrics()[name]
    assert found["count"] == 3
    # Buckets may make it inexact.
    assert found["sum"] == pytest.approx(111, rel=0.1)


@case("all workers count in one metric, and so do plugins with VMs of their own", envoy=AGREES, needs="metrics")
def test_workers(serve, name):
    proxy = serve(probe("a", vm_id="one"), probe("b", vm_id="two"), workers=3)
    steps = [["metric", "counter", name], ["metric_add", name, 1]]

    def one(_):
        return proxy.get(scripts={"a": {"request_headers": steps}, "b": {"response_headers": steps}}).status

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(one, range(30))) == {200}
    assert exported(proxy, name, 60) == 60


@case("root contexts count too: at the start and in ticks", envoy=AGREES)
def test_root_contexts(serve, name):
    on = {
        "configure": [["metric", "gauge", name], ["metric_set", name, 7], ["metric_get", name], ["tick", 20]],
        "tick": [["metric_add", name, 1]],
    }
    proxy = serve(probe(on=on, silent=["tick"]))
    book = proxy.server.book
    assert set(book.wait(lambda: book.reports.results("configure", "metric_get"))) == {7}
    assert eventually(lambda: in_request(proxy, ["metric_get", name])[0] > 8)


@case("a counter goes on after a trap", envoy=AGREES, needs="metrics")
def test_trap(serve, name):
    proxy = serve(probe("a", vm_id="one"), probe("b", vm_id="two"))
    count = [["metric", "counter", name], ["metric_add", name, 1]]
    assert proxy.get(scripts={"b": {"request_headers": [*count, ["trap"]]}}).status == 503
    proxy.get(scripts={"a": {"request_headers": [*count, ["local", 200, [], None]]}})
    assert exported(proxy, name, 2) == 2
