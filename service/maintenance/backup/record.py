"""The record of a backup: its parts, and the hash of every file.

    {backup}/backup.json   who made it, when, with which schema
    {backup}/SHA256SUMS    a line per file, as `sha256sum --check` reads them
    {backup}/redis.rdb  artifacts/…  store/…

A backup is complete by itself. Files that the one before it had already are hard links to them, so that any backup can
be removed without touching another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from service.contract import Message
from service.queue import keys

RECORD = "backup.json"
SUMS = "SHA256SUMS"
RDB = "redis.rdb"
ARTIFACTS = "artifacts"
STORE = "store"


class BackupError(Exception):
    """A backup cannot be made or used. The message says why, and what to do."""


class Record(Message):
    """The head of a backup."""

    format: Literal[1] = 1
    created_at: AwareDatetime
    version: str
    """Of the service that made it."""
    schema_version: int
    """Of the Redis keys."""
    redis_version: str
    files: int
    bytes: int
    artifacts_elsewhere: str | None = None
    """The URL of artifacts that are no local folder: they are not in the backup."""


def read_record(backup: Path) -> Record:
    """Return the record of a backup.

    Raises:
        BackupError: if this is no backup, or one of an unknown format.
    """
    path = backup / RECORD
    try:
        return Record.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BackupError(
            f"{backup} is no backup ({path}: {error.strerror}): give the folder that `glad backup` printed"
        ) from error
    except ValidationError as error:
        reason = error.errors()[0]
        raise BackupError(
            f"{path} cannot be read ({'.'.join(map(str, reason['loc']))}: {reason['msg']}): "
            "it is damaged, or of a newer version of the service"
        ) from error


def read_compatible(backup: Path) -> Record:
    """Return the record of a backup that this version can restore.

    Raises:
        BackupError: as `read_record`, and if its keys are of a newer schema than this service knows.
    """
    record = read_record(backup)
    if record.schema_version > keys.SCHEMA_VERSION:
        raise BackupError(
            f"{backup} holds data of schema {record.schema_version} (glad {record.version}); this version of the "
            f"service knows schema {keys.SCHEMA_VERSION}: restore it with version {record.version} or a newer one"
        )
    return record


def newest(folder: Path) -> Path | None:
    """Return the latest complete backup in a folder, or None. One that is just being removed does not count."""
    complete = (path.parent for path in folder.glob(f"[0-9]*/{RECORD}") if path.with_name(SUMS).exists())
    return max(complete, key=lambda found: found.name, default=None)
