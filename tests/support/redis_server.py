"""A real redis-server on a unix socket, which a test may kill, pause and start again on the same data."""

from __future__ import annotations

import signal
from pathlib import Path

import redis

from service.host.child_process import Child
from service.host.private_redis import find_redis, redis_answers, redis_command, redis_url, socket_path
from service.queue.connection import connect
from tests.support.processes import eventually


class RedisServer:
    """One server and its folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._socket = socket_path(folder)
        command = [*redis_command(find_redis(), folder, self._socket), *options]
        self._child = Child("Redis", command, log=folder / "redis.log")

    @property
    def url(self) -> str:
        """What a client connects to."""
        return redis_url(self._socket)

    def start(self) -> None:
        """Starts it and waits until it answers; keeps the data of an earlier start."""
        self._child.start()
        eventually(lambda: redis_answers(self._socket))

    def kill(self) -> None:
        """SIGKILL."""
        self._child.kill()

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT."""
        self._child.signal(number)

    def connect(self) -> redis.Redis:
        """A client as workers have it."""
        return connect(self.url)
