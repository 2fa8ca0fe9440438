"""`glad backup` and `glad restore`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from model_store.cli.common import give_up

if TYPE_CHECKING:
    from service.settings import Settings

T = TypeVar("T")
DataDir = Annotated[
    Path | None, typer.Option(help="The data folder of `glad serve`. [GLAD_DATA_DIR, ~/.local/state/glad]")
]
RedisBin = Annotated[Path | None, typer.Option(help="The redis-server to run; redis-cli is looked for beside it.")]


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of backups; outside of what is backed up.")],
    data_dir: DataDir = None,
    redis_bin: RedisBin = None,
) -> None:
    """Add a backup of this installation to DIR, while it runs or not; files that DIR has already take no room again."""
    from service.maintenance.backup.make import make_backup
    from service.maintenance.backup.record import read_record

    settings = _settings(data_dir)
    made = _told(lambda: make_backup(settings, folder, _say, redis_bin))
    record = read_record(made)
    for url in record.elsewhere:
        print(f"glad backup: {url} is not in it: back that up by its own means", file=sys.stderr)
    print(f"{made}  {record.files} files, {record.bytes / 1e6:.1f} MB")


def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="One backup: what `glad backup` printed.")],
    data_dir: DataDir = None,
    redis_bin: RedisBin = None,
) -> None:
    """Make an installation from BACKUP, in an empty data folder, with every file checked."""
    from service.maintenance.backup.restore import restore_backup

    settings = _settings(data_dir)
    record = _told(lambda: restore_backup(settings, backup, _say, redis_bin))
    print(f"restored {record.files} files of {record.created_at:%Y-%m-%d %H:%M:%S} UTC into {settings.data_dir}")


def _settings(data_dir: Path | None) -> Settings:
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings() if data_dir is None else Settings(data_dir=data_dir)
    except ValidationError as error:
        give_up(
            "; ".join(f"{'.'.join(map(str, one['loc']))} is {one['input']!r}: {one['msg']}" for one in error.errors())
        )


def _told(work: Callable[[], T]) -> T:
    """Does it, or says in one line why not."""
    from redis.exceptions import RedisError

    from service.errors import StartError
    from service.maintenance.backup.record import BackupError

    try:
        return work()
    except (BackupError, StartError, RedisError, OSError) as error:
        give_up(error)


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr)
