# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of servers have in common: the machine, a free port, a fixed number of requests."""

import os
import pathlib
import platform
import re
import socket
import subprocess


def machine() -> str:
    model = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} vCPU"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def send(url: str, requests: int, connections: int) -> str | None:
    """Sends that many over keep-alive connections. What the client said, if any of them did not get its 200."""
    command = ["h2load", "--h1", "-t", "1", "-c", str(connections), "-n", str(requests), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    good = f"{requests} done, {requests} succeeded" in output and f"status codes: {requests} 2xx" in output
    return None if good else output
