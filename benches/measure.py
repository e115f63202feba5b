# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of servers have in common: the machine, a free port, a fixed number of requests."""

import contextlib
import os
import pathlib
import platform
import re
import socket
import subprocess


def machine() -> str:
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} vCPU"


@contextlib.contextmanager
def one_processor():
    """Has all that is started in here, client and server, run on one processor.

    A client on another one falls asleep where the server is slower than it is, and the interrupt that wakes it, some µs on a
    virtual machine, counts as the server's time: slow requests would seem slower than they are. On one, a client is always woken
    alike."""
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(all_of_them)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def send(url: str, requests: int, connections: int) -> str | None:
    """Sends that many over keep-alive connections. What the client said, if any of them did not get its 200."""
    command = ["h2load", "--h1", "-t", "1", "-c", str(connections), "-n", str(requests), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    good = f"{requests} done, {requests} succeeded" in output and f"status codes: {requests} 2xx" in output
    return None if good else output
