"""The API as a process of its own, on a socket that its parent opened: `python -m service.api_process --fd N`."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Sequence

import uvicorn

from service.contract import LONGEST_WAIT_S
from service.settings import Settings

DRAIN_S = LONGEST_WAIT_S + 5
"""A request that waits for its result may do so to its end."""


def serve_on(server: socket.socket, settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM; then answers what is under way, for at most `DRAIN_S` seconds."""
    from service.api.app import create_app

    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_S,
        server_header=False,
        date_header=True,
    )
    uvicorn.Server(config).run(sockets=[server])


def main(arguments: Sequence[str] | None = None) -> None:
    """Takes the inherited socket and serves on it."""
    parser = argparse.ArgumentParser(prog="python -m service.api_process", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="an inherited, listening TCP socket")
    given = parser.parse_args(arguments)
    serve_on(socket.socket(fileno=given.fd), Settings())


if __name__ == "__main__":
    main()
