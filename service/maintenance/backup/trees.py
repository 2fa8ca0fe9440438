"""Copying whole folders, file by file, each with its hash."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from model_store.files import copy_file
from service.maintenance.backup.record import BackupError
from service.maintenance.backup.sums import Earlier

Beat = Callable[[], None]
"""Called now and then while a copy goes on."""
BEAT_EVERY = 500


def files_of(root: Path) -> Iterator[str]:
    """Paths within a folder, sorted: its own, then those of its subfolders. Without links, and without hidden ones:
    those are locks, or half written. OSError if a folder cannot be read: a backup without it would not be whole."""
    for folder, folders, names in os.walk(root, onerror=_refuse_unreadable):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted(names):
            path = Path(folder) / name
            if name[0] != "." and not path.is_symlink():
                yield path.relative_to(root).as_posix()


def save(source: Path, target: Path, label: str, earlier: Earlier | None, beat: Beat) -> Iterator[tuple[str, str]]:
    """Copies `source` to `target/label`; what the backup before has already becomes a link to it there.

    Gives path within the backup and SHA-256 of each file. What is removed while the copy goes on is left out. OSError,
    if anything else cannot be read.
    """
    for number, name in enumerate(files_of(source)):
        if number % BEAT_EVERY == 0:
            beat()
        labelled = f"{label}/{name}"
        try:
            yield labelled, _save_file(source / name, target / labelled, labelled, earlier)
        except FileNotFoundError:
            (target / labelled).unlink(missing_ok=True)


def bring_file(backup: Path, name: str, digest: str, target: Path, within: str) -> None:
    """Copy a file of the backup to its place `within` a folder.

    Raises:
        BackupError: if it cannot be read, or its hash is wrong.
    """
    place = target / within
    if not place.resolve().is_relative_to(target.resolve()):
        raise BackupError(f"{backup} names {name!r}, which leads out of its folder: it was tampered with")
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = copy_file(backup / name, place).sha256
    except OSError as error:
        raise BackupError(f"{backup / name} cannot be copied: {error.strerror or error}") from error
    if found != digest:
        raise BackupError(f"{backup / name} is damaged: its SHA-256 is {found}, not {digest}: use another backup")
    shutil.copystat(backup / name, place)


def _save_file(source: Path, target: Path, name: str, earlier: Earlier | None) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    if earlier is not None and (digest := earlier.hash_if_same(name, source)) is not None:
        # No link where the file system has none, or the earlier backup is just being removed.
        with contextlib.suppress(OSError):
            os.link(earlier.folder / name, target)
            return digest
    digest = copy_file(source, target).sha256
    shutil.copystat(source, target)
    return digest


def _refuse_unreadable(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # removed meanwhile
        raise error
