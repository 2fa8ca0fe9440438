"""The hash of every file of a backup: read and written line by line, for there may be millions.

The lines stand in the order in which a folder is walked: its own files, then its subfolders, both sorted. So two
backups can be compared without holding either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from service.maintenance.backup.record import SUMS, BackupError


def read_sums(backup: Path) -> Iterator[tuple[str, str]]:
    """Yield path within the backup and SHA-256 of each file.

    Raises:
        BackupError: if the list cannot be read.
    """
    try:
        with (backup / SUMS).open() as lines:
            for line in lines:
                digest, _, name = line.rstrip("\n").partition("  ")
                yield name, digest
    except (OSError, UnicodeError) as error:
        raise BackupError(f"{backup / SUMS} cannot be read: {error}") from error


class SumsFile:
    """The file while a backup is made. Use as a context manager; durable at its end."""

    def __init__(self, backup: Path) -> None:
        self._backup = backup
        self.files = self.bytes = 0
        """Of the backup so far."""

    def __enter__(self) -> Self:
        self._file = (self._backup / SUMS).open("x")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def add(self, name: str, digest: str) -> None:
        """Add a file that is in the backup already."""
        self._file.write(f"{digest}  {name}\n")
        self.files += 1
        self.bytes += (self._backup / name).stat().st_size


class Earlier:
    """The backup before this one. Asked for files in the order in which a folder is walked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sums = read_sums(folder)
        self._next = next(self._sums, None)

    def hash_if_same(self, name: str, source: Path) -> str | None:
        """Return the hash of its file of this name; None if the source has changed since, in size or time."""
        while self._next is not None and _place(self._next[0]) < _place(name):
            self._next = next(self._sums, None)
        if self._next is None or self._next[0] != name:
            return None
        try:
            before, now = (self.folder / name).stat(), source.stat()
        except FileNotFoundError:
            return None
        same = (before.st_size, before.st_mtime_ns) == (now.st_size, now.st_mtime_ns)
        return self._next[1] if same else None


def _place(name: str) -> tuple[tuple[bool, str], ...]:
    """In the order of the walk: files before folders."""
    *folders, file = name.split("/")
    return (*((True, folder) for folder in folders), (False, file))
