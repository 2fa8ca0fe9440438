"""Servers as processes of their own, for as long as a measurement lasts."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.host.child_process import Child
from service.host.liveness import is_alive
from service.host.supervisor import listen

POLL_S = 0.2


@dataclass(frozen=True)
class Server:
    """One that answers."""

    url: str
    pid: int


@contextmanager
def web_server(module: str, environment: Mapping[str, str], log: Path) -> Iterator[Server]:
    """`python -m MODULE --fd N` on a free port of this machine, once it answers; killed at the end of the block.

    RuntimeError if it ends before.
    """
    child = Child(module, [sys.executable, "-m", module], env={**os.environ, **environment}, log=log)
    with listen("127.0.0.1", 0) as socket:
        port = int(socket.getsockname()[1])
        child.start("--fd", str(socket.fileno()), pass_fds=(socket.fileno(),))
        try:
            while not is_alive("127.0.0.1", port, 1.0):
                if not child.running:
                    raise RuntimeError(f"{module} did not start: see {log}")
                time.sleep(POLL_S)
            yield Server(f"http://127.0.0.1:{port}", child.pid or 0)
        finally:
            child.kill()
