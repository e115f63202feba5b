# SPDX-License-Identifier: Apache-2.0
"""One Envoy with a listener for each of several filters, and what it costs the machine."""

import http.client
import json
import pathlib
import re
import socket
import subprocess
import time

from measure import free_port, send

TYPE = "type.googleapis.com/"
EXTENSIONS = TYPE + "envoy.extensions."
FILTERS = EXTENSIONS + "filters.http."
LUA = """
function envoy_on_request(handle)
  local headers = handle:headers()
  local agent = headers:get("user-agent")
  headers:add("x-bench", "1")
end
"""


def plugin(guest: pathlib.Path, workload: str, vm_id: str) -> dict:
    """The same text configures the built-in filter and the module."""
    return {
        "name": workload,
        "root_id": workload,
        "vm_config": {
            "vm_id": vm_id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": str(guest)}},
        },
        "configuration": {"@type": TYPE + "google.protobuf.StringValue", "value": workload},
    }


def dynamic_module(name: str, file: pathlib.Path, config: dict) -> dict:
    return {
        "@type": FILTERS + "dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"name": name, "module": {"local": {"filename": str(file)}}},
        "filter_name": name,
        "filter_config": {"@type": TYPE + "google.protobuf.Struct", "value": config},
    }


def built_in(guest: pathlib.Path, workload: str, vm_id: str = "bench") -> dict:
    return {"@type": FILTERS + "wasm.v3.Wasm", "config": plugin(guest, workload, vm_id)}


def ours(module: pathlib.Path, guest: pathlib.Path, workload: str, vm_id: str = "bench") -> dict:
    return dynamic_module("proxywasm", module, plugin(guest, workload, vm_id))


def native(module: pathlib.Path) -> dict:
    return dynamic_module(module.stem, module, {})


def lua() -> dict:
    return {"@type": FILTERS + "lua.v3.Lua", "default_source_code": {"inline_string": LUA}}


def listener(name: str, port: int, filters: list[dict]) -> dict:
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    chain = [{"name": f"{name}-{number}", "typed_config": one} for number, one in enumerate(filters)]
    chain.append({"name": "router", "typed_config": {"@type": FILTERS + "router.v3.Router"}})
    manager = {
        "@type": EXTENSIONS + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
        "http_filters": chain,
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


class Envoy:
    """Starts Envoy with a listener for each list of filters, and waits for its first response."""

    def __init__(
        self, program: pathlib.Path, directory: pathlib.Path, places: dict[str, list[dict]], concurrency: int = 1
    ):
        self.ports = {name: free_port() for name in places}
        listeners = [listener(name, self.ports[name], filters) for name, filters in places.items()]
        file = directory / "envoy.json"
        file.write_text(json.dumps({"static_resources": {"listeners": listeners}}, indent=1))
        self.log = directory / "envoy.log"
        command = [program, "-c", file, "--concurrency", concurrency, "--disable-hot-restart", "-l", "warning"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)

    def __enter__(self):
        try:
            self.first_response()
        except BaseException:
            self.stop()
            raise
        self.first_cpu_ms = self.cpu_ns() / 1e6
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def first_response(self) -> None:
        """Returns once the last listener has answered."""
        end = time.monotonic() + 60
        port = list(self.ports.values())[-1]
        while time.monotonic() < end and self.process.poll() is None:
            # One that serves nobody yet costs it nothing: nobody listens.
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.002)
                continue
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            client.request("GET", "/")
            status = client.getresponse().status
            client.close()
            if status != 200:
                raise SystemExit(f"envoy answered {status}:\n{self.log.read_text()}")
            return
        raise SystemExit(f"envoy did not start:\n{self.log.read_text()}")

    def cpu_ns(self) -> int:
        """What the scheduler has counted for all threads, those that have ended too: the process's own CPU clock."""
        return time.clock_gettime_ns((~self.process.pid << 3) | 2)

    def anonymous_mb(self) -> float:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^RssAnon:\s*(\d+) kB$", status, re.MULTILINE)[1]) / 1024

    def load(self, place: str, requests: int, connections: int) -> float:
        """CPU time in µs per request."""
        before = self.cpu_ns()
        failed = send(f"http://127.0.0.1:{self.ports[place]}/", requests, connections)
        after = self.cpu_ns()
        if failed:
            raise SystemExit(f"{place}: not all requests succeeded\n{failed}\n{self.log.read_text()}")
        return (after - before) / requests / 1000
