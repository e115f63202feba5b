# SPDX-License-Identifier: Apache-2.0
"""The plugin among Envoy's own filters, which share a buffer with it, and Envoy's check of configurations."""

from __future__ import annotations

import json

import pytest
from conftest import connection_manager
from hosts.envoy_builtin import EXTENSIONS
from kit.setup import Plugin, Setup, probe

COLLECT = [["unless_end", [["pause"]]], ["if_end", [["set_body", "request_body", 0, 1 << 20, "in its place"]]]]
KEEP_NO_LENGTH = {"request_headers": [["remove", "request_headers", "content-length"]]}
BUFFER = {
    "name": "buffer",
    "typed_config": {"@type": EXTENSIONS + "filters.http.buffer.v3.Buffer", "max_request_bytes": 1 << 20},
}
LUA = {
    "name": "lua",
    "typed_config": {
        "@type": EXTENSIONS + "filters.http.lua.v3.Lua",
        "default_source_code": {
            "inline_string": "function envoy_on_request(h) h:headers():add('x-size', h:body():length()) end"
        },
    },
}


def beside(filter: dict, *, before: bool):
    def change(bootstrap: dict) -> None:
        filters = connection_manager(bootstrap)["http_filters"]
        filters.insert(0 if before else len(filters) - 1, filter)

    return change


def send(proxy, pieces: list[bytes], **options):
    with proxy.connect() as connection:
        case = connection.send_head("POST", headers=[("transfer-encoding", "chunked")], **options)
        for piece in pieces:
            connection.send_chunk(piece)
            connection.quiet_for(0.03)
        connection.send_last_chunk()
        assert connection.read_reply(case).status == 200
        return proxy.seen(case)


PIECES = [b"one,", b"two,", b"three"]


@pytest.mark.parametrize("other", [BUFFER, LUA], ids=["buffer", "lua"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({}, b"one,two,three"),
        ({**KEEP_NO_LENGTH, "request_body": COLLECT}, b"in its place"),
        ({**KEEP_NO_LENGTH, "request_body": [["set_body", "request_body", 0, 0, "+"]]}, None),
    ],
    ids=["unchanged", "replaced", "each"],
)
def test_buffers(site, other, before, script, expected):
    """A filter that collects the body sees what the plugin lets go, and the plugin what the filter does, once each."""
    proxy = site(probe(), change=beside(other, before=before))
    body = send(proxy, PIECES, probe=script).body
    if expected is None:
        assert body.replace(b"+", b"") == b"".join(PIECES)
        assert body.startswith(b"+one,")
    else:
        assert body == expected


def test_validate(site):
    assert site.validate(json.dumps(bootstrap(site, probe()))).returncode == 0


@pytest.mark.parametrize(
    ("plugin", "why"),
    [
        (Plugin(probe().module, configuration="{"), "configure"),
        (Plugin(probe().module.with_name("none.wasm")), "none.wasm"),
    ],
    ids=["refused", "missing"],
)
def test_validate_refuses(site, plugin, why):
    result = site.validate(json.dumps(bootstrap(site, plugin)))
    assert result.returncode != 0
    (line,) = [line for line in result.stderr.splitlines() if "proxywasm: filter" in line]
    assert why in line


def bootstrap(site, plugin: Plugin) -> dict:
    return site.host.bootstrap(Setup(plugins=(plugin,)), 1)
