"""A gRPC server that breaks the rules as it is told: HTTP/2 by hand, over TLS or in clear text.

    with GrpcSink() as sink:
        sink.script(Reply(reset=7), Reply(trailers={"grpc-status": "14"}))   # then OK for ever
        ... sink.url ...; sink.wait_records(100)

What a well-behaved server says is the business of support/otlp.py. One thread a connection.
"""

import contextlib
import dataclasses
import gzip
import socketserver
import ssl
import struct
import threading
from typing import Optional

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from support.otlp import records_of, response

REFUSED_STREAM, NO_ERROR, INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM = 7, 0, 2, 8, 11


def frame(message, compressed=False):
    return struct.pack(">BI", compressed, len(message)) + message


@dataclasses.dataclass
class Reply:
    http_status: int = 200
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes = frame(response().SerializeToString())
    trailers: Optional[dict] = dataclasses.field(default_factory=lambda: {"grpc-status": "0"})
    trailers_only: bool = False  # one block of headers, and no body
    early: bool = False  # as soon as the request's headers are there
    reset: Optional[int] = None  # RST_STREAM with this code: instead of trailers, or after an early reply
    reset_at_once: bool = False  # without headers before it
    goaway: Optional[int] = None  # GOAWAY with this code behind the reply, then the connection's end
    goaway_first: bool = False  # instead of a reply
    drop: bool = False  # end the connection instead of a reply
    hold: bool = False  # never reply


@dataclasses.dataclass
class Request:
    connection: int
    headers: dict
    records: list


def unframe(body, encoding):
    compressed, length = struct.unpack(">BI", body[:5])
    assert length == len(body) - 5, "not one message"
    assert bool(compressed) == (encoding == "gzip")
    return gzip.decompress(body[5:]) if compressed else bytes(body[5:])


class GrpcSink:
    def __init__(self, *, cert_file=None, key_file=None):
        self.requests = []
        self.records = []
        self.connections = 0
        self.policy = lambda request: None
        self._script = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._context = None
        if cert_file:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(cert_file, key_file)
            self._context.set_alpn_protocols(["h2"])
        sink = self

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

            def finish_request(self, request, client_address):
                sink._serve(request)

            def handle_error(self, request, client_address):
                pass  # a client that goes away is what some tests want

        self._server = Server(("127.0.0.1", 0), None)
        scheme = "https" if cert_file else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def script(self, *replies):
        with self._changed:
            self._script.extend(replies)

    def wait(self, condition, timeout=120):
        with self._changed:
            assert self._changed.wait_for(condition, timeout), (
                f"not within {timeout} s: {len(self.requests)} requests, {len(self.records)} records"
            )

    def wait_requests(self, count):
        self.wait(lambda: len(self.requests) >= count)

    def wait_records(self, count):
        self.wait(lambda: len(self.records) >= count)
        return self.records

    # --- one connection ---

    def _serve(self, connection):
        with self._changed:
            self.connections += 1
            ordinal = self.connections
            self._changed.notify_all()
        if self._context:
            connection = self._context.wrap_socket(connection, server_side=True)
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        state.initiate_connection()
        streams = {}
        with connection:
            connection.sendall(state.data_to_send())
            while data := connection.recv(1 << 16):
                for event in state.receive_data(data):
                    if not self._take(state, streams, event, ordinal):
                        connection.sendall(state.data_to_send())
                        return
                connection.sendall(state.data_to_send())

    @staticmethod
    def _send_data(state, stream_id, body, end_stream):
        """The client's windows take any answer of these tests; a frame has a limit."""
        limit = state.max_outbound_frame_size
        pieces = [body[at : at + limit] for at in range(0, len(body), limit)] or [b""]
        for piece in pieces[:-1]:
            state.send_data(stream_id, piece)
        state.send_data(stream_id, pieces[-1], end_stream=end_stream)

    def _take(self, state, streams, event, ordinal):
        """False ends the connection."""
        if isinstance(event, h2.events.RequestReceived):
            headers = {name.decode(): value.decode() for name, value in event.headers}
            streams[event.stream_id] = (headers, bytearray())
            with self._changed:
                early = bool(self._script) and self._script[0].early
            if early:
                return self._finish(state, streams, event.stream_id, ordinal)
        elif isinstance(event, h2.events.DataReceived):
            state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id in streams:
                streams[event.stream_id][1].extend(event.data)
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id in streams:
            return self._finish(state, streams, event.stream_id, ordinal)
        return True

    def _finish(self, state, streams, stream_id, ordinal):
        headers, body = streams.pop(stream_id)
        with self._changed:
            request = Request(ordinal, headers, [])
            reply = self._script.pop(0) if self._script else None
            if not (reply and reply.early):
                message = logs_service_pb2.ExportLogsServiceRequest()
                message.ParseFromString(unframe(body, headers.get("grpc-encoding")))
                request.records = records_of(message)
            reply = reply or self.policy(request) or Reply()
            self.requests.append(request)
            if self._accepts(reply):
                self.records.extend(request.records)
            self._changed.notify_all()
        if reply.hold:
            self._stopping.wait()
            return False
        if reply.drop:
            return False
        return self._reply(state, stream_id, reply)

    @staticmethod
    def _accepts(reply):
        silent = reply.hold or reply.drop or reply.goaway_first or reply.reset_at_once
        status = (reply.trailers or {}).get("grpc-status")
        return not silent and reply.reset is None and reply.http_status == 200 and status == "0"

    def _reply(self, state, stream_id, reply):
        if reply.goaway_first:
            state.close_connection(reply.goaway or NO_ERROR, last_stream_id=0)
            return False
        if reply.reset_at_once:
            state.reset_stream(stream_id, reply.reset)
            return True
        head = {":status": str(reply.http_status), "content-type": "application/grpc", **reply.headers}
        if reply.trailers_only:
            state.send_headers(stream_id, [*head.items(), *reply.trailers.items()], end_stream=True)
        else:
            state.send_headers(stream_id, list(head.items()))
            last = reply.trailers is None and reply.reset is None
            self._send_data(state, stream_id, reply.body, end_stream=last)
            if reply.trailers is not None and (reply.reset is None or reply.early):
                state.send_headers(stream_id, list(reply.trailers.items()), end_stream=True)
        if reply.reset is not None:
            # An early reply to a request that has come whole meanwhile has ended the stream already.
            with contextlib.suppress(h2.exceptions.StreamClosedError):
                state.reset_stream(stream_id, reply.reset)
        if reply.goaway is not None:
            state.close_connection(reply.goaway)
            return False
        return True
