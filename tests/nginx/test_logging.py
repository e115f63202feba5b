# SPDX-License-Identifier: Apache-2.0
import pytest

LOCATION = "location / { proxy_wasm probe; return 200 ok; }"


def lines(proxy, text):
    book = proxy.server.book
    return book.wait(lambda: [line for line in book.lines if text in line]) or []


def records(proxy, mark):
    book = proxy.server.book
    return book.wait(lambda: [one for one in book.records if one.text.startswith(mark)]) or []


def log(proxy, *texts, level=2, path="/"):
    proxy.get(path, probe={"request_headers": [["log", level, text] for text in texts]})


def test_form(nginx):
    proxy = nginx(server=LOCATION)
    log(proxy, "of a request")
    (line,) = lines(proxy, "of a request")
    assert '[wasm] ["probe" #' in line
    assert ' of a request, client: 127.0.0.1, server: , request: "GET / HTTP/1.1", host: "' in line


def test_log_of_a_location(nginx, tmp_path):
    file = tmp_path / "location.log"
    proxy = nginx(
        server=f"location / {{ proxy_wasm probe; error_log {file} warn; return 200 ok; }} "
        "location /more { proxy_wasm probe; error_log stderr debug; return 200 ok; }",
    )
    log(proxy, "less", level=2)
    log(proxy, "important", level=3)
    log(proxy, "debugging", level=1, path="/more")
    assert lines(proxy, "debugging")
    assert not [line for line in proxy.server.book.lines if "important" in line or " less" in line]
    text = file.read_text()
    assert "important" in text and " less" not in text


@pytest.mark.parametrize("letter", ["x", "é", "€", "😀"])
def test_long_record(nginx, letter):
    proxy = nginx(server=LOCATION)
    whole = "long " + letter * 4000
    # The guest makes bytes of characters up to U+00FF.
    log(proxy, whole.encode().decode("latin-1"))
    (record,) = records(proxy, "long ")
    assert record.text == whole
    pieces = [line for line in proxy.server.book.lines if letter * 100 in line]
    assert len(pieces) > 2 and all("[more]" in line for line in pieces[:-1]) and "[more]" not in pieces[-1]
    assert all(", client: 127.0.0.1, server: , request:" in line for line in pieces)


def test_several_lines(nginx):
    proxy = nginx(server=LOCATION)
    log(proxy, "several 1\nseveral 2\n\nseveral 3\n")
    assert lines(proxy, "several 3")
    found = [line for line in proxy.server.book.lines if "] several " in line]
    assert [line.split("] ")[-1].split(",")[0] for line in found] == ["several 1", "several 2", "several 3"]


def test_nothing_can_be_forged(nginx):
    proxy = nginx(server=LOCATION)
    log(proxy, "forged \x1b[2J\r\0 \x7f\ttab")
    (line,) = lines(proxy, "forged ")
    assert r"forged \x1B[2J\x0D\x00 \x7F" + "\ttab, client" in line


def test_debug_log(nginx):
    # NGINX's own debugging looks at timers and events of ours.
    proxy = nginx(
        wasm="""plugin ticking { module probe; configuration
             '{"name": "ticking", "type": "http", "on": {"configure": [["tick", 20]]}}'; }""",
        server="location / { proxy_wasm ticking; return 200 ok; }",
        log_level="debug",
    )
    book = proxy.server.book
    assert book.wait(lambda: len(book.reports.of("tick")) >= 3)
    assert proxy.get().status == 200
