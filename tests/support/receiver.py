"""A collector in a process of its own, to be killed: `receiver.py PORT FILE`.

Each batch is a line of FILE, written and synced before it is acknowledged. Says "ready" on stdout.
"""

import http.server
import os
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        os.write(FILE, body + b"\n")
        os.fdatasync(FILE)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    FILE = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    # A line that the last life left unfinished was never acknowledged.
    if os.lseek(FILE, 0, os.SEEK_END) > 0:
        os.write(FILE, b"\n")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print("ready", flush=True)
    server.serve_forever()
