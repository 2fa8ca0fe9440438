"""Copies of whole folders, file by file, each with its hash."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_store.files import copy_file
from service.backup.record import BackupError

Beat = Callable[[], None]
"""Called now and then while a copy goes on."""
BEAT_EVERY = 500


@dataclass(frozen=True)
class Earlier:
    """The backup before this one."""

    folder: Path
    sums: Mapping[str, str]

    def hash_if_same(self, name: str, source: Path) -> str | None:
        """The hash of its file of this name, if the source has not changed since: equal size and time."""
        digest = self.sums.get(name)
        try:
            before, now = (self.folder / name).stat(), source.stat()
        except FileNotFoundError:
            return None
        same = (before.st_size, before.st_mtime_ns) == (now.st_size, now.st_mtime_ns)
        return digest if same else None


def files_of(root: Path) -> Iterator[str]:
    """Paths within a folder, sorted. Without links, and without hidden ones: those are locks, or half written."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted(names):
            path = Path(folder) / name
            if name[0] != "." and not path.is_symlink():
                yield path.relative_to(root).as_posix()


def save(source: Path, target: Path, label: str, earlier: Earlier | None, beat: Beat) -> dict[str, str]:
    """Copies `source` to `target/label`; what the backup before has already becomes a link to it there.

    Returns SHA-256 by path within the backup. What is removed while the copy goes on is left out.
    """
    sums = {}
    for number, name in enumerate(files_of(source)):
        if number % BEAT_EVERY == 0:
            beat()
        labelled = f"{label}/{name}"
        try:
            sums[labelled] = _save_file(source / name, target / labelled, labelled, earlier)
        except FileNotFoundError:
            (target / labelled).unlink(missing_ok=True)
    return sums


def bring_back(backup: Path, sums: Mapping[str, str], label: str, target: Path) -> None:
    """Copies the backup's files of this label into `target`. BackupError if one is not what it was."""
    for name in (name for name in sums if name.startswith(f"{label}/")):
        place = target / name.removeprefix(f"{label}/")
        if not place.resolve().is_relative_to(target.resolve()):
            raise BackupError(f"{backup} names {name!r}, which leads out of its folder: it was tampered with")
        bring_file(backup, sums, name, place)


def bring_file(backup: Path, sums: Mapping[str, str], name: str, place: Path) -> None:
    """Copies one file of the backup. BackupError if it is not what it was."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        digest = copy_file(backup / name, place).sha256
    except OSError as error:
        raise BackupError(f"{backup / name} cannot be copied: {error.strerror or error}") from error
    if digest != sums.get(name):
        raise BackupError(
            f"{backup / name} is damaged: its SHA-256 is {digest}, not {sums.get(name)}: use another backup"
        )
    shutil.copystat(backup / name, place)


def _save_file(source: Path, target: Path, name: str, earlier: Earlier | None) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    if earlier is not None and (digest := earlier.hash_if_same(name, source)) is not None:
        os.link(earlier.folder / name, target)
        return digest
    digest = copy_file(source, target).sha256
    shutil.copystat(source, target)
    return digest
