# SPDX-License-Identifier: Apache-2.0
"""TCP connections through a proxy: the client's end, the upstream's end, and what plugins report of them."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable

from .client import Proxy
from .records import Reports
from .setup import Plugin, probe
from .upstream import TcpUpstream

GONE = (ConnectionResetError, BrokenPipeError)


def tcp_probe(name: str = "probe", on: dict | None = None, **options) -> Plugin:
    return probe(name, on, type="tcp", **options)


def read(end: socket.socket, size: int) -> bytes:
    """So many bytes; fewer when the other side ends before."""
    data = b""
    while len(data) < size and (piece := end.recv(size - len(data))):
        data += piece
    return data


def read_all(end: socket.socket) -> bytes:
    """All that comes until the end of the stream, or a reset."""
    data = b""
    with contextlib.suppress(*GONE):
        while piece := end.recv(1 << 16):
            data += piece
    return data


def is_quiet(end: socket.socket, seconds: float = 0.2) -> bool:
    """Whether neither data nor the end of the stream comes for so long."""
    before = end.gettimeout()
    end.settimeout(seconds)
    try:
        end.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    except GONE:
        return False
    finally:
        end.settimeout(before)
    return False


def finish(end: socket.socket) -> None:
    """Ends its own direction."""
    end.shutdown(socket.SHUT_WR)


def reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


class TcpProxy:
    """A running server as a TCP client and the upstream behind it meet it."""

    def __init__(self, proxy: Proxy, upstream: TcpUpstream):
        self.proxy = proxy
        self.server = proxy.server
        self.book = proxy.server.book
        self._upstream = upstream
        self._ends: list[socket.socket] = []
        # A shared server has reports of other cases.
        self._before = len(self.book.reports)

    def close(self) -> None:
        for one in self._ends:
            one.close()

    # ---- Connections ----

    def connect(self, first: bytes = b"") -> socket.socket:
        """A client, which has sent `first`."""
        client = socket.create_connection(("127.0.0.1", self.server.port), 5)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ends.append(client)
        client.sendall(first)
        return client

    def accept(self, timeout: float = 5.0) -> socket.socket:
        """The upstream's end of the next connection."""
        end = self._upstream.accept(timeout)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ends.append(end)
        return end

    def reaches_upstream(self, timeout: float = 0.2) -> bool:
        try:
            self.accept(timeout)
        except TimeoutError:
            return False
        return True

    def pair(self, first: bytes = b"") -> tuple[socket.socket, socket.socket]:
        """Both ends of a new connection."""
        client = self.connect(first)
        return client, self.accept()

    def converse(self, client: socket.socket, upstream: socket.socket) -> None:
        """A word each way, and the end, first the client's."""
        client.sendall(b"ping")
        assert read(upstream, 4) == b"ping"
        upstream.sendall(b"pong")
        assert read(client, 4) == b"pong"
        finish(client)
        assert read_all(upstream) == b""
        finish(upstream)
        assert read_all(client) == b""

    # ---- Reports ----

    @property
    def reports(self) -> Reports:
        """Those of connections, since this case began."""
        mine = Reports(self.book.reports[self._before :])
        contexts = {(one.vm, one.context) for one in mine.of("context_create").entries if one.arguments[0] != 0}
        return Reports(one for one in mine if (one.vm, one.context) in contexts)

    def wait(self, callback: str, count: int = 1, plugin: str | None = None, op: str | None = None) -> Reports:
        """Reports of connections, once `callback` has been entered, or a step in it done, so many times."""

        def there():
            found = self.reports.of(callback, plugin=plugin, op=op)
            return len(found if op else found.entries) >= count

        assert self.book.wait(there), f"{callback} has not come {count} times: {self.reports}"
        return self.reports

    def ended(self, count: int = 1) -> Reports:
        """Reports of connections, once so many contexts were deleted."""
        return self.wait("delete", count)


def total(reports: Iterable) -> int:
    """Bytes in these calls of a data callback."""
    return sum(one.arguments[0] for one in reports)


DOWNSTREAM = ["body", "downstream", 0, -1]
UPSTREAM = ["body", "upstream", 0, -1]
#: Tells what each direction shows.
OBSERVER = tcp_probe(on={"downstream_data": [DOWNSTREAM], "upstream_data": [UPSTREAM]})


def each_tick(*steps):
    """Callbacks of a root context that does this to each parked connection, every 20 ms."""
    return {"configure": [["tick", 20]], "tick": [["each_parked", list(steps)]]}


def shown(reports, callback):
    """What the data callbacks showed, one after the other."""
    return "".join(one for one in reports.results(callback, "body") if one is not None)


def open_gate(listener):
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(5)
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def call_gate(*then):
    headers = [[":method", "GET"], [":path", "/gate"], [":authority", "gate"]]
    return ["call", {"upstream": "gate", "headers": headers, "then": list(then)}]
