# SPDX-License-Identifier: Apache-2.0
"""Runs each case against each host, and tells the four ways in which that can end: passed, differs, n/a, failed."""

from __future__ import annotations

import collections
import json
import shutil
import socket
from dataclasses import asdict
from pathlib import Path

import pytest
from hosts import FEATURES, HOSTS, Server
from kit.cases import ORACLE, Differs, info_of, known_failure
from kit.client import Proxy
from kit.grpc_upstream import GrpcUpstream
from kit.setup import Plugin, Setup, probe
from kit.tcp import TcpProxy
from kit.upstream import RawUpstream, Refusing, Silent, TcpUpstream, Upstream

# So many servers with shared setups live at a time, in each process of the run.
KEPT_SERVERS = 3


def pytest_addoption(parser):
    group = parser.getgroup("conformance")
    group.addoption(
        "--host",
        action="append",
        choices=sorted(HOSTS),
        help="A host to run against; more than once for more. Default: all.",
    )
    group.addoption("--results", type=Path, help="Where to write what came out, as JSON.")


def pytest_configure(config):
    config.results = collections.OrderedDict()
    for name in chosen_hosts(config):
        if reason := HOSTS[name].missing():
            raise pytest.UsageError(f"{name} is not there: {reason}")


def chosen_hosts(config) -> list[str]:
    return config.getoption("--host") or list(HOSTS)


# ---- Cases ----


def pytest_generate_tests(metafunc):
    if "host" in metafunc.fixturenames:
        metafunc.parametrize("host", chosen_hosts(metafunc.config), indirect=True, scope="session")


def case_id(item) -> str:
    """ "test_bodies.py::test_empty[a]": what a host's `cannot` may name. Without the host."""
    parameters = (
        [part for part in item.callspec.id.split("-") if part not in HOSTS] if hasattr(item, "callspec") else []
    )
    return f"{item.path.name}::{item.originalname}" + (f"[{'-'.join(parameters)}]" if parameters else "")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items, config):
    for item in items:
        info = info_of(item.function, item.module)
        if info is None:
            raise pytest.UsageError(f"{item.nodeid}: every test of the kit is a case: @case(title, envoy=…)")
        item.needs = [need.format(**item.callspec.params) for need in info.needs]
        if unknown := set(item.needs) - set(FEATURES):
            raise pytest.UsageError(f"{item.nodeid}: no such feature: {unknown}")
        if timeout := getattr(item.function, "case_timeout", None):
            item.add_marker(pytest.mark.timeout(timeout))
        item.case = info
        item.host_name = item.callspec.params["host"]
    # One host after the other, so that servers that are shared are few at a time.
    items.sort(key=lambda item: list(HOSTS).index(item.host_name))
    check_reasons(items, config)


class NotApplicable(pytest.skip.Exception):
    """The host's proxy cannot do what the case needs."""


def check_reasons(items, config) -> None:
    """A host's `cannot` names cases that there are, or one that was renamed would be forgotten."""
    if any("::" in argument for argument in config.args):
        return
    cases = {case_id(item) for item in items}
    files = {case.split("::")[0] for case in cases}
    for name in chosen_hosts(config):
        for key in HOSTS[name].cannot:
            if key not in FEATURES and (key.split("::")[0] in files or "::" not in key) and key not in cases:
                raise pytest.UsageError(f"{name} cannot do {key!r}, and there is no such case")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    cannot = HOSTS[item.host_name].cannot
    reasons = [cannot[key] for key in (*item.needs, case_id(item)) if key in cannot]
    if reasons:
        raise NotApplicable(f"n/a: {reasons[0]}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    result, detail = None, ""
    if report.skipped:
        result, detail = "n/a", str(call.excinfo.value) if call.excinfo else ""
        if not detail.startswith("n/a: "):
            report.outcome, result = "failed", "failed"
            report.longrepr = f"a case cannot be skipped ({detail}): a host says in `cannot` what it does not have"
    elif report.when == "call":
        expected = item.host_name == ORACLE and isinstance(item.case.envoy, Differs)
        if report.passed and expected:
            report.outcome, result = "failed", "failed"
            report.longrepr = f"Envoy passes, though the case says that it differs: {item.case.envoy.does}"
        elif report.failed and known_failure(item.case, item.host_name, report.longreprtext):
            report.outcome, result = "passed", "differs"
        else:
            result = report.outcome
    elif report.failed:
        result = "failed"
    if report.failed and (starter := getattr(item, "funcargs", {}).get("serve")):
        report.sections.extend((f"log of {item.host_name}", text) for text in starter.logs())
    if result:
        envoy = item.case.envoy
        own = {"host": item.host_name, "case": case_id(item), "result": result, "detail": detail}
        own |= {
            "title": item.case.title,
            "area": item.case.area,
            "differs": asdict(envoy) if isinstance(envoy, Differs) else None,
        }
        report.user_properties.append(("conformance", own))


def conformance_of(report) -> dict | None:
    return next((value for key, value in report.user_properties if key == "conformance"), None)


def pytest_report_teststatus(report, config):
    if (own := conformance_of(report)) and report.when in ("setup", "call") and not report.failed:
        if own["result"] == "n/a":
            return "n/a", "-", f"n/a ({own['detail'].removeprefix('n/a: ')})"
        if own["result"] == "differs":
            return "differs", "d", "DIFFERS as declared"
    return None


# ---- Results ----


def pytest_runtest_logreport(report):
    if own := conformance_of(report):
        key = (own["host"], own["case"])
        # A failure of the teardown outweighs what the call gave.
        if key not in _config.results or own["result"] == "failed":
            _config.results[key] = own


_config: pytest.Config


def pytest_sessionstart(session):
    global _config
    _config = session.config


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    path = session.config.getoption("--results")
    if path is None or hasattr(session.config, "workerinput"):
        return
    cells = list(session.config.results.values())
    hosts = [name for name in HOSTS if any(cell["host"] == name for cell in cells)]
    results = {"versions": {name: HOSTS[name].version() for name in hosts}, "cells": cells}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1))


# ---- Servers ----


@pytest.fixture(scope="session")
def host(request):
    """The host that the case runs against."""
    return HOSTS[request.param]


@pytest.fixture(scope="session")
def upstream():
    """The HTTP server behind the proxy."""
    server = Upstream()
    yield server
    server.close()


@pytest.fixture(scope="session")
def raw_upstream():
    """A server behind the proxy that keeps bytes: serve(…, shared=True, upstream_port=raw_upstream.port)."""
    server = RawUpstream()
    yield server
    server.close()


class Shared:
    """Servers that several cases use, by host and setup; the one that was not used for the longest time ends first."""

    def __init__(self, upstream: Upstream):
        self._upstream = upstream
        self._servers: collections.OrderedDict = collections.OrderedDict()

    def get(self, host, setup: Setup) -> Server:
        server = self._servers.pop((host.name, setup), None)
        if server is None or not server.alive():
            server = host.start(setup, self._upstream.port)
        self._servers[host.name, setup] = server
        if len(self._servers) > KEPT_SERVERS:
            _, old = self._servers.popitem(last=False)
            end(old)
        return server

    def close(self) -> None:
        for server in self._servers.values():
            end(server)


def end(server: Server) -> None:
    server.stop()
    shutil.rmtree(server.directory, ignore_errors=True)


@pytest.fixture(scope="session")
def _shared(upstream):
    shared = Shared(upstream)
    yield shared
    shared.close()


class Starter:
    """Starts servers for one case, which end with it."""

    def __init__(self, host, upstream: Upstream, shared: Shared):
        self._host, self._upstream, self._shared = host, upstream, shared
        self._proxies: list[Proxy] = []
        self._own: list[Server] = []

    def __call__(self, *plugins: Plugin, shared: bool = False, http2: bool = False, **setup) -> Proxy:
        """A server with these plugins and further fields of Setup; `shared` only when the case leaves no trace in it."""
        wanted = Setup(plugins=plugins, **setup)
        if shared:
            server = self._shared.get(self._host, wanted)
        else:
            server = self._host.start(wanted, self._upstream.port)
            self._own.append(server)
        proxy = Proxy(server, self._upstream, http2)
        self._proxies.append(proxy)
        return proxy

    def logs(self) -> list[str]:
        """The end of what each server wrote."""
        texts = ("\n".join(proxy.server.book.lines[-60:]) for proxy in self._proxies)
        # Plugins write any bytes; what runs side by side hands on none but text.
        return [text.encode(errors="backslashreplace").decode() for text in texts]

    def close(self) -> None:
        for proxy in self._proxies:
            proxy.close()
        for server in self._own:
            end(server)


@pytest.fixture
def serve(host, upstream, _shared):
    """Starts servers: serve(plugin, …, **fields of Setup)."""
    starter = Starter(host, upstream, _shared)
    yield starter
    starter.close()


@pytest.fixture
def proxy(serve):
    """A server with one probe, shared with other cases: requests bring their own scripts, and nothing in it may be spoiled."""
    return serve(probe(), shared=True)


@pytest.fixture
def refusing():
    """A port where connections are refused."""
    server = Refusing()
    yield server
    server.close()


@pytest.fixture
def silent():
    """A port that takes connections and never answers."""
    server = Silent()
    yield server
    server.close()


@pytest.fixture
def tcp_upstream():
    """A TCP server for this case: tcp_upstream.accept()."""
    server = TcpUpstream()
    yield server
    server.close()


@pytest.fixture(scope="session")
def grpc_upstream():
    """The gRPC server for callouts."""
    server = GrpcUpstream()
    yield server
    server.close()


@pytest.fixture(scope="session")
def _shared_tcp_upstream():
    server = TcpUpstream()
    yield server
    server.close()


@pytest.fixture
def tcp(serve, tcp_upstream, _shared_tcp_upstream):
    """Starts servers for TCP, whose upstream the case plays: tcp(plugin, …, **fields of Setup)."""
    started = []

    def start(*plugins: Plugin, shared: bool = False, **setup) -> TcpProxy:
        upstream = _shared_tcp_upstream if shared else tcp_upstream
        upstream.forget()
        setup.setdefault("upstream_port", upstream.port)
        one = TcpProxy(serve(*plugins, shared=shared, kind="tcp", **setup), upstream)
        started.append(one)
        return one

    yield start
    for one in started:
        one.close()


@pytest.fixture
def gate():
    """A server for a callout, whose answer opens the way."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)
    yield listener
    listener.close()
