# SPDX-License-Identifier: Apache-2.0
"""NGINX as Debian packages it, with our module: bindings/nginx."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import ClassVar

from kit.records import Record
from kit.setup import ROOT, Plugin, Setup

from .base import Host, Server
from .example import parse_prometheus

# The distribution's own, unless another one is asked for; NGINX_MODULES is where our modules are, and empty if all are built in.
PROGRAM = Path(os.environ.get("NGINX_PROGRAM", "/usr/sbin/nginx"))
MODULES = os.environ.get("NGINX_MODULES", str(ROOT / "build" / "nginx"))
# In this order: the second needs NGINX's own, and what the first has for both.
HTTP_MODULE = Path(MODULES, "ngx_http_proxywasm_module.so")
STREAM_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_stream_module.so"),
    Path(MODULES, "ngx_stream_proxywasm_module.so"),
)
LINE = re.compile(
    r'[\d/]+ [\d:]+ \[(\w+)\] (\d+)#\d+: (\*\d+ )?\[wasm\] (\[trace\] )?(\[more\] )?\["([^"]*)" (#\d+)\] ?(.*)',
    re.DOTALL,
)
# What NGINX is doing, as it says before ", client: ".
DOING = re.compile(
    r" while (?:"
    r"(?:connecting|sending|reading|logging|closing|processing|waiting|prereading|proxying)\b[a-z /-]*"
    r"|keepalive)$"
)
LOG_LEVELS = {"trace": "debug", "critical": "crit"}
LEVELS = {"warn": "warn", "error": "error", "crit": "critical", "info": "info", "debug": "debug"}


def without_suffix(text: str) -> str:
    """The record of a connection without what NGINX says of the connection."""
    return DOING.sub("", text[: text.rfind(", client: ")])


class NginxServer(Server):
    # Killed, the master would leave its workers behind.
    END_SIGNAL = "TERM"

    admin_port = 0

    def __init__(self, setup: Setup, directory: Path):
        super().__init__(setup, directory)
        # Lines that are continued, by process and context.
        self._pieces: dict[tuple[str, str], str] = {}

    def parse_line(self, line: str) -> Record | None:
        match = LINE.fullmatch(line)
        if match is None:
            return None
        level, process, connection, trace, more, plugin, context, text = match.groups()
        if connection and level != "debug":
            text = without_suffix(text)
        text = self._pieces.pop((process, context), "") + text
        if more:
            self._pieces[process, context] = text
            return None
        return Record("trace" if trace else LEVELS[level], plugin, text)

    def metrics(self) -> dict[str, float | dict]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5) as answer:
            return parse_prometheus(answer.read().decode())

    def ready(self) -> bool:
        pid = self.directory / "nginx.pid"
        if not pid.exists() or not pid.read_text().strip():
            return False
        try:
            # Not the port of the plugins: they would see it.
            socket.create_connection(("127.0.0.1", self.admin_port), 1).close()
        except OSError:
            return False
        return True


def load_modules(*, stream: bool = False) -> str:
    modules = (HTTP_MODULE, *(STREAM_MODULES if stream else ())) if MODULES else ()
    return " ".join(f"load_module {module};" for module in modules)


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# The system may give a port again that nobody listens on yet.
_given: set[int] = set()


def free_port() -> int:
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def plugin_options(plugin: Plugin, index: int, setup: Setup, directory: Path) -> str:
    vm_file = directory / f"vm-configuration-{index}"
    vm_file.write_bytes(plugin.vm_configuration.encode("latin-1"))
    options = [("module", f"{plugin.name}-{index}"), ("vm_configuration_file", str(vm_file))]
    options.append(("configuration_file", str(directory / f"configuration-{index}")))
    options += [("root_id", quote(plugin.root_id)), ("vm_id", quote(plugin.vm_id))]
    if plugin.policy:
        options.append(("failure_policy", plugin.policy))
    if plugin.stop_iteration:
        options.append(("allow_on_headers_stop_iteration", "on"))
    if plugin.deadline_ms:
        options.append(("deadline", f"{plugin.deadline_ms}ms"))
    if plugin.memory_mb:
        options.append(("max_memory", f"{plugin.memory_mb}m"))
    if setup.body_limit:
        options.append(("max_body_buffer", str(setup.body_limit)))
    options += [("environment", f"{quote(name)} {quote(value)}") for name, value in plugin.environment]
    options += [("allow", quote(name)) for name in plugin.capabilities]
    return " ".join(f"{name} {value};" for name, value in options)


def configuration(
    setup: Setup, directory: Path, port: int, http2_port: int, admin_port: int, upstream_port: int
) -> str:
    wasm, chain = [], []
    names = set()
    for index, plugin in enumerate((*setup.plugins, *setup.services)):
        if plugin.name in names:
            # The same plugin a second time, with another configuration.
            chain.append(f"proxy_wasm {quote(plugin.name)} {quote(plugin.configuration)};")
            continue
        names.add(plugin.name)
        (directory / f"configuration-{index}").write_bytes(plugin.configuration.encode("latin-1"))
        wasm.append(f"module {plugin.name}-{index} {quote(str(plugin.module))};")
        wasm.append(f"plugin {quote(plugin.name)} {{ {plugin_options(plugin, index, setup, directory)} }}")
        if index < len(setup.plugins):
            chain.append(f"proxy_wasm {quote(plugin.name)};")
        else:
            wasm.append(f"service {quote(plugin.name)};")
    temporary = "\n".join(
        f"    {kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    clusters = "\n".join(
        f"    upstream {name} {{ server 127.0.0.1:{port} max_fails=0; keepalive 8; }}"
        for name, port in (("upstream", upstream_port), *setup.clusters)
    )
    server, stream = "", ""
    target = setup.upstream_port or upstream_port
    if setup.kind == "tcp":
        stream = stream_block(port, target, chain)
    else:
        server = http_server(port, http2_port, chain, setup.upstream_timeout_ms)
    return f"""
{load_modules(stream=setup.kind == "tcp")}
daemon off;
worker_processes {setup.workers};
pid {directory}/nginx.pid;
error_log stderr {LOG_LEVELS.get(setup.log_level, setup.log_level)};
events {{ worker_connections 4096; }}
wasm {{
    {" ".join(wasm)}
}}
http {{
{temporary}
    access_log off;
    large_client_header_buffers 8 96k;
    client_max_body_size 0;
    upstream main {{ server 127.0.0.1:{target}; }}
{clusters}
    server {{
        listen 127.0.0.1:{admin_port};
        location = /metrics {{ proxy_wasm_metrics; }}
        location = /status {{ proxy_wasm_status; }}
    }}
{server}
}}
{stream}
"""


def http_server(port: int, http2_port: int, chain: list[str], upstream_timeout_ms: int | None) -> str:
    timeout = f"proxy_read_timeout {upstream_timeout_ms}ms;" if upstream_timeout_ms else ""
    return f"""
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{http2_port} http2;
        location / {{
            {" ".join(chain)}
            proxy_pass http://main;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            {timeout}
            proxy_pass_request_headers on;
            proxy_buffer_size 96k;
            proxy_buffering off;
            proxy_buffers 8 96k;
            proxy_busy_buffers_size 192k;
        }}
    }}
"""


def stream_block(port: int, upstream_port: int, chain: list[str]) -> str:
    return f"""
stream {{
    server {{
        listen 127.0.0.1:{port};
        {" ".join(chain)}
        proxy_pass 127.0.0.1:{upstream_port};
        proxy_half_close on;
    }}
}}
"""


class Nginx(Host):
    name = "nginx"
    ready = False
    cannot: ClassVar[dict[str, str]] = {
        "request_trailers": "NGINX does not give trailers of requests to modules",
        "response_trailers": "NGINX takes trailers of responses from gRPC upstreams only",
        "new_trailers": "NGINX does not give trailers of requests to modules",
        "grpc_callouts": "NGINX's HTTP/2 towards servers is part of grpc_pass, out of reach of modules",
        "envoy_attributes": "NGINX has no xDS configuration and no metadata",
        "test_request_headers.py::test_hop_by_hop": "NGINX passes on headers that `connection` names",
        "test_request_headers.py::test_blanks": "NGINX keeps tabs around a value that came from outside",
        "test_response_headers.py::test_blanks": "NGINX keeps tabs around a value that came from outside",
        "test_response_headers.py::test_informational": "NGINX before 1.29 takes an informational response for the answer",
    }

    def version(self) -> str:
        return subprocess.run([PROGRAM, "-v"], capture_output=True, text=True, check=True).stderr.split("/")[-1].strip()

    def missing(self) -> str | None:
        return None if not MODULES or HTTP_MODULE.exists() else "make nginx"

    def launch(self, setup: Setup, directory: Path, upstream_port: int) -> NginxServer:
        server = NginxServer(setup, directory)
        directory.chmod(0o755)  # workers are somebody else when the master is root
        server.port, server.http2_port, server.admin_port = free_port(), free_port(), free_port()
        file = directory / "nginx.conf"
        ports = (server.port, server.http2_port, server.admin_port, upstream_port)
        file.write_bytes(configuration(setup, directory, *ports).encode("latin-1"))
        server.spawn([PROGRAM, "-p", directory, "-c", file, "-e", "stderr"])
        server.wait_until(server.ready)
        return server
