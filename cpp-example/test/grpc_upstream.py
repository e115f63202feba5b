# SPDX-License-Identifier: Apache-2.0
"""gRPC servers for tests: OddServer does what a method's name says, frame by frame; real_server is gRPC's own."""

import socket
import struct
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings


def framed(message, flag=0, length=None):
    return struct.pack(">BI", flag, len(message) if length is None else length) + message


class OddServer:
    """Records what has come in `connections` and `resets`."""

    def __init__(self, max_streams=100):
        self.max_streams = max_streams
        self.connections = 0
        self.resets = []  # (method, error)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            peer, _ = self.listener.accept()
            self.connections += 1
            threading.Thread(target=Connection(self, peer).run, daemon=True).start()


class Connection:
    def __init__(self, server, peer):
        self.server, self.peer = server, peer
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8", validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.streams = {}  # id: (method, headers, body)
        self.waiting = {}  # id: pieces that the peer has no room for yet

    def run(self):
        try:
            self.h2.initiate_connection()
            self.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.server.max_streams})
            self.flush()
            while data := self.peer.recv(65536):
                for event in self.h2.receive_data(data):
                    try:
                        self.on_event(event)
                    except h2.exceptions.StreamClosedError:
                        pass  # cancelled already
                self.flush()
        except OSError:
            pass
        self.peer.close()

    def flush(self):
        for stream in list(self.waiting):
            pieces = self.waiting[stream]
            while pieces:
                data, end = pieces[0]
                room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
                if data and not room:
                    break
                self.h2.send_data(stream, data[:room], end_stream=end and len(data) <= room)
                pieces[0] = (data[room:], end)
                if len(data) <= room:
                    pieces.pop(0)
            if not pieces:
                del self.waiting[stream]
                trailers = self.streams[stream][3:]
                if trailers:
                    self.h2.send_headers(stream, trailers[0], end_stream=True)
        if data := self.h2.data_to_send():
            self.peer.sendall(data)

    def on_event(self, event):
        if isinstance(event, h2.events.RequestReceived):
            headers = list(event.headers)
            method = dict(headers)[":path"].rsplit("/", 1)[1]
            self.streams[event.stream_id] = [method, headers, b""]
            if early := getattr(self, "at_once_" + method, None):
                early(event.stream_id)
        elif isinstance(event, h2.events.DataReceived):
            method, _, body = self.streams[event.stream_id][:3]
            if method != "Full":
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            body += event.data
            while each := getattr(self, "each_" + method, None):
                if len(body) < 5 or len(body) < 5 + int.from_bytes(body[1:5], "big"):
                    break
                end = 5 + int.from_bytes(body[1:5], "big")
                each(event.stream_id, body[5:end])
                body = body[end:]
            self.streams[event.stream_id][2] = body
        elif isinstance(event, h2.events.StreamEnded):
            method, headers, body = self.streams[event.stream_id][:3]
            if last := getattr(self, "do_" + method, None):
                last(event.stream_id, body[5:], headers)
        elif isinstance(event, h2.events.StreamReset):
            self.waiting.pop(event.stream_id, None)
            self.server.resets.append((self.streams[event.stream_id][0], int(event.error_code)))

    # ---- Parts of an answer

    def headers(self, stream, *more, status="200", end=False):
        self.h2.send_headers(stream, [(":status", status), ("content-type", "application/grpc"), *more], end_stream=end)

    def data(self, stream, data, end=False):
        self.waiting.setdefault(stream, []).append((data, end))

    def trailers(self, stream, status=0, *more):
        fields = [("grpc-status", str(status)), *more]
        if stream in self.waiting:
            self.streams[stream].append(fields)
        else:
            self.h2.send_headers(stream, fields, end_stream=True)

    def answer(self, stream, data, status=0):
        self.headers(stream)
        self.data(stream, data)
        self.trailers(stream, status)

    # ---- Methods

    def do_Echo(self, stream, message, _):
        self.answer(stream, framed(message))

    def do_Metadata(self, stream, _, headers):
        self.answer(stream, framed("|".join(f"{name}={value}" for name, value in headers).encode()))

    def at_once_Chat(self, stream):
        self.headers(stream, ("x-initial", "one"), ("x-initial", "two"))

    def each_Chat(self, stream, message):
        self.data(stream, framed(b"heard " + message))

    def do_Chat(self, stream, _, __):
        self.trailers(stream, 0, ("x-trailing", "three"), ("x-more-bin", "AAH/"))

    def at_once_Burst(self, stream):
        self.headers(stream)
        self.data(stream, framed(b"one") + framed(b"") + framed(b"three") + framed(b"fo", length=4))
        self.data(stream, b"ur")
        self.trailers(stream, 0)

    def do_Bytes(self, stream, message, _):
        self.headers(stream)
        for byte in framed(message):
            self.data(stream, bytes([byte]))
        self.trailers(stream)

    def do_Continue(self, stream, message, _):
        self.h2.send_headers(stream, [(":status", "103"), ("link", "</a>")])
        self.answer(stream, framed(message))

    def do_TrailersOnly(self, stream, _, __):
        self.headers(stream, ("grpc-status", "5"), ("grpc-message", "no%20such %C3%A4%zz%"), end=True)

    def do_TrailersOnly404(self, stream, _, __):
        self.headers(stream, ("grpc-status", "9"), ("grpc-message", "told"), status="404", end=True)

    def do_Fails(self, stream, message, _):
        self.answer(stream, framed(message), 7)

    def do_OddStatus(self, stream, _, __):
        self.headers(stream, ("grpc-status", "fine"), end=True)

    def do_Http(self, stream, message, _):
        self.h2.send_headers(stream, [(":status", message.decode()), ("content-type", "text/plain")])
        self.data(stream, b"an error page", end=True)

    def do_Html(self, stream, _, __):
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "text/html")])
        self.data(stream, b"<html>", end=True)

    def do_Reset(self, stream, message, _):
        self.h2.reset_stream(stream, int(message))

    def do_NoStatus(self, stream, message, _):
        self.headers(stream)
        self.data(stream, framed(message), end=True)

    def do_NoMessage(self, stream, _, __):
        self.answer(stream, b"")

    def do_TwoMessages(self, stream, message, _):
        self.answer(stream, framed(message) * 2)

    def do_Compressed(self, stream, message, _):
        self.headers(stream, ("grpc-encoding", "gzip"))
        self.data(stream, framed(message, flag=1))
        self.trailers(stream)

    def do_OddFlag(self, stream, message, _):
        self.answer(stream, framed(message, flag=7))

    def do_TooLarge(self, stream, _, __):
        self.headers(stream)
        self.data(stream, framed(b"a" * 100, length=4 * 1024 * 1024 + 1))

    def do_Largest(self, stream, _, __):
        self.answer(stream, framed(b"a" * 4 * 1024 * 1024))

    def do_Cut(self, stream, message, _):
        self.answer(stream, framed(message, length=1000))

    def do_LargeHeaders(self, stream, _, __):
        self.headers(stream, *[(f"x-{i}", "a" * 1000) for i in range(100)])

    def do_Close(self, _, __, ___):
        self.flush()
        self.peer.shutdown(socket.SHUT_RDWR)

    def do_GoAway(self, stream, message, _):
        """What has come is answered, after a while; nothing more is taken."""
        self.send_goaway(stream)
        threading.Timer(0.3, self.later, (stream, message)).start()

    def later(self, stream, message):
        self.answer(stream, framed(message))
        self.flush()

    def send_goaway(self, last):
        self.flush()
        self.peer.sendall(struct.pack(">HBBBIII", 0, 8, 7, 0, 0, last, 0))

    def do_GoAwayUnheard(self, _, __, ___):
        self.send_goaway(0)

    def at_once_Early(self, stream):
        self.headers(stream, ("grpc-status", "8"), end=True)


def real_server():
    """A server of grpcio and its port: /test.Real/Unary and /test.Real/Chat, on bytes."""
    import concurrent.futures

    import grpc

    def unary(request, context):
        sent = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-echo-bin", sent.get("x-raw-bin", b"none")),))
        if request == b"fail":
            context.abort(grpc.StatusCode.DATA_LOSS, "lost: 100% \u00e4")
        if request == b"slow":
            time.sleep(2)
        left = context.time_remaining()
        return f"{request.decode()} {sent.get('x-meta')} {sent.get('x-raw-bin')} {left is not None and 0 < left <= 5}".encode()

    def chat(requests, context):
        context.send_initial_metadata((("x-first", "1"),))
        for number, request in enumerate(requests):
            yield b"%d %d" % (number, len(request))
        context.set_trailing_metadata((("x-last", "2"),))

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Real", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port
