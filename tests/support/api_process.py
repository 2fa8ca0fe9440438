"""The API as a process of its own, behind a socket that outlives it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.host.child_process import Child
from service.host.liveness import is_alive
from service.host.supervisor import listen
from tests.support.processes import eventually


@dataclass(frozen=True)
class Api:
    """An API process behind a socket that outlives it."""

    child: Child
    fd: int
    port: int

    @property
    def url(self) -> str:
        """Where images are posted."""
        return f"http://127.0.0.1:{self.port}/v1/products/toy/inspections"

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self.child.pid is not None
        return self.child.pid

    def start(self) -> None:
        """Starts it, again too."""
        self.child.start("--fd", str(self.fd), pass_fds=(self.fd,))
        eventually(lambda: is_alive("127.0.0.1", self.port, 1.0), 120)


@contextmanager
def running_api(settings: Mapping[str, str], folder: Path) -> Iterator[Api]:
    """An API process with these GLAD_* settings; its data and its log lie in the folder."""
    command = [sys.executable, "-m", "service.api.server"]
    env = {**os.environ, "GLAD_DATA_DIR": str(folder), **settings}
    child = Child("API", command, env=env, log=folder / "api.log")
    with listen("127.0.0.1", 0) as server:
        api = Api(child, server.fileno(), int(server.getsockname()[1]))
        api.start()
        try:
            yield api
        finally:
            child.kill()
