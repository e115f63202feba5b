# SPDX-License-Identifier: Apache-2.0
"""The proxies of the demonstrations, by name: each starts with a plugin, or without, and gives its address."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@contextlib.contextmanager
def example(upstream: str, plugin: pathlib.Path | None) -> Iterator[str]:
    """The example proxy, cpp-example."""
    program = ROOT / "build" / "cpp-example" / "proxywasm-example"
    command = [program, "serve", "--listen", "127.0.0.1:0", "--upstream", upstream]
    if plugin:
        command += ["--plugin", f"{plugin},name={plugin.stem}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                break
        else:
            raise SystemExit(f"the proxy did not start: {process.stderr.read().strip()}")
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        process.terminate()
        process.wait(timeout=20)


NGINX_CONFIGURATION = """
load_module {module};
daemon off;
pid {directory}/nginx.pid;
events {{ }}

wasm {{
{wasm}
}}

http {{
    {temporary}
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        location / {{
{location}
            proxy_pass http://{upstream};
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(upstream: str, plugin: pathlib.Path | None) -> Iterator[str]:
    """The distribution's NGINX with the module of bindings/nginx."""
    with tempfile.TemporaryDirectory(prefix="proxywasm-demo-") as name, socket.create_server(("127.0.0.1", 0)) as probe:
        directory = pathlib.Path(name)
        directory.chmod(0o755)  # workers are somebody else when the master is root
        port = probe.getsockname()[1]
        probe.close()
        wasm = f"    module {plugin.stem} {plugin};" if plugin else ""
        location = f"            proxy_wasm {plugin.stem};" if plugin else ""
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        file = directory / "nginx.conf"
        file.write_text(
            NGINX_CONFIGURATION.format(
                module=ROOT / "build" / "nginx" / "ngx_http_proxywasm_module.so",
                temporary=" ".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds),
                directory=directory,
                wasm=wasm,
                location=location,
                port=port,
                upstream=upstream,
            )
        )
        if plugin:
            print(
                f"    nginx.conf: wasm {{ module {plugin.stem} …/{plugin.name}; }}  location / {{ {location.strip()} … }}"
            )
        log = directory / "error.log"
        process = subprocess.Popen(["/usr/sbin/nginx", "-p", directory, "-c", file, "-e", log])
        try:
            wait_for(port, process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)


ENVOY_CONFIGURATION = """
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
            virtual_hosts:
            - {{ name: all, domains: ["*"], routes: [ {{ match: {{ prefix: / }}, route: {{ cluster: upstream }} }} ] }}
          http_filters:{filter}
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: upstream
    load_assignment:
      cluster_name: upstream
      endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {upstream} }} }} }} ] }} ]
"""
ENVOY_FILTER = """
          - name: {name}
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter
              dynamic_module_config: {{ name: proxywasm_envoy, metrics_namespace: wasmcustom }}
              filter_name: {name}
              filter_config:
                "@type": type.googleapis.com/google.protobuf.Struct
                value:
                  name: {name}
                  vm_config: {{ vm_id: {name}, code: {{ local: {{ filename: {plugin} }} }} }}"""


def envoy_program() -> pathlib.Path:
    """The stock Envoy that the conformance kit's packages bring."""
    (found,) = (ROOT / "build" / "tools" / "venv").glob("lib/python3*/site-packages/envoy/_bin/envoy")
    return found


@contextlib.contextmanager
def envoy(upstream: str, plugin: pathlib.Path | None) -> Iterator[str]:
    """Stock Envoy with the module of bindings/envoy."""
    with tempfile.TemporaryDirectory(prefix="proxywasm-demo-") as name, socket.create_server(("127.0.0.1", 0)) as probe:
        directory = pathlib.Path(name)
        port = probe.getsockname()[1]
        probe.close()
        address, upstream_port = upstream.rsplit(":", 1)
        file = directory / "envoy.yaml"
        file.write_text(
            ENVOY_CONFIGURATION.format(
                port=port,
                upstream=f"{{ address: {address}, port_value: {upstream_port} }}",
                filter=ENVOY_FILTER.format(name=plugin.stem, plugin=plugin) if plugin else "",
            )
        )
        if plugin:
            print(
                f"    envoy.yaml: dynamic_module_config: {{ name: proxywasm_envoy }}  vm_config: {{ code: …/{plugin.name} }}"
            )
        log = directory / "envoy.log"
        command = [envoy_program(), "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
        environment = os.environ | {"ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(ROOT / "build" / "envoy")}
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            wait_for(port, process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=20)


def wait_for(port: int, process: subprocess.Popen, log: pathlib.Path) -> None:
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.02)
    raise SystemExit(f"the proxy did not start:\n{log.read_text()}")


PROXIES = {"example": example, "nginx": nginx, "envoy": envoy}
