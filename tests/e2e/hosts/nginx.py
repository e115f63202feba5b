# SPDX-License-Identifier: Apache-2.0
"""NGINX as Debian packages it, with our module: bindings/nginx."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import struct
import subprocess
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import replace
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
SO_ATTACH_REUSEPORT_CBPF = 51
# In a request whose upstream is to answer with some.
TRAILERS = r"'\"trailers\": \[\['"
EARLY = "NGINX before 1.29 takes an informational response for the answer"
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
        return Record("trace" if trace else LEVELS[level], plugin, text, process)

    def metrics(self) -> dict[str, float | dict]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5) as answer:
            return parse_prometheus(answer.read().decode())

    def processes(self) -> list[int]:
        pid = self.process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self, patience: float = 5) -> int | None:
        workers = self.processes() if self.alive() else []
        code = super().stop(patience)
        for worker in workers if code is None else []:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        return code

    def ready(self) -> bool:
        # Not the port of the plugins: they would see it.
        with socket.socket() as connection:
            connection.settimeout(0.5)
            try:
                connection.connect(("127.0.0.1", self.admin_port))
                connection.sendall(b"GET /status HTTP/1.0\r\n\r\n")
                return connection.recv(1) != b""
            except OSError:
                return False


def load_modules(*, stream: bool = False) -> str:
    modules = (HTTP_MODULE, *(STREAM_MODULES if stream else ())) if MODULES else ()
    return " ".join(f"load_module {module};" for module in modules)


def listen(count: int = 1, *, shared: bool = False) -> list[socket.socket]:
    """
    Sockets of one port, which NGINX takes over, as a new binary does: nobody else can get the port before it. Where there are
    several, or `shared` says so, others can listen on the port as well.
    """
    sockets = [socket.socket() for _ in range(count)]
    # The first one is bound before it shares its port, or the system might choose one that others share.
    sockets[0].bind(("127.0.0.1", 0))
    for one in sockets:
        if count > 1 or shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if one is not sockets[0]:
            one.bind(sockets[0].getsockname())
        one.listen(511)
        one.setblocking(False)
    return sockets


def choose(listening: socket.socket, index: int) -> None:
    """Connections to sockets of this one's port are for the one with this index: a filter of one instruction, `ret index`."""
    code = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, index))
    program = struct.pack("HP", 1, ctypes.addressof(code))
    listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)


def port_of(listening: socket.socket) -> int:
    return listening.getsockname()[1]


def quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


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
    if plugin.start_deadline_ms:
        options.append(("start_deadline", f"{plugin.start_deadline_ms}ms"))
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
        stream = stream_block(setup, port, target, chain)
    else:
        server = http_server(setup, port, http2_port, chain)
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
    # A request that was answered before its body came ends, for its log too, when the client sends no more for so long.
    lingering_timeout 1s;
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


def http_server(setup: Setup, port: int, http2_port: int, chain: list[str]) -> str:
    upstream_timeout_ms = setup.upstream_timeout_ms
    timeout = f"proxy_read_timeout {upstream_timeout_ms}ms;" if upstream_timeout_ms else ""
    return f"""
    server {{
        listen 127.0.0.1:{port}{own_sockets(setup)};
        listen 127.0.0.1:{http2_port} http2{own_sockets(setup)};
        location / {{
            {" ".join(chain)}
            # NGINX before 1.27 takes trailers from gRPC upstreams only.
            if ($http_x_upstream ~ {TRAILERS}) {{ grpc_pass grpc://main; }}
            proxy_pass http://main;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            {timeout}
            proxy_request_buffering off;
            proxy_buffer_size 96k;
            proxy_buffering off;
            proxy_buffers 8 96k;
            proxy_busy_buffers_size 192k;
        }}
    }}
"""


def own_sockets(setup: Setup) -> str:
    return " reuseport" if setup.workers > 1 else ""


def stream_block(setup: Setup, port: int, upstream_port: int, chain: list[str]) -> str:
    return f"""
stream {{
    server {{
        listen 127.0.0.1:{port}{own_sockets(setup)};
        {" ".join(chain)}
        proxy_pass 127.0.0.1:{upstream_port};
        proxy_half_close on;
    }}
}}
"""


class Nginx(Host):
    name = "nginx"
    #: At least so many, whatever the case.
    workers: ClassVar[int] = 1
    cannot: ClassVar[dict[str, str]] = {
        "request_trailers": "NGINX does not give trailers of requests to modules",
        "new_request_trailers": "NGINX does not send trailers of requests",
        "grpc_callouts": "NGINX's HTTP/2 towards servers is part of grpc_pass, out of reach of modules",
        "envoy_attributes": "NGINX has no xDS configuration and no metadata",
        "test_request_headers.py::test_hop_by_hop": "NGINX passes on headers that `connection` names",
        "test_connections.py::test_hop_by_hop": "NGINX passes on headers that `connection` names",
        "test_request_headers.py::test_blanks": "NGINX keeps tabs around a value that came from outside",
        "test_response_headers.py::test_blanks": "NGINX keeps tabs around a value that came from outside",
        "test_response_headers.py::test_informational": EARLY,
        "test_connections.py::test_informational": EARLY,
        "test_aborts.py::test_malformed_head[words]": "NGINX takes a response without a status line for one of HTTP/0.9",
        "test_aborts.py::test_malformed_head[no_status]": (
            "NGINX takes a response without a status line for one of HTTP/0.9"
        ),
        "test_aborts.py::test_malformed_head[length]": "NGINX before 1.23 ignores a content-length that is no number",
    }

    def version(self) -> str:
        return subprocess.run([PROGRAM, "-v"], capture_output=True, text=True, check=True).stderr.split("/")[-1].strip()

    def missing(self) -> str | None:
        return None if not MODULES or HTTP_MODULE.exists() else "make nginx"

    def launch(self, setup: Setup, directory: Path, upstream_port: int) -> NginxServer:
        asked = setup.workers
        setup = replace(setup, workers=max(asked, self.workers))
        server = NginxServer(setup, directory)
        directory.chmod(0o755)  # workers are somebody else when the master is root
        file = directory / "nginx.conf"
        with ExitStack() as stack:
            listening = [stack.enter_context(one) for one in listen()]
            server.admin_port = port_of(listening[0])
            # A socket for each worker, between which the system chooses: otherwise nearly all connections are of one worker.
            for name in ("port",) if setup.kind == "tcp" else ("port", "http2_port"):
                sockets = [stack.enter_context(one) for one in listen(setup.workers)]
                if setup.workers > asked:
                    choose(sockets[0], setup.workers - 1)
                setattr(server, name, port_of(sockets[0]))
                listening += sockets
            ports = (server.port, server.http2_port, server.admin_port, upstream_port)
            file.write_bytes(configuration(setup, directory, *ports).encode("latin-1"))
            inherited = [one.fileno() for one in listening]
            environment = {**os.environ, "NGINX": "".join(f"{one};" for one in inherited)}
            server.spawn([PROGRAM, "-p", directory, "-c", file, "-e", "stderr"], environment, inherited)
        server.wait_until(server.ready)
        return server


class NginxTwoWorkers(Nginx):
    """
    Each case with two workers. Connections are the second one's, so that a case knows which VM it meets, and in the first
    one there is what worker 0 alone has; those of a case that asks for more than one worker come to all.
    """

    name = "nginx_2"
    workers = 2
