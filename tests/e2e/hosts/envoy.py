# SPDX-License-Identifier: Apache-2.0
"""Stock Envoy from PyPI with our dynamic module: bindings/envoy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from kit.setup import ROOT, Plugin, Setup

from .envoy_builtin import EXTENSIONS, EnvoyBuiltin, plugin_config

# Where the module is.
MODULES = Path(os.environ.get("ENVOY_MODULES", str(ROOT / "build" / "envoy")))
STRUCT = "type.googleapis.com/google.protobuf.Struct"


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
    ready = False
    component = "dynamic_modules"
    cannot: ClassVar[dict[str, str]] = {
        "new_request_trailers": "Envoy's modules cannot make trailers where there are none",
        "new_response_trailers": "Envoy's modules cannot make trailers where there are none",
        "services": "the module has no bootstrap extension yet",
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
            "dynamic_module_config": {"name": "proxywasm_envoy", "metrics_namespace": "wasmcustom"},
            "filter_name": plugin.name,
            "filter_config": {"@type": STRUCT, "value": filter_config(plugin, setup)},
        }

    def service(self, setup: Setup, plugin: Plugin) -> dict:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {**os.environ, "ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(MODULES)}
