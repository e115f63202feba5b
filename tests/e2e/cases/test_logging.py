# SPDX-License-Identifier: Apache-2.0
import pytest
from kit.cases import AGREES, Differs, case
from kit.setup import bare, probe

AREA = "Logging"

LEVELS = ("trace", "debug", "info", "warn", "error", "critical")


def records(proxy, mark="mark", count=1):
    """Records whose text begins with a mark, once there are so many; those of other cases have other marks."""
    book = proxy.server.book

    def found():
        matching = [one for one in book.records if one.text.startswith(mark)]
        return matching if len(matching) >= count else None

    return book.wait(found) or [one for one in book.records if one.text.startswith(mark)]


def lines_with(proxy, text):
    book = proxy.server.book
    return book.wait(lambda: [line for line in book.lines if text in line])


@case("each level of proxy_log is the level of the record", envoy=AGREES)
def test_levels(serve):
    proxy = serve(probe(), log_level="trace", shared=True)
    proxy.get(probe={"request_headers": [["log", level, f"level {name}"] for level, name in enumerate(LEVELS)]})
    assert [(one.level, one.text) for one in records(proxy, "level ", 6)] == [
        (name, f"level {name}") for name in LEVELS
    ]


@case("records below the lowest level of the log are dropped", envoy=AGREES)
def test_minimum(serve):
    proxy = serve(bare(), log_level="warn")
    calls = "; ".join(f"proxy_log {level} 'level {name}'" for level, name in enumerate(LEVELS))
    assert proxy.get(bare=f"request_headers: {calls}").status == 200
    assert [one.level for one in records(proxy, "level ", 3)] == ["warn", "error", "critical"]


@pytest.mark.parametrize("level", ["trace", "warn"])
@case("proxy_get_log_level is the lowest level of the log", envoy=AGREES)
def test_get_level(serve, level):
    proxy = serve(bare(), log_level=level)
    # A record at that level is just not dropped, which reports may be.
    proxy.get(bare="request_headers: proxy_get_log_level @; proxy_log $0 'at the lowest level'")
    assert [one.level for one in records(proxy, "at the lowest level")] == [level]


@case("records of a stream name its plugin", envoy=AGREES)
def test_plugin(serve):
    proxy = serve(probe("a"), probe("b"), shared=True)
    proxy.get(
        scripts={"a": {"request_headers": [["log", 2, "named a"]]}, "b": {"request_headers": [["log", 2, "named b"]]}}
    )
    assert [(one.plugin, one.text) for one in records(proxy, "named ", 2)] == [("a", "named a"), ("b", "named b")]


@case("a record of several lines is written whole", envoy=AGREES)
def test_newline(proxy):
    proxy.get(probe={"request_headers": [["log", 2, "first of two\nsecond of two"]]})
    assert lines_with(proxy, "first of two")
    assert lines_with(proxy, "second of two")


@case("an empty record is OK", envoy=AGREES)
def test_empty(serve):
    reply = serve(bare(), shared=True).get(bare="request_headers: proxy_log 2 ''; proxy_log 2 0 0")
    assert reply.reports.results("request_headers", "proxy_log") == [0, 0]


@case("a record of 64 KiB is written whole", envoy=AGREES)
def test_large(proxy):
    text = "large " + "x" * 65536
    whole = [["quietly", [["body", "request_body", 0, 100000]]], ["log", 2, "{last}"]]
    reply = proxy.post(text, probe={"request_body": [["unless_end", [["pause"]]], ["if_end", whole]]})
    assert reply.status == 200
    assert [one.text for one in records(proxy, "large ")] == [text]


@case("a record of any bytes is written, and the plugin lives", envoy=AGREES)
def test_bytes(serve):
    proxy = serve(bare(), shared=True)
    reply = proxy.get(bare="request_headers: proxy_log 2 'bytes %00%01%7f%80%c3%28%ff end'")
    assert reply.status == 200
    assert reply.reports.result("request_headers", "proxy_log") == 0
    assert lines_with(proxy, "bytes ")


@pytest.mark.parametrize("level", [6, 100, -1])
@case("a level that there is not: BAD_ARGUMENT, and nothing is written", envoy=AGREES)
def test_no_level(serve, level):
    proxy = serve(bare(), shared=True)
    reply = proxy.get(bare=f"request_headers: proxy_log {level} 'no level {level}'")
    assert reply.reports.result("request_headers", "proxy_log") == 2
    assert not [line for line in proxy.server.book.lines if f"no level {level}" in line]


@case("what a plugin prints is logged: standard output at level info, standard error at level error", envoy=AGREES)
def test_print(proxy):
    proxy.get(probe={"request_headers": [["print", "printed to output"], ["print_error", "printed to error"]]})
    found = [(one.level, one.text) for one in records(proxy, "printed to ", 2)]
    assert found == [("info", "printed to output"), ("error", "printed to error")]


BY_WRITE = "It makes a record of each write."
RUNTIMES = "A record is a line; runtimes write lines, such as those of a panic, in many pieces or several at once."


@case(
    "a line that is printed in several writes is one record",
    envoy=Differs(does=BY_WRITE, because=RUNTIMES, fails_with=r"\['pieces: one, '\] == \['pieces: one, two, three'\]"),
)
def test_pieces(serve):
    proxy = serve(bare(), shared=True)
    proxy.get(
        bare="request_headers: fd_write 1 ['pieces: one, '] 1 @; fd_write 1 ['two, '] 1 @; fd_write 1 ['three%0a'] 1 @"
    )
    assert [one.text for one in records(proxy, "pieces: ")] == ["pieces: one, two, three"]


@case(
    "several lines in one write are a record each",
    envoy=Differs(does=BY_WRITE, because=RUNTIMES, fails_with=r"\['line 1\\nline 2'\] == \['line 1', 'line 2'\]"),
)
def test_lines(serve):
    proxy = serve(bare(), shared=True)
    assert proxy.get(bare="request_headers: fd_write 1 ['line 1%0aline 2%0a'] 1 @").reports
    assert [one.text for one in records(proxy, "line ")] == ["line 1", "line 2"]


@case("a plugin logs in every callback of the start of its VM", envoy=AGREES)
def test_start(serve):
    callbacks = ("vm_start", "configure")
    text = "; ".join(f"{name}: proxy_log 3 'start {name}'" for name in callbacks)
    proxy = serve(bare(text, vm_configuration=text))
    proxy.get(bare="")
    assert {"start vm_start", "start configure"} <= {one.text for one in records(proxy, "start ", 2)}


@case("a plugin logs in every callback of the end of a stream", envoy=AGREES)
def test_end(proxy):
    names = ("log", "done", "delete")
    proxy.get(probe={name: [["log", 3, f"end {name}"]] for name in names})
    assert [one.text for one in records(proxy, "end ", 3)] == [f"end {name}" for name in names]
