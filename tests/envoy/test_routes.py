# SPDX-License-Identifier: Apache-2.0
"""Plugins by route."""

from __future__ import annotations

import copy
import json

import pytest
from conftest import for_route, routes
from hosts import StartFailed
from kit.setup import probe

ADD = {"request_headers": [["add", "request_headers", "x-plugin", "of the filter"]]}


def text(value: str, name: str = "probe") -> dict:
    """A `configuration` as YAML says it."""
    on = {"request_headers": [["add", "request_headers", "x-plugin", value]]}
    configuration = json.dumps({"name": name, "type": "http", "on": on})
    return {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration}


def with_routes(**configs: dict):
    """Each path with a route and a configuration of its own."""

    def change(bootstrap: dict) -> None:
        listed = routes(bootstrap)
        for path, config in configs.items():
            route = copy.deepcopy(listed[-1])
            route.update({"name": path, "match": {"prefix": f"/{path}"}})
            route["typed_per_filter_config"] = {"wasm-0": for_route(config)}
            listed.insert(0, route)

    return change


def seen(proxy, path: str) -> list[str]:
    return proxy.get(path).seen.get_all("x-plugin")


def test_configuration(site):
    change = with_routes(own={"configuration": text("of the route")}, off={"disabled": True})
    proxy = site(probe(on=ADD), change=change)
    assert seen(proxy, "/") == ["of the filter"]
    assert seen(proxy, "/own") == ["of the route"]
    assert seen(proxy, "/off") == []
    assert seen(proxy, "/own") == ["of the route"]


def test_in_one_vm(site):
    """A route's plugin shares the VM of the filter's, as two filters of one vm_id do."""
    proxy = site(probe(on=ADD), change=with_routes(own={"configuration": text("of the route")}))
    (first,) = {one.vm for one in proxy.get("/").reports}
    (second,) = {one.vm for one in proxy.get("/own").reports}
    assert first == second


def test_made_once(site):
    proxy = site(probe(on=ADD), change=with_routes(own={"configuration": text("of the route")}))
    for _ in range(3):
        assert seen(proxy, "/own") == ["of the route"]
    assert len(proxy.server.book.reports.of("configure")) == 2


def test_refused(site):
    """A configuration that the plugin refuses costs its route alone."""
    change = with_routes(
        bad={"configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "{"}}
    )
    proxy = site(probe(on=ADD), change=change)
    assert [proxy.get("/bad").status for _ in range(2)] == [503, 503]
    assert seen(proxy, "/") == ["of the filter"]
    book = proxy.server.book
    assert book.wait(lambda: any("of a route did not start" in line for line in book.lines))


def test_refused_open(site):
    bad = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "{"}
    change = with_routes(bad={"configuration": bad, "failure_policy": "FAIL_OPEN"})
    proxy = site(probe(on=ADD), change=change)
    assert [seen(proxy, "/bad") for _ in range(2)] == [[], []]


@pytest.mark.parametrize(
    ("config", "why"),
    [({"vm_config": {}}, "vm_config"), ({"disabled": "yes"}, "disabled"), ({"colour": "red"}, "colour")],
    ids=["vm_config", "type", "unknown"],
)
def test_wrong(site, config, why):
    with pytest.raises(StartFailed) as failure:
        site(probe(on=ADD), change=with_routes(bad=config))
    assert why in str(failure.value)
