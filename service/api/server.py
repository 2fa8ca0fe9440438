"""The API as a process on a socket that its parent has opened: `python -m service.api.server --fd N`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
from asyncio.events import TimerHandle
from collections.abc import Sequence
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.host.child_process import API_DRAIN_S, EXIT_CONFIG
from service.host.memory import freeze_startup_objects, return_freed_memory
from service.settings import Settings

HEAD_TIMEOUT_S = 15.0
"""Longest wait for a request line and its headers."""
MAX_HEAD_BYTES = 64 << 10


class HeaderTimeoutProtocol(HttpToolsProtocol):
    """Closes a connection whose request line and headers are not complete in time, or are too long.

    uvicorn itself waits for them forever, so that a few clients could occupy all connections.
    """

    head_timeout_s = HEAD_TIMEOUT_S

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._head_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first head."""
        super().connection_made(transport)
        self._start_timer()

    def on_message_begin(self) -> None:
        """Start the timeout of a further head. Between two requests uvicorn's own keep-alive timeout counts."""
        super().on_message_begin()
        if self._head_timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        """End the timeout: the head is complete."""
        self._stop_timer()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and close the connection if the head has become too long."""
        super().data_received(data)
        self._head_bytes += len(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timeout: no more data comes."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close(self) -> None:
        self._stop_timer()
        self.transport.close()


class ApiServer(uvicorn.Server):
    """A uvicorn server that ends the event streams before it drains.

    They last without end, so uvicorn would wait for them until `API_DRAIN_S` is over.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and listen."""
        await super().startup(sockets)
        if self.started:
            self._app.state.services.decoder.start()
        freeze_startup_objects()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams, then drain."""
        self._app.state.services.feed.close()
        await super().shutdown(sockets)

    @property
    def _app(self) -> FastAPI:
        app = self.config.app
        assert isinstance(app, FastAPI)
        return app


def make_server(settings: Settings) -> ApiServer:
    """Return the server of these settings, which does not listen yet.

    Raises:
        SystemExit: with `EXIT_CONFIG`, if a newer version has written to this Redis: no restart can help.
    """
    from service.api.app import create_app
    from service.queue.connection import SchemaTooNew, refuse_newer_schema

    try:
        if settings.redis_url is not None:
            refuse_newer_schema(settings.redis_url)
    except SchemaTooNew as error:
        print(f"glad serve: {error}", file=sys.stderr)  # noqa: T201 - read at the terminal
        raise SystemExit(EXIT_CONFIG) from error

    return ApiServer(server_config(create_app(settings)))


def server_config(app: ASGIApp) -> uvicorn.Config:
    """Return uvicorn's configuration: our logs, no server name, no WebSockets, a timeout for request heads."""
    return uvicorn.Config(
        app,
        http=HeaderTimeoutProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=API_DRAIN_S,
        server_header=False,
        date_header=True,
    )


def serve_on(server: socket.socket, settings: Settings) -> None:
    """Serve on this socket until SIGINT or SIGTERM; then answer open requests for at most `API_DRAIN_S` seconds."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit)
    return_freed_memory()
    make_server(settings).run(sockets=[server])


def _exit(number: int, frame: FrameType | None) -> None:
    # uvicorn drains, and then raises the signal once more: a stop that was requested is no failure.
    raise SystemExit(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve on the socket that the parent process has passed on."""
    parser = argparse.ArgumentParser(prog="python -m service.api.server", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="an inherited, listening TCP socket")
    options = parser.parse_args(arguments)
    serve_on(socket.socket(fileno=options.fd), Settings())


if __name__ == "__main__":
    main()
