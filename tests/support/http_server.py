"""The application on a real server and a real port, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.api.server import make_server
from service.settings import Settings


@contextmanager
def server_on(settings: Settings, port: int = 0) -> Iterator[str]:
    """The URL of a server that ends as at SIGTERM: it drains first."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        # Its thread also logs while no test is under way and nothing captures.
        server = make_server(settings.model_copy(update={"log_level": "warning"}))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
