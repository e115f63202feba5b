# SPDX-License-Identifier: Apache-2.0
"""Updates of the configuration while streams are on their way."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hosts.envoy_builtin import TYPE
from kit.setup import Plugin, Setup, probe

LISTENER = TYPE + "envoy.config.listener.v3.Listener"


class Listeners:
    """A file of listeners beside the one that a server starts with. None at first."""

    def __init__(self, directory: Path):
        self._file = directory / "listeners.json"
        self._version = 0
        self.write()

    def write(self, *listeners: dict) -> None:
        """What Envoy is to have from now on, as it looks for such files: put in place in one go."""
        self._version += 1
        resources = [{"@type": LISTENER, **one, "name": f"other-{index}"} for index, one in enumerate(listeners)]
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"version_info": str(self._version), "resources": resources}))
        os.replace(new, self._file)

    def watch(self, bootstrap: dict) -> None:
        source = {"path_config_source": {"path": str(self._file)}}
        bootstrap["dynamic_resources"] = {"lds_config": source}


def listener(site, plugin: Plugin) -> dict:
    (one,) = site.host.bootstrap(Setup(plugins=(plugin,)), 1)["static_resources"]["listeners"]
    return one


def test_trap_beside_a_call(site, tmp_path):
    """
    Plugins are configured on Envoy's main thread. One that traps there ends the VM that it shares with a stream which waits for a call
    over it: the stream is answered by its policy, on its own thread.
    """
    listeners = Listeners(tmp_path)
    proxy = site(probe(vm_id="shared"), change=listeners.watch)
    trapping = listener(site, probe(on={"configure": [["trap"]]}, vm_id="shared"))
    for turn in range(5):
        path = f"/call-{turn}"
        headers = [[":method", "GET"], [":path", path], [":authority", "call.test"], ["x-upstream", '{"hold": "ever"}']]
        with proxy.connect() as connection:
            call = ["call", {"upstream": "upstream", "headers": headers, "timeout_ms": 60_000}]
            case = connection.send_head(probe={"request_headers": [call, ["pause"]]})
            assert proxy.upstream.wait(path=path)
            listeners.write(trapping)
            assert connection.read_reply(case).status == 503
        assert proxy.get().status == 200
