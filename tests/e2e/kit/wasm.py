# SPDX-License-Identifier: Apache-2.0
"""Modules of a few functions, for what the guests cannot show: exports that are missing or wrong, imports that nobody has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MARKER = "proxy_abi_version_0_2_1"
#: Where texts begin, and the one block that the allocator gives out.
TEXTS, BLOCK = 1024, 32768
I32 = 0x7F


def number(value: int) -> bytes:
    """LEB128, which for small values that are not negative is both the signed and the unsigned one."""
    encoded = b""
    while value >= 0x40:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def sized(content: bytes) -> bytes:
    return number(len(content)) + content


def vector(items: Iterable[bytes]) -> bytes:
    items = list(items)
    return number(len(items)) + b"".join(items)


@dataclass(frozen=True)
class Function:
    """One that logs a text, if there is one, then traps or gives back `result`, if it is not None. All numbers are i32."""

    parameters: int = 0
    result: int | None = None
    text: str = ""
    trap: bool = False

    @property
    def type(self) -> bytes:
        results = 0 if self.result is None else 1
        return b"\x60" + vector([bytes([I32])] * self.parameters) + vector([bytes([I32])] * results)


#: What a host demands.
LEAST = {MARKER: Function(), "malloc": Function(1, BLOCK)}


def module(exports: dict[str, Function], imports: Iterable[tuple[str, str, Function]] = ()) -> bytes:
    """A module with a memory, these exports, and these imports, (module, name, type): all of its own but proxy_log are never called."""
    imports = [("env", "proxy_log", Function(3, 0)), *imports]
    texts, bodies = b"", []
    for one in exports.values():
        code = b""
        if one.text:
            text = one.text.encode()
            arguments = (2, TEXTS + len(texts), len(text))
            code += b"".join(b"\x41" + number(value) for value in arguments) + b"\x10\x00\x1a"  # call, drop
            texts += text
        if one.trap:
            code += b"\x00"
        elif one.result is not None:
            code += b"\x41" + number(one.result)
        bodies.append(sized(b"\x00" + code + b"\x0b"))
    types = [*(one.type for _, _, one in imports), *(one.type for one in exports.values())]
    names = [(sized(name.encode()), index) for index, name in enumerate(exports, len(imports))]
    sections = {
        1: vector(types),
        2: vector(
            sized(where.encode()) + sized(name.encode()) + b"\x00" + number(index)
            for index, (where, name, _) in enumerate(imports)
        ),
        3: vector(number(index) for index in range(len(imports), len(types))),
        5: vector([b"\x00\x01"]),
        7: vector([b"\x06memory\x02\x00", *(name + b"\x00" + number(index) for name, index in names)]),
        10: vector(bodies),
        11: vector([b"\x00\x41" + number(TEXTS) + b"\x0b" + sized(texts)]),
    }
    return b"\0asm\1\0\0\0" + b"".join(bytes([key]) + sized(content) for key, content in sections.items())
