# SPDX-License-Identifier: Apache-2.0
"""What tests of requests have in common: locations with the probe, and what they look for afterwards."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from kit.client import Proxy, RawConnection, Reply

#: Not a whole number of NGINX's buffers.
FILE = "".join(f"{number:07d}\n" for number in range(5000))

LOCATIONS = """
    root {root};
    location /none { return 200 "none"; }
    location /return { proxy_wasm probe; return 200 "returned"; }
    location /file { proxy_wasm probe; }
    location /proxied { proxy_wasm probe; proxy_pass http://127.0.0.1:{upstream}; }
    location /unbuffered { proxy_wasm probe; proxy_buffering off; proxy_pass http://127.0.0.1:{upstream}; }
"""

#: A call of a plugin to the kit's upstream, which answers a little later.
CALL = [[":method", "GET"], [":path", "/call"], [":authority", "call.test"], ["x-upstream", '{"delay_ms": 40}']]


def call(*then) -> list:
    return ["call", {"upstream": "backend", "headers": CALL, "then": list(then)}]


class Site:
    """A server with these locations, or others; `{root}` and `{upstream}` in them are filled in."""

    def __init__(self, nginx, directory: Path, upstream):
        self._nginx, self._upstream = nginx, upstream
        self.root = directory / "root"
        self.root.mkdir()
        self.root.chmod(0o755)
        self.servers: list[Proxy] = []
        self.file("file", FILE)

    def file(self, name: str, text: str) -> None:
        """A static file, for workers that are somebody else."""
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o644)

    def __call__(self, server: str = "", http: str = "", standard: bool = True, **places: str) -> Proxy:
        http = "upstream backend { server 127.0.0.1:{upstream}; } " + http
        server = (LOCATIONS if standard else "") + server
        proxy = self._nginx(server=self._fill(server), http=self._fill(http), **places)
        self.servers.append(proxy)
        return proxy

    def _fill(self, text: str) -> str:
        return text.replace("{root}", str(self.root)).replace("{upstream}", str(self._upstream.port))

    def sound(self) -> None:
        """No worker has died, and NGINX has noticed nothing that its modules must not do."""
        for proxy in self.servers:
            log = proxy.server.book.lines
            bad = [line for line in log if any(f"[{level}]" in line for level in ("alert", "emerg", "crit"))]
            bad = [line for line in bad if "[wasm]" not in line]
            assert not bad, "\n".join(bad)
            assert proxy.server.alive()


@pytest.fixture
def site(nginx, tmp_path, upstream):
    site = Site(nginx, tmp_path, upstream)
    yield site
    site.sound()


def callbacks(reply: Reply, *names: str) -> list[str]:
    """Which callbacks a request's plugins had, in order; of them those with these names."""
    found = reply.reports.callbacks
    return [one for one in found if not names or one in names]


def logged(proxy: Proxy, text: str, count: int = 1) -> bool:
    """Whether the error log has, sooner or later, so many lines with a text."""
    book = proxy.server.book
    return bool(book.wait(lambda: sum(text in line for line in list(book.lines)) >= count))


def entered(proxy: Proxy, case: str, callback: str) -> bool:
    """Whether a request comes to a callback."""
    book = proxy.server.book
    return bool(book.wait(lambda: any(one.id == case for one in book.reports.of(callback))))


@contextlib.contextmanager
def connected(proxy: Proxy):
    connection = RawConnection(proxy)
    try:
        yield connection
    finally:
        connection.close()
