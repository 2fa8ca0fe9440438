"""The socket that the API listens on: opened by whoever supervises, so that a port in use is found first."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import StartError


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """A listening TCP socket; port 0 takes any free one. StartError says what is wrong with the address."""
    if not 0 <= port <= 65535:
        raise StartError(f"port is {port}; it must be 0 to 65535: set --port or GLAD_PORT (0 takes any free one)")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartError(f"host {host!r} is no address to listen on ({error}): set --host or GLAD_HOST") from error
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(address)
            server.listen(2048)
        except OSError as error:
            raise StartError(_why_not(host, port, error)) from error
        yield server


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: choose another with --port or GLAD_PORT (0 takes any free one)"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} needs more rights: choose one from 1024 up with --port or GLAD_PORT"
    return f"cannot listen on {host}, port {port}: {error.strerror}. Set --host and --port"
