# SPDX-License-Identifier: Apache-2.0
"""What plugins write to a host's log, and the reports of the kit's guests in it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

# The guests' reports: a whole one, or the last piece; and a piece with more to come.
REPORT = "probe:"
PIECE = "probe~"


@dataclass(frozen=True)
class Record:
    """One record of the log that came from a plugin."""

    level: str
    #: The plugin's name where the host writes it.
    plugin: str | None
    text: str
    #: The process that wrote it, where there are several.
    process: str = ""


@dataclass(frozen=True)
class Report:
    """A callback that a guest entered, or the result of a step in it; see tests/guests/README.md."""

    vm: str
    plugin: str
    context: int
    id: str | None
    callback: str
    #: The callback's parameters after the context id; None for a step.
    arguments: list | None
    op: str | None
    result: object
    out: list | None
    value: str | None

    @classmethod
    def parse(cls, text: str) -> Report:
        raw, _ = json.JSONDecoder().raw_decode(text)
        return cls(
            raw["vm"],
            raw["p"],
            raw["c"],
            raw.get("id"),
            raw["cb"],
            raw.get("a"),
            raw.get("op"),
            raw.get("r"),
            raw.get("out"),
            raw.get("val"),
        )


class Reports(list):
    """Reports in the order in which they came, with the questions that cases ask."""

    def of(
        self,
        callback: str | None = None,
        *,
        plugin: str | None = None,
        op: str | None = None,
        context: int | None = None,
        vm: str | None = None,
    ) -> Reports:
        return Reports(
            one
            for one in self
            if (callback is None or one.callback == callback)
            and (plugin is None or one.plugin == plugin)
            and (op is None or one.op == op)
            and (context is None or one.context == context)
            and (vm is None or one.vm == vm)
        )

    @property
    def entries(self) -> Reports:
        """Callbacks that were entered, without what was done in them."""
        return Reports(one for one in self if one.op is None)

    @property
    def callbacks(self) -> list[str]:
        return [one.callback for one in self.entries]

    @property
    def ends(self) -> list[int]:
        """How often `log`, `done` and `delete` ran."""
        return [self.callbacks.count(callback) for callback in ("log", "done", "delete")]

    def results(self, callback: str | None = None, op: str | None = None, plugin: str | None = None) -> list:
        """What steps gave back."""
        return [one.result for one in self.of(callback, op=op, plugin=plugin) if one.op is not None]

    def result(self, callback: str | None = None, op: str | None = None, plugin: str | None = None):
        """What the one step that is meant gave back."""
        results = self.results(callback, op, plugin)
        assert len(results) == 1, (
            f"one result of {op or 'a step'} in {callback or 'any callback'} is expected, there are {results}"
        )
        return results[0]


class LogBook:
    """Records of one server, in the order in which they came; lines are added by a thread that reads the server's log."""

    def __init__(self, parse_line: Callable[[str], Record | None]):
        self._parse_line = parse_line
        self._changed = threading.Condition()
        self.lines: list[str] = []
        self._records: list[Record] = []
        self._reports: list[Report] = []
        self._pieces: dict[tuple[str, str | None], str] = {}

    def add(self, line: str) -> None:
        record = self._parse_line(line)
        with self._changed:
            self.lines.append(line)
            if record is not None:
                self._add_record(record)
            self._changed.notify_all()

    def _add_record(self, record: Record) -> None:
        writer = record.process, record.plugin
        if record.text.startswith(PIECE):
            self._pieces[writer] = self._pieces.get(writer, "") + record.text[len(PIECE) :]
        elif record.text.startswith(REPORT):
            self._reports.append(Report.parse(self._pieces.pop(writer, "") + record.text[len(REPORT) :]))
        else:
            self._records.append(record)

    @property
    def records(self) -> list[Record]:
        """What plugins logged, without reports."""
        with self._changed:
            return list(self._records)

    @property
    def reports(self) -> Reports:
        with self._changed:
            return Reports(self._reports)

    def wait(self, what: Callable[[], object], timeout: float = 5.0):
        """Waits until `what()`, asked after each new line, is true, and returns it; what it is in the end when it never is."""
        end = time.monotonic() + timeout
        with self._changed:
            while not (found := what()):
                left = end - time.monotonic()
                if left <= 0:
                    return found
                self._changed.wait(min(left, 0.5))
            return found
