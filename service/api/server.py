"""The API as a process of its own, on a socket that its parent opened: `python -m service.api.server --fd N`."""

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
MAX_HEAD_BYTES = 64 << 10


class HeaderTimeoutProtocol(HttpToolsProtocol):
    """Closes a connection whose request line and headers are not whole in time, or too long to be meant well."""

    head_timeout_s = HEAD_TIMEOUT_S

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._head_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """From here on the first head is waited for."""
        super().connection_made(transport)
        self._expect_head()

    def on_message_begin(self) -> None:
        """The next head on a kept connection. Between two, uvicorn's own timeout counts."""
        super().on_message_begin()
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_came()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, and counts what a head has brought so far."""
        super().data_received(data)
        self._head_bytes += len(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self._head_came()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_came()
        self.transport.close()


class Server(uvicorn.Server):
    """Ends the followed events before it waits for open connections: else they would last until it gives up."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application, and listens."""
        await super().startup(sockets)
        freeze_startup_objects()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains."""
        app = self.config.app
        assert isinstance(app, FastAPI)
        app.state.services.feed.close()
        await super().shutdown(sockets)


def make_server(settings: Settings) -> Server:
    """The server of these settings, not yet listening.

    SystemExit where no restart can help: the Redis belongs to a newer version.
    """
    from service.api.app import create_app
    from service.queue.schema import SchemaTooNew, refuse_newer

    try:
        if settings.redis_url is not None:
            refuse_newer(settings.redis_url)
    except SchemaTooNew as error:
        print(f"glad serve: {error}", file=sys.stderr)  # noqa: T201 - for the person who set it
        raise SystemExit(EXIT_CONFIG) from error

    return Server(server_config(create_app(settings)))


def server_config(app: ASGIApp) -> uvicorn.Config:
    """How uvicorn serves: our logs, no server name, no WebSockets, and no patience for a head that does not come."""
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
    """Serves until SIGINT or SIGTERM; then answers what is under way, for at most `API_DRAIN_S`
    seconds."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    return_freed_memory()
    make_server(settings).run(sockets=[server])


def _leave(number: int, frame: FrameType | None) -> None:
    """uvicorn drains, and then raises the signal once more: what was asked for and done is no failure."""
    raise SystemExit(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Takes the inherited socket and serves on it."""
    parser = argparse.ArgumentParser(prog="python -m service.api.server", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="an inherited, listening TCP socket")
    given = parser.parse_args(arguments)
    serve_on(socket.socket(fileno=given.fd), Settings())


if __name__ == "__main__":
    main()
