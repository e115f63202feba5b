# SPDX-License-Identifier: Apache-2.0
"""Bodies that are larger than anything should hold, through plugins that read and that change every chunk."""

from __future__ import annotations

import json
import re
import socket
import threading
import zlib
from contextlib import suppress
from pathlib import Path

from kit.setup import FILTERS, GUESTS
from master import Master, resident_kib

#: Above what an idle worker has.
MOST_MIB = 32
MIB = 1 << 20
PIECE = b"abcdefgh" * (MIB // 8)

# Reads every chunk, and tells at the end how many bytes there were, with their checksum.
COUNTING = json.dumps(
    {
        "name": "p",
        "type": "http",
        "on": {"request_body": [["count", "request_body"]], "response_body": [["count", "response_body"]]},
        "silent": ["request_body", "response_body"],
    }
)


class Upstream:
    """Takes what comes, and answers with as much as the path says; holds none of it."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        #: Of the last request: how many bytes of body, and their checksum.
        self.taken = (0, 0)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                with connection, suppress(OSError):
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        head, body = read_head(connection)
        size, total = length(head), len(body)
        check = zlib.crc32(body)
        while total < size:
            piece = connection.recv(MIB)
            if not piece:
                return
            check = zlib.crc32(piece, check)
            total += len(piece)
        self.taken = (total, check)
        pieces = int(re.match(rb"\S+ /(\d*)", head)[1] or 0)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (pieces * MIB))
        for _ in range(pieces):
            connection.sendall(PIECE)


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise OSError(f"the connection ends after {data!r}")
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    return head, body


def length(head: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0


def exchange(port: int, path: str, upload: int) -> tuple[int, int, int]:
    """Sends so many pieces; the response's status, its size, and its checksum."""
    with socket.create_connection(("127.0.0.1", port), 300) as connection:
        method = "POST" if upload else "GET"
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\nContent-Length: {upload * MIB}\r\n\r\n".encode()
        )
        for _ in range(upload):
            connection.sendall(PIECE)
        head, body = read_head(connection)
        total, check = len(body), zlib.crc32(body)
        while piece := connection.recv(MIB):
            total += len(piece)
            check = zlib.crc32(piece, check)
    return int(head.split(b" ", 2)[1]), total, check


class Site(Master):
    def __init__(self, directory: Path, upstream: Upstream):
        super().__init__(directory)
        self._upstream = upstream

    def write(self, **options) -> None:
        super().write(
            **options,
            wasm=f"""
                module probe {GUESTS}/probe.wasm;
                module upper {FILTERS}/c-body-upper.wasm;
                module headers {FILTERS}/c-add-headers.wasm;
                plugin reads {{ module probe; configuration '{COUNTING}'; }}
                plugin changes {{ module upper; configuration both; }}
            """,
            http=f"""
                access_log off;
                client_max_body_size 0;
                sendfile on;
                server {{
                    listen 127.0.0.1:{self.port};
                    root {self.directory}/html;
                    proxy_http_version 1.1;
                    location /reads/file/ {{ proxy_wasm reads; alias {self.directory}/html/; }}
                    location /reads/ {{ proxy_wasm reads; proxy_pass http://127.0.0.1:{self._upstream.port}/; }}
                    location /unbuffered/ {{
                        proxy_wasm reads;
                        proxy_request_buffering off;
                        proxy_buffering off;
                        proxy_pass http://127.0.0.1:{self._upstream.port}/;
                    }}
                    location /changes/ {{ proxy_wasm changes; proxy_pass http://127.0.0.1:{self._upstream.port}/; }}
                    location /neither/file/ {{ proxy_wasm headers; alias {self.directory}/html/; }}
                }}
            """,
        )


def checksum(data: bytes, times: int) -> int:
    check = 0
    for _ in range(times):
        check = zlib.crc32(data, check)
    return check


def peak_kib(pid: int) -> int:
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def run(report, directory: Path, size: int) -> None:
    """`size`: of bodies, in MiB."""
    home = directory / "bodies"
    (home / "html").mkdir(parents=True)
    with (home / "html" / "file").open("wb") as file:
        for _ in range(size):
            file.write(PIECE)
    same, upper = checksum(PIECE, size), checksum(PIECE.upper(), size)
    upstream = Upstream()
    try:
        # What is asked for, how much is sent, what the upstream gets, and what the client.
        for what, path, upload, taken, got in (
            ("upload, read", "/reads/", size, same, 0),
            ("upload, read, proxy_request_buffering off", "/unbuffered/", size, same, 0),
            ("upload, changed", "/changes/", size, upper, 0),
            ("download, read", f"/reads/{size}", 0, 0, same),
            ("download, read, proxy_buffering off", f"/unbuffered/{size}", 0, 0, same),
            ("download, changed", f"/changes/{size}", 0, 0, upper),
            ("download of a file, read", "/reads/file/file", 0, None, same),
            ("download of a file, headers alone", "/neither/file/file", 0, None, same),
        ):
            transfer(report, Site(home, upstream), upstream, what, path, upload, taken, got)
    finally:
        upstream.close()


def transfer(report, site: Site, upstream: Upstream, what: str, path: str, upload: int, taken, got: int) -> None:
    """On a worker of its own, whose peak is that of this transfer."""
    (site.directory / "error.log").unlink(missing_ok=True)
    site.start(workers=1)
    try:
        worker = site.workers()[0]
        idle = resident_kib(worker)
        status, size, check = exchange(site.port, path, upload)
        peak = peak_kib(worker)
        found = [upstream.taken[1] == taken or taken is None, check == got or not got, status == 200]
        if path.startswith(("/reads", "/unbuffered")):
            # The plugin, too, has seen all of it.
            found.append(
                f'"crc":{taken if upload else got}' in site.log() or f'"crc": {taken if upload else got}' in site.log()
            )
        report.check(
            all(found) and peak - idle <= MOST_MIB * 1024,
            f"{what}: {max(upload, size // MIB)} MiB {'whole' if all(found) else f'NOT AS SENT {found}'}; "
            f"worker idle {idle / 1024:.1f} MiB, at most {(peak - idle) / 1024:.1f} MiB above (limit {MOST_MIB})",
        )
    finally:
        site.stop()
