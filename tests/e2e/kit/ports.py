# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that are started by themselves."""

from __future__ import annotations

import random
import socket
from pathlib import Path

# Not those that the system gives to clients: one of these may have the port before the server does.
_FIRST_OF_CLIENTS = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
_given: set[int] = set()


def free_port() -> int:
    while True:
        port = random.randrange(10000, max(_FIRST_OF_CLIENTS, 11000))
        if port in _given:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        _given.add(port)
        return port
