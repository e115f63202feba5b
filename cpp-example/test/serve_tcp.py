# SPDX-License-Identifier: Apache-2.0
"""Tests the TCP proxy and the services of `proxywasm-example serve`. serve_tcp.py PROGRAM FILTERS UPSTREAM_PORT [BEHAVE_TCP]

UPSTREAM_PORT is that of upstream.py, for callouts. BEHAVE_TCP is behave_tcp.c compiled; without it the tests that need it are left out.
"""

import os
import re
import socket
import struct
import sys
import threading
import time

import harness
from harness import expect, read_all

program, filters, http_upstream = sys.argv[1], sys.argv[2], sys.argv[3]
behave = sys.argv[4] if len(sys.argv) > 4 else None
plugin_name = os.path.splitext(os.path.basename(behave or ""))[0]
MEGABYTE = 1 << 20


class Upstream:
    """A TCP server that hands each connection to `handle` in a thread of its own; the default sends back what comes."""

    def __init__(self, handle=None):
        self.handle = handle or echo
        self.server = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.server.getsockname()[1]
        self.accepted = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client:
            try:
                self.handle(client)
            except OSError:
                pass  # the proxy goes away in these tests


def echo(client):
    while data := client.recv(65536):
        client.sendall(data)


def Proxy(*arguments, to):
    return harness.Proxy(program, "--tcp-listen", "127.0.0.1:0", "--tcp-upstream", f"127.0.0.1:{to.port}", *arguments)


def reset(client):
    """Ends a connection with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def converse(proxy, *pieces):
    """Sends pieces, a moment apart, then the end; all that comes back."""
    with proxy.connect_tcp() as client:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(0.05)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


def records(proxy):
    """What the plugin has logged, once the proxy has stopped."""
    code, errors = proxy.stop()
    expect(code == 0, code, errors)
    return [line.split("] ", 1)[1] for line in errors.splitlines() if f"[{plugin_name}]" in line]


UPPER = ["--plugin", f"{filters}/rust-tcp.wasm"]
CENSOR = ["--plugin", f"{filters}/rust-tcp.wasm,config=censor secret"]


# ---- Tests ------------------------------------------------------------------------------------------------------------


def data_is_changed_on_its_way():
    upstream = Upstream()
    with Proxy(*UPPER, to=upstream) as proxy:
        with proxy.connect_tcp() as client:
            for word in (b"one", b"two"):
                client.sendall(word)
                expect(client.recv(100) == word.upper())
        code, errors = proxy.stop()
        expect(code == 0 and "closed: 6 bytes from downstream, 6 from upstream" in errors, errors)


def both_kinds_beside_each_other():
    arguments = ["--listen", "127.0.0.1:0", "--upstream", f"127.0.0.1:{http_upstream}", "--threads", "2"]
    with Proxy(*arguments, to=Upstream()) as proxy:
        for _ in range(4):
            expect(
                proxy.exchange(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").startswith(b"HTTP/1.1 200")
            )
            expect(converse(proxy, b"abc") == b"abc")


def half_close_in_both_directions():
    heard = []

    def speak_after_the_end(client):
        heard.append(read_all(client))
        client.sendall(b"that was all")

    def end_first(client):
        client.sendall(b"nothing more from here")
        client.shutdown(socket.SHUT_WR)
        heard.append(read_all(client))

    with Proxy(*UPPER, to=Upstream(speak_after_the_end)) as proxy:
        expect(converse(proxy, b"question") == b"that was all" and heard == [b"QUESTION"], heard)
    with Proxy(*UPPER, to=Upstream(end_first)) as proxy, proxy.connect_tcp() as client:
        expect(read_all(client) == b"nothing more from here")
        client.sendall(b"late")
        client.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        expect(heard[1:] == [b"LATE"], heard)


def much_in_both_directions_at_once():
    amount = 50 * MEGABYTE
    sent = bytes(range(256)) * (amount // 256)
    with Proxy(*CENSOR, to=Upstream()) as proxy, proxy.connect_tcp() as client:

        def send():
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        received = bytearray()
        while piece := client.recv(MEGABYTE):
            received += piece
        thread.join()
        expect(received == sent, len(received))
        expect(proxy.resident_kb() < 150_000, proxy.resident_kb())


def back_pressure_in_both_directions():
    go_on = threading.Event()
    counts = []

    def deaf(client):
        go_on.wait(20)
        counts.append(len(read_all(client)))

    def send_until_stuck(client, amount):
        client.settimeout(0.5)
        sent, piece = 0, b"x" * MEGABYTE
        try:
            while sent < amount:
                sent += client.send(piece)
        except TimeoutError:
            pass
        client.settimeout(10)
        return sent

    with Proxy(*CENSOR, to=Upstream(deaf)) as proxy, proxy.connect_tcp() as client:
        sent = send_until_stuck(client, 50 * MEGABYTE)
        expect(sent < 40 * MEGABYTE and proxy.resident_kb() < 150_000, sent, proxy.resident_kb())
        go_on.set()
        client.shutdown(socket.SHUT_WR)
        expect(read_all(client) == b"" and counts == [sent], counts, sent)

    def talk(client):
        counts.append(send_until_stuck(client, 50 * MEGABYTE))

    counts.clear()
    with Proxy(*CENSOR, to=Upstream(talk)) as proxy, proxy.connect_tcp() as client:
        while not counts:
            time.sleep(0.05)
        expect(counts[0] < 40 * MEGABYTE and proxy.resident_kb() < 150_000, counts, proxy.resident_kb())
        expect(len(read_all(client)) == counts[0], counts)


def ends_without_a_farewell():
    lost = threading.Event()

    def wait_for_loss(client):
        read_all(client)
        lost.set()

    with Proxy(*UPPER, to=Upstream(wait_for_loss)) as proxy:
        client = proxy.connect_tcp()
        client.sendall(b"abc")
        time.sleep(0.2)
        reset(client)
        expect(lost.wait(5))

    with (
        Proxy(
            *UPPER,
            to=Upstream(lambda client: (client.recv(100), client.sendall(b"part"), time.sleep(0.1), reset(client))),
        ) as proxy,
        proxy.connect_tcp() as client,
    ):
        client.sendall(b"abc")
        expect(read_all(client) == b"part")


def upstream_that_is_not_there():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        to = Upstream()
        to.port = unused.getsockname()[1]
        with Proxy(*UPPER, to=to) as proxy, proxy.connect_tcp() as client:
            client.sendall(b"abc")
            expect(read_all(client) == b"")
            expect(proxy.process.poll() is None)


def idle_connections_end():
    with Proxy(*UPPER, "--idle-timeout-ms", "300", to=Upstream()) as proxy, proxy.connect_tcp() as client:
        began = time.monotonic()
        for _ in range(4):  # each a sign of life
            client.sendall(b"a")
            expect(client.recv(10) == b"A")
            time.sleep(0.15)
        expect(read_all(client) == b"" and 0.6 < time.monotonic() - began < 3)


def stop_gives_connections_time():
    with (
        Proxy(*UPPER, "--stop-timeout-ms", "1000", to=Upstream()) as proxy,
        proxy.connect_tcp() as quick,
        proxy.connect_tcp() as slow,
    ):
        for client in (quick, slow):
            client.sendall(b"a")
            expect(client.recv(10) == b"A")
        began = time.monotonic()
        proxy.process.terminate()
        time.sleep(0.2)
        quick.sendall(b"b")
        expect(quick.recv(10) == b"B")
        try:
            proxy.connect_tcp().close()
            expect(False, "it still listens")
        except ConnectionRefusedError:
            pass
        quick.close()
        expect(read_all(slow) == b"")
        expect(proxy.process.wait(timeout=10) == 0 and 0.9 < time.monotonic() - began < 3)


def plugins_see_every_phase():
    upstream = Upstream()
    with Proxy("--plugin", behave, to=upstream) as proxy:
        expect(converse(proxy, b"mark", b"more") == b"up:down:markmore")
        have = records(proxy)
        # The client ended first, so the proxy ended the connection to the upstream.
        expect(have == ["upstream 1", "downstream 2", "done", "log", "delete"], have)
    with Proxy("--plugin", behave, to=Upstream(lambda client: client.sendall(b"bye"))) as proxy:
        with proxy.connect_tcp() as client:
            expect(read_all(client) == b"bye")
        time.sleep(0.2)
        have = records(proxy)
        expect(have == ["upstream 2", "downstream 1", "done", "log", "delete"], have)


def properties_of_connections():
    upstream = Upstream()
    with Proxy("--plugin", behave, to=upstream) as proxy, proxy.connect_tcp() as client:
        client.sendall(b"property")
        own = f"127.0.0.1:{client.getsockname()[1]} 127.0.0.1:{proxy.tcp_port} 127.0.0.1:{upstream.port} "
        expect(client.recv(200).decode() == own)


def pauses_that_end():
    upstream = Upstream()
    with Proxy("--plugin", behave + ",config=pause-connection", to=upstream) as proxy:
        expect(converse(proxy, b"early") == b"early")
    with Proxy("--plugin", behave, to=upstream) as proxy:
        expect(converse(proxy, b"pause", b" and", b" go on") == b"pause and go on")
        expect(converse(proxy, b"collect", b"ed ", b"data") == b"collected data")
        with proxy.connect_tcp() as client:  # the plugin waits for the end, so nothing comes back before it
            client.sendall(b"collect-upstream ")
            client.settimeout(0.3)
            try:
                expect(False, client.recv(100))
            except TimeoutError:
                client.settimeout(10)
            client.sendall(b"data")
            client.shutdown(socket.SHUT_WR)
            expect(read_all(client) == b"collect-upstream data")


def pauses_without_end():
    upstream = Upstream()
    with Proxy("--plugin", behave + ",config=stuck-connection", "--pause-timeout-ms", "300", to=upstream) as proxy:
        expect(converse(proxy, b"abc") in (b"", b"<reset>") and upstream.accepted == 0)
    with Proxy("--plugin", behave + ",max_body=100000", "--pause-timeout-ms", "300", to=upstream) as proxy:
        with proxy.connect_tcp() as client:
            client.sendall(b"stuck")
            time.sleep(0.6)  # it might be waiting for more, which is not its fault
            try:
                client.sendall(b"x" * 10 * MEGABYTE)  # more than it may hold
                client.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            expect(read_all(client) in (b"", b"<reset>") and proxy.resident_kb() < 150_000)
        expect(converse(proxy, b"mark") == b"up:down:mark")


def connections_that_a_plugin_closes():
    upstream = Upstream()
    with Proxy("--plugin", behave + ",config=close-connection", to=upstream) as proxy, proxy.connect_tcp() as client:
        expect(read_all(client) == b"" and upstream.accepted == 0)
    with Proxy("--plugin", behave, to=upstream) as proxy:
        for what in (b"close-downstream", b"close-upstream"):
            with proxy.connect_tcp() as client:
                client.sendall(what)
                expect(read_all(client) == b"", what)
        have = records(proxy)
        expect(have == ["downstream 1", "upstream 1", "done", "log", "delete"] * 2, have)
    # What has been written arrives, however slowly it is read, and a close that is none would be a reset.
    much = b"x" * 50 * MEGABYTE
    talker = Upstream(lambda client: (client.recv(100), client.sendall(much)))
    with Proxy("--plugin", behave, to=talker) as proxy, proxy.connect_tcp() as client:
        client.sendall(b"close-later")
        time.sleep(0.5)
        received = read_all(client)
        expect(set(received) == {ord("x")} and len(received) < len(much), len(received), received[-10:])


def failing_plugins_end_their_connections():
    upstream = Upstream()
    with Proxy("--plugin", behave + ",deadline_ms=200", "--threads", "1", to=upstream) as proxy:
        for what in (b"trap", b"trap-upstream", b"loop"):
            with proxy.connect_tcp() as client:
                client.sendall(what)
                expect(read_all(client) in (b"", b"<reset>"), what)
            expect(converse(proxy, b"mark") == b"up:down:mark", what)
    with Proxy("--plugin", behave + ",policy=closed", to=upstream) as proxy:
        for what in (b"trap", b"mark"):
            with proxy.connect_tcp() as client:
                client.sendall(what)
                expect(read_all(client) in (b"", b"<reset>"), what)
    with Proxy("--plugin", behave + ",policy=open", to=upstream) as proxy:
        expect(converse(proxy, b"trap", b" all the same") == b"trap all the same")
    with Proxy("--plugin", behave + ",config=trap-connection", to=upstream) as proxy, proxy.connect_tcp() as client:
        expect(read_all(client) in (b"", b"<reset>"))


def callouts_from_connections():
    with Proxy("--plugin", behave, "--cluster", f"auth=127.0.0.1:{http_upstream}", to=Upstream()) as proxy:
        expect(converse(proxy, b"call") == b"call")


def services_tick_and_take_from_queues():
    arguments = [
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        f"127.0.0.1:{http_upstream}",
        "--metrics-path",
        "/metrics",
        "--service",
        behave + ",name=clock,vm_id=service,config=service",
        "--plugin",
        behave,
    ]

    def metric(proxy, name):
        answer = proxy.exchange(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").decode()
        found = re.search(rf"^{name} (\d+)$", answer, re.MULTILINE)
        expect(found, answer)
        return int(found[1])

    with Proxy(*arguments, to=Upstream()) as proxy:
        first = metric(proxy, "test_ticks")
        expect(metric(proxy, "test_jobs") == 0)
        expect(converse(proxy, b"enqueue") == b"enqueue")
        time.sleep(0.3)
        expect(metric(proxy, "test_ticks") > first and metric(proxy, "test_jobs") >= 1)
        expect(records(proxy).count("log") == 1)  # the service is in no chain


def environment_of_plugins():
    options = ",env=COLOUR:dark:blue,env=EMPTY:,config=environment"
    with Proxy("--plugin", behave + options, to=Upstream()) as proxy:
        have = records(proxy)
        expect(have[:2] == ["COLOUR=dark:blue", "EMPTY="], have)


def denied_capabilities():
    callbacks = ["proxy_on_context_create", "proxy_on_new_connection", "proxy_on_downstream_data", "proxy_on_done"]
    hostcalls = ["proxy_get_buffer_bytes", "proxy_log"]
    allowed = "".join(f",allow={name}" for name in callbacks + hostcalls)
    with Proxy("--plugin", behave + allowed, to=Upstream()) as proxy:
        expect(converse(proxy, b"close-downstream") == b"close-downstream")  # proxy_close_stream is not allowed
        expect(records(proxy) == ["done"])  # nor are the other callbacks


TESTS = [
    data_is_changed_on_its_way,
    both_kinds_beside_each_other,
    half_close_in_both_directions,
    much_in_both_directions_at_once,
    back_pressure_in_both_directions,
    ends_without_a_farewell,
    upstream_that_is_not_there,
    idle_connections_end,
    stop_gives_connections_time,
]

if behave:
    TESTS += [
        plugins_see_every_phase,
        properties_of_connections,
        pauses_that_end,
        pauses_without_end,
        connections_that_a_plugin_closes,
        failing_plugins_end_their_connections,
        callouts_from_connections,
        services_tick_and_take_from_queues,
        environment_of_plugins,
        denied_capabilities,
    ]

harness.run("serve: tcp", TESTS)
