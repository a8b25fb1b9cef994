"""A server of weights that can be told to behave badly."""

import hashlib
import random
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from multibox.importers.published import PUBLISHED, PublishedFile

CONTENT = random.Random(0).randbytes(700_001)
LENGTH = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``content`` at every path; the attributes say how badly."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.ranges = True
        self.says_length = True
        self.status = 200
        self.location = ""
        self.content_range = ""
        self.hang_at: int | None = None
        self.cut_at: list[int] = []
        self.asked: list[str | None] = []
        self.over = threading.Event()

    def handle_error(self, request, client_address):
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        self.close_connection = True
        if server.status != 200:
            self.send_response(server.status)
            if server.location:
                self.send_header("Location", server.location)
            self.end_headers()
            return
        start = int(asked[6:-1]) if asked and server.ranges else 0
        if start >= len(server.content) > 0:
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if asked and server.ranges else 200)
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        if asked and server.ranges:
            end = f"{len(server.content) - 1}/{len(server.content)}"
            self.send_header("Content-Range", server.content_range or f"bytes {start}-{end}")
        self.end_headers()
        if server.hang_at is not None:
            self.wfile.write(body[: server.hang_at])
            self.wfile.flush()
            server.over.wait(20)
            return
        self.wfile.write(body[: server.cut_at.pop(0)] if server.cut_at else body)


def weights(server, sha256=SHA256, size=LENGTH, path="weights.pth", member=None):
    url = f"http://127.0.0.1:{server.server_address[1]}/{path}"
    file = PublishedFile(url, sha256, size, member)
    return replace(PUBLISHED["torchvision:ssd300_vgg16"], file=file)
