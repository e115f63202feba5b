# SPDX-License-Identifier: Apache-2.0
"""What only NGINX has, and the conformance kit does not ask of every host; with the kit's guests, client and upstream."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hosts.nginx import PROGRAM, NginxServer, load_modules
from kit.client import Proxy
from kit.ports import free_port
from kit.setup import GUESTS, Setup
from kit.upstream import Upstream
from master import open_to_workers

# Places for what a test has to add. The probe reports which callback ran and what its steps gave, by the log.
CONFIGURATION = """
{modules}
daemon off;
worker_processes {workers};
pid {directory}/nginx.pid;
error_log stderr {log_level};
{main}
events {{ worker_connections 256; }}
wasm {{
    module probe {guests}/probe.wasm;
    module bare {guests}/bare-0.2.1.wasm;
    plugin probe {{ module probe; configuration '{{"name": "probe", "type": "http", "on": {{}}}}'; }}
    {wasm}
}}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    access_log off;
    large_client_header_buffers 8 96k;
    {http}
    # When this one listens, all do.
    server {{ listen 127.0.0.1:{admin_port}; }}
    server {{
        listen 127.0.0.1:{port} {listen};
        {server}
    }}
}}
"""


class Nginx:
    """Starts servers for a test, or has NGINX check a configuration."""

    def __init__(self, directory: Path, upstream: Upstream):
        self._directory, self._upstream = directory, upstream
        self._started: list[Proxy] = []

    def _write(self, port: int, admin_port: int, log_level: str = "info", workers: int = 1, **places: str) -> Path:
        text = {"main": "", "wasm": "", "http": "", "server": "", "listen": "", **places}
        file = self._directory / f"nginx-{port}.conf"
        fixed = {
            "modules": load_modules(),
            "guests": GUESTS,
            "directory": self._directory,
            "port": port,
            "admin_port": admin_port,
        }
        file.write_text(CONFIGURATION.format(**fixed, log_level=log_level, workers=workers, **text))
        return file

    def __call__(self, **places: str) -> Proxy:
        server = NginxServer(Setup(), self._directory)
        server.port, server.admin_port = free_port(), free_port()
        file = self._write(server.port, server.admin_port, **places)
        server.spawn([PROGRAM, "-p", self._directory, "-c", file, "-e", "stderr"])
        server.wait_until(server.ready)
        proxy = Proxy(server, self._upstream)
        self._started.append(proxy)
        return proxy

    def check(self, **places: str) -> str:
        """What `nginx -t` says of a configuration that it refuses."""
        return self._refusal(self._write(free_port(), free_port(), **places))

    def check_text(self, text: str) -> str:
        """The same for a whole configuration."""
        file = self._directory / "nginx.conf"
        file.write_text(text)
        return self._refusal(file)

    def _refusal(self, file: Path) -> str:
        done = subprocess.run(
            [PROGRAM, "-t", "-p", self._directory, "-c", file, "-e", "stderr"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0, done.stderr
        return done.stderr

    def close(self) -> None:
        for proxy in self._started:
            proxy.close()
            proxy.server.stop()


@pytest.fixture(scope="session")
def upstream():
    server = Upstream()
    yield server
    server.close()


@pytest.fixture
def tmp_path():
    """Pytest's own is open to nobody else, and workers are somebody else when the master is root."""
    with tempfile.TemporaryDirectory(prefix="proxywasm-nginx-") as name:
        directory = Path(name, "test")
        directory.mkdir()
        open_to_workers(directory)
        yield directory


@pytest.fixture
def nginx(tmp_path, upstream):
    starter = Nginx(tmp_path, upstream)
    yield starter
    starter.close()


from http_site import site  # noqa: F401
