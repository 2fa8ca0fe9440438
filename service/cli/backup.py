"""`glad backup` and `glad restore`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from model_store.cli.common import give_up
from service.cli.common import DataDir, load_settings

T = TypeVar("T")
BackupRedisBin = Annotated[
    Path | None,
    typer.Option(
        "--redis-bin", exists=True, dir_okay=False, help="The redis-server to run; redis-cli is looked for beside it."
    ),
]


def backup(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", file_okay=False, help="A folder of backups, outside of the data that is backed up."
        ),
    ],
    data_dir: DataDir = None,
    redis_bin: BackupRedisBin = None,
) -> None:
    """Add a backup of this installation to DIR, while it runs or not. Files already in DIR take no more space.

    Example: glad backup backups/
    """
    from service.maintenance.backup.make import make_backup
    from service.maintenance.backup.record import read_record

    settings = load_settings(data_dir=data_dir)
    made = _run(lambda: make_backup(settings, folder, _print_step, redis_bin))
    record = read_record(made)
    if (url := record.artifacts_elsewhere) is not None:
        print(f"glad backup: {url} is not in the backup: back it up by its own means", file=sys.stderr)
    print(f"{made}  {record.files} files, {record.bytes / 1e6:.1f} MB")


def restore(
    backup: Annotated[
        Path,
        typer.Argument(metavar="BACKUP", exists=True, file_okay=False, help="One backup, as `glad backup` printed it."),
    ],
    data_dir: DataDir = None,
    redis_bin: BackupRedisBin = None,
) -> None:
    """Restore an installation from BACKUP into an empty data folder, and check every file.

    Example: glad restore backups/2026-11-29T120000Z --data-dir new-data
    """
    from service.maintenance.backup.restore import restore_backup

    settings = load_settings(data_dir=data_dir)
    record = _run(lambda: restore_backup(settings, backup, _print_step, redis_bin))
    print(f"restored {record.files} files of {record.created_at:%Y-%m-%d %H:%M:%S} UTC into {settings.data_dir}")


def _run(work: Callable[[], T]) -> T:
    """Return the result of `work`; the command ends with one sentence if it fails."""
    from redis.exceptions import RedisError

    from service.errors import StartError
    from service.maintenance.backup.record import BackupError

    try:
        return work()
    except (BackupError, StartError, RedisError, OSError) as error:
        give_up(error)


def _print_step(step: str) -> None:
    print(f"{step} ...", file=sys.stderr)
