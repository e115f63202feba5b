# SPDX-License-Identifier: Apache-2.0
"""
The HTTP/1.1 server behind every proxy of the kit. It does what the request's `x-upstream` header says and remembers what came.

It speaks HTTP/2 with a proxy that begins with that: as much of it as is needed where a proxy takes trailers from HTTP/2 only.
"""

from __future__ import annotations

import collections
import json
import socket
import struct
import threading
import time
import zlib
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h11

KEPT = 1 << 20
HTTP2 = b"PRI * HTTP/2.0"


@dataclass
class Seen:
    """A request as it reached the upstream."""

    method: str
    path: str
    #: In order, names in lower case, bytes of values as characters U+0000 to U+00FF.
    headers: list[tuple[str, str]]
    version: str
    size: int = 0
    crc: int = 0
    #: The first MiB of the body.
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    #: All of it has come.
    complete: bool = False
    #: The connection ended before it was.
    aborted: bool = False

    def take(self, data: bytes) -> None:
        """A piece of the body."""
        if len(self.body) < KEPT:
            self.body = (self.body + data)[:KEPT]
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def case(self) -> str | None:
        return self.get("x-case")


def texts(pairs) -> list[tuple[str, str]]:
    return [(bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1")) for name, value in pairs]


def raw(pairs) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


class Upstream:
    """
    Keys of `x-upstream`, a JSON object:

    status          200
    headers         [[name, value], …] besides the framing
    body            text; without it "ok\\n"
    echo            true: the request's body is the response's
    size            so many bytes of "x" in place of `body`, in pieces of 64 KiB
    chunks          a list of texts, each sent as a piece of its own
    chunk_delay_ms  pause between pieces
    chunked         true: chunked in place of content-length
    trailers        [[name, value], …]; makes it chunked
    delay_ms        before the head
    hold            a name: nothing is answered before the case has called release(name)
    chunk_hold      a name: each further piece waits for one more release(name)
    early           true: answers before it reads the body
    informational   [103, …]: answers of the 1xx class before
    raw             text, with no framing of ours, then the connection is closed
    fail            "accept": closes before the head; "head": in the middle of it; "body": in the middle of the body;
                    "reset": as "accept", by RST
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._seen: list[Seen] = []
        self._released: collections.Counter[str] = collections.Counter()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closing = True
        self._listener.close()

    # ---- What came ----

    def seen(self, case: str | None = None, path: str | None = None) -> list[Seen]:
        with self._changed:
            return [
                one for one in self._seen if (case is None or one.case == case) and (path is None or one.path == path)
            ]

    def wait(
        self,
        case: str | None = None,
        path: str | None = None,
        count: int = 1,
        timeout: float = 5.0,
        complete: bool = True,
    ) -> list[Seen]:
        """Waits for `count` requests that match, and returns those that there are."""
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [one for one in self.seen(case, path) if one.complete or one.aborted or not complete]
                left = end - time.monotonic()
                if len(found) >= count or left <= 0:
                    return found
                self._changed.wait(left)

    # ---- When it answers ----

    def release(self, name: str) -> None:
        """Lets go on what waits for this: `hold`, or one piece of `chunk_hold`."""
        with self._changed:
            self._released[name] += 1
            self._changed.notify_all()

    def _before_head(self, orders: dict) -> None:
        time.sleep(orders.get("delay_ms", 0) / 1000)
        if "hold" in orders:
            self._wait_for_release(orders["hold"], 1)

    def _before_piece(self, orders: dict, index: int) -> None:
        if index > 0:
            time.sleep(orders.get("chunk_delay_ms", 0) / 1000)
            if "chunk_hold" in orders:
                self._wait_for_release(orders["chunk_hold"], index)

    def _wait_for_release(self, name: str, count: int, timeout: float = 10) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._released[name] >= count, timeout):
                raise ConnectionError

    # ---- Serving ----

    def _add(self, seen: Seen) -> None:
        with self._changed:
            self._seen.append(seen)
            self._changed.notify_all()

    def _complete(self, seen: Seen) -> None:
        with self._changed:
            seen.complete = True
            self._changed.notify_all()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client:
            try:
                if client.recv(len(HTTP2), socket.MSG_PEEK) == HTTP2:
                    return self._serve_http2(client)
                connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
                while self._exchange(client, connection):
                    connection.start_next_cycle()
            except (OSError, h11.ProtocolError):
                pass

    def _next(self, client: socket.socket, connection: h11.Connection):
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(client.recv(1 << 16))
        return event

    def _exchange(self, client: socket.socket, connection: h11.Connection) -> bool:
        """One request and its response; whether the connection can carry another."""
        head = self._next(client, connection)
        if not isinstance(head, h11.Request):
            return False
        seen = Seen(
            head.method.decode("latin-1"),
            head.target.decode("latin-1"),
            texts(head.headers),
            "HTTP/" + head.http_version.decode(),
        )
        self._add(seen)
        orders = json.loads(seen.get("x-upstream") or "{}")
        if connection.they_are_waiting_for_100_continue:
            client.sendall(connection.send(h11.InformationalResponse(status_code=100, headers=[])))
        if orders.get("early"):
            self._answer(client, connection, orders, seen)
            self._read_body(client, connection, seen)
        else:
            self._read_body(client, connection, seen)
            self._answer(client, connection, orders, seen)
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    def _read_body(self, client: socket.socket, connection: h11.Connection, seen: Seen) -> None:
        try:
            while True:
                event = self._next(client, connection)
                if isinstance(event, h11.Data):
                    seen.take(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    seen.trailers = texts(event.headers)
                    break
                else:
                    raise ConnectionError
        except (OSError, h11.ProtocolError):
            with self._changed:
                seen.aborted = True
                self._changed.notify_all()
            raise
        self._complete(seen)

    def _answer(self, client: socket.socket, connection: h11.Connection, orders: dict, seen: Seen) -> None:
        self._before_head(orders)
        fail = orders.get("fail")
        if fail == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fail in ("accept", "reset"):
            raise ConnectionError
        if fail == "head":
            client.sendall(b"HTTP/1.1 200 OK\r\ncontent-le")
            raise ConnectionError
        if "raw" in orders:
            client.sendall(orders["raw"].encode("latin-1"))
            raise ConnectionError

        for status in orders.get("informational", []):
            client.sendall(connection.send(h11.InformationalResponse(status_code=status, headers=[])))
        pieces, size = self._pieces(orders, seen)
        status = orders.get("status", 200)
        headers = [*orders.get("headers", [])]
        bodiless = seen.method == "HEAD" or status in (204, 304)
        if orders.get("chunked") or orders.get("trailers"):
            headers.append(("transfer-encoding", "chunked"))
        elif status != 204 and not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("content-length", str(size)))
        client.sendall(connection.send(h11.Response(status_code=status, headers=raw(headers))))
        if not bodiless:
            for index, piece in enumerate(pieces):
                self._before_piece(orders, index)
                if fail == "body":
                    client.sendall(connection.send(h11.Data(data=piece[: max(1, len(piece) // 2)])))
                    # The proxy passes on what it reads before the end.
                    time.sleep(0.2)
                    raise ConnectionError
                client.sendall(connection.send(h11.Data(data=piece)))
        client.sendall(connection.send(h11.EndOfMessage(headers=raw(orders.get("trailers", [])))) or b"")

    def _serve_http2(self, client: socket.socket) -> None:
        """One request, and its response with trailers."""
        config = h2.config.H2Configuration(
            client_side=False, header_encoding="latin-1", validate_outbound_headers=False
        )
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        client.sendall(connection.data_to_send())
        seen, stream = None, 0
        while seen is None or not seen.complete:
            data = client.recv(1 << 16)
            if not data:
                raise ConnectionError
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    head, stream = dict(event.headers), event.stream_id
                    seen = Seen(head[":method"], head[":path"], list(event.headers), "HTTP/2")
                    self._add(seen)
                elif isinstance(event, h2.events.DataReceived):
                    seen.take(event.data)
                    connection.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, h2.events.StreamEnded):
                    self._complete(seen)
                elif isinstance(event, h2.events.StreamReset):
                    raise ConnectionError
            client.sendall(connection.data_to_send())
        orders = json.loads(seen.get("x-upstream"))
        self._before_head(orders)
        headers = [(":status", str(orders.get("status", 200))), *orders.get("headers", [])]
        connection.send_headers(stream, raw(headers))
        for index, piece in enumerate(self._pieces(orders, seen)[0]):
            self._before_piece(orders, index)
            connection.send_data(stream, piece)
            client.sendall(connection.data_to_send())
        connection.send_headers(stream, raw(orders["trailers"]), end_stream=True)
        client.sendall(connection.data_to_send())
        # The proxy closes.
        while client.recv(1 << 16):
            pass

    @staticmethod
    def _pieces(orders: dict, seen: Seen):
        """The pieces of the response's body, and how many bytes they have together."""
        if "size" in orders:
            size, piece = orders["size"], b"x" * 65536
            whole, rest = divmod(size, len(piece))
            return (*([piece] * whole), *([piece[:rest]] if rest else [])), size
        if "chunks" in orders:
            pieces = [text.encode("latin-1") for text in orders["chunks"]]
        elif orders.get("echo"):
            pieces = [seen.body]
        else:
            pieces = [orders.get("body", "ok\n").encode("latin-1")]
        pieces = [piece for piece in pieces if piece]
        return pieces, sum(map(len, pieces))


class RawUpstream:
    """A server that keeps what comes as bytes, for what must not be on the wire. It answers 200 to each connection, when no more comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: list[bytearray] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def heard(self, case: str) -> bytes:
        """All that has come over the connection of this case's request, without the probe's script; b"" when nothing has."""
        mark = b"x-case: %s\r\n" % case.encode()
        with self._lock:
            found = [bytes(data) for data in self._heard if mark in data]
        assert len(found) < 2, f"the case has {len(found)} connections"
        lines = found[0].splitlines(keepends=True) if found else []
        return b"".join(line for line in lines if not line.startswith((b"x-probe:", b"x-bare:", b"x-upstream:")))

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        data = bytearray()
        with self._lock:
            self._heard.append(data)
        with client:
            client.settimeout(0.1)
            while True:
                try:
                    piece = client.recv(1 << 16)
                except TimeoutError:
                    if b"\r\n\r\n" in data:
                        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                        return
                    continue
                except OSError:
                    return
                if not piece:
                    return
                with self._lock:
                    data += piece


class Refusing:
    """A port of 127.0.0.1 where connections are refused: bound, so that nobody else gets it, and not listening."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


class Silent:
    """A port of 127.0.0.1 that takes connections and never says a word."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]

    def close(self) -> None:
        self._listener.close()


class TcpUpstream:
    """A TCP server for one test: hands out the connections that it takes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]

    def accept(self, timeout: float = 5.0) -> socket.socket:
        self._listener.settimeout(timeout)
        connection, _ = self._listener.accept()
        connection.settimeout(5)
        return connection

    def forget(self) -> None:
        """Closes what waits to be accepted: a case that failed may have left it."""
        self._listener.settimeout(0)
        while True:
            try:
                self._listener.accept()[0].close()
            except BlockingIOError:
                return

    def close(self) -> None:
        self._listener.close()
