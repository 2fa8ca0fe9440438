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


class HealthStatus(Protocol):
    """The state of a process, as its health port reports it."""

    @property
    def status(self) -> str:
        """The state in words."""
        ...

    def alive(self) -> bool:
        """Return whether the process made progress lately; one that did not is killed and started again."""
        ...

    def ready(self) -> bool:
        """Return whether the process has begun to work and was not asked to stop."""
        ...


class HealthServer:
    """A context manager that serves a process's metrics and health on a TCP port."""

    def __init__(self, host: str, port: int, health: HealthStatus) -> None:
        """Open the port; requests are answered from `__enter__` on.

        Args:
            port: 0 takes any free port.

        Raises:
            OSError: if the port is in use.
        """
        self._server = _make_server(host, port, health)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The number of the port that is open."""
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


def _make_server(host: str, port: int, health: HealthStatus) -> ThreadingTCPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/metrics":
                    self._send(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)
                case "/health/live":
                    self._send_health(health.alive(), health.status)
                case "/health/ready":
                    ready = health.ready()
                    self._send_health(ready, "ready" if ready else "not ready; the log says why")
                case _:
                    self._send(404, b"unknown path: there are /metrics, /health/live and /health/ready\n", TEXT)

        def _send_health(self, good: bool, text: str) -> None:
            self._send(200 if good else 503, f"{text}\n".encode(), TEXT)

        def _send(self, status: int, body: bytes, content_type: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: probes come every few seconds."""

    # Not http.server.HTTPServer: that one looks up the host's name in the DNS before it listens.
    class Server(ThreadingTCPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        allow_reuse_address = True
        daemon_threads = True

    return Server((host, port), Handler)
