#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""demo.py PROXY: shows plugins at work: an upstream that tells what it was sent, the proxy before it, curl before that.

One plugin after the other; what each changed in request and response is printed. Exits 0 only if every plugin changed what
it should."""

import http.server
import json
import subprocess
import sys
import threading

from proxies import PROXIES, ROOT

PLUGINS = [
    ("rust-add-headers", "Rust"),
    ("go-add-headers", "Go"),
    ("assemblyscript-add-headers", "AssemblyScript"),
    ("c-add-headers", "C"),
]
# What the proxy or the client set anew for every request: not the work of a plugin.
NOISE = {"content-length", "date", "host", "x-request-id", "x-envoy-upstream-service-time"}


class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers with the request headers that came, as JSON."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps([[name.lower(), value] for name, value in self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def fetch(url):
    """What curl got: response headers, and the request headers that the upstream saw."""
    curl = ["curl", "--silent", "--show-error", "--max-time", "10", "--include", "--user-agent", "demo", url]
    text = subprocess.run(curl, check=True, stdout=subprocess.PIPE).stdout.decode()
    head, body = text.split("\r\n\r\n", 1)
    status, *lines = head.split("\r\n")
    response = [tuple(line.split(": ", 1)) for line in lines]
    return status, [(n.lower(), v) for n, v in response], [tuple(pair) for pair in json.loads(body)]


def added(before, after):
    return [pair for pair in after if pair not in before and pair[0] not in NOISE]


def show(direction, pairs):
    for name, value in pairs:
        print(f"    {direction:9} + {name}: {value}")
    if not pairs:
        print(f"    {direction:9} unchanged")


def main(proxy):
    start = PROXIES[proxy]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    upstream = f"127.0.0.1:{server.server_address[1]}"
    print(f"upstream on {upstream}; a request through the proxy ({start.__doc__.rstrip('.')}) without a plugin")
    with start(upstream, None) as address:
        plain_status, plain_response, plain_request = fetch(f"{address}/demo")
    print(f"    {plain_status}")
    failed = []
    for name, language in PLUGINS:
        module = ROOT / "build" / "filters" / f"{name}.wasm"
        print(f"{language}: {module.relative_to(ROOT)} ({module.stat().st_size // 1024} KiB)")
        with start(upstream, module) as address:
            print(f"    curl {address}/demo")
            status, response, request = fetch(f"{address}/demo")
        request, response = added(plain_request, request), added(plain_response, response)
        show("request", request)
        show("response", response)
        if status != plain_status or not request or ("x-plugin", name) not in response:
            failed.append(name)
    if failed:
        raise SystemExit(f"demo: no effect seen of {', '.join(failed)}")
    print(f"demo: {len(PLUGINS)} plugins in {len(PLUGINS)} languages changed request and response as they should")


if __name__ == "__main__":
    main(*sys.argv[1:])
