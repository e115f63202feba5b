# SPDX-License-Identifier: Apache-2.0
"""Stock Envoy from PyPI with our dynamic module: bindings/envoy."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from kit.setup import ROOT, Plugin, Setup

from .envoy_builtin import EXTENSIONS, EnvoyBuiltin, EnvoyServer, plugin_config, program
from .nginx import choose, listen, port_of

# Where the module is.
MODULES = Path(os.environ.get("ENVOY_MODULES", str(ROOT / "build" / "envoy")))
STRUCT = "type.googleapis.com/google.protobuf.Struct"
#: `dynamic_module_config` of each filter. Metrics have the names that they have in Envoy's own host.
MODULE = {"name": "proxywasm_envoy", "metrics_namespace": "wasmcustom"}
TRAILERS = "Envoy takes new trailers from no module"
EMPTY = "Envoy takes no header with an empty value from modules"

#: What an older Envoy does not give modules, by the release that does, and the cases that need it.
SINCE = {
    (1, 39): {
        "Envoy 1.38 counts for streams only, not for configurations": (
            "test_metrics.py::test_exported",
            "test_metrics.py::test_exported_histogram",
            "test_metrics.py::test_workers",
            "test_metrics.py::test_trap",
            "test_metrics.py::test_defined_late",
            "test_sdk_plugins.py::test_metrics",
        ),
        "Envoy 1.38 tells modules neither response.code_details nor response.flags nor upstream.local_address": (
            "test_properties.py::test_code_details",
            "test_properties.py::test_local_details",
            "test_properties.py::test_flags",
            "test_properties.py::test_flags_refused",
            "test_properties.py::test_flags_closed",
            "test_properties.py::test_upstream_local",
            "test_local_responses.py::test_details",
        ),
        "in Envoy 1.38, filter state is written once": (
            "test_properties.py::test_set_again",
            "test_properties.py::test_set_empty",
        ),
    },
    (1, 40): {
        "Envoy tells modules no times before 1.40": (
            "test_properties.py::test_time",
            "test_properties.py::test_duration",
            "test_properties.py::test_latency",
        ),
        "before 1.40, Envoy tells modules no sizes, no gRPC status, no route, no direction, and in TCP no ports": (
            "test_properties.py::test_request_size",
            "test_properties.py::test_response_size",
            "test_properties.py::test_grpc_status",
            "test_properties.py::test_no_grpc_status[200-2]",
            "test_properties.py::test_no_grpc_status[401-16]",
            "test_properties.py::test_no_grpc_status[403-7]",
            "test_properties.py::test_no_grpc_status[404-12]",
            "test_properties.py::test_no_grpc_status[503-14]",
            "test_properties.py::test_route",
            "test_properties.py::test_direction",
            "test_sdk_plugins.py::test_property_log",
            "test_tcp_hostcalls.py::test_properties",
            "test_tcp_hostcalls.py::test_effective_context",
        ),
    },
}


def not_yet() -> dict[str, str]:
    """What the Envoy that ENVOY_PROGRAM names is too old for."""
    if "ENVOY_PROGRAM" not in os.environ:
        return {}
    text = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"/(\d+)\.(\d+)\.\d+/", text)
    mine = (int(release[1]), int(release[2]))
    return {
        case: reason
        for since, reasons in SINCE.items()
        if mine < since
        for reason, cases in reasons.items()
        for case in cases
    }


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
        **not_yet(),
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
