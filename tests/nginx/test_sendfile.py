# SPDX-License-Identifier: Apache-2.0
"""Files that no plugin reads go from the disk to the connection without a copy in the worker."""

from __future__ import annotations

import http.client
import re

import pytest
from kit.setup import FILTERS

SIZE = 1_000_000
CONFIGURED = {"headers": ("c-add-headers", ""), "bodies": ("c-body-upper", "response")}


@pytest.mark.parametrize("plugin", CONFIGURED)
def test_sendfile(nginx, tmp_path, plugin):
    module, configuration = CONFIGURED[plugin]
    (tmp_path / "file").write_bytes(b"a" * SIZE)
    proxy = nginx(
        log_level="debug",
        wasm=f"module {module} {FILTERS}/{module}.wasm;",
        http="sendfile on;",
        server=f"root {tmp_path}; location / {{ proxy_wasm {module} '{configuration}'; }}",
    )
    connection = http.client.HTTPConnection("127.0.0.1", proxy.server.port, timeout=20)
    connection.request("GET", "/file")
    body = connection.getresponse().read()
    connection.close()
    # The log comes in by itself; the end of the connection is the last of it. Others ended before, to see whether it serves.
    lines = proxy.server.book.lines
    proxy.server.wait_until(lambda: re.search("GET /file .*close http connection", "\n".join(lines), re.DOTALL))
    sent = [re.search(r" sendfile: (\d+) of ", line) for line in list(lines)]
    total = sum(int(found[1]) for found in sent if found)
    if plugin == "headers":
        assert (body, total) == (b"a" * SIZE, SIZE)
    else:
        assert (body, total) == (b"A" * SIZE, 0)
