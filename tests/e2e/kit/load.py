# SPDX-License-Identifier: Apache-2.0
"""Clients that keep their connections, and know of every request what became of it.

A server that is replaced closes connections that are idle, and a request may be on its way then: it finds the connection closed
and not a byte of a response. HTTP has clients send such a request again (RFC 9112, 9.3.1), and so do these, on a new connection:
the server had not taken it. That is believed only of connections that had an answer before, and checked afterwards: every
attempt has a number, and the server's access log must not have that of one that was closed. Anything else that is not a whole
response is a request lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Refusal:
    """A request that was answered, and not with 200."""

    path: str
    status: int
    began: float
    ended: float

    def overlaps(self, other: Refusal) -> bool:
        return self.began <= other.ended and other.began <= self.ended


@dataclass
class Tally:
    answered: int = 0
    #: By what the response says: its status, and the headers asked for.
    seen: Counter = field(default_factory=Counter)
    refused: list[Refusal] = field(default_factory=list)
    #: When it was sent, and what happened.
    lost: list[tuple[float, str]] = field(default_factory=list)
    #: Numbers of attempts that found their connection closed.
    closed: list[int] = field(default_factory=list)

    def taken(self, log: str) -> list[int]:
        """Of those that found their connection closed: the ones that the server had taken all the same."""
        logged = {int(number) for number in re.findall(r"[?&]attempt=(\d+)", log)}
        return [number for number in self.closed if number in logged]


class Closed(Exception):
    """Not a byte of a response came."""


class Load:
    """Sends requests from a thread of its own until `stop`. `lines` are further lines of the head of requests for a path."""

    def __init__(
        self,
        port: int,
        paths: list[str],
        *,
        connections: int = 8,
        headers: tuple[str, ...] = (),
        lines: dict[str, str] | None = None,
    ):
        self.tally = Tally()
        self._port, self._paths, self._connections, self._lines = port, paths, connections, lines or {}
        self._headers = [(name, re.compile(rb"\r\n%s: ([^\r]*)" % name.encode(), re.IGNORECASE)) for name in headers]
        self._number = 0
        self._ended = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def stop(self) -> Tally:
        self._ended = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "a client waits for its answer"
        return self.tally

    def until_answered(self, count: int, seconds: float = 30) -> None:
        """Waits for so many answers from now on."""
        wanted, end = self.tally.answered + count, time.monotonic() + seconds
        while self.tally.answered < wanted:
            assert time.monotonic() < end, self.tally
            time.sleep(0.01)

    def _path(self, number: int) -> str:
        return self._paths[number % len(self._paths)]

    async def _run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(self._connections)))

    async def _client(self) -> None:
        connection, served = None, 0
        while not self._ended:
            self._number += 1
            number, began = self._number, time.monotonic()
            try:
                if connection is None:
                    connection, served = await asyncio.open_connection("127.0.0.1", self._port), 0
                status, head, keep = await self._request(connection, number)
                served += 1
                self.tally.answered += 1
                names = ((name, pattern.search(head)) for name, pattern in self._headers)
                self.tally.seen[(status, *(found and found[1].decode() for _, found in names))] += 1
                if status != 200:
                    self.tally.refused.append(Refusal(self._path(number), status, began, time.monotonic()))
                if keep:
                    continue
            except Closed as reason:
                if served:
                    self.tally.closed.append(number)
                else:
                    self.tally.lost.append((began, f"attempt {number}: first of its connection: {reason}"))
            except (OSError, ValueError, EOFError, TimeoutError) as reason:
                self.tally.lost.append((began, f"attempt {number}: {reason!r}"))
            if connection:
                connection[1].close()
                connection = None

    async def _request(self, connection, number: int) -> tuple[int, bytes, bool]:
        reader, writer = connection
        path = self._path(number)
        mark = "&" if "?" in path else "?"
        lines = "".join(f"{line}\r\n" for line in self._lines.get(path, "").splitlines())
        writer.write(f"GET {path}{mark}attempt={number} HTTP/1.1\r\nHost: load\r\n{lines}\r\n".encode())
        try:
            async with asyncio.timeout(20):
                first = await reader.read(65536)
        except ConnectionError as reason:
            raise Closed(repr(reason)) from reason
        if not first:
            raise Closed("end of file")
        async with asyncio.timeout(20):
            return await self._response(reader, first)

    async def _response(self, reader, data: bytes) -> tuple[int, bytes, bool]:
        async def more() -> bytes:
            piece = await reader.read(65536)
            if not piece:
                raise EOFError(f"the response breaks off after {data[-200:]!r}")
            return piece

        while b"\r\n\r\n" not in data:
            data += await more()
        head, body = data.split(b"\r\n\r\n", 1)
        status = int(head.split(b" ", 2)[1])
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        if length is None:
            raise ValueError(f"no content-length in {head!r}")
        size = int(length[1])
        while len(body) < size:
            body += await more()
        if len(body) > size:
            raise ValueError(f"more than the response: {body[size:]!r}")
        return status, head, re.search(rb"\r\nconnection: close", head, re.IGNORECASE) is None


@contextlib.contextmanager
def loaded(*arguments, **options):
    """Clients at work; their tally is whole when the block has ended."""
    load = Load(*arguments, **options)
    try:
        yield load
    finally:
        load.stop()
