# SPDX-License-Identifier: Apache-2.0
"""The example proxy of this repository: cpp-example, `proxywasm-example serve`."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import ClassVar

from kit.records import Record
from kit.setup import ROOT, Plugin, Setup

from .base import Host, Server

PROGRAM = ROOT / "build" / "cpp-example" / "proxywasm-example"
METRICS_PATH = "/.metrics"
LINE = re.compile(r"(trace|debug|info|warn|error|critical) \[([^\]]*)\] ?(.*)")
LISTENING = re.compile(r"listening on .*:(\d+)")


class ExampleServer(Server):
    http_port = 0

    @staticmethod
    def parse_line(line: str) -> Record | None:
        match = LINE.fullmatch(line)
        if match is None or match[2] == "proxy":
            return None
        return Record(*match.groups())

    def metrics(self) -> dict[str, float | dict]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{METRICS_PATH}", timeout=5) as answer:
            return parse_prometheus(answer.read().decode())


def parse_prometheus(text: str) -> dict[str, float | dict]:
    metrics: dict[str, float | dict] = {}
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        name, value = line.rsplit(" ", 1)
        name = name.split("{")[0]
        for suffix in ("_count", "_sum"):
            if name.endswith(suffix) and isinstance(metrics.get(name[: -len(suffix)], {}), dict):
                metrics.setdefault(name[: -len(suffix)], {})[suffix[1:]] = float(value)
                break
        else:
            metrics[name] = float(value)
    return metrics


def plugin_text(plugin: Plugin, directory: Path, setup: Setup, index: int) -> str:
    """FILE,key=value… of the command line; configurations by file, since they are full of commas."""
    keys = [("name", plugin.name)]
    for key in ("root_id", "vm_id", "policy", "deadline_ms", "start_deadline_ms"):
        if value := getattr(plugin, key):
            keys.append((key, str(value)))
    if plugin.memory_mb:
        keys.append(("max_memory_mb", str(plugin.memory_mb)))
    if setup.body_limit:
        keys.append(("max_body", str(setup.body_limit)))
    if plugin.stop_iteration:
        keys.append(("stop_iteration", "true"))
    keys += [("env", f"{name}:{value}") for name, value in plugin.environment]
    keys += [("allow", name) for name in plugin.capabilities]
    for key, text in (("vm_config_file", plugin.vm_configuration), ("config_file", plugin.configuration)):
        if text:
            path = directory / f"{key}-{index}"
            path.write_bytes(text.encode("latin-1"))
            keys.append((key, str(path)))
    return ",".join([str(plugin.module), *(f"{key}={value}" for key, value in keys)])


class Example(Host):
    name = "example"
    cannot: ClassVar[dict[str, str]] = {
        "http2": "the example proxy speaks HTTP/1.1 with its clients",
        "envoy_attributes": "the example proxy has no xDS configuration and no metadata",
    }

    def version(self) -> str:
        return subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]

    def missing(self) -> str | None:
        return None if PROGRAM.exists() else "make example"

    def launch(self, setup: Setup, directory: Path, upstream_port: int) -> ExampleServer:
        server = ExampleServer(setup, directory)
        to = f"127.0.0.1:{setup.upstream_port or upstream_port}"
        command: list = [PROGRAM, "serve", "--log-level", setup.log_level, "--threads", setup.workers]
        # HTTP also beside TCP: metrics are told there.
        command += ["--listen", "127.0.0.1:0", "--upstream", to, "--metrics-path", METRICS_PATH]
        if setup.kind == "tcp":
            command += ["--tcp-listen", "127.0.0.1:0", "--tcp-upstream", to]
        for name, port in (("upstream", upstream_port), *setup.clusters):
            command += ["--cluster", f"{name}=127.0.0.1:{port}"]
        if setup.upstream_timeout_ms:
            command += ["--idle-timeout-ms", setup.upstream_timeout_ms]
        for index, (option, plugin) in enumerate(
            [*(("--plugin", one) for one in setup.plugins), *(("--service", one) for one in setup.services)]
        ):
            command += [option, plugin_text(plugin, directory, setup, index)]
        server.spawn(command, {**os.environ})
        # A line on standard output for each kind, when it listens; the end of the file when it could not.
        ports = {}
        for kind in ("http", "tcp") if setup.kind == "tcp" else ("http",):
            match = LISTENING.match(server.process.stdout.readline())
            if match is None:
                server.process.wait(10)
                server.wait_until(lambda: False)
            ports[kind] = int(match[1])
        server.port, server.http_port = ports[setup.kind], ports["http"]
        return server
