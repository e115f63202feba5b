# SPDX-License-Identifier: Apache-2.0
"""What only the Envoy module has, and the conformance kit does not ask of every host; with the kit's guests, client and upstream."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hosts.envoy import MODULE, STRUCT, Envoy
from hosts.envoy_builtin import EXTENSIONS, program
from kit.client import Proxy
from kit.setup import Plugin, Setup
from kit.upstream import Upstream

PER_ROUTE = EXTENSIONS + "filters.http.dynamic_modules.v3.DynamicModuleFilterPerRoute"


class Site:
    """Starts Envoys for a test, whose configuration it may change before."""

    def __init__(self, directory: Path, upstream: Upstream):
        self.host = Envoy()
        self._directory, self._upstream = directory, upstream
        self._started: list[Proxy] = []

    def __call__(self, *plugins: Plugin, change: Callable[[dict], None] | None = None, **options) -> Proxy:
        setup = Setup(plugins=plugins, **options)
        bootstrap = self.host.bootstrap(setup, self._upstream.port)
        if change:
            change(bootstrap)
        directory = Path(tempfile.mkdtemp(dir=self._directory))
        proxy = Proxy(self.host.run(bootstrap, setup, directory), self._upstream)
        self._started.append(proxy)
        return proxy

    def validate(self, bootstrap: str) -> subprocess.CompletedProcess:
        """What `envoy --mode validate` says to a configuration."""
        file = self._directory / "validate.json"
        file.write_text(bootstrap)
        command = [program(), "--mode", "validate", "-c", file, "--log-level", "error"]
        return subprocess.run(
            command, env=self.host.environment(), capture_output=True, text=True, timeout=60, check=False
        )

    def close(self) -> None:
        for proxy in self._started:
            proxy.close()
            proxy.server.stop()


def connection_manager(bootstrap: dict) -> dict:
    (listener,) = bootstrap["static_resources"]["listeners"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def routes(bootstrap: dict) -> list[dict]:
    return connection_manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"]


def for_route(config: dict) -> dict:
    """The configuration of a filter for a route."""
    return {
        "@type": PER_ROUTE,
        "dynamic_module_config": MODULE,
        "filter_config": {"@type": STRUCT, "value": config},
    }


@pytest.fixture(scope="session")
def upstream():
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def site(upstream):
    directory = Path(tempfile.mkdtemp(prefix="proxywasm-envoy-tests-"))
    one = Site(directory, upstream)
    yield one
    one.close()
    shutil.rmtree(directory, ignore_errors=True)
