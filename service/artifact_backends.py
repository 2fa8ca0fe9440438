"""Where artifacts lie: a folder of this machine, or any fsspec file system.

Inspections' ids begin with the time in ms, 48 bits in hex: seven digits of them are one piece of 2^20 ms, 17 minutes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec.spec import AbstractFileSystem

from model_store.files import HALF_WRITTEN, make_folder, replace_file

UNFINISHED_AFTER_S = 3600.0
"""No write takes so long: a hidden file that has not changed since then was left by a killed process."""


DAY_MS = 86_400_000
S3 = frozenset({"s3", "s3a"})
S3_ATTEMPTS = 2
S3_TIMEOUTS: dict[str, Any] = {"connect_timeout": 2, "read_timeout": 15, "retries": {"total_max_attempts": 1}}
"""A store that is away is told within half a minute, and usually in two seconds: a camera waits for the answer, and a
thread is held. The libraries' own repetitions, five times five, take minutes."""


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

    def names(self, folder: str) -> list[str]:
        place = self._root / folder
        # Hidden ones are half written: what a killed process left.
        return sorted(path.name for path in place.iterdir() if path.name[0] != ".") if place.is_dir() else []

    def write(self, ref: str, content: bytes) -> None:
        path = self._root / ref
        make_folder(path.parent)
        replace_file(path, content)

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


class RemoteStore:
    """Any fsspec file system; its libraries are loaded at the first call."""

    def __init__(self, url: str) -> None:
        self._url = url

    def _open(self) -> tuple[AbstractFileSystem, str]:
        protocol = urlsplit(self._url).scheme
        system, root = fsspec.core.url_to_fs(self._url, **_impatience(protocol))
        if protocol in S3:
            system.retries = S3_ATTEMPTS  # s3fs has no option for it
        return system, str(root).rstrip("/")

    def _place(self, ref: str) -> tuple[AbstractFileSystem, str]:
        system, root = self._open()
        return system, f"{root}/{ref}"

    def names(self, folder: str) -> list[str]:
        system, path = self._place(folder)
        system.invalidate_cache(path)  # another process may have written since
        try:
            return sorted(str(name).rpartition("/")[2] for name in system.ls(path, detail=False))
        except FileNotFoundError:
            return []

    def write(self, ref: str, content: bytes) -> None:
        system, path = self._place(ref)
        try:
            system.pipe_file(path, content)
        except FileNotFoundError:  # a file system with real folders
            if urlsplit(self._url).scheme in S3:
                raise  # else a wrong name would become a new bucket
            system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            system.pipe_file(path, content)

    def read(self, ref: str) -> bytes:
        system, path = self._place(ref)
        return bytes(system.cat_file(path))

    def remove(self, ref: str) -> None:
        system, path = self._place(ref)
        system.rm_file(path)

    def folders(self) -> list[str]:
        system, root = self._open()
        system.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            return [str(name).rstrip("/").rpartition("/")[2] for name in system.ls(root, detail=False)]
        return []

    def inspections(self, day: str) -> Iterator[tuple[str, dict[str, int]]]:
        """Folders in their names' order, each with its files' sizes. Where the store can, a day is listed in pieces: it
        may have a million files, and fsspec holds all that it lists."""
        system, path = self._place(day)
        for options in self._pieces(day):
            found = system.find(path, detail=True, **options)
            sizes = ((name.rsplit("/", 2), int(info["size"] or 0)) for name, info in found.items())
            for folder, ones in groupby(sorted(sizes), lambda one: one[0][-2]):
                yield folder, {parts[-1]: size for parts, size in ones}

    def _pieces(self, day: str) -> list[dict[str, str]]:
        if urlsplit(self._url).scheme not in S3:
            return [{}]
        first = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)
        return [{"prefix": f"{piece:07x}"} for piece in range(first >> 20, (first + DAY_MS - 1 >> 20) + 1)]

    def remove_folder(self, folder: str) -> None:
        system, path = self._place(folder)
        system.rm(path, recursive=True)

    def sweep_unfinished(self, folder: str) -> int:
        return 0  # written in one step: nothing is ever half there

    def disk(self) -> Disk | None:
        return None

    def probe(self, name: str) -> None:
        self.write(name, b"glad")
        self.read(name)  # a right of its own
        self.remove(name)


def _impatience(protocol: str) -> dict[str, Any]:
    """Options of a file system, under those of the deployment: FSSPEC_S3='{"config_kwargs": {…}}'."""
    if protocol not in S3:
        return {}
    return {"config_kwargs": S3_TIMEOUTS | fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})}


def local_folder(root: str | Path) -> Path | None:
    """The folder that a path or file:// URL names; None for any other URL."""
    if isinstance(root, Path):
        return root.expanduser()
    address = urlsplit(root)
    if address.scheme == "file" and address.netloc in {"", "localhost"}:
        return Path(unquote(address.path))
    return None if "://" in root else Path(root).expanduser()
