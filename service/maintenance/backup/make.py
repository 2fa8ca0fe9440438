"""A backup of a running installation: Redis first, then what it points to.

An image is stored before its job is submitted, pictures before their result: whatever the snapshot of Redis names was
there already. So that it still is when it is copied, no sweep runs meanwhile.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import redis

from model_store.files import hash_file, make_folder, sync_folder, write_file
from model_store.store_contents import store_folder
from service.host.private_redis import find_or_start_redis
from service.maintenance.backup.record import ARTIFACTS, RDB, RECORD, STORE, BackupError, Record, newest
from service.maintenance.backup.redis_dump import find_cli, save_rdb
from service.maintenance.backup.sums import Earlier, SumsFile
from service.maintenance.backup.trees import Beat, save
from service.queue import keys
from service.queue.connection import check_schema, connect
from service.settings import Settings
from service.storage.artifacts import local_folder
from service.telemetry.logs import package_version

UNFINISHED = ".{}.unfinished"
HOLD_MS = 3_600_000
"""A backup that is killed leaves the next sweep waiting for so long."""

Say = Callable[[str], None]


def make_backup(settings: Settings, folder: Path, say: Say, redis_bin: Path | None = None) -> Path:
    """Add a backup to `folder` and return its path.

    Raises:
        BackupError, StartError, RedisError, OSError: if none was made.
    """
    _refuse_inside(settings, folder)
    cli = find_cli(redis_bin)
    make_folder(folder)
    with _alone(folder):
        before = newest(folder)
        earlier = None if before is None else Earlier(before)
        target = folder / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        unfinished = folder / UNFINISHED.format(target.name)
        unfinished.mkdir(mode=0o700)
        try:
            with find_or_start_redis(settings, redis_bin) as url, connect(url) as client:
                _fill(unfinished, settings, client, _snapshot(cli, url), earlier=earlier, say=say)
                os.sync()  # of millions of files and folders; one by one it would take hours
                unfinished.rename(target)
                _note_backup(client)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        sync_folder(folder)
    return target


def _note_backup(client: redis.Redis) -> None:
    """Let everybody know by Redis, and so by `glad_backup_last_success_timestamp_seconds`, that a backup is whole."""
    seconds, _ = client.time()
    client.set(keys.BACKUP, seconds)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One backup at a time in this folder; what a killed one left is removed. BackupError if another is under way."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupError(f"another backup into {folder} is under way: wait, or give another folder") from error
        for left in folder.glob(UNFINISHED.format("*")):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _snapshot(cli: str, url: str) -> Callable[[Path], None]:
    """What writes a snapshot of this Redis to a path."""
    return lambda path: save_rdb(url, path, cli)


def _fill(
    target: Path,
    settings: Settings,
    client: redis.Redis,
    snapshot: Callable[[Path], None],
    *,
    earlier: Earlier | None,
    say: Say,
) -> None:
    """Everything of a backup, its record last."""
    check_schema(client)
    made_at, artifacts, store = datetime.now(UTC), local_folder(settings.artifacts), store_folder(settings.store_url)
    with _no_sweep(client) as beat, SumsFile(target) as sums:
        say("Redis")
        snapshot(target / RDB)
        sums.add(RDB, hash_file(target / RDB).sha256)
        for label, source in ((ARTIFACTS, artifacts), (STORE, store)):
            if source is not None and source.is_dir():
                say(label)
                for name, digest in save(source, target, label, earlier, beat):
                    sums.add(name, digest)
    record = Record(
        created_at=made_at,
        version=package_version(),
        schema_version=keys.SCHEMA_VERSION,
        redis_version=str(client.info("server")["redis_version"]),
        files=sums.files,
        bytes=sums.bytes,
        artifacts_elsewhere=settings.artifacts if artifacts is None else None,
    )
    write_file(target / RECORD, record.model_dump_json(indent=2).encode())


@contextmanager
def _no_sweep(client: redis.Redis) -> Iterator[Beat]:
    """Nothing is swept while it lasts, as long as the beat is called within an hour. A sweep under way ends early."""
    token = f"backup-{uuid4().hex}"

    def beat() -> None:
        client.set(keys.SWEEPER, token, px=HOLD_MS)

    beat()
    try:
        yield beat
    finally:
        if client.get(keys.SWEEPER) == token:
            client.delete(keys.SWEEPER)


def _refuse_inside(settings: Settings, folder: Path) -> None:
    for source in (local_folder(settings.artifacts), store_folder(settings.store_url)):
        if source is not None and folder.resolve().is_relative_to(source.resolve()):
            raise BackupError(f"{folder} lies in {source}, which is to be copied: give a folder elsewhere")
