"""A destination that speaks HTTP/2 only: over TLS (ALPN h2), or in clear text without an upgrade.

Answers every request 200 and records it. One thread a connection.
"""

import json
import socketserver
import ssl
import threading

import h2.config
import h2.connection
import h2.events


class H2Sink:
    def __init__(self, *, cert_file=None, key_file=None):
        self.requests = []  # (headers as a dict, body)
        self.accepted = []
        self.connections = 0
        self._changed = threading.Condition()
        self._context = None
        if cert_file:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(cert_file, key_file)
            self._context.set_alpn_protocols(["h2"])
        sink = self

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def finish_request(self, request, client_address):
                sink._serve(request)

            def handle_error(self, request, client_address):
                pass

        self._server = Server(("127.0.0.1", 0), None)
        scheme = "https" if cert_file else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, condition, timeout=60):
        with self._changed:
            assert self._changed.wait_for(condition, timeout), f"{len(self.requests)} requests"

    def _serve(self, connection):
        self.connections += 1
        if self._context:
            connection = self._context.wrap_socket(connection, server_side=True)
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        state.initiate_connection()
        streams = {}
        with connection:
            connection.sendall(state.data_to_send())
            while data := connection.recv(1 << 16):
                for event in state.receive_data(data):
                    self._take(state, streams, event)
                connection.sendall(state.data_to_send())

    def _take(self, state, streams, event):
        if isinstance(event, h2.events.RequestReceived):
            headers = {name.decode(): value.decode() for name, value in event.headers}
            streams[event.stream_id] = (headers, bytearray())
        elif isinstance(event, h2.events.DataReceived):
            streams[event.stream_id][1].extend(event.data)
            state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            headers, body = streams.pop(event.stream_id)
            state.send_headers(event.stream_id, [(":status", "200")], end_stream=True)
            with self._changed:
                self.requests.append((headers, bytes(body)))
                self.accepted.extend(json.loads(body))
                self._changed.notify_all()
