# SPDX-License-Identifier: Apache-2.0
"""Stock Envoy from PyPI with our dynamic module: bindings/envoy."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from kit.setup import ROOT, Plugin, Setup

from .envoy_builtin import EXTENSIONS, EnvoyBuiltin, EnvoyServer, plugin_config
from .nginx import choose, listen, port_of

# Where the module is.
MODULES = Path(os.environ.get("ENVOY_MODULES", str(ROOT / "build" / "envoy")))
STRUCT = "type.googleapis.com/google.protobuf.Struct"
#: `dynamic_module_config` of each filter. Metrics have the names that they have in Envoy's own host.
MODULE = {"name": "proxywasm_envoy", "metrics_namespace": "wasmcustom"}
TRAILERS = "Envoy takes new trailers from no module"
EMPTY = "Envoy takes no header with an empty value from modules"


def filter_config(plugin: Plugin, setup: Setup) -> dict:
    """What Envoy's own filter is told, and what only ours has."""
    config = plugin_config(plugin)
    limits = {}
    if plugin.deadline_ms:
        limits["deadline"] = f"{plugin.deadline_ms / 1000}s"
    if plugin.start_deadline_ms:
        limits["start_deadline"] = f"{plugin.start_deadline_ms / 1000}s"
    if plugin.memory_mb:
        limits["max_memory"] = plugin.memory_mb * 1024 * 1024
    if setup.body_limit:
        limits["max_body_buffer"] = setup.body_limit
    if limits:
        config["limits"] = limits
    return config


class Envoy(EnvoyBuiltin):
    name = "envoy"
    component = "dynamic_modules"
    cannot: ClassVar[dict[str, str]] = {
        "new_request_trailers": TRAILERS,
        "new_response_trailers": TRAILERS,
        "test_request_headers.py::test_write_empty_value": EMPTY,
        "test_request_headers.py::test_set_map": EMPTY,
        "test_response_headers.py::test_set_map": EMPTY,
        "test_trailers.py::test_change[set map-request]": EMPTY,
        "test_trailers.py::test_change[set map-response]": EMPTY,
        "test_properties.py::test_node": "Envoy does not tell modules its node",
        "test_properties.py::test_later[done]": "Envoy has let go of the stream when its filters end",
        "test_lifecycle.py::test_root_done": "an Envoy that ends gives modules no time",
        "test_tcp_hostcalls.py::test_metric": "Envoy takes metrics of TCP filters only while they are configured, and without labels",
    }

    def missing(self) -> str | None:
        if reason := super().missing():
            return reason
        return None if (MODULES / "libproxywasm_envoy.so").exists() else "make envoy"

    def filter(self, setup: Setup, plugin: Plugin) -> dict:
        kind = (
            "network.dynamic_modules.v3.DynamicModuleNetworkFilter"
            if setup.kind == "tcp"
            else "http.dynamic_modules.v3.DynamicModuleFilter"
        )
        return {
            "@type": EXTENSIONS + "filters." + kind,
            "dynamic_module_config": MODULE,
            "filter_name": plugin.name,
            "filter_config": {"@type": STRUCT, "value": filter_config(plugin, setup)},
        }

    def service(self, setup: Setup, plugin: Plugin) -> dict:
        service = {
            "@type": EXTENSIONS + "bootstrap.dynamic_modules.v3.DynamicModuleBootstrapExtension",
            "dynamic_module_config": MODULE,
            "extension_name": plugin.name,
            "extension_config": {"@type": STRUCT, "value": filter_config(plugin, setup)},
        }
        return {"name": "envoy.bootstrap.dynamic_modules", "typed_config": service}

    def environment(self) -> dict[str, str]:
        return {**os.environ, "ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(MODULES)}


class EnvoyTwoWorkers(Envoy):
    """Each case with two workers. Connections are the second one's, unless a case asks for more than one worker."""

    name = "envoy_2"

    def launch(self, setup: Setup, directory: Path, upstream_port: int) -> EnvoyServer:
        if setup.workers > 1:
            return super().launch(setup, directory, upstream_port)
        # The first socket of the port is ours, gets no connection, and says who does; Envoy's workers follow in order.
        first = listen(shared=True)[0]
        choose(first, 2)
        try:
            setup = replace(setup, workers=2)
            server = self.run(self.bootstrap(setup, upstream_port, port_of(first)), setup, directory)
        except BaseException:
            first.close()
            raise
        server.kept = first
        return server
