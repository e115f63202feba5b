# SPDX-License-Identifier: Apache-2.0
import pytest
from hosts import StartFailed
from kit.cases import AGREES, Differs, case
from kit.setup import Plugin, bare, probe
from kit.wasm import BLOCK, LEAST, MARKER, Function, module

AREA = "Lifecycle"

CONTEXTS = [["contexts"]]


def start_of_vm(proxy, vm):
    """Callbacks of one VM before its first stream."""
    book = proxy.server.book
    book.wait(lambda: book.reports.of("configure", vm=vm))
    return book.reports.of(vm=vm).entries


def creation_of(report, proxy):
    """The context_create of the context that reported."""
    (created,) = proxy.server.book.reports.of("context_create", vm=report.vm, context=report.context).entries
    return created


# ---- Start of a VM ----


@case("a VM starts with context_create(root, 0), then vm_start, then configure, each once", envoy=AGREES)
def test_start(serve):
    proxy = serve(probe())
    vm = proxy.get().reports[0].vm
    first, second, third = start_of_vm(proxy, vm)[:3]
    root = first.context
    assert root > 0
    assert (first.callback, first.arguments) == ("context_create", [0])
    assert (second.callback, second.context, second.arguments) == ("vm_start", root, [0])
    assert (third.callback, third.context) == ("configure", root)
    of_root = proxy.server.book.reports.of(vm=vm, context=root).callbacks
    assert of_root == ["context_create", "vm_start", "configure"]


@case("each VM that a host makes for a plugin starts in the same order", envoy=AGREES)
def test_start_of_all(serve):
    proxy = serve(probe(), workers=2)
    proxy.get()
    book = proxy.server.book
    for vm in {one.vm for one in book.reports}:
        assert [one.callback for one in start_of_vm(proxy, vm)[:3]] == ["context_create", "vm_start", "configure"]


@case("vm_start answering false: the plugin does not start", envoy=AGREES)
def test_vm_start_false(serve):
    with pytest.raises(StartFailed):
        serve(probe(vm_configuration='{"on": {"vm_start": [["answer", false]]}}'))


@case("configure answering false: the plugin does not start", envoy=AGREES)
def test_configure_false(serve):
    with pytest.raises(StartFailed):
        serve(probe(on={"configure": [["answer", False]]}))


@pytest.mark.parametrize("callback", ["vm_start", "configure"])
@case("a trap in vm_start or configure: the plugin does not start", envoy=AGREES)
def test_trap_at_start(serve, tmp_path, callback):
    with pytest.raises(StartFailed):
        serve_module(serve, tmp_path, LEAST | {f"proxy_on_{callback}": Function(2, 1, trap=True)})


@case(
    "a trap in context_create of the root context: the plugin does not start",
    envoy=Differs(
        does="The server starts, and each of its VMs has failed.",
        because="A plugin that cannot work is to be noticed when it is configured and not by its first clients.",
        fails_with="DID NOT RAISE StartFailed",
    ),
)
def test_trap_at_first_context(serve, tmp_path):
    with pytest.raises(StartFailed):
        serve_module(serve, tmp_path, LEAST | {"proxy_on_context_create": Function(2, trap=True)})


def serve_module(serve, tmp_path, exports, imports=()):
    file = tmp_path / "module.wasm"
    file.write_bytes(module(exports, imports))
    return serve(Plugin(file))


def texts(proxy, last):
    """What a plugin logged until `last`, each text once: there may be several VMs."""
    book = proxy.server.book
    book.wait(lambda: last in [one.text for one in book.records])
    return list(dict.fromkeys(one.text for one in book.records))


@case("a reactor: _initialize runs, then main, then the first context is made", envoy=AGREES)
def test_initialize(serve, tmp_path):
    own = {
        "main": Function(2, 0, "main"),
        "proxy_on_context_create": Function(2, text="context_create"),
        "_initialize": Function(text="_initialize"),
        "_start": Function(trap=True),
    }
    proxy = serve_module(serve, tmp_path, LEAST | own)
    assert texts(proxy, "context_create") == ["_initialize", "main", "context_create"]


@case("a command: _start runs before the first context is made", envoy=AGREES)
def test_start_function(serve, tmp_path):
    own = {"proxy_on_context_create": Function(2, text="context_create"), "_start": Function(text="_start")}
    proxy = serve_module(serve, tmp_path, LEAST | own)
    assert texts(proxy, "context_create") == ["_start", "context_create"]


@pytest.mark.parametrize("entry", ["_initialize", "_start"])
@case("a trap in the entry function: the plugin does not start", envoy=AGREES)
def test_trap_at_entry(serve, tmp_path, entry):
    with pytest.raises(StartFailed):
        serve_module(serve, tmp_path, LEAST | {entry: Function(trap=True)})


# ---- What a module must and need not have ----


@case("a module without a single callback starts, and requests pass it", envoy=AGREES)
def test_no_callbacks(serve, tmp_path):
    proxy = serve_module(serve, tmp_path, LEAST)
    reply = proxy.post(b"abc", upstream={"echo": True})
    assert (reply.status, reply.body) == (200, b"abc")


@case("proxy_on_memory_allocate is the allocator of a module that has no malloc", envoy=AGREES)
def test_memory_allocate(serve, tmp_path):
    own = {MARKER: Function(), "proxy_on_memory_allocate": Function(1, BLOCK)}
    assert serve_module(serve, tmp_path, own).get().status == 200


@case("a module without an ABI marker does not start", envoy=AGREES)
def test_no_marker(serve, tmp_path):
    with pytest.raises(StartFailed):
        serve_module(serve, tmp_path, {"malloc": Function(1, BLOCK)})


@pytest.mark.parametrize("version", ["0_0_1", "0_3_0", "9_9_9"])
@case("a module of an ABI version that nobody knows does not start", envoy=AGREES)
def test_unknown_marker(serve, tmp_path, version):
    with pytest.raises(StartFailed):
        serve_module(serve, tmp_path, {f"proxy_abi_version_{version}": Function(), "malloc": Function(1, BLOCK)})


@case("a module without an allocator does not start", envoy=AGREES)
def test_no_allocator(serve, tmp_path):
    with pytest.raises(StartFailed):
        serve_module(serve, tmp_path, {MARKER: Function()})


@case("a callback of the wrong type: the module does not start", envoy=AGREES)
def test_wrong_type(serve, tmp_path):
    with pytest.raises(StartFailed):
        serve_module(serve, tmp_path, LEAST | {"proxy_on_request_headers": Function(2, 0)})


NO_MODULES = {
    "empty": b"",
    "text": b"#!/bin/sh\necho no module\n",
    "truncated": module(LEAST)[:-10],
    "header": b"\0asm\1\0\0\0",
    "version": b"\0asm\2\0\0\0" + module(LEAST)[8:],
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("content", NO_MODULES)
@case("a file that is no module does not start", envoy=AGREES)
def test_no_module(serve, tmp_path, content):
    file = tmp_path / "plugin.wasm"
    file.write_bytes(NO_MODULES[content])
    with pytest.raises(StartFailed):
        serve(Plugin(file))


@pytest.mark.parametrize("name", ["env.missing", "other.proxy_log", "wasi_snapshot_preview1.missing"])
@case("an import that no host has: the module does not start", envoy=AGREES)
def test_unknown_import(serve, tmp_path, name):
    where, name = name.split(".")
    with pytest.raises(StartFailed):
        serve_module(serve, tmp_path, LEAST, [(where, name, Function(1, 0))])


@case("a known hostcall imported with another type: the module does not start", envoy=AGREES)
def test_wrong_import(serve, tmp_path):
    with pytest.raises(StartFailed):
        serve_module(serve, tmp_path, LEAST, [("env", "proxy_get_property", Function(3, 0))])


@case(
    "a module that imports a hostcall proxy_* which the host does not know starts",
    envoy=Differs(
        does="The module does not start.",
        because="Plugins that may do without what newer hosts have could not run on older ones at all.",
        fails_with="StartFailed",
    ),
)
def test_unknown_hostcall(serve, tmp_path):
    imports = [("env", "proxy_of_the_future", Function(1, 0))]
    assert serve_module(serve, tmp_path, LEAST, imports).get().status == 200


@case(
    "a module may import hostcalls of other ABI versions and all of WASI preview 1",
    envoy=Differs(
        does="The module does not start: only hostcalls of its own version and a part of WASI can be imported.",
        because="A module knows what it imports; toolchains import WASI functions that are never called.",
        fails_with="StartFailed",
    ),
)
def test_union(serve):
    assert serve(bare(version="0.2.1-union")).get().status == 200


# ---- ABI versions ----


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.2.1"])
@case("header callbacks get the end of the stream in ABI 0.2, and the number of headers alone in 0.1.0", envoy=AGREES)
def test_arity(serve, version):
    proxy = serve(bare(version=version), shared=True)
    reply = proxy.get(bare="request_headers: proxy_get_header_map_value 0 ':method' @ @")
    reports = reply.reports
    request = reports.of("request_headers").entries[0].arguments
    response = reports.of("response_headers").entries[0].arguments
    assert request[0] >= 4 and response[0] >= 1
    assert (request[1:], response[1:]) == (([], []) if version == "0.1.0" else ([1], [0]))
    assert reports.of("request_headers", op="proxy_get_header_map_value")[0].value == "GET"
    assert reports.callbacks[-3:] == ["log", "done", "delete"]


@case("0.1.0: a header that is not there is empty, and not NOT_FOUND", envoy=AGREES)
def test_old_missing_header(serve):
    reply = serve(bare(version="0.1.0"), shared=True).get(
        bare="request_headers: proxy_get_header_map_value 0 'x-none' @ @"
    )
    (report,) = reply.reports.of("request_headers", op="proxy_get_header_map_value")
    assert (report.result, report.out) == (0, [0, 0])


@pytest.mark.parametrize("side", ["request", "response"])
@case("0.1.0: proxy_continue_request and proxy_continue_response end pauses", envoy=AGREES)
def test_old_continue(serve, side):
    # What a fresh server calls its first stream.
    context = serve(bare(version="0.1.0")).get(bare="").reports[0].context
    tick = f"proxy_set_tick_period_milliseconds 0; proxy_set_effective_context {context}; proxy_continue_{side}"
    proxy = serve(bare(f"tick: {tick}", version="0.1.0"))
    reply = proxy.get(bare=f"{side}_headers: proxy_set_tick_period_milliseconds 50; return 1")
    assert (reply.status, reply.body) == (200, b"ok\n")
    book = proxy.server.book
    (report,) = book.wait(lambda: book.reports.of("tick", op=f"proxy_continue_{side}", vm=reply.reports[0].vm))
    assert report.result == 0


@case(
    "0.1.0: proxy_get_configuration gives the plugin's configuration to configure and the VM's to vm_start",
    envoy=AGREES,
)
def test_old_configuration(serve):
    vm = "vm_start: proxy_get_configuration @ @"
    plugin = "configure: proxy_get_configuration @ @"
    proxy = serve(bare(plugin, version="0.1.0", vm_configuration=vm))
    book = proxy.server.book
    reports = book.wait(lambda: book.reports.of("configure", op="proxy_get_configuration") and book.reports)
    assert reports.of("vm_start", op="proxy_get_configuration")[0].value == vm
    assert reports.of("configure", op="proxy_get_configuration")[0].value == plugin


@case("0.1.0: proxy_clear_route_cache is OK", envoy=AGREES)
def test_old_clear_route_cache(serve):
    reply = serve(bare(version="0.1.0"), shared=True).get(bare="request_headers: proxy_clear_route_cache")
    assert reply.status == 200
    assert reply.reports.result("request_headers", "proxy_clear_route_cache") == 0


# ---- Streams ----


def own_callbacks(reply):
    """A stream's callbacks in order, with its context_create, which does not know the stream's id yet."""
    reports = reply.reports
    return ["context_create", *reports.callbacks] if creation_of(reports[0], reply.proxy) else reports.callbacks


def without_repeats(callbacks):
    return [one for index, one in enumerate(callbacks) if index == 0 or callbacks[index - 1] != one]


@case(
    "a request without a body: context_create, request headers, response headers and body, log, done, delete",
    envoy=AGREES,
)
def test_order(proxy):
    reply = proxy.get()
    assert without_repeats(own_callbacks(reply)) == [
        *("context_create", "request_headers", "response_headers", "response_body", "log", "done", "delete")
    ]
    assert reply.reports.of("request_headers").entries[0].arguments[1] == 1
    assert reply.reports.of("response_headers").entries[0].arguments[1] == 0


@case("bodies come after their headers, and the last piece says that it is the last", envoy=AGREES)
def test_bodies(proxy):
    reply = proxy.post(b"x" * 1000, upstream={"body": "y" * 1000})
    reports = reply.reports
    assert without_repeats(reports.callbacks) == [
        *("request_headers", "request_body", "response_headers", "response_body", "log", "done", "delete")
    ]
    assert reports.of("request_headers").entries[0].arguments[1] == 0
    for callback in ("request_body", "response_body"):
        ends = [one.arguments[1] for one in reports.of(callback).entries]
        assert ends == [0] * (len(ends) - 1) + [1]
        assert sum(one.arguments[0] for one in reports.of(callback).entries) == 1000


@case(
    "trailers come after the body, of which no piece is the last then",
    envoy=AGREES,
    needs=("request_trailers", "response_trailers"),
)
def test_trailers(proxy):
    with proxy.connect() as connection:
        case_id = connection.send_head(
            "POST", headers=[("transfer-encoding", "chunked")], upstream={"trailers": [["x-b", "2"]]}
        )
        connection.send_chunk(b"abc")
        connection.send_last_chunk([("x-a", "1")])
        reply = connection.read_reply(case_id)
    reports = reply.reports
    assert without_repeats(reports.callbacks) == [
        *("request_headers", "request_body", "request_trailers"),
        *("response_headers", "response_body", "response_trailers"),
        *("log", "done", "delete"),
    ]
    for callback in ("request_body", "response_body"):
        assert not any(one.arguments[1] for one in reports.of(callback).entries)
    assert reports.of("request_trailers").entries[0].arguments == [1]
    assert reports.of("response_trailers").entries[0].arguments == [1]


@case("a response without a body ends with its headers", envoy=AGREES)
def test_no_body(proxy):
    reply = proxy.get(upstream={"status": 204})
    assert reply.reports.callbacks == ["request_headers", "response_headers", "log", "done", "delete"]
    assert reply.reports.of("response_headers").entries[0].arguments[1] == 1


@case("log, done and delete run once for each stream", envoy=AGREES)
def test_end_once(proxy):
    replies = [proxy.get() for _ in range(3)]
    for reply in replies:
        assert reply.reports.callbacks[-3:] == ["log", "done", "delete"]
        book = proxy.server.book.reports.of(vm=reply.reports[0].vm, context=reply.reports[0].context)
        assert [book.callbacks.count(one) for one in ("context_create", "log", "done", "delete")] == [1, 1, 1, 1]


@case("each stream has an id of its own, and its parent is the root context of the plugin", envoy=AGREES)
def test_ids(proxy):
    streams = [proxy.get().reports[0] for _ in range(4)]
    assert len({one.context for one in streams}) == 4
    root = proxy.server.book.reports.of("configure", vm=streams[0].vm)[0].context
    assert root not in {one.context for one in streams}
    assert [creation_of(one, proxy).arguments for one in streams] == [[root]] * 4


@case("each request of a connection that is kept alive has a context of its own", envoy=AGREES)
def test_keep_alive(proxy):
    contexts = []
    with proxy.connect() as connection:
        for _ in range(3):
            reply = connection.read_reply(connection.send_head())
            assert reply.status == 200
            contexts.append(reply.reports[0].context)
            assert reply.reports.callbacks[-3:] == ["log", "done", "delete"]
    assert len(set(contexts)) == 3


@case("requests that overlap live side by side in one VM, each with its own callbacks in order", envoy=AGREES)
def test_interleaved(proxy):
    order = ["request_headers", "response_headers", "response_body", "log", "done", "delete"]
    with proxy.connect() as connection:
        held = connection.send_head(probe={"request_headers": [["pause"]]})
        book = proxy.server.book
        (entry,) = book.wait(lambda: [one for one in book.reports if one.id == held])
        other = proxy.get(probe={"request_headers": CONTEXTS, "response_headers": CONTEXTS}).reports
        proxy.get(probe={"request_headers": [["effective", entry.context], ["resume", "request"]]})
        assert connection.read_reply(held).status == 200
    assert entry.context != other[0].context
    assert entry.context in other.result("request_headers", "contexts")
    assert entry.context in other.result("response_headers", "contexts")
    assert without_repeats(proxy.reports(held).callbacks) == order
    assert without_repeats(other.callbacks) == order


@case("a stream's context is gone after its delete, and no context is made without a stream", envoy=AGREES)
def test_contexts_end(serve):
    proxy = serve(probe())
    for _ in range(3):
        assert proxy.get().reports
    with proxy.connect():
        reply = proxy.get(probe={"request_headers": CONTEXTS})
    assert reply.reports.result("request_headers", "contexts") == [reply.reports[0].context]
    vm = reply.reports[0].vm
    assert len(proxy.server.book.reports.of("context_create", vm=vm)) == 5


@case("done answering false is ignored for a stream: delete follows", envoy=AGREES)
def test_done_false(proxy):
    reply = proxy.get(probe={"done": [["answer", False]]})
    assert reply.reports.callbacks[-3:] == ["log", "done", "delete"]


@case("log sees the headers of the request and of the response, and properties of both", envoy=AGREES)
def test_log_reads(proxy):
    reads = [
        ["get", "request_headers", "x-a"],
        ["get", "response_headers", ":status"],
        ["get", "response_headers", "x-b"],
        ["property", ["request", "method"]],
        ["property", ["response", "code"]],
    ]
    reply = proxy.get(headers=[("x-a", "1")], upstream={"status": 201, "headers": [["x-b", "2"]]}, probe={"log": reads})
    code = (201).to_bytes(8, "little").decode("latin-1")
    assert reply.reports.results("log") == ["1", "201", "2", "GET", code]


def trailers_in_log(proxy, reads):
    with proxy.connect() as connection:
        case_id = connection.send_head(
            "POST",
            headers=[("transfer-encoding", "chunked")],
            upstream={"trailers": [["x-b", "2"]]},
            probe={"log": reads},
        )
        connection.send_last_chunk([("x-a", "1")])
        return connection.read_reply(case_id).reports.results("log")


@case("log sees the trailers of the response", envoy=AGREES, needs="response_trailers")
def test_log_response_trailers(proxy):
    assert trailers_in_log(proxy, [["get", "response_trailers", "x-b"]]) == ["2"]


@case(
    "log sees the trailers of the request",
    envoy=Differs(
        does="There are none in log, unlike headers of both sides and trailers of the response.",
        because="The specification says that log can read them.",
        fails_with=r"\[None\] == \['1'\]",
    ),
    needs="request_trailers",
)
def test_log_request_trailers(proxy):
    assert trailers_in_log(proxy, [["get", "request_trailers", "x-a"]]) == ["1"]


@case("a plugin that answers by itself gets the whole course of a stream all the same", envoy=AGREES)
def test_local_course(proxy):
    reply = proxy.get(probe={"request_headers": [["local", 403, [], "no"]]})
    assert reply.status == 403
    assert without_repeats(own_callbacks(reply)) == [
        *("context_create", "request_headers", "response_headers", "response_body", "log", "done", "delete")
    ]


# ---- End of a root context ----


def stop(proxy, vm):
    """Ends the server by SIGTERM; what the root context of the VM that served streams reports from then on."""
    proxy.server.stop()
    book = proxy.server.book
    roots = {one.context for one in book.reports.of("configure", vm=vm)}
    book.wait(lambda: book.reports.of("delete", vm=vm, context=max(roots)), 1)
    return [one.callback for one in book.reports.of(vm=vm).entries if one.context in roots and one.callback != "tick"]


@case("at the end of the server the root context gets done, then delete", envoy=AGREES)
def test_root_end(serve):
    proxy = serve(probe())
    vm = proxy.get().reports[0].vm
    assert stop(proxy, vm)[3:] == ["done", "delete"]


@case(
    "a root context that answered done with false is deleted when it calls proxy_done",
    envoy=Differs(
        does="A server that ends does not wait for proxy_done.",
        because="A plugin answers false because it has something left to do, such as to send what it has collected.",
        fails_with=r"\['done'\] == \['done', 'delete'\]",
    ),
)
def test_root_done(serve):
    on = {"done": [["answer", False], ["tick", 50]], "tick": [["proxy_done"]]}
    proxy = serve(probe(on=on))
    vm = proxy.get(probe={"done": []}).reports[0].vm
    assert stop(proxy, vm)[3:] == ["done", "delete"]
    assert proxy.server.book.reports.of("tick", op="proxy_done", vm=vm)


@case("proxy_done without a done that answered false is NOT_FOUND", envoy=AGREES)
def test_done_not_pending(serve):
    reply = serve(bare(), shared=True).get(bare="request_headers: proxy_done")
    assert reply.reports.result("request_headers", "proxy_done") == 1
