# SPDX-License-Identifier: Apache-2.0
import re
import ssl
import subprocess

import httpx
import pytest
from kit.client import new_case_id

PROBE = "proxy_wasm probe;"
BARE = "proxy_wasm bare;"


def read(proxy, *paths, callback="log", path="/", **options):
    steps = [["property", one if isinstance(one, list) else one.split(".")] for one in paths]
    return proxy.get(path, probe={callback: steps}, **options).reports.results(callback, "property")


def test_variables(nginx):
    proxy = nginx(server=f'location / {{ set $mine ""; {PROBE} return 200 ok; }}')
    found = read(
        proxy, "ngx.request_uri", ["ngx.request_uri"], "ngx.ARG_x", "ngx.no_such", "ngx.mine.more", path="/a?x=1"
    )
    assert found == ["/a?x=1", "/a?x=1", "1", None, None]


def test_set_variable(nginx):
    # In the location itself `set` would come after the plugin.
    proxy = nginx(
        server=f'set $mine "of nginx"; location / {{ {PROBE} add_header X-Mine $mine; return 200 ok; }}',
    )
    for path in (["ngx", "mine"], ["ngx.mine"]):
        steps = [["set_property", path, "of the plugin"], ["property", path]]
        reply = proxy.get(probe={"request_headers": steps, "log": [["property", path]]})
        assert reply.get("x-mine") == "of the plugin"
        assert reply.reports.results(op="property") == ["of the plugin"] * 2
    # Variables are the request's.
    assert proxy.get().get("x-mine") == "of nginx"


def test_set_variable_with_a_handler(nginx):
    proxy = nginx(server=f"location / {{ {PROBE} return 200 $args; }}")
    reply = proxy.get("/?a=1", probe={"request_headers": [["set_property", ["ngx", "args"], "b=2"]]})
    assert reply.body == b"b=2"


@pytest.mark.parametrize(("name", "why"), [("request_uri", "cannot be changed"), ("no_such", "declare it")])
def test_read_only_variable(nginx, name, why):
    proxy = nginx(server=f"location / {{ {BARE} return 200 ok; }}")
    reply = proxy.get(
        bare=f"request_headers: proxy_set_property 'ngx%00{name}' 'x'; proxy_get_property 'ngx%00{name}' @ @"
    )
    assert reply.reports.results("request_headers", "proxy_set_property") == [2]
    book = proxy.server.book
    assert book.wait(lambda: any(f'variable "{name}" cannot be set' in line and why in line for line in book.lines))


def test_details_without_an_upstream(nginx):
    proxy = nginx(server=f"location / {{ {PROBE} return 204; }} location /none {{ {PROBE} }}")
    names = ("response.code_details", "response.flags", "upstream.address", "response.backend_latency")
    assert read(proxy, *names) == ["direct_response", "\0" * 8, None, None]
    assert read(proxy, *names, path="/none") == ["direct_response", "\0" * 8, None, None]


def test_attempts(nginx, upstream):
    servers = f"server 127.0.0.1:1; server 127.0.0.1:{upstream.port} backup;"
    proxy = nginx(http=f"upstream main {{ {servers} }}", server=f"location / {{ {PROBE} proxy_pass http://main; }}")
    (count, details, flags, address) = read(
        proxy, "upstream.request_attempt_count", "response.code_details", "response.flags", "upstream.address"
    )
    assert (count[0], details, flags) == ("\2", "via_upstream", "\0" * 8)
    assert address == f"127.0.0.1:{upstream.port}"


def test_no_live_upstream(nginx):
    proxy = nginx(
        http="upstream main { server 127.0.0.1:1 down; }",
        server=f"location / {{ {PROBE} proxy_pass http://main; }}",
    )
    found = read(proxy, "response.code_details", "response.flags", "upstream.address")
    assert found == ["no_healthy_upstream", "\2" + "\0" * 7, None]


def test_size_of_a_chunked_response(nginx, upstream):
    proxy = nginx(
        server=f"location / {{ {PROBE} proxy_pass http://127.0.0.1:{upstream.port}; proxy_http_version 1.1; }}"
    )
    (size,) = read(proxy, "response.size", upstream={"size": 10000, "chunked": True})
    assert int.from_bytes(size.encode("latin-1"), "little") == 10000


def test_clear_route_cache(nginx):
    proxy = nginx(
        server=f"""
        set $times "";
        location / {{ {BARE} return 200 first; }}
        location /other {{ {BARE} return 200 other; }}
        location /same {{ {BARE} set $times "${{times}}x"; add_header X-Times $times always; }}
        location /late {{ {BARE} proxy_wasm_request_headers_in_access on; }}
        """
    )
    change = "request_headers: proxy_replace_header_map_value 0 ':path' '/other?x'"
    clear = "proxy_call_foreign_function 'clear_route_cache' '' @ @"
    assert proxy.get(bare=change).body == b"first"
    reply = proxy.get(bare=f"{change}; {clear}")
    assert reply.body == b"other"
    assert reply.reports.ends == [1, 1, 1]
    # Without a new path nothing happens twice; in the access phase it is too late.
    assert proxy.get("/same", bare=f"request_headers: {clear}").get("x-times") == "x"
    assert proxy.get("/late", bare=f"{change}; {clear}").body != b"other"


# ---- As in ngx_wasm_module ----


def test_compat(nginx, upstream):
    proxy = nginx(
        wasm="compat ngx_wasm_module;",
        server=f"location / {{ {PROBE} proxy_pass http://127.0.0.1:{upstream.port}; }}",
    )
    names = (
        "response.code",
        "connection.mtls",
        "source.address",
        "upstream.address",
        "upstream.port",
        "request.method",
    )
    assert read(proxy, *names) == ["200", "false", "127.0.0.1", "127.0.0.1", str(upstream.port), "GET"]
    when, took = read(proxy, "request.time", "request.duration")
    assert re.fullmatch(r"\d{10}\.\d{3}", when) and re.fullmatch(r"\d\.\d{3}", took)
    assert read(proxy, ["request.method"], ["request.headers.x-a"], headers=[("x-a", "1")]) == ["GET", "1"]


def test_compat_query(nginx):
    proxy = nginx(wasm="compat ngx_wasm_module;", server=f"location / {{ {PROBE} return 200 $args; }}")
    assert proxy.get("/?a=1", probe={"request_headers": [["set_property", ["request", "query"], "b"]]}).body == b"b"


def test_compat_with_another(nginx):
    assert 'invalid value "envoy"' in nginx.check(wasm="compat envoy;")


# ---- TLS ----


def certificate(directory, name):
    key, file = directory / f"{name}.key", directory / f"{name}.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-keyout", key, "-out", file, "-days", "1", "-subj", f"/CN={name}/O=Test"]
    subprocess.run(words, check=True, capture_output=True)
    return file, key


@pytest.mark.parametrize("verified", [True, False])
def test_tls(nginx, tmp_path, verified):
    server_file, server_key = certificate(tmp_path, "server.test")
    client_file, client_key = certificate(tmp_path, "client.test")
    trusted = client_file if verified else server_file
    proxy = nginx(
        server=f"""
        ssl_certificate {server_file}; ssl_certificate_key {server_key};
        ssl_client_certificate {trusted}; ssl_verify_client optional_no_ca;
        location / {{ {PROBE} return 200 ok; }}
        """,
        listen="ssl",
    )
    context = ssl.create_default_context(cafile=server_file)
    context.check_hostname = False
    context.load_cert_chain(client_file, client_key)
    proxy.http = httpx.Client(verify=context, base_url=f"https://127.0.0.1:{proxy.port}", trust_env=False)
    names = ("mtls", "tls_version", "subject_peer_certificate", "requested_server_name")
    paths = [["property", ["connection", name]] for name in (*names, "peer_certificate", "subject_local_certificate")]
    case = new_case_id()
    headers = proxy.headers(case, {"log": [["property", ["request", "scheme"]], *paths]})
    assert proxy.http.get("/", headers=headers, extensions={"sni_hostname": "server.test"}).status_code == 200
    scheme, mtls, version, subject, name, pem, none = proxy.reports(case).results("log", "property")
    assert (scheme, mtls, name, none) == ("https", "\1" if verified else "\0", "server.test", None)
    assert version in ("TLSv1.2", "TLSv1.3")
    assert subject == "O=Test,CN=client.test"
    assert pem.startswith("-----BEGIN%20CERTIFICATE-----%0A")
