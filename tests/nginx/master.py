# SPDX-License-Identifier: Apache-2.0
"""A server as it runs in earnest, a daemon with a master and workers, whose processes a test may replace and kill."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from hosts.nginx import PROGRAM, load_modules
from kit.ports import free_port

# Before what a test has to add.
CONFIGURATION = """
{load}
daemon on;
worker_processes {workers};
pid {directory}/nginx.pid;
error_log {directory}/error.log {log_level};
events {{ worker_connections 4096; }}
"""
TEMPORARY = "".join(
    f"    {kind}_temp_path {{directory}}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)


class Master:
    def __init__(self, directory: Path, *, plain: bool = False):
        """`plain`: NGINX without the module."""
        self.directory = directory
        self.port = free_port()
        self.pid = 0
        self._plain = plain

    def write(self, *, wasm: str = "", http: str = "", workers: int = 2, log_level: str = "info") -> None:
        text = CONFIGURATION.format(
            load="" if self._plain else load_modules(), directory=self.directory, workers=workers, log_level=log_level
        )
        if not self._plain:
            text += f"wasm {{\n{wasm}\n}}\n"
        text += f"http {{\n{TEMPORARY.format(directory=self.directory)}\n{http}\n}}\n"
        (self.directory / "nginx.conf").write_text(text)

    def command(self, *more: object) -> list[str]:
        return [
            *(str(word) for word in (PROGRAM, "-p", self.directory, "-c", self.directory / "nginx.conf")),
            *("-e", str(self.directory / "error.log")),
            *(str(word) for word in more),
        ]

    def check(self) -> subprocess.CompletedProcess:
        """What `nginx -t` says of the configuration."""
        return subprocess.run(self.command("-t"), check=False, capture_output=True, text=True, timeout=60)

    def start(self, **options) -> None:
        self.write(**options)
        done = subprocess.run(self.command(), check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        self.until(lambda: self.pid_of("nginx.pid"))
        self.pid = self.pid_of("nginx.pid")
        self.until(lambda: len(self.workers()) == options.get("workers", 2))

    def pid_of(self, name: str) -> int:
        """What a pid file says; 0 while there is none."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.directory / name).read_text())
        return 0

    def stop(self) -> None:
        pids = [self.pid, *self.workers()] if self.pid else []
        self.signal(signal.SIGTERM)
        with contextlib.suppress(AssertionError):
            self.until(lambda: not any(map(alive, pids)), 10)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def signal(self, number: int) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def log(self) -> str:
        return (self.directory / "error.log").read_text(errors="replace")

    def until(self, found, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not found():
            assert time.monotonic() < end, self.log()[-3000:]
            time.sleep(0.02)

    def processes(self) -> list[int]:
        """Workers of this master, those that are about to end among them."""
        return sorted(children(self.pid, "worker process"))

    def workers(self) -> list[int]:
        """Workers that take connections."""
        return [pid for pid in self.processes() if "shutting down" not in title(pid)]

    def reload(self, **options) -> None:
        """Returns when the old workers take no connections any more."""
        before = set(self.workers())
        self.write(**options)
        self.signal(signal.SIGHUP)
        self.until(lambda: not before & set(self.workers()) and len(self.workers()) == options.get("workers", 2))


def open_to_workers(directory: Path) -> None:
    """Workers are somebody else when the master is root."""
    for path in (directory, *directory.parents):
        if path.stat().st_mode & 0o5 != 0o5:
            path.chmod(0o755)


def title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def alive(pid: int) -> bool:
    """A zombie is not."""
    return bool(title(pid))


def children(pid: int, kind: str) -> list[int]:
    with contextlib.suppress(OSError):
        found = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [child for child in found if kind in title(child)]
    return []


def resident_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
