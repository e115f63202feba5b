# SPDX-License-Identifier: Apache-2.0
"""The client's side: requests with httpx, and, where framing matters, bytes on a socket with h11."""

from __future__ import annotations

import itertools
import json
import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import Self

import h2.connection
import h2.errors
import h2.events
import h11
import httpx
from hosts.base import Server

from .records import Reports
from .upstream import Seen, Upstream, texts

_numbers = itertools.count(1)


def new_case_id() -> str:
    return f"{os.getpid()}-{next(_numbers)}"


@dataclass
class Reply:
    """A response, and what the plugins and the upstream have to say about its request."""

    proxy: Proxy
    case: str
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    version: str
    trailers: list[tuple[str, str]] | None = None

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def seen(self) -> Seen:
        """The request as it reached the upstream."""
        return self.proxy.seen(self.case)

    @property
    def reports(self) -> Reports:
        """All that the plugins reported of this stream, once it has ended."""
        return self.proxy.reports(self.case)


class Proxy:
    """A running server as a client meets it. `probe` in all calls is a script for the probe of that name: see Proxy.headers."""

    def __init__(self, server: Server, upstream: Upstream, http2: bool = False):
        self.server = server
        self.upstream = upstream
        # Cases whose plugins act in delete, the last callback.
        self._act_in_delete: set[str] = set()
        # A connection for each request, unless a case makes its own: no case sees what another left behind.
        limits = httpx.Limits(max_keepalive_connections=0)
        transport = httpx.HTTPTransport(http1=not http2, http2=http2, limits=limits, verify=False)
        self.port = (http2 and server.http2_port) or server.port
        self.http = httpx.Client(
            transport=transport, base_url=f"http://127.0.0.1:{self.port}", timeout=10, trust_env=False
        )

    def close(self) -> None:
        self.http.close()

    # ---- Requests ----

    @staticmethod
    def headers(
        case: str,
        probe: dict | None = None,
        upstream: dict | None = None,
        scripts: dict[str, dict] | None = None,
        silent=(),
        bare: str | None = None,
    ) -> list[tuple[str, str]]:
        """
        The headers that steer: the case's id for the upstream, what the upstream is to do, and the scripts.

        probe: callbacks to steps, for every probe in the chain.
        scripts: name of a probe to callbacks to steps, for that probe alone.
        bare: a script of the bare guest.
        """
        pairs = [("x-case", case)]
        if bare is not None:
            pairs.append(("x-bare", f"id: {case}; {bare}".rstrip("; ")))
        if upstream is not None:
            pairs.append(("x-upstream", json.dumps(upstream)))
        if scripts is None:
            pairs.append(("x-probe", json.dumps({"id": case, "on": probe or {}, "silent": list(silent)})))
        for name, on in (scripts or {}).items():
            pairs.append((f"x-probe-{name}", json.dumps({"id": case, "on": on, "silent": list(silent)})))
        return pairs

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        headers=(),
        body=None,
        probe: dict | None = None,
        scripts: dict[str, dict] | None = None,
        upstream: dict | None = None,
        silent=(),
        bare: str | None = None,
        timeout: float = 10,
    ) -> Reply:
        case = new_case_id()
        if "delete:" in (bare or "") or any("delete" in (on or {}) for on in (probe, *(scripts or {}).values())):
            self._act_in_delete.add(case)
        pairs = [*self.headers(case, probe, upstream, scripts, silent, bare), *headers]
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
        answer = self.http.request(method, path, headers=encoded, content=body, timeout=timeout)
        return Reply(self, case, answer.status_code, texts(answer.headers.raw), answer.content, answer.http_version)

    def get(self, path: str = "/", **options) -> Reply:
        return self.request("GET", path, **options)

    def post(self, body, path: str = "/", **options) -> Reply:
        return self.request("POST", path, body=body, **options)

    # ---- What others saw ----

    def seen(self, case: str, timeout: float = 5) -> Seen:
        found = self.upstream.wait(case, timeout=timeout)
        assert len(found) == 1, f"the upstream saw {len(found)} requests in place of one"
        return found[0]

    def reached_upstream(self, case: str) -> bool:
        """Whether the request has reached the upstream by now."""
        return bool(self.upstream.seen(case))

    def reports(self, case: str, timeout: float = 5) -> Reports:
        """Reports of the stream with this id; waits until each context that reported was deleted."""
        book = self.server.book

        def ended():
            mine = Reports(one for one in book.reports if one.id == case)
            open_ = {(one.vm, one.plugin, one.context) for one in mine} - {
                (one.vm, one.plugin, one.context) for one in mine.of("delete")
            }
            return mine if mine and not open_ else None

        book.wait(ended, timeout)
        if case in self._act_in_delete:
            # Nothing says that delete is over; what it does is written in one go.
            time.sleep(0.2)
        return self.reported(case)

    def reported(self, case: str) -> Reports:
        """Reports of the stream with this id so far: for streams that have not ended, or never will, because their plugin trapped."""
        return Reports(one for one in self.server.book.reports if one.id == case)

    def connect(self) -> RawConnection:
        return RawConnection(self)

    def connect_http2(self) -> Http2Connection:
        return Http2Connection(self)


class RawConnection:
    """A connection to the proxy as a socket, with h11 to read what comes back."""

    def __init__(self, proxy: Proxy, timeout: float = 10):
        self.proxy = proxy
        self.socket = socket.create_connection(("127.0.0.1", proxy.port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Closes by RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_head(self, method: str = "GET", path: str = "/", headers=(), case: str | None = None, **steering) -> str:
        """Sends a request line and headers, with those that steer (see Proxy.headers); returns the case's id."""
        case = case or new_case_id()
        pairs = [("host", "conformance.test"), *Proxy.headers(case, **steering), *headers]
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs), "", ""]
        self.send("\r\n".join(lines).encode("latin-1"))
        return case

    def send_chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def send_last_chunk(self, trailers=()) -> None:
        self.send(("0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in trailers) + "\r\n").encode("latin-1"))

    def read_reply(self, case: str = "", method: str = "GET") -> Reply:
        """Reads one response, with its trailers; informational ones are skipped. What comes behind it stays for the next call."""
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "conformance.test")]))
        parser.send(h11.EndOfMessage())
        data, head, body = self.rest, None, b""
        if data:
            parser.receive_data(data)
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(self.socket.recv(1 << 16))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.rest = parser.trailing_data[0]
                version = "HTTP/" + head.http_version.decode()
                return Reply(
                    self.proxy, case, head.status_code, texts(head.headers), body, version, texts(event.headers)
                )
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionError("closed without a response")

    def read_to_end(self, timeout: float = 10) -> bytes:
        """All that comes until the proxy closes."""
        self.socket.settimeout(timeout)
        data, self.rest = self.rest, b""
        while piece := self.socket.recv(1 << 16):
            data += piece
        return data

    def read_until_cut(self) -> bytes:
        """All that comes until the proxy closes, in whatever way."""
        data, self.rest = self.rest, b""
        try:
            while piece := self.socket.recv(1 << 16):
                data += piece
        except ConnectionError:
            pass
        return data

    def quiet_for(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        self.socket.settimeout(seconds)
        try:
            piece = self.socket.recv(1 << 16)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(10)
        self.rest += piece
        return False


class Http2Connection:
    """One HTTP/2 connection to the proxy, for cases about several streams of it."""

    def __init__(self, proxy: Proxy, timeout: float = 10):
        self.proxy = proxy
        self.socket = socket.create_connection(("127.0.0.1", proxy.port), timeout)
        self.http = h2.connection.H2Connection()
        self.http.initiate_connection()
        self._heads: dict[int, list[tuple[str, str]]] = {}
        self._bodies: dict[int, bytes] = {}
        self._ended: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def send(self, headers=(), **steering) -> tuple[int, str]:
        """Sends a GET, with the headers that steer (see Proxy.headers); returns its stream and the case's id."""
        stream, case = self.http.get_next_available_stream_id(), new_case_id()
        pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "conformance.test"), (":path", "/")]
        self.http.send_headers(stream, [*pseudo, *Proxy.headers(case, **steering), *headers], end_stream=True)
        self._flush()
        return stream, case

    def reset(self, stream: int) -> None:
        self.http.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        self._flush()

    def read_reply(self, stream: int, case: str = "") -> Reply:
        """Reads until the response on this stream has ended."""
        while stream not in self._ended:
            data = self.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("closed without a response")
            for event in self.http.receive_data(data):
                self._take(event)
            self._flush()
        headers = self._heads[stream]
        return Reply(self.proxy, case, int(dict(headers)[":status"]), headers, self._bodies.get(stream, b""), "HTTP/2")

    def _flush(self) -> None:
        self.socket.sendall(self.http.data_to_send())

    def _take(self, event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self._heads[event.stream_id] = texts(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self._bodies[event.stream_id] = self._bodies.get(event.stream_id, b"") + event.data
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            raise ConnectionError(f"stream {event.stream_id} was reset")
        elif isinstance(event, h2.events.StreamEnded):
            self._ended.add(event.stream_id)


def eventually(question, timeout: float = 5.0, step: float = 0.02):
    """Asks until the answer is true, and returns it; the last answer when it never is."""
    end = time.monotonic() + timeout
    while not (found := question()) and time.monotonic() < end:
        time.sleep(step)
    return found
