# SPDX-License-Identifier: Apache-2.0
"""An HTTP/1.1 upstream for the tests: tells in JSON what it was sent, or does as the path says. Prints its port."""

import json
import socketserver
import sys
import time


def read_head(stream):
    line = stream.readline().decode("latin-1").strip()
    fields = []
    while True:
        field = stream.readline().decode("latin-1").rstrip("\r\n")
        if not field:
            return line, fields
        name, value = field.split(":", 1)
        fields.append([name, value.strip()])


def read_chunked(stream):
    body, trailers = b"", []
    while True:
        size = int(stream.readline().split(b";")[0], 16)
        if size == 0:
            break
        body += stream.read(size)
        stream.readline()
    while True:
        field = stream.readline().decode("latin-1").rstrip("\r\n")
        if not field:
            return body, trailers
        trailers.append([part.strip() for part in field.split(":", 1)])


class Handler(socketserver.StreamRequestHandler):
    def send(self, text, body=b""):
        self.wfile.write(text.replace("\n", "\r\n").encode("latin-1") + body)

    def handle(self):
        line, fields = read_head(self.rfile)
        if not line:
            return
        method, path, _ = line.split(" ")
        lower = {name.lower(): value for name, value in fields}
        body, trailers = b"", []
        if path == "/early":
            return self.send("HTTP/1.1 413 Payload Too Large\ncontent-length: 5\n\nearly")
        if path == "/sink":  # a body of any size, not kept
            left = total = int(lower["content-length"])
            while left:
                piece = self.rfile.read(min(left, 1 << 20))
                if not piece:
                    return
                left -= len(piece)
            return self.send(f"HTTP/1.1 200 OK\nx-size: {total}\ncontent-length: 0\n\n")
        if lower.get("transfer-encoding") == "chunked":
            body, trailers = read_chunked(self.rfile)
        elif "content-length" in lower:
            body = self.rfile.read(int(lower["content-length"]))
        if path.startswith("/check"):  # for callouts
            status = "200 OK" if lower.get("authorization") == "good" else "401 Unauthorized"
            if lower.get("authorization") == "slow":
                time.sleep(1)
            if lower.get("authorization") == "silent":
                time.sleep(5)
            return self.send(f"HTTP/1.1 {status}\ncontent-length: 0\n\n")
        if path == "/reset":
            return
        if path == "/cut":
            return self.send("HTTP/1.1 200 OK\ncontent-length: 100\n\nonly this")
        if path == "/smuggle":
            return self.send("HTTP/1.1 200 OK\ncontent-length: 3\ntransfer-encoding: chunked\n\n3\nabc\n0\n\n")
        if path == "/trailers":
            return self.send("HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n3\nabc\n2;x=y\nde\n0\nx-sum: 5\n\n")
        if path == "/until-close":
            return self.send("HTTP/1.1 200 OK\n\nno length")
        if path == "/continue":
            return self.send(
                "HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nlink: x\n\nHTTP/1.1 200 OK\ncontent-length: 2\n\nok"
            )
        if path == "/empty":
            return self.send("HTTP/1.1 204 No Content\n\n")
        if path == "/not-modified":
            return self.send("HTTP/1.1 304 Not Modified\ncontent-length: 77\netag: x\n\n")
        if path == "/hang":
            return time.sleep(5)
        if path.startswith("/big/"):
            left = int(path[5:])
            self.send(f"HTTP/1.1 200 OK\ncontent-length: {left}\n\n")
            piece = b"x" * (1 << 20)
            while left:
                self.wfile.write(piece[:left])
                left -= min(left, len(piece))
            return
        told = json.dumps(
            {"method": method, "path": path, "headers": fields, "body": body.decode("latin-1"), "trailers": trailers}
        ).encode()
        self.send(
            "HTTP/1.1 200 OK\ncontent-type: application/json\nset-cookie: a=1\nset-cookie: b=2\n"
            f"content-length: {len(told)}\n\n",
            b"" if method == "HEAD" else told,
        )


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # proxies go away in these tests


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
