# SPDX-License-Identifier: Apache-2.0
"""What an adapter is: it starts a real server with given plugins on free loopback ports, and stops it again."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import IO, ClassVar

from kit.records import LogBook, Record
from kit.setup import Setup

#: What cases may need. A host's `cannot` names those that its proxy does not have, with the reason.
FEATURES = {
    "http2": "clients may speak HTTP/2 with the proxy",
    "request_trailers": "the proxy takes and forwards trailers of requests",
    "response_trailers": "the proxy takes and forwards trailers of responses",
    "new_request_trailers": "trailers can be made where the request had none",
    "new_response_trailers": "trailers can be made where the response had none",
    "tcp": "plugins in TCP connections",
    "services": "plugins without streams",
    "http_callouts": "HTTP calls of plugins",
    "grpc_callouts": "gRPC calls of plugins",
    "pause_response": "the response can be paused",
    "grpc_local_responses": "gRPC requests are answered in gRPC's form when a plugin answers",
    "metrics": "the host tells the plugins' metrics",
    "envoy_attributes": "attributes of Envoy's own configuration: xds, metadata",
}


def memory_of(process: int, peak: bool) -> int:
    field = "VmHWM:" if peak else "VmRSS:"
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


class StartFailed(Exception):
    """The server did not start, or refused its configuration. The text holds its log."""


class Server(ABC):
    """A server that runs."""

    #: What the process gets when the kit's own has died.
    END_SIGNAL: ClassVar[str] = "KILL"

    def __init__(self, setup: Setup, directory: Path):
        self.setup = setup
        self.directory = directory
        self.book = LogBook(self.parse_line)
        self.process: subprocess.Popen | None = None
        #: Where clients connect: HTTP or TCP, by the setup's kind.
        self.port: int = 0
        #: Where clients that speak HTTP/2 connect, when that is another port.
        self.http2_port: int = 0

    # ---- For adapters ----

    @staticmethod
    @abstractmethod
    def parse_line(line: str) -> Record | None:
        """A record of a plugin in a line of the log; None for another line."""

    @abstractmethod
    def metrics(self) -> dict[str, float | dict]:
        """The plugins' metrics by their own name; a histogram is {"count": …, "sum": …}."""

    def spawn(self, command: list, environment: dict[str, str] | None = None, sockets: Iterable[int] = ()) -> None:
        """Starts the program; its standard error is the log. `sockets` are descriptors that it gets."""
        # A run that is killed leaves no server behind, not even one that a plugin keeps in a loop.
        with_parent = ["setpriv", "--pdeathsig", self.END_SIGNAL, "--"]
        self.process = subprocess.Popen(
            [*with_parent, *(str(word) for word in command)],
            cwd=self.directory,
            env=environment,
            pass_fds=tuple(sockets),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
        )
        self._reader = threading.Thread(target=self._read_log, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    def _read_log(self, stream: IO[str]) -> None:
        for line in stream:
            self.book.add(line.rstrip("\n"))

    def wait_until(self, ready) -> object:
        """Asks `ready()` until it is true; StartFailed when the program ends or time is up."""
        # Where all is slower, as under valgrind.
        timeout = self.setup.start_timeout * float(os.environ.get("KIT_PATIENCE", "1"))
        end = time.monotonic() + timeout
        while not (found := ready()):
            if not self.alive():
                self._reader.join(2)  # the rest of the log
                raise StartFailed("\n".join(self.book.lines[-40:]) or f"ended with code {self.process.returncode}")
            if time.monotonic() > end:
                self.stop(patience=0.1)
                raise StartFailed(f"not ready after {timeout} s\n" + "\n".join(self.book.lines[-40:]))
            time.sleep(0.01)
        return found

    # ---- For cases ----

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def memory_kib(self, peak: bool = False) -> int:
        """Resident memory of the processes that run the plugins: now, or the most that they have had."""
        return sum(memory_of(process, peak) for process in self.processes())

    def processes(self) -> list[int]:
        """Those that run the plugins."""
        return [self.process.pid]

    def stop(self, patience: float = 5) -> int | None:
        """Ends the process; returns its exit code, None if it had to be killed when `patience` seconds were over."""
        if self.process is None:
            return None
        killed = False
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                killed = True
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream and not stream.closed:
                # The log's reader closes nothing; a pipe at its end is harmless.
                pass
        return None if killed else self.process.returncode


class Host(ABC):
    """A kind of server."""

    #: As on the command line and in tables.
    name: ClassVar[str]
    #: What it does not have: a feature of FEATURES, or the id of one case ("test_bodies.py::test_empty"), to the reason.
    cannot: ClassVar[dict[str, str]] = {}

    @abstractmethod
    def version(self) -> str:
        """Of the program, for tables."""

    @abstractmethod
    def missing(self) -> str | None:
        """What is to be built or installed before it can run, and how; None when all is there."""

    @abstractmethod
    def launch(self, setup: Setup, directory: Path, upstream_port: int) -> Server:
        """Starts a server and waits until it takes connections. Raises StartFailed."""

    def start(self, setup: Setup, upstream_port: int) -> Server:
        return self.launch(setup, Path(tempfile.mkdtemp(prefix=f"proxywasm-{self.name}-")), upstream_port)
