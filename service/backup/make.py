"""A backup of a running installation: Redis first, then what it points to.

An image is stored before its job is submitted, pictures before their result: whatever the snapshot of Redis names was
there already. So that it still is when it is copied, no sweep runs meanwhile.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import redis

from model_store.files import hash_file, make_folder, sync_folder, write_file
from service.artifact_backends import local_folder
from service.backup.record import (
    ARTIFACTS,
    RDB,
    RECORD,
    STORE,
    SUMS,
    BackupError,
    Record,
    newest,
    read_sums,
    write_sums,
)
from service.backup.redis_dump import find_cli, save_rdb
from service.backup.trees import Beat, Earlier, save
from service.borrowed_redis import borrowed_redis
from service.queue import keys, schema
from service.queue.connection import connect
from service.settings import Settings
from service.telemetry import package_version

HOLD_MS = 3_600_000
"""A backup that is killed leaves the next sweep waiting for so long."""

Say = Callable[[str], None]


def make_backup(settings: Settings, folder: Path, say: Say, redis_bin: Path | None = None) -> Path:
    """Adds a backup to `folder` and returns its path. BackupError, StartError, RedisError, OSError: there is none."""
    _refuse_inside(settings, folder)
    cli, before = find_cli(redis_bin), newest(folder)
    earlier = None if before is None else Earlier(before, read_sums(before))
    target = folder / datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    make_folder(folder)
    unfinished = folder / f".{target.name}.unfinished"
    unfinished.mkdir(mode=0o700)
    try:
        with borrowed_redis(settings, redis_bin) as url, connect(url) as client:
            _fill(unfinished, settings, client, _snapshot(cli, url), earlier=earlier, say=say)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    sync_folder(folder)
    return target


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
    schema.check(client)
    made_at, artifacts = datetime.now(UTC), local_folder(settings.artifacts)
    with _no_sweep(client) as beat:
        say("Redis")
        snapshot(target / RDB)
        sums = {RDB: hash_file(target / RDB).sha256}
        for label, source in ((ARTIFACTS, artifacts), (STORE, local_folder(settings.store_url))):
            if source is not None and source.is_dir():
                say(label)
                sums |= save(source, target, label, earlier, beat)
    write_sums(target / SUMS, sums)
    record = Record(
        created_at=made_at,
        version=package_version(),
        schema_version=schema.VERSION,
        redis_version=str(client.info("server")["redis_version"]),
        files=len(sums),
        bytes=sum((target / name).stat().st_size for name in sums),
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
    for source in (local_folder(settings.artifacts), local_folder(settings.store_url)):
        if source is not None and folder.resolve().is_relative_to(source.resolve()):
            raise BackupError(f"{folder} lies in {source}, which is to be copied: give a folder elsewhere")
