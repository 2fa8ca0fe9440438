"""A Redis of a measurement's own, for as long as it lasts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from service.host.child_process import Child
from service.host.private_redis import find_redis, redis_answers, redis_command, redis_url, socket_path


@contextmanager
def own_redis() -> Iterator[str]:
    """Its URL. As `glad serve` runs it: append-only, every write on disk before its answer. StartError without one."""
    with TemporaryDirectory(prefix="glad-bench-") as folder:
        socket = socket_path(Path(folder))
        child = Child("Redis", redis_command(find_redis(), Path(folder), socket), log=Path(folder) / "redis.log")
        child.start()
        try:
            while not redis_answers(socket):
                time.sleep(0.05)
            yield redis_url(socket)
        finally:
            child.kill()
