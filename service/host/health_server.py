"""The HTTP port of a worker or an outbox: /metrics, /health/live and /health/ready, from threads of its own.

Whoever reaches the port could open connections and say nothing: there are at most `MAX_CONNECTIONS`. The oldest without
a request makes room for a new one, and none lasts longer than `DEADLINE_S`. A process that could not answer its probe
would be killed.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any, Protocol, Self

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from service.errors import ServiceError

TEXT = "text/plain; charset=utf-8"
MAX_CONNECTIONS = 32
DEADLINE_S = 10.0
"""Longest time from a connection to its request, and then for its answer."""


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

    def __init__(
        self,
        host: str,
        port: int,
        health: HealthStatus,
        check_metrics_access: Callable[[Mapping[str, str]], None] = lambda headers: None,
    ) -> None:
        """Open the port; requests are answered from `__enter__` on.

        Args:
            host: the address to listen on.
            port: 0 takes any free port.
            health: of this process.
            check_metrics_access: raises a ServiceError if the sender of these headers may not read the metrics.

        Raises:
            OSError: if it cannot listen there, such as on a port that is in use; the message names the address.
        """
        try:
            self._server = _BoundedServer(host, port, _make_handler(health, check_metrics_access))
        except OSError as error:
            raise OSError(f"metrics and health cannot be served on {host}, port {port}: {error}") from error
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


class _BoundedServer(ThreadingTCPServer):
    """A thread for each of at most `MAX_CONNECTIONS` connections.

    It is no http.server.HTTPServer: that one looks up the host's name in the DNS before it listens.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, handler: type[_BoundedHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._lock = threading.Lock()
        self._silent_since: dict[Any, float] = {}
        self._working: set[Any] = set()
        super().__init__((host, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread, if need be in the place of the oldest that has sent no request."""
        with self._lock:
            if len(self._silent_since) + len(self._working) >= MAX_CONNECTIONS and self._silent_since:
                self._end(next(iter(self._silent_since)))
            admitted = len(self._silent_since) + len(self._working) < MAX_CONNECTIONS
            if admitted:
                self._silent_since[request] = time.monotonic()
        if admitted:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def begin_work(self, request: Any) -> None:
        """Note that a connection has sent its request: it makes no room any more."""
        with self._lock:
            if self._silent_since.pop(request, None) is not None:
                self._working.add(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and forget it."""
        with self._lock:
            self._silent_since.pop(request, None)
            self._working.discard(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End what has been silent for too long; called twice a second."""
        latest = time.monotonic() - DEADLINE_S
        with self._lock:
            for request in [request for request, since in self._silent_since.items() if since < latest]:
                self._end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client has gone, or reads nothing."""

    def _end(self, request: Any) -> None:
        self._silent_since.pop(request, None)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)  # its thread reads the end and closes it


class _BoundedHandler(BaseHTTPRequestHandler):
    """Answers one request; the socket's own timeout bounds an answer that is not read."""

    timeout = DEADLINE_S
    server: _BoundedServer

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes come every few seconds."""

    def send(self, status: int, body: bytes, content_type: str = TEXT, **headers: str) -> None:
        """Send a whole answer; to HEAD without its body."""
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _make_handler(
    health: HealthStatus, check_metrics_access: Callable[[Mapping[str, str]], None]
) -> type[_BoundedHandler]:
    class Handler(_BoundedHandler):
        def do_GET(self) -> None:
            self.server.begin_work(self.connection)
            match self.path:
                case "/metrics":
                    self._send_metrics()
                case "/health/live":
                    self._send_health(health.alive(), health.status)
                case "/health/ready":
                    ready = health.ready()
                    self._send_health(ready, "ready" if ready else "not ready; the log says why")
                case _:
                    self.send(404, b"unknown path: there are /metrics, /health/live and /health/ready\n")

        def do_HEAD(self) -> None:
            self.do_GET()

        def _send_metrics(self) -> None:
            try:
                check_metrics_access({name.lower(): value for name, value in self.headers.items()})
            except ServiceError as error:
                self.send(int(error.status), f"{error.detail}\n".encode(), TEXT, **error.headers)
            else:
                self.send(200, generate_latest(REGISTRY), CONTENT_TYPE_LATEST)

        def _send_health(self, good: bool, text: str) -> None:
            self.send(200 if good else 503, f"{text}\n".encode())

    return Handler
