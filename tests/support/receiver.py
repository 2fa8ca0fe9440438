"""A webhook receiver: a real HTTPS server that remembers what it was sent, and answers as it is told."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: Message
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What the receiver says."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pause_s: float = 0.0
    """Before each byte of a header that follows the others."""


class Receiver:
    """Answers 204 until it is told otherwise."""

    def __init__(self) -> None:
        self.answer: Callable[[Received], Answer] = lambda request: Answer()
        self.url = ""
        self._lock = threading.Lock()
        self._requests: list[Received] = []

    @property
    def requests(self) -> list[Received]:
        """All so far, in the order of their coming."""
        with self._lock:
            return list(self._requests)

    def take(self, request: Received) -> Answer:
        """One comes in."""
        with self._lock:
            self._requests.append(request)
        return self.answer(request)


@contextmanager
def receiving(authority: trustme.CA, *names: str, port: int = 0) -> Iterator[Receiver]:
    """A receiver on a free port of 127.0.0.1, with a certificate for these names."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # the sender was killed in the middle of it
                self.close_connection = True
                return
            answer = receiver.take(Received(self.path, self.headers, body))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            if answer.pause_s:
                self.flush_headers()
                for byte in b"X-Slow: " + b"y" * 1000:
                    time.sleep(answer.pause_s)
                    self.wfile.write(bytes([byte]))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up, or does not trust the certificate, is part of the tests."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
    with Server(("127.0.0.1", port), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        receiver.url = f"https://127.0.0.1:{server.server_address[1]}/hooks/glad?token=t0ken"
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
