"""API processes whose clock is wrong, by libfaketime (Debian: faketime)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from service.host.child_process import Child
from service.host.liveness import is_alive
from service.host.supervisor import listen
from tests.support.processes import eventually

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
"""None: it is not installed."""


def shifted(seconds: int) -> dict[str, str]:
    """The environment of a process whose clock is so far ahead; a negative number: behind. Its timeouts are right."""
    if seconds == 0:
        return {}
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


@contextmanager
def shifted_api(seconds: int, settings: dict[str, str], log: Path) -> Iterator[httpx.Client]:
    """A client of an API process of its own, as long as the block lasts."""
    command = [sys.executable, "-m", "service.api.server"]
    child = Child("API", command, env={**os.environ, **settings, **shifted(seconds)}, log=log)
    with listen("127.0.0.1", 0) as server:
        port = int(server.getsockname()[1])
        child.start("--fd", str(server.fileno()), pass_fds=(server.fileno(),))
        try:
            eventually(lambda: is_alive("127.0.0.1", port, 1.0), 120)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
                yield http
        finally:
            child.kill()
