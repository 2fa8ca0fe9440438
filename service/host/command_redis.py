"""This machine's Redis for a command: the one that is named, the one that `glad serve` runs, or one for the moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.exceptions import RedisError

from service.errors import StartError
from service.host.child_process import (
    Child,
)
from service.host.data_dir import DataDirLock
from service.host.private_redis import answers, find_redis, redis_command, redis_url, socket_path
from service.queue.connection import connect
from service.settings import Settings

START_S = 60.0


@contextmanager
def borrowed_redis(settings: Settings, redis_bin: Path | None = None) -> Iterator[str]:
    """The URL of a Redis that answers. One that was started for the moment is stopped again, its data on disk.

    StartError if there is none to start, or the data folder is held by a service that is just starting or stopping.
    """
    path = socket_path(settings.data_dir.absolute())
    if settings.redis_url is not None:
        yield settings.redis_url
    elif answers(path):
        yield redis_url(path)
    else:
        with DataDirLock(settings.data_dir.absolute()), _started(settings.data_dir.absolute(), path, redis_bin):
            yield redis_url(path)


@contextmanager
def borrowed_client(settings: Settings, redis_bin: Path | None = None) -> Iterator[redis.Redis]:
    """A client of that Redis, for the work of one command. StartError as above, and if Redis stops answering."""
    try:
        with borrowed_redis(settings, redis_bin) as url, connect(url) as client:
            yield client
    except RedisError as error:
        raise StartError(f"the service's Redis does not answer ({error}): check GLAD_REDIS_URL") from error


@contextmanager
def _started(data_dir: Path, path: Path, redis_bin: Path | None) -> Iterator[None]:
    log_file = data_dir / "redis" / "redis.log"
    child = Child("Redis", redis_command(find_redis(redis_bin), data_dir, path), log=log_file)
    child.start()
    try:
        deadline = time.monotonic() + START_S
        while not answers(path):
            if child.exit_status is not None or time.monotonic() > deadline:
                raise StartError(f"Redis did not start; {log_file} says why")
            time.sleep(0.02)
        yield
    finally:
        child.kill()  # every write was synced before it was answered
