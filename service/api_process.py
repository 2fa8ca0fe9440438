"""The API as a process of its own, on a socket that its parent opened: `python -m service.api_process --fd N`."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Sequence

import uvicorn

from service.contract import LONGEST_WAIT_S
from service.settings import Settings

EXIT_CONFIG = 78
"""The configuration is wrong: starting again would not help (EX_CONFIG)."""
DRAIN_S = LONGEST_WAIT_S + 5
"""A request that waits for its result may do so to its end."""


def serve_on(server: socket.socket, settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM; then answers what is under way, for at most `DRAIN_S` seconds.

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
