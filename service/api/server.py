"""The API as a process on a socket that its parent has opened: `python -m service.api.server --fd N`."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from service.api.connections import ConnectionLimits, ConnectionRegistry, LimitedHttpProtocol
from service.host.child_process import API_DRAIN_S, EXIT_CONFIG, read_settings
from service.host.memory import freeze_startup_objects, return_freed_memory
from service.settings import Settings


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
        SystemExit: with `EXIT_CONFIG`, if a setting is wrong or missing, or a newer version has written to this Redis:
            no restart can help.
    """
    from service.api.app import create_app
    from service.queue.connection import SchemaTooNew, refuse_newer_schema

    try:
        if settings.redis_url is not None:
            refuse_newer_schema(settings.redis_url)
        app = create_app(settings)
    except (ValueError, SchemaTooNew) as error:
        print(f"glad serve: {error}", file=sys.stderr)  # noqa: T201 - read at the terminal
        raise SystemExit(EXIT_CONFIG) from error
    return ApiServer(server_config(app, ConnectionLimits.from_settings(settings)))


def server_config(app: ASGIApp, limits: ConnectionLimits) -> uvicorn.Config:
    """Return uvicorn's configuration: our logs, no server name, no WebSockets, limits for every connection."""
    config = uvicorn.Config(
        app,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=API_DRAIN_S,
        server_header=False,
        date_header=True,
    )
    proxies = ProxyHeadersMiddleware(cast("Any", app), config.forwarded_allow_ips).trusted_hosts
    config.http = cast("Any", partial(LimitedHttpProtocol, registry=ConnectionRegistry(limits, proxies.__contains__)))
    return config


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
    settings = read_settings(Settings, "glad serve")
    serve_on(socket.socket(fileno=options.fd), settings)


if __name__ == "__main__":
    main()
