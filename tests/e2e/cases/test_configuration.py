# SPDX-License-Identifier: Apache-2.0
import json
import zlib
from dataclasses import replace

from kit.cases import AGREES, Differs, case
from kit.setup import bare, probe

AREA = "Configuration"

#: All bytes but those that the scripts of the bare guest give a meaning to.
ANY_BYTES = "".join(chr(byte) for byte in range(256) if chr(byte) not in "'%")


def root_reports(proxy, callback, op=None, vm=None):
    """What a root context reported in a callback of its start, in one VM, once it has been configured."""
    book = proxy.server.book
    vm = vm or proxy.get().reports[0].vm
    return book.reports.of(callback, op=op, vm=vm)


def bare_reports(proxy, callback, op):
    vm = proxy.get(bare="").reports[0].vm
    return proxy.server.book.reports.of(callback, op=op, vm=vm)


# ---- The bytes ----


@case("configure gets the size of the plugin's configuration and reads it, whole or in part", envoy=AGREES)
def test_plugin_configuration(serve):
    plugin = probe(on={"configure": [["body", "plugin_config", start, size] for start, size in ((0, 100000), (2, 4))]})
    entry, whole, part = root_reports(serve(plugin), "configure")
    assert entry.arguments == [len(plugin.configuration)]
    assert whole.result == plugin.configuration
    assert part.result == plugin.configuration[2:6]


@case("vm_start gets the size of the VM's configuration and reads it", envoy=AGREES)
def test_vm_configuration(serve):
    text = '{"on": {"vm_start": [["body", "vm_config", 0, 100000]]}}'
    entry, read = root_reports(serve(probe(vm_configuration=text)), "vm_start")
    assert entry.arguments == [len(text)]
    assert read.result == text


@case("configurations that are empty: size 0, and reading gives OK, address 0 and size 0", envoy=AGREES)
def test_empty(serve):
    text = "vm_start: proxy_get_buffer_bytes 7 0 10 @ @; configure: proxy_get_buffer_bytes 6 0 10 @ @; "
    plugin = serve(bare(text))
    vm = plugin.get(bare="").reports[0].vm
    reports = plugin.server.book.reports
    assert reports.of("vm_start", vm=vm).entries[0].arguments == [0]
    (read,) = reports.of("configure", vm=vm, op="proxy_get_buffer_bytes")
    assert (read.result, read.out) == (0, [0, 0])
    # A plugin without a configuration is configured all the same.
    proxy = serve(bare())
    vm = proxy.get(bare="").reports[0].vm
    assert proxy.server.book.reports.of("configure", vm=vm).entries[0].arguments == [0]


@case("configurations of 1 MiB arrive whole", envoy=AGREES)
def test_large(serve):
    size = 1 << 20
    # The probe takes spaces behind its script.
    vm = '{"on": {"vm_start": [["digest", "vm_config"]]}}'.ljust(size)
    plugin = probe(on={"configure": [["digest", "plugin_config"]]}, vm_configuration=vm)
    configuration = plugin.configuration.ljust(size)
    proxy = serve(replace(plugin, configuration=configuration))
    for callback, text in (("vm_start", vm), ("configure", configuration)):
        entry, read = root_reports(proxy, callback)
        assert entry.arguments == [size]
        assert read.result == {"size": size, "total": size, "crc": zlib.crc32(text.encode())}


@case("configurations are any bytes", envoy=AGREES)
def test_bytes(serve):
    vm = f"vm_start: proxy_get_buffer_bytes 6 0 4096 @ @; delete: proxy_log 2 '{ANY_BYTES}'"
    plugin = f"configure: proxy_get_buffer_bytes 7 0 4096 @ @; delete: proxy_log 2 '{ANY_BYTES}'"
    proxy = serve(bare(plugin, vm_configuration=vm))
    assert bare_reports(proxy, "vm_start", "proxy_get_buffer_bytes")[0].value == vm
    assert bare_reports(proxy, "configure", "proxy_get_buffer_bytes")[0].value == plugin


@case("the VM's configuration can be read at any time", envoy=AGREES)
def test_vm_later(serve):
    text = "configure: proxy_get_buffer_bytes 6 0 4096 @ @; request_headers: proxy_get_buffer_bytes 6 0 4096 @ @"
    proxy = serve(bare(text, vm_configuration="vm_start: return 1"))
    reply = proxy.get(bare="request_headers: proxy_get_buffer_bytes 6 0 4096 @ @")
    (read,) = reply.reports.of("request_headers", op="proxy_get_buffer_bytes")
    assert (read.result, read.value) == (0, "vm_start: return 1")
    assert bare_reports(proxy, "configure", "proxy_get_buffer_bytes")[0].value == "vm_start: return 1"


@case(
    "the plugin's configuration can be read at any time",
    envoy=Differs(
        does="It is there in configure only, the VM's at any time.",
        because="It does no harm, and a plugin need not keep a copy.",
        fails_with=r"\(1, None\) == \(0, ",
    ),
)
def test_plugin_later(serve):
    proxy = serve(bare("configure: return 1"))
    reply = proxy.get(bare="request_headers: proxy_get_buffer_bytes 7 0 4096 @ @")
    (read,) = reply.reports.of("request_headers", op="proxy_get_buffer_bytes")
    assert (read.result, read.value) == (0, "configure: return 1")


@case("configurations cannot be written: BAD_ARGUMENT", envoy=AGREES)
def test_read_only(serve):
    proxy = serve(bare("configure: proxy_set_buffer_bytes 7 0 0 'x'; proxy_set_buffer_bytes 6 0 0 'x'"))
    assert [one.result for one in bare_reports(proxy, "configure", "proxy_set_buffer_bytes")] == [2, 2]


# ---- Environment ----


@case(
    "the environment variables of the configuration are those that the plugin has, and it has no others", envoy=AGREES
)
def test_environment(serve):
    plugin = probe(on={"configure": [["env"]]}, environment=(("CASE_A", "one two=2:3"), ("CASE_B", "")))
    _, read = root_reports(serve(plugin), "configure")
    assert sorted(read.result) == [["CASE_A", "one two=2:3"], ["CASE_B", ""]]


@case("without environment variables in the configuration there are none", envoy=AGREES)
def test_no_environment(serve):
    _, read = root_reports(serve(probe(on={"configure": [["env"]]})), "configure")
    assert read.result == []


# ---- Names ----

NAMES = [["property", [f"plugin_{name}"]] for name in ("name", "root_id", "vm_id")]


@case(
    "plugin_name, plugin_root_id and plugin_vm_id are the plugin's, from the start of its VM and in streams",
    envoy=AGREES,
)
def test_names(serve):
    vm_configuration = json.dumps({"on": {"vm_start": NAMES}})
    on = {"configure": NAMES}
    proxy = serve(probe("n", on, root_id="my root", vm_id="my vm", vm_configuration=vm_configuration))
    reply = proxy.get(probe={"request_headers": NAMES})
    vm = reply.reports[0].vm
    names = ["n", "my root", "my vm"]
    assert proxy.server.book.reports.of(vm=vm).results("vm_start") == names
    assert proxy.server.book.reports.of(vm=vm).results("configure") == names
    assert reply.reports.results("request_headers") == names


@case("a root_id and a vm_id that are not set are there, and empty", envoy=AGREES)
def test_no_names(serve):
    proxy = serve(bare(), shared=True)
    reply = proxy.get(
        bare="request_headers: proxy_get_property 'plugin_root_id' @ @; proxy_get_property 'plugin_vm_id' @ @"
    )
    for report in reply.reports.of("request_headers", op="proxy_get_property"):
        assert (report.result, report.out) == (0, [0, 0])


# ---- Who shares a VM ----


def vms(proxy, *names):
    reports = proxy.get().reports
    return [reports.of("request_headers", plugin=name)[0].vm for name in names]


@case("plugins of equal module, vm_id and VM configuration share a VM, and each has a root context", envoy=AGREES)
def test_shared_vm(serve):
    proxy = serve(probe("a", vm_id="v"), probe("b", vm_id="v"))
    first, second = vms(proxy, "a", "b")
    assert first == second
    reports = proxy.server.book.reports.of(vm=first)
    roots = [reports.of("configure", plugin=name)[0].context for name in "ab"]
    assert roots[0] != roots[1]
    assert sorted(one.context for one in reports.of("vm_start")) == sorted(roots)


@case("plugins that differ in their vm_id or VM configuration have VMs of their own", envoy=AGREES)
def test_own_vms(serve):
    proxy = serve(probe("a", vm_id="v"), probe("b", vm_id="w"), probe("c", vm_id="v", vm_configuration="{}"))
    assert len(set(vms(proxy, "a", "b", "c"))) == 3


@case("two plugins of equal root_id and configuration in one VM share a root context", envoy=AGREES)
def test_shared_root(serve):
    proxy = serve(probe("a", vm_id="v", root_id="r"), probe("a", vm_id="v", root_id="r"))
    reports = proxy.get().reports
    streams = reports.of("request_headers").entries
    assert len(streams) == 2
    created = proxy.server.book.reports.of("context_create", vm=streams[0].vm)
    parents = {one.arguments[0] for one in created if one.arguments[0] != 0}
    assert len(parents) == 1


# ---- Capabilities ----

BASIC = ("proxy_log", "proxy_get_current_time_nanoseconds", "proxy_get_buffer_bytes", "proxy_get_header_map_value")
CALLBACKS = tuple(
    f"proxy_on_{name}"
    for name in (
        *("memory_allocate", "context_create", "vm_start", "configure"),
        *("request_headers", "response_headers", "log", "done", "delete"),
    )
)


def restricted(*more, without=()):
    allowed = tuple(name for name in ("malloc", *BASIC, *CALLBACKS) if name not in without)
    return bare(capabilities=allowed + more)


@case("a hostcall that is not in the list of allowed capabilities answers INTERNAL_FAILURE", envoy=AGREES)
def test_denied_hostcall(serve):
    reply = serve(restricted(), shared=True).get(
        bare="request_headers: proxy_get_property 'plugin_name' @ @; proxy_add_header_map_value 0 'x-a' '1'"
    )
    assert reply.reports.result("request_headers", "proxy_get_property") == 10
    assert reply.reports.result("request_headers", "proxy_add_header_map_value") == 10
    assert reply.seen.get("x-a") is None


@case("a WASI function that is not in the list of allowed capabilities answers ENOTCAPABLE", envoy=AGREES)
def test_denied_wasi(serve):
    reply = serve(restricted(), shared=True).get(bare="request_headers: random_get @8 8; clock_time_get 0 1 @8")
    assert reply.reports.result("request_headers", "random_get") == 76
    assert reply.reports.result("request_headers", "clock_time_get") == 76


@case("a callback that is not in the list of allowed capabilities is not called", envoy=AGREES)
def test_denied_callback(serve):
    proxy = serve(restricted(without=("proxy_on_response_headers",)))
    reply = proxy.get(bare="")
    assert reply.status == 200
    assert reply.reports.callbacks == ["request_headers", "log", "done", "delete"]


@case("what is in the list of allowed capabilities works", envoy=AGREES)
def test_allowed(serve):
    proxy = serve(restricted("proxy_get_property", "random_get"))
    reply = proxy.get(bare="request_headers: proxy_get_property 'plugin_name' @ @; random_get @8 8")
    (read,) = reply.reports.of("request_headers", op="proxy_get_property")
    assert (read.result, read.value) == (0, "bare")
    assert reply.reports.result("request_headers", "random_get") == 0
