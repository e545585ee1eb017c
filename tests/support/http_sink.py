"""A destination that does as it is told: HTTP/1.1 on 127.0.0.1, one thread a connection.

    with HttpSink() as sink:
        sink.script(Answer(503, headers={"Retry-After": "1"}), Answer(400))   # then 200 for ever
        sink.policy = lambda request: Answer(413) if len(request.body) > 1000 else None
        ... sink.url ...
        sink.wait(lambda: len(sink.accepted) >= 100)

Every request is recorded as it came (`requests`), and the events of those that were answered 2xx in
`accepted`, in order of arrival. A script comes before the policy, the policy before 200.
"""

import dataclasses
import gzip
import json
import socket
import socketserver
import ssl
import struct
import threading
from typing import Callable, Optional

import zstandard


@dataclasses.dataclass
class Answer:
    status: int = 200
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes = b""
    raw: Optional[bytes] = None  # these bytes instead of an answer, then the connection's end
    endless: int = 0  # as many further bytes of body, announced by Content-Length
    half: bool = False  # announce the whole body, send half of it, end the connection
    drop: bool = False  # end the connection without a byte
    reset: bool = False  # the same with a reset
    hold: bool = False  # never answer; the sink's end releases the connection
    close: bool = False  # end the connection behind the answer


@dataclasses.dataclass
class Request:
    connection: int  # ordinal, from 1
    line: str
    headers: dict  # names in lower case
    raw: bytes  # the body as it came
    body: bytes  # unpacked
    peer_certificate: Optional[dict]

    @property
    def content_type(self):
        return self.headers.get("content-type", "")

    def events(self):
        """The CloudEvents in it, as dicts; refuses what is not JSON."""
        parsed = json.loads(self.body)
        return parsed if isinstance(parsed, list) else [parsed]


def unpack(body, encoding):
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    assert encoding == "", f"unknown Content-Encoding {encoding!r}"
    return body


class HttpSink:
    def __init__(self, *, cert_file=None, key_file=None, client_ca=None, port=0):
        self.requests = []
        self.accepted = []
        self.connections = 0
        self.errors = []  # what a test should not find: TLS failures, requests that are not HTTP
        self.sent_bytes = 0
        self.policy: Callable[[Request], Optional[Answer]] = lambda request: None
        self._script = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._context = None
        if cert_file:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(cert_file, key_file)
            if client_ca:
                self._context.load_verify_locations(client_ca)
                self._context.verify_mode = ssl.CERT_REQUIRED
        sink = self

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

            def finish_request(self, request, client_address):
                sink._serve(request)

            def handle_error(self, request, client_address):
                pass  # recorded by _serve

        self._server = Server(("127.0.0.1", port), None)
        self.port = self._server.server_address[1]
        scheme = "https" if cert_file else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- control ---

    def script(self, *answers):
        """Answers for the next requests, one each."""
        with self._changed:
            self._script.extend(answers)

    def wait(self, condition, timeout=60):
        """Until condition() holds; it is asked after each connection, request and error."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), (
                f"not within {timeout} s: {len(self.requests)} requests, "
                f"{len(self.accepted)} events accepted, errors {self.errors}"
            )

    def wait_accepted(self, count, timeout=60):
        self.wait(lambda: len(self.accepted) >= count, timeout)
        return self.accepted

    def wait_requests(self, count, timeout=60):
        self.wait(lambda: len(self.requests) >= count, timeout)
        return self.requests

    def events_of(self, request):
        """What an accepted request holds; for sinks of other protocols to say."""
        return request.events()

    # --- one connection ---

    def _note(self, what):
        with self._changed:
            what()
            self._changed.notify_all()

    def _serve(self, connection):
        with self._changed:
            self.connections += 1
            ordinal = self.connections
            self._changed.notify_all()
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context:
                connection = self._shake_hands(connection)
            certificate = connection.getpeercert() if self._context else None
            with connection, connection.makefile("rb", 1 << 20) as stream:
                while True:
                    request = self._read(stream, ordinal, certificate)
                    if request is None or not self._answer(connection, request):
                        return
        except (OSError, ValueError, AssertionError) as error:
            text = repr(error)
            self._note(lambda: self.errors.append(text))

    def _shake_hands(self, connection):
        duplicate = connection.dup()
        try:
            return self._context.wrap_socket(connection, server_side=True)
        except ssl.SSLError:
            # Closing with bytes unread resets the connection, and the client may never see why.
            duplicate.settimeout(5)
            duplicate.shutdown(socket.SHUT_WR)
            while duplicate.recv(65536):
                pass
            raise
        finally:
            duplicate.close()

    def _read(self, stream, ordinal, certificate):
        line = stream.readline(65536).decode("latin-1").rstrip("\r\n")
        if not line:
            return None
        headers = {}
        while True:
            header = stream.readline(65536).decode("latin-1").rstrip("\r\n")
            if not header:
                break
            name, _, value = header.partition(":")
            headers[name.strip().lower()] = value.strip()
        assert "transfer-encoding" not in headers, "a body of unknown length"
        raw = stream.read(int(headers["content-length"]))
        if len(raw) < int(headers["content-length"]):
            return None
        body = unpack(raw, headers.get("content-encoding", ""))
        return Request(ordinal, line, headers, raw, body, certificate)

    def _answer(self, connection, request):
        with self._changed:
            self.requests.append(request)
            answer = self._script.pop(0) if self._script else self.policy(request) or Answer()
            silent = answer.raw is not None or answer.drop or answer.reset or answer.hold
            if not silent and not answer.half and 200 <= answer.status <= 299:
                self.accepted.extend(self.events_of(request))
            self._changed.notify_all()
        if answer.hold:
            self._stopping.wait()
            return False
        if answer.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if answer.drop:
            return False
        if answer.raw is not None:
            connection.sendall(answer.raw)
            return False
        self._send(connection, answer)
        return not (answer.close or answer.half)

    def _send(self, connection, answer):
        length = len(answer.body) + answer.endless
        head = f"HTTP/1.1 {answer.status} Scripted\r\nContent-Length: {length}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        body = answer.body[: len(answer.body) // 2] if answer.half else answer.body
        connection.sendall(head.encode("latin-1") + b"\r\n" + body)
        block = b"x" * 65536
        left = answer.endless
        while left > 0:
            sent = connection.send(block[:left])
            left -= sent
            self.sent_bytes += sent
