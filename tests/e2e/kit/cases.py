# SPDX-License-Identifier: Apache-2.0
"""How a case says what it shows, what it needs, and what Envoy's own host does."""

from __future__ import annotations

import re
from dataclasses import dataclass

ORACLE = "envoy_builtin"

#: In the order of the table. A module of cases names its own as AREA.
AREAS = (
    "Lifecycle",
    "Configuration",
    "Contexts",
    "Request headers",
    "Response headers",
    "Bodies",
    "Trailers",
    "Local responses",
    "Pause and resume",
    "Chains",
    "HTTP callouts",
    "gRPC callouts",
    "Ticks",
    "Shared data",
    "Queues",
    "Metrics",
    "Properties",
    "Foreign functions",
    "Logging",
    "WASI",
    "TCP",
    "Statuses",
    "Traps",
    "Limits",
    "Connections",
    "Aborts and failures",
    "Plugins of the SDKs",
)


@dataclass(frozen=True)
class Agrees:
    """Envoy's own host passes the case: it was run against it, and is, each time."""


@dataclass(frozen=True)
class Differs:
    """The case expects something else than Envoy's own host does, on purpose. It is run there all the same, and must fail in the known way."""

    #: What Envoy does.
    does: str
    #: Why the expectation is not that.
    because: str
    #: A regular expression that the failure's text matches, so that a failure for another reason is none.
    fails_with: str


AGREES = Agrees()


@dataclass(frozen=True)
class CaseInfo:
    title: str
    area: str
    envoy: Agrees | Differs
    needs: tuple[str, ...]


def case(title: str, *, envoy: Agrees | Differs, needs: str | tuple[str, ...] = (), timeout: float | None = None):
    """Marks a test function as a case of the kit. The area is its module's AREA.

    title: what holds, as a sentence without a full stop.
    needs: features that a host may declare not to have; see hosts/base.py, FEATURES. "{side}" stands for the parameter `side`.
    """
    assert not title.endswith("."), title

    def decorate(function):
        function.case_title = title
        function.case_envoy = envoy
        function.case_needs = (needs,) if isinstance(needs, str) else tuple(needs)
        function.case_timeout = timeout
        return function

    return decorate


def info_of(function, module) -> CaseInfo | None:
    """What `case` noted; None for a function without it. `function` may be wrapped by pytest's parametrize."""
    title = getattr(function, "case_title", None)
    if title is None:
        return None
    assert module.AREA in AREAS, f"{module.__name__}: {module.AREA} is not in AREAS"
    return CaseInfo(title, module.AREA, function.case_envoy, function.case_needs)


def known_failure(info: CaseInfo, host: str, text: str) -> bool:
    """Whether a failure, with pytest's text of it, is the one that the case declares for this host."""
    if host != ORACLE or not isinstance(info.envoy, Differs):
        return False
    # Lines marked E say what happened; the others are the source of the case.
    happened = "\n".join(line[1:].strip() for line in text.splitlines() if line.startswith("E "))
    return re.search(info.envoy.fails_with, happened) is not None
