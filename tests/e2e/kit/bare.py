# SPDX-License-Identifier: Apache-2.0
"""Parts of the bare guest's scripts, for cases about what hostcalls answer."""

from __future__ import annotations

from collections.abc import Iterable

from .client import Proxy
from .records import Report

#: What a place of 4 or 8 bytes for a result holds before the call.
UNTOUCHED = (0xAAAAAAAA, 0xAAAAAAAAAAAAAAAA)


def word(number: int) -> str:
    """Four bytes, as text."""
    return "".join(f"%{byte:02x}" for byte in number.to_bytes(4, "little"))


def pairs(headers: Iterable[tuple[str, str]]) -> str:
    """A header map, as text."""
    headers = list(headers)
    lengths = "".join(word(len(name)) + word(len(value)) for name, value in headers)
    return word(len(headers)) + lengths + "".join(f"{name}%00{value}%00" for name, value in headers)


def calls(proxy: Proxy, script: str, callback: str = "request_headers", **options) -> list[Report]:
    """What came of the hostcalls of a script in one callback of a request."""
    reply = proxy.get(bare=f"{callback}: {script}", **options)
    assert reply.status == 200
    return [one for one in reply.reports.of(callback) if one.op]
