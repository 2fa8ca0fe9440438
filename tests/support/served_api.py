"""The application on a real socket, with uvicorn set up as `glad serve` sets it up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from service.api.app import create_app
from service.api_process import server_config
from service.settings import Settings


@contextmanager
def served(settings: Settings) -> Iterator[tuple[str, int]]:
    """Serves on a free port of the loopback; gives host and port."""
    # Its thread also logs while no test is under way and nothing captures.
    quiet = settings.model_copy(update={"log_level": "warning"})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(server_config(create_app(quiet)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            server.should_exit = True
            thread.join()
