# SPDX-License-Identifier: Apache-2.0
"""A gRPC server behind callouts: gRPC's own, on bytes in place of messages. It does what the metadata `x-orders` says."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc

SERVICE = "kit.Echo"


@dataclass
class Call:
    """A call as it reached the server."""

    method: str
    #: In order; values of names in -bin are bytes.
    metadata: list[tuple[str, str | bytes]]
    #: Seconds that the client still waits; None: for ever.
    left: float | None
    messages: list[bytes] = field(default_factory=list)
    #: The client sends no more.
    half_closed: bool = False
    #: The call is over; `cancelled` when the client did not wait for its status.
    over: bool = False
    cancelled: bool = False

    def get_all(self, name: str) -> list:
        return [value for key, value in self.metadata if key == name]


def code_of(number: int) -> grpc.StatusCode:
    return next(one for one in grpc.StatusCode if one.value[0] == number)


class GrpcUpstream:
    """
    Methods: Unary and Server (one message in), Client and Chat (a stream of them). Unary and Client answer with one message: what
    came. Server answers with what came, `count` times. Chat sends back each message as it comes.

    Keys of `x-orders`, a JSON object:

    status, message   of the end, in place of OK
    early             true: ends before any message and without initial metadata
    delay_ms          before the answer
    end_ms            before the status
    size              the answer is so many bytes of "x"
    count             number of messages of Server
    initial           [[name, value], …] initial metadata
    trailing          [[name, value], …] trailing metadata
    trailing_bin      [[name, hex], …] the same, of names in -bin
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[Call] = []
        # Each call that waits has a thread.
        self._threads = ThreadPoolExecutor(64)
        self._server = grpc.server(self._threads)
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(
                lambda message, context: self._one("Unary", [message], context)
            ),
            "Client": grpc.stream_unary_rpc_method_handler(
                lambda stream, context: self._one("Client", stream, context)
            ),
            "Server": grpc.unary_stream_rpc_method_handler(lambda one, context: self._many("Server", [one], context)),
            "Chat": grpc.stream_stream_rpc_method_handler(lambda stream, context: self._many("Chat", stream, context)),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, kinds),))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        self._server.stop(0)

    def calls(self, case: str) -> list[Call]:
        """Calls whose metadata `x-call` is this."""
        with self._changed:
            return [one for one in self._calls if case in one.get_all("x-call")]

    def wait(self, case: str, until=lambda call: True, timeout: float = 5.0) -> Call:
        """The call of this case, once it is as it should be."""
        end = time.monotonic() + timeout
        with self._changed:
            while not (found := [one for one in self.calls(case) if until(one)]):
                left = end - time.monotonic()
                assert left > 0, f"no such call came: {self.calls(case)}"
                self._changed.wait(left)
        return found[0]

    def _note(self, call: Call, **what) -> None:
        with self._changed:
            for name, value in what.items():
                setattr(call, name, value)
            self._changed.notify_all()

    def _begin(self, method: str, context) -> tuple[Call, dict]:
        call = Call(method, [(one.key, one.value) for one in context.invocation_metadata()], context.time_remaining())
        orders = json.loads(next(iter(call.get_all("x-orders")), "{}"))
        with self._changed:
            self._calls.append(call)
            self._changed.notify_all()
        cancelled = threading.Event()
        completed = threading.Event()

        def over() -> None:
            self._note(call, over=True, cancelled=not completed.is_set())
            cancelled.set()

        context.add_callback(over)
        if orders.get("early"):
            completed.set()
            context.abort(code_of(orders["status"]), orders.get("message", ""))
        if "initial" in orders:
            context.send_initial_metadata(tuple(map(tuple, orders["initial"])))
        orders["_completed"], orders["_cancelled"] = completed, cancelled
        return call, orders

    def _hear(self, call: Call, stream):
        for message in stream:
            with self._changed:
                call.messages.append(message)
                self._changed.notify_all()
            yield message
        self._note(call, half_closed=True)

    def _end(self, context, orders: dict) -> None:
        binary = [(name, bytes.fromhex(value)) for name, value in orders.get("trailing_bin", [])]
        # A cancelled stream may look half closed for a moment.
        orders["_cancelled"].wait(orders.get("end_ms", 0) / 1000)
        context.set_trailing_metadata((*map(tuple, orders.get("trailing", [])), *binary))
        orders["_completed"].set()
        if status := orders.get("status"):
            context.abort(code_of(status), orders.get("message", ""))

    def _one(self, method: str, stream, context) -> bytes:
        call, orders = self._begin(method, context)
        answer = b"".join(self._hear(call, stream))
        orders["_cancelled"].wait(orders.get("delay_ms", 0) / 1000)
        self._end(context, orders)
        return b"x" * orders["size"] if "size" in orders else answer

    def _many(self, method: str, stream, context):
        call, orders = self._begin(method, context)
        for message in self._hear(call, stream):
            orders["_cancelled"].wait(orders.get("delay_ms", 0) / 1000)
            for number in range(orders.get("count", 1)):
                yield (message + b" %d" % number) if "count" in orders else message
        self._end(context, orders)
