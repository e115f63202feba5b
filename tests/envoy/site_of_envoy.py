# SPDX-License-Identifier: Apache-2.0
"""Stock Envoy with a plugin, in its own Wasm filter or in our module, before a response of Envoy's own; updated through files."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

from hosts.base import Server
from hosts.envoy_builtin import EXTENSIONS, TYPE, EnvoyServer, address, plugin_config, program
from kit.client import eventually
from kit.ports import free_port
from kit.setup import ROOT, Plugin, Setup

MODULE = ROOT / "build" / "envoy" / "libproxywasm_envoy.so"
BUILT_IN, OURS = "built-in", "module"
#: Seconds that Envoy gives the connections of a listener that is replaced.
DRAIN = 1


def wasm_filter(kind: str, plugin: Plugin, extra: dict) -> dict:
    """The same plugin in either filter. `extra`: fields that only the module has."""
    if kind == BUILT_IN:
        return {"@type": EXTENSIONS + "filters.http.wasm.v3.Wasm", "config": plugin_config(plugin)}
    return {
        "@type": EXTENSIONS + "filters.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"name": "proxywasm_envoy", "metrics_namespace": "wasmcustom"},
        "filter_name": plugin.name,
        "filter_config": {"@type": TYPE + "google.protobuf.Struct", "value": plugin_config(plugin) | extra},
    }


class Site:
    """One server. `delay_ms`: how long the response behind the plugin takes, so that requests are in flight together."""

    def __init__(self, kind: str, directory: Path, *, workers: int = 1, delay_ms: int = 0):
        self.kind, self.directory, self.port = kind, directory, free_port()
        self._delay_ms, self._version = delay_ms, 0
        self.server = EnvoyServer(Setup(workers=workers), directory)
        self.access_log = directory / "access.log"

    def _listener(self, plugins: tuple[Plugin, ...], extra: dict) -> dict:
        filters = [
            {"name": f"plugin-{number}", "typed_config": wasm_filter(self.kind, plugin, extra)}
            for number, plugin in enumerate(plugins)
        ]
        if self._delay_ms:
            fault = {
                "@type": EXTENSIONS + "filters.http.fault.v3.HTTPFault",
                "delay": {"fixed_delay": f"{self._delay_ms / 1000}s", "percentage": {"numerator": 100}},
            }
            filters.append({"name": "delay", "typed_config": fault})
        filters.append({"name": "router", "typed_config": {"@type": EXTENSIONS + "filters.http.router.v3.Router"}})
        route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "answer"}}}
        manager = {
            "@type": EXTENSIONS + "filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "main",
            "drain_timeout": "0.5s",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": filters,
            "access_log": [
                {
                    "name": "file",
                    "typed_config": {
                        "@type": EXTENSIONS + "access_loggers.file.v3.FileAccessLog",
                        "path": str(self.access_log),
                        "log_format": {"text_format_source": {"inline_string": "%REQ(:PATH)% %RESPONSE_CODE%\n"}},
                    },
                }
            ],
        }
        return {
            "@type": TYPE + "envoy.config.listener.v3.Listener",
            "name": "main",
            "address": address(self.port),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }

    def write(self, *plugins: Plugin, extra: dict | None = None) -> None:
        """What Envoy is to have from now on, as it looks for such files: put in place in one go."""
        self._version += 1
        response = {"version_info": str(self._version), "resources": [self._listener(plugins, extra or {})]}
        new = self.directory / "listeners.new"
        new.write_text(json.dumps(response))
        os.replace(new, self.directory / "listeners.json")

    def start(self, *plugins: Plugin, extra: dict | None = None) -> None:
        self.write(*plugins, extra=extra)
        bootstrap = {
            "node": {"id": "site", "cluster": "site"},
            "admin": {"address": address(0)},
            "dynamic_resources": {
                "lds_config": {"path_config_source": {"path": str(self.directory / "listeners.json")}}
            },
        }
        file = self.directory / "envoy.json"
        file.write_text(json.dumps(bootstrap))
        command = [program(), "-c", file, "--concurrency", self.server.setup.workers, "--disable-hot-restart"]
        command += ["--admin-address-path", self.directory / "admin", "--log-level", "warning"]
        command += ["--drain-time-s", DRAIN, "--file-flush-interval-msec", 100]
        environment = os.environ | {"ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(MODULE.parent)}
        self.server.spawn(command, environment)
        self.server.wait_until(self.server.find_ports)
        self.server.port = self.port

    def update(self, *plugins: Plugin, extra: dict | None = None) -> None:
        """Returns when Envoy has it, and has done with the one before."""
        before = self.stat("listener_manager.lds.update_success")
        self.write(*plugins, extra=extra)
        assert eventually(lambda: self.stat("listener_manager.lds.update_success") > before, timeout=30), self.log()
        assert eventually(lambda: self.stat("listener_manager.total_listeners_warming") == 0, timeout=30), self.log()
        for what in ("total_filter_chains_draining", "total_listeners_draining"):
            assert eventually(lambda: self.stat(f"listener_manager.{what}") == 0, timeout=30), self.log()  # noqa: B023

    def stat(self, name: str) -> int:
        text = self.server.ask_admin(f"/stats?filter=^{re.escape(name)}$")
        return int(text.rsplit(":", 1)[1])

    def anonymous_mib(self) -> float:
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        return int(re.search(r"^RssAnon:\s*(\d+) kB$", status, re.MULTILINE)[1]) / 1024

    def log(self) -> str:
        return "\n".join(self.server.book.lines[-60:])

    def terminate(self, patience: float) -> float | None:
        """Seconds from SIGTERM until it has ended; None if it had to be killed."""
        began = time.monotonic()
        return None if self.server.stop(patience) is None else time.monotonic() - began

    def alive(self) -> bool:
        return Server.alive(self.server)
