"""Where artifacts lie: a folder of this machine, or what `service.storage.remote` opens."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from model_store.files import HALF_WRITTEN, make_folder, replace_file, sync_folder

UNFINISHED_AFTER_S = 3600.0
"""No write takes so long: a hidden file that has not changed since then was left by a killed process."""


@dataclass(frozen=True)
class Disk:
    """The disk under a local folder, in bytes."""

    free: int
    size: int


class Backend(Protocol):
    """What the artifact store asks of the place where files lie; `ref`: a path within it."""

    def names(self, folder: str) -> list[str]: ...
    def write(self, ref: str, content: bytes) -> None: ...
    def read(self, ref: str) -> bytes: ...
    def remove(self, ref: str) -> None: ...
    def folders(self) -> list[str]: ...
    def inspections(self, day: str) -> Iterator[tuple[str, dict[str, int]]]: ...
    def remove_folder(self, folder: str) -> None: ...
    def sweep_unfinished(self, folder: str) -> int: ...
    def disk(self) -> Disk | None: ...
    def probe(self, name: str) -> None: ...


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable = ""

    def names(self, folder: str) -> list[str]:
        place = self._root / folder
        # Hidden ones are half written: what a killed process left.
        return sorted(path.name for path in place.iterdir() if path.name[0] != ".") if place.is_dir() else []

    def write(self, ref: str, content: bytes) -> None:
        path = self._root / ref
        make_folder(path.parent)
        replace_file(path, content)
        self._keep_day(ref.partition("/")[0])

    def _keep_day(self, day: str) -> None:
        """Another process may have made the day's folder a moment ago, and not have it on disk yet."""
        if day != self._durable:
            sync_folder(self._root)
            self._durable = day

    def read(self, ref: str) -> bytes:
        return (self._root / ref).read_bytes()

    def remove(self, ref: str) -> None:
        path = self._root / ref
        path.unlink()
        with contextlib.suppress(OSError):  # not empty
            path.parent.rmdir()

    def folders(self) -> list[str]:
        return [path.name for path in self._root.iterdir() if path.is_dir()] if self._root.is_dir() else []

    def inspections(self, day: str) -> Iterator[tuple[str, dict[str, int]]]:
        """Folders in their names' order, each with its files' sizes. Only names are held: a day has many thousands."""
        with contextlib.suppress(FileNotFoundError):
            for folder in sorted(os.listdir(self._root / day)):
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # removed meanwhile
                    yield folder, {entry.name: entry.stat().st_size for entry in os.scandir(self._root / day / folder)}

    def remove_folder(self, folder: str) -> None:
        path = self._root / folder
        shutil.rmtree(path)
        with contextlib.suppress(OSError):  # other inspections of that day
            path.parent.rmdir()

    def sweep_unfinished(self, folder: str) -> int:
        place, latest = self._root / folder, time.time() - UNFINISHED_AFTER_S
        swept = 0
        for path in place.glob(HALF_WRITTEN) if place.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # finished, or swept by another, meanwhile
                if path.stat().st_mtime < latest:
                    path.unlink()
                    swept += 1
        return swept

    def disk(self) -> Disk | None:
        folder = next(folder for folder in (self._root, *self._root.absolute().parents) if folder.exists())
        usage = shutil.disk_usage(folder)
        return Disk(usage.free, usage.total)

    def probe(self, name: str) -> None:
        # No fsync: asked every few seconds, and a full or read-only disk refuses the write itself.
        self._root.mkdir(parents=True, exist_ok=True)
        path = self._root / name
        try:
            path.write_bytes(b"glad")
        finally:
            path.unlink(missing_ok=True)


def local_folder(root: str | Path) -> Path | None:
    """The folder that a path or file:// URL names; None for any other URL."""
    if isinstance(root, Path):
        return root.expanduser()
    address = urlsplit(root)
    if address.scheme == "file" and address.netloc in {"", "localhost"}:
        return Path(unquote(address.path))
    return None if "://" in root else Path(root).expanduser()
