# SPDX-License-Identifier: Apache-2.0
"""NGINX with the module and one probe, configured as a test says, and servers for what it calls."""

from __future__ import annotations

import socket
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path

from hosts import nginx
from kit.client import Proxy
from kit.ports import free_port
from kit.setup import Setup, probe
from kit.upstream import Upstream


def text(
    directory: Path, upstream: Upstream, wasm="", http="", location="", events="", on=None, ports=None, **setup
) -> str:
    ports = ports or [free_port() for _ in range(3)]
    base = nginx.configuration(Setup(plugins=(probe(on=on),), **setup), directory, *ports, upstream.port)
    for mark, more in (("wasm {\n", wasm), ("http {\n", http), ("location / {\n", location), ("events {", events)):
        assert base.count(mark) == 1
        base = base.replace(mark, mark + more + "\n")
    return base


class Site:
    def __init__(self, **options):
        self.directory = Path(tempfile.mkdtemp(prefix="proxywasm-site-"))
        self.directory.chmod(0o755)
        self.upstream = Upstream()
        self.server = nginx.NginxServer(Setup(**{k: v for k, v in options.items() if k == "workers"}), self.directory)
        ports = [free_port() for _ in range(3)]
        self.server.port, self.server.http2_port, self.server.admin_port = ports
        file = self.directory / "nginx.conf"
        file.write_text(text(self.directory, self.upstream, ports=ports, **options))
        self.server.spawn([nginx.PROGRAM, "-p", self.directory, "-c", file, "-e", "stderr"])
        self.server.wait_until(self.server.ready)
        self.proxy = Proxy(self.server, self.upstream)

    def call(self, to: str, *, path="/", authority="callout.test", scheme=None, method="GET", **options):
        """What a call from a request's headers gives: status and body, or None and None."""
        headers = [[":method", method], [":path", path], [":authority", authority]]
        if scheme:
            headers.append([":scheme", scheme])
        then = [["map", "call_headers"], ["body", "call_body", 0, -1], ["resume", "request"]]
        step = ["call", {"upstream": to, "headers": headers, "then": then, **options}]
        reply = self.proxy.get(probe={"request_headers": [step, ["pause"]]})
        assert reply.status == 200
        headers, body = reply.reports.results("http_call_response")
        return dict(headers).get(":status"), body

    def refused(self, to: str, **options):
        headers = [[":method", "GET"], [":path", "/"], [":authority", "callout.test"]]
        reply = self.proxy.get(probe={"request_headers": [["call", {"upstream": to, "headers": headers, **options}]]})
        return reply.reports.result("request_headers", "call")

    def log(self, part: str, timeout=3) -> list[str]:
        book = self.server.book
        return book.wait(lambda: [line for line in book.lines if part in line], timeout)

    def close(self) -> int | None:
        self.proxy.close()
        code = self.server.stop()
        self.upstream.close()
        return code


def refusal(wasm="", http="", location="") -> str:
    """What `nginx -t` says to a configuration."""
    directory = Path(tempfile.mkdtemp(prefix="proxywasm-site-"))
    upstream = Upstream()
    file = directory / "nginx.conf"
    file.write_text(text(directory, upstream, wasm, http, location))
    upstream.close()
    done = subprocess.run(
        [nginx.PROGRAM, "-t", "-p", directory, "-c", file, "-e", "stderr"], capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


class Backend:
    """Answers each request with the number of its connection, from 1; keeps what it was asked."""

    def __init__(self, context: ssl.SSLContext | None = None, path: str | None = None, close_after: int = 0):
        self.listener = (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) if path else socket.create_server(("127.0.0.1", 0))
        )
        if path:
            self.listener.bind(path)
            self.listener.listen()
            Path(path).chmod(0o777)
        else:
            self.port = self.listener.getsockname()[1]
        self.context, self.close_after = context, close_after
        self.connections = 0
        self.heads: list[str] = []
        self.names: list[str | None] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client, self.connections), daemon=True).start()

    def _serve(self, client, number):
        try:
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
            data, asked = b"", 0
            while True:
                while b"\r\n\r\n" not in data:
                    piece = client.recv(65536)
                    if not piece:
                        return
                    data += piece
                head, _, data = data.partition(b"\r\n\r\n")
                self.heads.append(head.decode())
                body = f"connection {number}".encode()
                client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                asked += 1
                if asked == self.close_after or b"connection: close" in head:
                    return
        except OSError:
            pass
        finally:
            client.close()

    def close(self):
        self.listener.close()


class Dns:
    """A resolver that knows some names."""

    def __init__(self, names: dict[str, str]):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.names = names
        self.asked: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(512)
            except OSError:
                return
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, kind = ".".join(labels), query[at + 1 : at + 3]
            question = query[12 : at + 5]
            self.asked.append(name)
            address = self.names.get(name) if kind == b"\0\1" else None
            code = 0 if name in self.names else 3
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address) if address else b""
            count = b"\0\1" if address else b"\0\0"
            head = query[:2] + bytes([0x81, 0x80 | code]) + b"\0\1" + count + b"\0\0\0\0"
            self.socket.sendto(head + question + answer, peer)

    def close(self):
        self.socket.close()
