# SPDX-License-Identifier: Apache-2.0
"""Sends requests through the example proxy with three plugins and compares its memory early and late.

usage: soak.py PROGRAM FILTERS [REQUESTS]
Exits 1 when a request fails, or when resident memory grew by more than a tenth after the first tenth of the requests.
"""

import asyncio
import pathlib
import re
import signal
import sys

PLUGINS = ["rust-add-headers", "rust-metrics", "c-body-upper"]
CONNECTIONS = 16
BODY = b"x" * 1000


async def upstream(reader, writer):
    """Reads a request, answers it, closes."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if length:
            await reader.readexactly(int(length[1]))
        elif b"transfer-encoding: chunked" in head.lower():
            await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(BODY) + BODY)
        await writer.drain()
    finally:
        writer.close()


async def answer(reader):
    """Reads a response; its status line."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    if length:
        await reader.readexactly(int(length[1]))
    else:
        await reader.readuntil(b"0\r\n\r\n")
    return head.split(b"\r\n", 1)[0]


async def client(port, count, progress):
    """Sends requests over one connection, by turns with a body and without."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(count):
        if number % 2:
            writer.write(b"POST / HTTP/1.1\r\nhost: soak\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY)
        else:
            writer.write(b"GET / HTTP/1.1\r\nhost: soak\r\n\r\n")
        status = await answer(reader)
        if status != b"HTTP/1.1 200 OK":
            raise SystemExit(f"soak: request answered {status.decode()}")
        progress()
    writer.close()


def resident_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


async def main(program, filters, requests=100_000):
    server = await asyncio.start_server(upstream, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    plugins = [word for name in PLUGINS for word in ("--plugin", f"{filters}/{name}.wasm,name={name}")]
    command = [program, "serve", "--listen", "127.0.0.1:0", "--upstream", f"127.0.0.1:{port}", *plugins]
    proxy = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    listening = int(re.search(rb":(\d+)", await proxy.stdout.readline())[1])
    done, sizes = 0, []

    def progress():
        nonlocal done
        done += 1
        if done % (requests // 10) == 0:
            sizes.append(resident_kib(proxy.pid))
            print(f"soak: {done} requests, proxy resident {sizes[-1]} KiB", flush=True)

    await asyncio.gather(*(client(listening, requests // CONNECTIONS, progress) for _ in range(CONNECTIONS)))
    proxy.send_signal(signal.SIGTERM)
    code = await proxy.wait()
    server.close()
    if code != 0 or sizes[-1] > sizes[0] * 1.1:
        raise SystemExit(f"soak: FAILED: exit code {code}, resident {sizes[0]} KiB early, {sizes[-1]} KiB late")
    print(f"soak: {done} requests, resident {sizes[0]} KiB early, {sizes[-1]} KiB late")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3], *map(int, sys.argv[3:])))
