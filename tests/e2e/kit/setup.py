# SPDX-License-Identifier: Apache-2.0
"""What a case asks a host to run: plugins, clusters, the proxy around them. Values, so that equal setups can share a server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GUESTS = ROOT / "build" / "guests"
FILTERS = ROOT / "build" / "filters"


@dataclass(frozen=True)
class Plugin:
    """One plugin in a chain, or a service. What is left at None is the host's default."""

    module: Path
    name: str = "probe"
    root_id: str = ""
    vm_id: str = ""
    configuration: str = ""
    vm_configuration: str = ""
    #: What happens to streams after a trap: "reload", "closed" or "open".
    policy: str | None = None
    #: Pause in a header callback stops the headers only: bodies go on to the plugin.
    stop_iteration: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    #: An allow-list; empty allows everything.
    capabilities: tuple[str, ...] = ()
    #: Milliseconds of CPU for one callback.
    deadline_ms: int | None = None
    #: The same for each callback of a VM's start.
    start_deadline_ms: int | None = None
    memory_mb: int | None = None

    @property
    def key(self) -> str:
        """The request header of this plugin's script."""
        return f"x-probe-{self.name}"


@dataclass(frozen=True)
class Setup:
    """A server to be started."""

    plugins: tuple[Plugin, ...] = ()
    #: Plugins without streams.
    services: tuple[Plugin, ...] = ()
    #: "http" or "tcp": what the plugins sit in.
    kind: str = "http"
    #: Further clusters for callouts, name to port of 127.0.0.1.
    clusters: tuple[tuple[str, int], ...] = ()
    #: Bytes that may be held back for a plugin. None: the host's default.
    body_limit: int | None = None
    #: How long the upstream may take to answer.
    upstream_timeout_ms: int | None = None
    #: Where requests go; None: the kit's upstream.
    upstream_port: int | None = None
    #: The lowest level of the log: trace, debug, info, warn, error, critical.
    log_level: str = "info"
    #: Event loops or worker processes.
    workers: int = 1
    #: Seconds until the server has to take connections.
    start_timeout: float = 90


def script(on: dict | None = None, /, *, name: str = "probe", silent: tuple[str, ...] = (), **callbacks) -> str:
    """The probe's script as text: script(request_headers=[["add", …]], …)."""
    return json.dumps({"name": name, "on": {**(on or {}), **callbacks}, **({"silent": list(silent)} if silent else {})})


def probe(
    name: str = "probe", on: dict | None = None, *, silent: tuple[str, ...] = (), type: str = "http", **options
) -> Plugin:
    """The probe as a plugin called `name`, with a script of its own for all streams and root contexts."""
    configuration = json.dumps({"name": name, "type": type, "on": on or {}, "silent": list(silent)})
    return Plugin(GUESTS / "probe.wasm", name=name, configuration=configuration, **options)


def bare(text: str = "", version: str = "0.2.1", name: str = "bare", **options) -> Plugin:
    """The bare guest with a script in its configuration."""
    return Plugin(GUESTS / f"bare-{version}.wasm", name=name, configuration=text, **options)


def example_filter(name: str, configuration: str = "", **options) -> Plugin:
    """One of examples/filters, "rust-add-headers"."""
    return Plugin(FILTERS / f"{name}.wasm", name=name, configuration=configuration, **options)
