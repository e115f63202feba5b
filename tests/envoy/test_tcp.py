# SPDX-License-Identifier: Apache-2.0
"""What the TCP filter has that the conformance kit does not ask of every host."""

from __future__ import annotations

import json
import socket

import pytest
from hosts import StartFailed
from hosts.envoy_builtin import EXTENSIONS
from kit.client import eventually
from kit.setup import Setup, bare, probe
from kit.tcp import read

COUNT = {
    "configure": [["metric", "counter", "tcp_connections"], ["metric", "gauge", "tcp_open"]],
    "new_connection": [["metric_add", "tcp_connections", 1], ["metric_add", "tcp_open", 1]],
    "done": [["metric_add", "tcp_open", -1]],
}


def accepting(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def through(proxy, upstream: socket.socket, data: bytes) -> bytes:
    """What comes out at the upstream when a client sends that, and the client has its answer."""
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
        client.sendall(data)
        server, _ = upstream.accept()
        with server:
            server.settimeout(10)
            found = read(server, len(data))
            server.sendall(b"answer")
            assert read(client, 6) == b"answer"
    return found


def test_metrics(site):
    """Those that a plugin defines while it is configured are Envoy's own, as with Envoy's filter."""
    with accepting() as upstream:
        proxy = site(probe(on=COUNT, type="tcp"), kind="tcp", upstream_port=upstream.getsockname()[1])
        for _ in range(2):
            assert through(proxy, upstream, b"data") == b"data"
        assert eventually(lambda: proxy.server.metrics().get("tcp_connections") == 2), proxy.server.metrics()
        assert eventually(lambda: proxy.server.metrics().get("tcp_open") == 0), proxy.server.metrics()


def test_filter_state(site):
    """What a plugin sets is filter state of the connection, which Envoy's own log shows."""

    def change(bootstrap: dict) -> None:
        (listener,) = bootstrap["static_resources"]["listeners"]
        proxy = listener["filter_chains"][0]["filters"][-1]["typed_config"]
        proxy["access_log"] = [
            {
                "name": "stderr",
                "typed_config": {
                    "@type": EXTENSIONS + "access_loggers.stream.v3.StderrAccessLog",
                    "log_format": {"text_format_source": {"inline_string": "state %FILTER_STATE(wasm.case:PLAIN)%\n"}},
                },
            }
        ]

    on = {"new_connection": [["set_property", ["case"], "of the plugin"]]}
    with accepting() as upstream:
        port = upstream.getsockname()[1]
        proxy = site(probe(on=on, type="tcp"), kind="tcp", upstream_port=port, change=change)
        through(proxy, upstream, b"data")
        assert eventually(lambda: any("state of the plugin" in line for line in proxy.server.book.lines))


def test_validate(site):
    good = site.host.bootstrap(Setup(plugins=(probe(type="tcp"),), kind="tcp"), 1)
    assert site.validate(json.dumps(good)).returncode == 0
    bad = site.host.bootstrap(Setup(plugins=(probe(type="sideways"),), kind="tcp"), 1)
    refused = site.validate(json.dumps(bad))
    assert refused.returncode != 0
    assert 'filter "probe", plugin "probe"' in refused.stdout + refused.stderr


def test_wrong(site):
    def change(bootstrap: dict) -> None:
        (listener,) = bootstrap["static_resources"]["listeners"]
        config = listener["filter_chains"][0]["filters"][0]["typed_config"]["filter_config"]["value"]
        config["vm_config"]["code"] = {"local": {"filename": "/nowhere.wasm"}}

    with pytest.raises(StartFailed) as failure:
        site(bare(), kind="tcp", change=change)
    assert "/nowhere.wasm" in str(failure.value)
