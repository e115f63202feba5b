# SPDX-License-Identifier: Apache-2.0
"""Shows plugins at work: an upstream that tells what it was sent, the example proxy before it, curl before that."""

import http.server
import json
import pathlib
import re
import subprocess
import sys
import threading

PLUGINS = [
    ("rust-add-headers", "Rust", ""),
    ("go-add-headers", "Go", ""),
    ("assemblyscript-add-headers", "AssemblyScript", ""),
    ("c-add-headers", "C", ""),
]
# What the proxy or the client set anew for every request: not the work of a plugin.
NOISE = {"content-length", "date", "host", "x-request-id"}


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


class Proxy:
    """The example proxy with a plugin, or without."""

    def __init__(self, program, upstream, plugin=None):
        command = [program, "serve", "--listen", "127.0.0.1:0", "--upstream", upstream]
        self.plugin = ["--plugin", plugin] if plugin else []
        self.process = subprocess.Popen(
            command + self.plugin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self):
        for line in self.process.stdout:
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if found:
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return f"http://127.0.0.1:{found[1]}/demo"
        raise SystemExit(f"the proxy did not start: {self.process.stderr.read().strip()}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=20)


def added(before, after):
    return [pair for pair in after if pair not in before and pair[0] not in NOISE]


def show(direction, pairs):
    for name, value in pairs:
        print(f"    {direction:9} + {name}: {value}")
    if not pairs:
        print(f"    {direction:9} unchanged")


def main(program, filters):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    upstream = f"127.0.0.1:{server.server_address[1]}"
    print(f"upstream on {upstream}; a request through the proxy without a plugin")
    with Proxy(program, upstream) as url:
        plain_status, plain_response, plain_request = fetch(url)
    print(f"    {plain_status}")
    failed = []
    for name, language, config in PLUGINS:
        module = pathlib.Path(filters) / f"{name}.wasm"
        print(f"{language}: {module} ({module.stat().st_size // 1024} KiB)")
        with Proxy(program, upstream, f"{module},name={name}{config}") as url:
            print(f"    curl {url}")
            status, response, request = fetch(url)
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
