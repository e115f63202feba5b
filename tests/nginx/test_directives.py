# SPDX-License-Identifier: Apache-2.0
"""The directives of ngx_wasm_module: all of them, in all their contexts; what they do; what is refused, and how."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest
from hosts.nginx import HTTP_MODULE, MODULES
from http_site import logged
from kit.setup import GUESTS

PROBE = f"{GUESTS}/probe.wasm"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

FLAGS = {
    **dict.fromkeys(("debug_info", "consume_fuel", "epoch_interruption", "parallel_compilation"), "on"),
    **dict.fromkeys(("cranelift_debug_verifier", "cranelift_nan_canonicalization"), "on"),
    **dict.fromkeys(("threads", "reference_types", "relaxed_simd", "simd", "bulk_memory", "multi_value"), None),
    **dict.fromkeys(("multi_memory", "memory64"), None),
    "max_wasm_stack": "1m",
    "strategy": "cranelift",
    "cranelift_opt_level": "none",
    "profiler": "perfmap",
    "static_memory_maximum_size": "1m",
    "static_memory_guard_size": "64k",
    "dynamic_memory_guard_size": "64k",
}
FLAGS = {name if value else f"wasm_{name}": value or "off" for name, value in FLAGS.items()}

WASM = f"""
    module other {PROBE} '{{"on": {{}}}}';
    compiler cranelift;
    backtraces on;
    wasmtime {{
        {" ".join(f"flag {name} {value};" for name, value in FLAGS.items())}
        flag consume_fuel off;
        cache_config /nowhere/cache.toml;
    }}
    wasmer {{ flag cranelift_opt_level speed; }}
    v8 {{ flag jitless on; flag 'what ever' "it is"; }}
    shm_kv * 12k;
    shm_kv sessions 64k eviction=none;
    shm_kv more 64k eviction=lru;
    shm_kv most 15k eviction=slru;
    shm_queue jobs 64k;
    metrics {{ slab_size 1m; max_metric_name_length 128; }}
    resolver 127.0.0.1:9 valid=5s ipv6=off;
    resolver_timeout 5s;
    resolver_add 127.0.0.1 first.test;
    socket_connect_timeout 5s;
    socket_send_timeout 5s;
    socket_read_timeout 5s;
    socket_buffer_size 1024;
    socket_large_buffers 4 8192;
    socket_buffer_reuse on;
    tls_trusted_certificate {CERTIFICATES};
    tls_verify_cert on;
    tls_verify_host off;
    tls_no_verify_warn on;
    proxy_wasm_lua_resolver off;
    proxy_wasm_log_dispatch_errors off;
"""

PLACE = """
    proxy_wasm probe;
    proxy_wasm_request_headers_in_access off;
    proxy_wasm_log_dispatch_errors on;
    proxy_wasm_lua_resolver off;
    resolver_add 127.0.0.1 second.test;
    wasm_socket_connect_timeout 5s;
    wasm_socket_send_timeout 5s;
    wasm_socket_read_timeout 5s;
    wasm_socket_buffer_size 1k;
    wasm_socket_large_buffers 4 8k;
    wasm_socket_buffer_reuse off;
    wasm_response_body_buffers 4 4096;
    wasm_postpone_rewrite off;
    wasm_postpone_access off;
"""


def lines(proxy, text):
    return [line for line in proxy.server.book.lines if text in line]


# ---- All of them ----


@pytest.mark.parametrize("compat", ["", "compat ngx_wasm_module;"])
def test_all_directives(nginx, upstream, compat):
    proxy = nginx(
        wasm=WASM + compat,
        http=PLACE,
        server=f"""{PLACE} set $from "";
            location / {{ {PLACE} proxy_wasm other '{{"name": "second"}}'; return 200 ok; }}
            location /inner {{ location /inner/most {{ {PLACE} proxy_pass http://127.0.0.1:{upstream.port}; }} }}""",
        log_level="notice",
    )
    reply = proxy.get("/", probe={"response_headers": [["add", "response_headers", "x-seen", "yes"]]})
    assert (reply.status, reply.get_all("x-seen")) == (200, ["yes", "yes"])
    steps = [["call", {"upstream": f"second.test:{upstream.port}", "headers": CALL, "then": [["resume", "request"]]}]]
    reply = proxy.get("/inner/most", probe={"request_headers": [*steps, ["pause"]]})
    assert (reply.status, reply.body) == (200, b"ok\n")

    assert logged(proxy, '"v8" is skipped: ')
    for name in FLAGS:
        told = bool(lines(proxy, f'the flag "{name}" has no effect: '))
        assert told == (name not in ("epoch_interruption", "cranelift_opt_level", "strategy")), name
    assert lines(proxy, '"cache_config" has no effect: ')
    assert lines(proxy, '"wasmer" is skipped: ')


CALL = [[":method", "GET"], [":path", "/"], [":authority", "a"]]


HERE = {
    **dict.fromkeys(("debug_info", "consume_fuel", "parallel_compilation"), "off"),
    **dict.fromkeys(("cranelift_debug_verifier", "cranelift_nan_canonicalization"), "OFF"),
    "strategy": "auto",
    "cranelift_opt_level": "speed",
    "profiler": "none",
    "epoch_interruption": "on",
}


@pytest.mark.parametrize("name", HERE)
def test_what_holds_anyway_is_no_news(nginx, name):
    out = nginx.check(wasm=f"wasmtime {{ flag {name} {HERE[name]}; }} stop_here;", log_level="notice")
    assert "no effect" not in out and 'unknown directive "stop_here"' in out


def test_without_interruption(nginx):
    """The one flag that makes a difference: guests are not interrupted."""
    loop = """plugin loop { module probe; deadline 50ms; configuration '{"on": {"request_headers": [["loop"]]}}'; }"""
    server = "location / { proxy_wasm loop; return 200 ok; }"
    proxy = nginx(wasm=loop, server=server)
    assert proxy.get(probe=None, scripts={}).status == 503
    proxy = nginx(wasm=loop + "wasmtime { flag epoch_interruption off; }", server=server)
    assert logged(proxy, 'the flag "epoch_interruption" is off: ')
    with proxy.connect() as connection:
        connection.send_head(scripts={})
        assert connection.quiet_for(1)


# ---- Refusals ----

HTTP = "location / { %s }"
ERRORS = {
    "backtraces maybe;": 'invalid value "maybe" in "backtraces" directive, it must be "on" or "off"',
    "compiler llvm;": 'unknown compiler "llvm": it must be "auto" or "cranelift"',
    "compiler auto; compiler auto;": '"compiler" directive is duplicate',
    "wasmtime { flag wasm_gc on; }": 'unknown flag "wasm_gc"',
    "wasmtime { flag consume_fuel maybe; }": 'invalid value "maybe" of the flag "consume_fuel": it must be "on" or "off"',
    "wasmtime { flag max_wasm_stack big; }": 'invalid value "big" of the flag "max_wasm_stack": it must be a size',
    "wasmtime { flag profiler gdb; }": 'it must be "none", "jitdump", "vtune" or "perfmap"',
    "wasmtime { flag strategy; }": 'invalid number of arguments in "flag" directive',
    "wasmtime { module a b; }": '"module" directive is not allowed here',
    "flag consume_fuel on;": '"flag" directive is not allowed here',
    "wasmer { flag a on;": '"http" directive is not allowed here',
    "compat nginx_lua;": 'invalid value "nginx_lua"',
    f"module a {PROBE}; module a {PROBE};": 'module "a" is defined already',
    "module '' a.wasm;": '"module" directive has an empty name',
    "module a;": 'invalid number of arguments in "module" directive',
    "module a /nowhere/a.wasm;": 'module "a": "/nowhere/a.wasm" cannot be read',
    "module a {directory}/text.wasm;": 'module "a": ',
    "module a {directory}/cut.wasm;": 'module "a": ',
    "module a {directory}/plain.wasm;": 'module "a": ',
    "module a {directory};": 'module "a": ',
    "shm_kv a 8k;": "zone size 8192 is too small: it must be at least 12288",
    "shm_kv a 64k eviction=fifo;": 'invalid parameter "eviction=fifo"',
    "shm_kv a 64k; shm_kv a 64k;": 'zone "a" is defined already',
    "shm_queue a 64k eviction=none;": 'invalid number of arguments in "shm_queue" directive',
    "metrics { slab_size 1k; }": "zone size 1024 is too small",
    "metrics { max_metric_name_length 5; }": '"max_metric_name_length" must be at least 6',
    "metrics { } metrics { }": '"metrics" directive is duplicate',
    "resolver 127.0.0.1; resolver 127.0.0.1;": '"resolver" directive is duplicate',
    "resolver_add localhost 127.0.0.1;": '"localhost" is not an address in "resolver_add"',
    "socket_read_timeout soon;": '"socket_read_timeout" directive invalid value',
    "socket_large_buffers 0 8k;": '"socket_large_buffers" directive invalid value',
    "socket_buffer_size 0;": '"socket_buffer_size" directive must not be 0',
    "proxy_wasm_lua_resolver on;": '"proxy_wasm_lua_resolver" directive requires Lua: use "resolver"',
    "proxy_wasm_lua_resolver maybe;": '"proxy_wasm_lua_resolver" directive must be "off"',
    "proxy_wasm probe;": '"proxy_wasm" directive is not allowed here',
    HTTP % "wasm_call rewrite probe f;": '"wasm_call" directive is not supported, since modules are Proxy-Wasm plugins',
    HTTP % "wasm_call;": 'give them to "proxy_wasm"',
    HTTP % "proxy_wasm;": 'invalid number of arguments in "proxy_wasm" directive',
    HTTP % "proxy_wasm nothing;": 'no "nothing" module defined',
    HTTP % "proxy_wasm_request_headers_in_access 1;": 'it must be "on" or "off"',
    HTTP % "wasm_postpone_rewrite 1;": 'it must be "on" or "off"',
    HTTP % "wasm_response_body_buffers 4;": 'invalid number of arguments in "wasm_response_body_buffers" directive',
    HTTP % "wasm_response_body_buffers 4 0;": '"wasm_response_body_buffers" directive invalid value',
    HTTP % "wasm_socket_buffer_size 0;": '"wasm_socket_buffer_size" directive must not be 0',
    HTTP % "proxy_wasm_lua_resolver on;": '"proxy_wasm_lua_resolver" directive requires Lua',
    HTTP % "shm_kv a 64k;": '"shm_kv" directive is not allowed here',
    HTTP % "proxy_wasm refuses;": 'plugin "refuses": ',
    HTTP % "proxy_wasm traps;": 'plugin "traps": ',
    HTTP % """proxy_wasm probe '{"type": 1';""": 'plugin "probe": ',
}
PLUGINS = """
    plugin refuses { module probe; configuration '{"on": {"configure": [["log", 3, "not so"], ["answer", false]]}}'; }
    plugin traps { module probe; configuration '{"on": {"configure": [["trap"]]}}'; }
"""


@pytest.mark.parametrize("text", ERRORS)
def test_refusals(nginx, tmp_path, text):
    """Each says what is wrong, and in which line."""
    (tmp_path / "text.wasm").write_text("(module)")
    (tmp_path / "cut.wasm").write_bytes((GUESTS / "probe.wasm").read_bytes()[:1000])
    (tmp_path / "plain.wasm").write_bytes(b"\0asm\1\0\0\0")
    filled = text.replace("{directory}", str(tmp_path))
    place = "server" if text.startswith("location") else "wasm"
    out = nginx.check(**{place: filled, "wasm" if place == "server" else "http": PLUGINS if place == "server" else ""})
    assert ERRORS[text] in out
    file = next(tmp_path.glob("nginx-*.conf"))
    found = re.search(rf"{re.escape(str(file))}:(\d+)", out)
    at = [n for n, line in enumerate(file.read_text().splitlines(), 1) if filled in line]
    if "http" not in ERRORS[text]:
        assert found and [int(found[1])] == at, out


def test_reasons_of_modules_and_plugins(nginx, tmp_path):
    (tmp_path / "text.wasm").write_text("(module)")
    (tmp_path / "plain.wasm").write_bytes(b"\0asm\1\0\0\0")
    out = nginx.check(wasm=f"module a {tmp_path}/text.wasm;")
    assert "binary" in out or "magic" in out
    out = nginx.check(wasm=f"module a {tmp_path}/plain.wasm;")
    assert "proxy_abi_version" in out
    out = nginx.check(wasm=PLUGINS, server=HTTP % "proxy_wasm refuses;")
    assert "proxy_on_configure" in out and "not so" in out
    out = nginx.check(wasm=PLUGINS, server=HTTP % "proxy_wasm traps;")
    assert "unreachable" in out


def test_certificates_that_are_not_there(nginx):
    out = nginx.check(wasm="tls_trusted_certificate /nowhere/ca.pem;", server=HTTP % "proxy_wasm probe;")
    assert "/nowhere/ca.pem" in out


def test_no_wasm_block(nginx, tmp_path):
    nginx.check(server=HTTP % "proxy_wasm probe; no_directive;")
    file = next(tmp_path.glob("nginx-*.conf"))
    text = re.sub(r"wasm \{.*?\n\}\n", "", file.read_text(), flags=re.DOTALL).replace("no_directive;", "")
    out = nginx.check_text(text)
    assert '"proxy_wasm" is specified but config has no "wasm" section' in out


# ---- Backtraces ----


@pytest.mark.parametrize(("directive", "shown"), [("", True), ("backtraces on;", True), ("backtraces off;", False)])
def test_backtraces(nginx, directive, shown):
    proxy = nginx(wasm=directive, server="location / { proxy_wasm probe; return 200 ok; }")
    # When the second one is in the log, all of the first one is.
    for _ in range(2):
        assert proxy.get(probe={"request_headers": [["trap"]]}).status == 503
        assert proxy.get().status == 200
    assert logged(proxy, "failed in proxy_on_request_headers", 2)
    assert bool(lines(proxy, "wasm backtrace:")) == shown
    assert bool(lines(proxy, "!proxy_on_request_headers")) == shown
    # And while plugins are tried.
    out = nginx.check(wasm=directive + PLUGINS, server=HTTP % "proxy_wasm traps;")
    assert "failed in proxy_on_configure" in out and ("wasm backtrace:" in out) == shown


# ---- Phases ----


def seen(proxy, reply):
    """Whether the plugin saw a request; what it has seen before the next one is in the log."""
    proxy.get("/mark")
    return bool(proxy.reported(reply.case))


def wait_for_mark(proxy):
    reply = proxy.get("/mark")
    assert reply.reports


PHASES = """
    location /mark { proxy_wasm probe; return 200 ok; }
    location /early { proxy_wasm probe; set $from configuration; proxy_pass http://127.0.0.1:%(port)d; }
    location /late { proxy_wasm probe; wasm_postpone_rewrite on; set $from configuration; proxy_pass http://127.0.0.1:%(port)d; }
    location /return-early { proxy_wasm probe; return 200 ok; }
    location /return-late { proxy_wasm probe; wasm_postpone_rewrite on; return 200 ok; }
    location /moved { proxy_wasm probe '{"name": "before"}'; wasm_postpone_rewrite on; rewrite ^ /late last; }
    location /stays { proxy_wasm probe; wasm_postpone_rewrite on; rewrite ^ /other break; proxy_pass http://127.0.0.1:%(port)d; }
"""


@pytest.fixture
def phases(nginx, upstream):
    proxy = nginx(server='set $from "";' + PHASES % {"port": upstream.port})
    wait_for_mark(proxy)
    return proxy


def test_rewrite(phases):
    read = {"request_headers": [["property", ["ngx", "from"]]]}
    # In turns: it is decided for each request, not for the worker.
    for path, value in [("/late", "configuration"), ("/early", None), ("/late", "configuration"), ("/early", None)]:
        reply = phases.get(path, probe=read)
        assert (reply.status, reply.reports.result("request_headers")) == (200, value)
        assert len(reply.reports.of("request_headers").entries) == 1


def test_return(phases):
    assert seen(phases, phases.get("/return-early"))
    # `return` answers before the plugin has its turn.
    reply = phases.get("/return-late")
    assert (reply.status, seen(phases, reply)) == (200, False)


def test_rewritten(phases):
    reply = phases.get("/moved")
    assert (reply.status, reply.seen.path) == (200, "/late")
    assert [one.plugin for one in reply.reports.of("request_headers").entries] == ["probe"]
    reply = phases.get("/stays", probe={"request_headers": [["get", "request_headers", ":path"]]})
    assert (reply.status, reply.seen.path) == (200, "/other")
    assert len(reply.reports.of("request_headers").entries) == 1


@pytest.mark.parametrize("path", ["/early", "/late"])
def test_pause_and_body(phases, path):
    call = {"upstream": f"127.0.0.1:{phases.upstream.port}", "headers": CALL, "then": [["resume", "request"]]}
    script = {
        "request_headers": [["call", call], ["pause"]],
        "request_body": [["set_body", "request_body", 0, -1, "new"]],
    }
    reply = phases.post("old", path, probe=script)
    assert (reply.status, reply.seen.body) == (200, b"new")


@pytest.mark.parametrize("path", ["/early", "/late"])
def test_other_location(phases, path):
    script = {
        "request_headers": [["set", "request_headers", ":path", "/return-early"], ["foreign", "clear_route_cache", ""]]
    }
    reply = phases.get(path, probe=script)
    assert (reply.status, reply.body) == (200, b"ok")


ACCESS = """
    auth_basic_user_file %(directory)s/users;
    proxy_wasm_request_headers_in_access on;
    location /mark { proxy_wasm probe; return 200 ok; }
    location /refused-early { proxy_wasm probe; deny all; try_files /none @ok; }
    location /refused-late { proxy_wasm probe; deny all; wasm_postpone_access on; try_files /none @ok; }
    location /early { proxy_wasm probe; allow all; try_files /none @ok; }
    location /late { proxy_wasm probe; allow all; wasm_postpone_access on; try_files /none @ok; }
    location /any-early { proxy_wasm probe; satisfy any; allow all; auth_basic a; try_files /none @ok; }
    location /any-late { proxy_wasm probe; satisfy any; allow all; auth_basic a; wasm_postpone_access on; try_files /none @ok; }
    location /none-late { proxy_wasm probe; satisfy any; deny all; auth_basic a; wasm_postpone_access on; try_files /none @ok; }
    location @ok { return 200 ok; }
"""


@pytest.mark.parametrize(
    ("path", "status", "sees"),
    [
        ("/refused-early", 403, True),
        ("/refused-late", 403, False),
        ("/early", 200, True),
        ("/late", 200, True),
        ("/any-early", 200, True),
        # Whoever is satisfied first does not let a request past the plugins.
        ("/any-late", 200, True),
        ("/none-late", 401, False),
    ],
)
def test_access(nginx, tmp_path, path, status, sees):
    (tmp_path / "users").write_text("")
    proxy = nginx(server=ACCESS.replace("location /mark", "location = /mark") % {"directory": tmp_path})
    reply = proxy.get(path)
    time.sleep(0.3)
    assert reply.status == status
    entries = proxy.reported(reply.case).of("request_headers").entries
    assert len(entries) == int(sees)
    if sees:
        # And one that answers.
        reply = proxy.get(path, probe={"request_headers": [["local", 418, [], "no"]]})
        assert (reply.status, reply.body) == (418, b"no")


# ---- Modules that are loaded later, and so come first ----


@pytest.fixture(scope="module")
def late_module(tmp_path_factory):
    file = tmp_path_factory.mktemp("late") / "ngx_http_late_module.so"
    if not MODULES:
        pytest.skip("a module that is built in does not come before one that is loaded")
    tree = HTTP_MODULE.parent / "tree"
    places = (
        "src/core",
        "src/event",
        "src/event/modules",
        "src/os/unix",
        "src/http",
        "src/http/modules",
        "src/http/v2",
        "objs",
    )
    include = [f"-I{tree / place}" for place in places]
    source = Path(__file__).with_name("late_module.c")
    subprocess.run(["gcc", "-fPIC", "-shared", "-O1", *include, source, "-o", file], check=True)
    return file


def test_later_modules(nginx, late_module):
    proxy = nginx(
        main=f"load_module {late_module};",
        server="""
            location /early { proxy_wasm probe; return 200 ok; }
            location /late { proxy_wasm probe; wasm_postpone_rewrite on; try_files /none @ok; }
            location /access { proxy_wasm probe; proxy_wasm_request_headers_in_access on; satisfy any; deny all;
                               try_files /none @ok; }
            location /later { proxy_wasm probe; proxy_wasm_request_headers_in_access on; satisfy any; deny all;
                              wasm_postpone_access on; try_files /none @ok; }
            location @ok { return 200 ok; }""",
    )
    for path in ("/early", "/late", "/access?P", "/later?P"):
        reply = proxy.get(path, probe={"request_headers": [["get", "request_headers", "x-late"]]})
        assert (reply.status, reply.reports.result("request_headers")) == (200, "yes"), path
        assert len(reply.reports.of("request_headers").entries) == 1
    assert [proxy.get(path).status for path in ("/access", "/later")] == [403, 403]


# ---- Response buffers ----

COLLECT = [["unless_end", [["pause"]]]]


def buffers(nginx, upstream, directive, places="", **more):
    passing = f"proxy_pass http://127.0.0.1:{upstream.port}; proxy_buffering off; proxy_http_version 1.1;"
    holding = {"on": {"response_headers": [["pause"]], "response_body": COLLECT}, "silent": ["response_body"]}
    collecting = {"on": {"response_body": COLLECT}, "silent": ["response_body"]}
    return nginx(
        wasm=f"""plugin holding {{ module probe; allow_on_headers_stop_iteration on; configuration '{json.dumps(holding)}'; }}
                 plugin collecting {{ module probe; configuration '{json.dumps(collecting)}'; }}""",
        server=f"""location /holding {{ {directive} proxy_wasm holding; {passing} }}
                   location /collecting {{ {directive} proxy_wasm collecting; {passing} }}
                   location /free {{ proxy_wasm holding; {passing} }}""",
        **more,
    )


def pieces(count, size):
    return {"chunks": ["x" * size] * count, "chunk_delay_ms": 10, "chunked": True}


def test_buffers(nginx, upstream):
    proxy = buffers(nginx, upstream, "wasm_response_body_buffers 2 1k;")
    for path in ("/holding", "/collecting", "/free"):
        reply = proxy.get(path, scripts={}, upstream=pieces(4, 500))
        assert (reply.status, reply.body) == (200, b"x" * 2000), path
    assert proxy.get("/free", scripts={}, upstream=pieces(6, 500)).body == b"x" * 3000

    reply = proxy.get("/holding", scripts={}, upstream=pieces(6, 500))
    assert reply.status == 500 and b"x" not in reply.body
    said = 'hold back more of the response than "wasm_response_body_buffers" lets them'
    assert logged(proxy, said) and len(lines(proxy, said)) == 1

    # Where the headers are on their way, the end is a broken one.
    with proxy.connect() as connection:
        connection.send_head(path="/collecting", scripts={}, upstream=pieces(6, 500))
        got = connection.read_until_cut()
    # The headers may wait for a first piece of body in NGINX.
    assert got.startswith(b"HTTP/1.1 200 ") or not got
    assert b"xxx" not in got and not got.endswith(b"0\r\n\r\n")
    assert proxy.get("/collecting", scripts={}, upstream=pieces(1, 500)).status == 200


def test_what_is_not_held_is_not_limited(nginx, upstream):
    proxy = nginx(
        server=f"""wasm_response_body_buffers 1 16;
            location / {{ proxy_wasm probe; proxy_pass http://127.0.0.1:{upstream.port}; proxy_buffering off; }}"""
    )
    reply = proxy.get(upstream={"size": 300000}, silent=["response_body"])
    assert len(reply.body) == 300000


def test_large_buffers(nginx, upstream):
    """More than a plugin may hold without it."""
    size = 3 << 19
    assert buffers(nginx, upstream, "").get("/holding", scripts={}, upstream={"size": size}).status == 500
    proxy = buffers(nginx, upstream, "", http="wasm_response_body_buffers 32 64k;")
    reply = proxy.get("/holding", scripts={}, upstream={"size": size})
    assert (reply.status, len(reply.body)) == (200, size)
    assert proxy.get("/holding", scripts={}, upstream={"size": 3 << 20}).status == 500
