"""The API as a process of its own, on a socket that its parent opened: `python -m service.api.server --fd N`."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from service.api.patient_protocol import PatientProtocol
from service.host.child_process import API_DRAIN_S, EXIT_CONFIG
from service.host.memory import return_freed_memory, set_startup_aside
from service.settings import Settings


class Server(uvicorn.Server):
    """Ends the followed events before it waits for open connections: else they would last until it gives up."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application, and listens."""
        await super().startup(sockets)
        set_startup_aside()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains."""
        app = self.config.app
        assert isinstance(app, FastAPI)
        app.state.site.feed.close()
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
        http=PatientProtocol,
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
