"""A backup becomes an installation again: into empty places only, every file checked against its hash."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import redis

from model_store.store_contents import store_folder
from service.host.private_redis import DataDirLock
from service.maintenance.backup.record import ARTIFACTS, RDB, RECORD, STORE, SUMS, BackupError, Record, read_compatible
from service.maintenance.backup.redis_dump import LOADED, load_rdb
from service.maintenance.backup.sums import read_sums
from service.maintenance.backup.trees import bring_file
from service.queue import keys
from service.queue.connection import check_schema
from service.settings import Settings
from service.storage.artifacts import local_folder

Say = Callable[[str], None]


def restore_backup(settings: Settings, backup: Path, say: Say, redis_bin: Path | None = None) -> Record:
    """Fills this machine's data folder, artifacts and store. BackupError, StartError, OSError: the places are to be
    emptied before the next attempt."""
    record = read_compatible(backup)
    data_dir = settings.data_dir.absolute()
    if settings.redis_url is not None:
        raise BackupError(
            "GLAD_REDIS_URL is set; a restore makes the data of a private Redis: leave it out, and give the folder "
            f"{data_dir / 'redis'} to your Redis afterwards, as docs/backup.md shows"
        )
    places = _places(settings, record)
    with DataDirLock(data_dir):
        for place in (data_dir / "redis", *places.values()):
            _refuse_filled(place)
        _bring_back(backup, record, {**places, RDB: data_dir / "redis"}, say)
        say("Redis")
        load_rdb(data_dir, redis_bin, _as_restored)
        os.sync()
    return record


def _bring_back(backup: Path, record: Record, places: Mapping[str, Path], say: Say) -> None:
    """Every file to its place, by label, the first part of its path. BackupError."""
    said, found = None, 0
    for name, digest in read_sums(backup):
        found += 1
        label, _, within = name.partition("/")
        if label not in places:
            continue
        if label != said:
            said = label
            say("the snapshot" if label == RDB else label)
        bring_file(backup, name, digest, places[label], within or LOADED)
    if found != record.files:
        raise BackupError(f"{backup / SUMS} names {found} files, {RECORD} says {record.files}: use another backup")


def _places(settings: Settings, record: Record) -> dict[str, Path]:
    """Where files go, by label."""
    artifacts = local_folder(settings.artifacts)
    if artifacts is None and record.artifacts_elsewhere is None:
        raise BackupError(
            f"the backup holds artifacts, and GLAD_ARTIFACTS_URL is {settings.artifacts}: restore into a folder (leave "
            "it unset), and copy that to the store with its own tools"
        )
    places = {STORE: store_folder(settings.store_url)}
    return places if artifacts is None or record.artifacts_elsewhere else {ARTIFACTS: artifacts, **places}


def _refuse_filled(place: Path) -> None:
    if place.is_dir() and any(place.iterdir()):
        raise BackupError(
            f"{place} is not empty: a restore overwrites nothing. Move it away, or give another --data-dir"
        )


def _as_restored(client: redis.Redis) -> None:
    """An image that this Redis does not know may belong to an inspection accepted after the backup: it is no orphan, if
    its folder was not lost with Redis. So this Redis begins now.

    Sessions are not brought back: who signed out since the backup would be signed in again."""
    check_schema(client)
    now = cast("Any", client.time())
    client.set(keys.BORN, now[0] * 1000 + now[1] // 1000)
    client.delete(keys.SWEEPER)
    client.delete(keys.ARTIFACTS)  # the folder may be another one
    for session in client.scan_iter(match=keys.session("*"), count=1000):
        client.delete(session)
