# SPDX-License-Identifier: Apache-2.0
"""What the tests of `proxywasm-example serve` have in common: the proxy as a process, plain sockets, results."""

import signal
import socket
import subprocess


class Proxy:
    """A running proxy; `port` and `tcp_port` are where it listens."""

    def __init__(self, program, *arguments):
        command = [program, "serve", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for option, name in (("--listen", "port"), ("--tcp-listen", "tcp_port")):
            if option in arguments:
                setattr(self, name, int(self.process.stdout.readline().split()[2].rsplit(":", 1)[1]))

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def connect_tcp(self):
        return socket.create_connection(("127.0.0.1", self.tcp_port), timeout=10)

    def exchange(self, data):
        """Sends bytes to the HTTP proxy and reads until it closes."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)

    def resident_kb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=15)
        return code, self.process.stderr.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()


def read_all(client):
    data = b""
    try:
        while True:
            piece = client.recv(65536)
            if not piece:
                return data
            data += piece
    except (TimeoutError, ConnectionResetError):
        return data + b"<reset>"


def expect(condition, *what):
    if not condition:
        raise AssertionError(" ".join(repr(one) for one in what))


def run(group, tests):
    for test in tests:
        name = f"{group}: {test.__name__.replace('_', ' ')}"
        try:
            test()
            print("ok   " + name, flush=True)
        except Exception as error:  # noqa: BLE001 - a failure of any kind is a failed test, and the others shall run
            print(f"FAIL {name}\n    {type(error).__name__}: {str(error)[:600]}", flush=True)
