"""The HTTP port of a worker or an outbox: /metrics, /health/live and /health/ready, from a thread of its own."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Protocol, Self

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

TEXT = "text/plain; charset=utf-8"


class Vitals(Protocol):
    """How the process is."""

    @property
    def status(self) -> str:
        """In words."""
        ...

    def alive(self) -> bool:
        """There was a sign of life lately."""
        ...

    def ready(self) -> bool:
        """It has begun to work, and was not asked to stop."""
        ...


class HealthServer:
    """Answers on a TCP port; 0 takes any free one. OSError if the port is in use."""

    def __init__(self, host: str, port: int, vitals: Vitals) -> None:
        self._server = _server(host, port, vitals)
        self._thread = threading.Thread(target=self._server.serve_forever, name="port", daemon=True)

    @property
    def number(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _server(host: str, port: int, vitals: Vitals) -> ThreadingTCPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/metrics":
                    self._answer(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)
                case "/health/live":
                    self._say(vitals.alive(), vitals.status)
                case "/health/ready":
                    self._say(vitals.ready(), "ready" if vitals.ready() else "warming up, or leaving")
                case _:
                    self._answer(404, b"ask for /metrics, /health/live or /health/ready\n", TEXT)

        def _say(self, good: bool, text: str) -> None:
            self._answer(200 if good else 503, f"{text}\n".encode(), TEXT)

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds; nobody wants to read that."""

    class Server(ThreadingTCPServer):
        """Not http.server's own class: that one asks the DNS for the host's name before it listens."""

        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        allow_reuse_address = True
        daemon_threads = True

    return Server((host, port), Handler)
