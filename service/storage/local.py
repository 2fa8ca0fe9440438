"""Artifacts in a folder of this machine, or of a share that is mounted there.

A file is written beside its place, fsynced and renamed: there is the whole content or nothing, also after a power cut.

A share that is not mounted leaves an empty folder, in which every image would seem to be gone, and new ones would be
hidden once it is back. So the folder has a marker, a file that says which folder it is: `artifacts.id`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from model_store.files import HALF_WRITTEN, make_folder, replace_file, sync_folder

MARKER = "artifacts.id"
MARKER_LOOKS, MARKER_PAUSE_S = 100, 0.02
"""So often, and so long apart, for what another process is about to write into the marker."""
UNFINISHED_AFTER_S = 3600.0
"""No write takes this long: a hidden file that has not changed for it was left by a killed process."""


@dataclass(frozen=True)
class Disk:
    """The disk under a local folder, in bytes."""

    free: int
    size: int


def describe_wrong_marker(root: object, found: str | None, expected: str) -> str:
    """Return why a folder is not the one that holds the images, and what to do."""
    what = "has no" if found is None else "has another"
    return (
        f"{root} {what} {MARKER}, which the folder with the service's images has: mount that folder here, or set "
        f"GLAD_ARTIFACTS_URL to it. If the images were moved, or this folder takes its place on purpose, mark it: "
        f"echo {expected} > {root}/{MARKER}"
    )


class LocalFolder:
    """A folder of this machine as a backend."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable = ""
        self.required_marker: str | None = None
        """What the marker must say; None: it is not looked at."""

    def read_marker(self) -> str | None:
        """Return what the marker says; None: there is none."""
        try:
            return (self._root / MARKER).read_text("ascii").strip() or None
        except FileNotFoundError:
            return None

    def make_marker(self) -> str:
        """Return what the marker says, made now if there is none. Of several processes one makes it."""
        make_folder(self._root)
        try:
            with (self._root / MARKER).open("x", encoding="ascii") as file:
                file.write(f"{uuid4().hex}\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._root)
        except FileExistsError:
            pass
        for _ in range(MARKER_LOOKS):
            if marker := self.read_marker():
                return marker
            time.sleep(MARKER_PAUSE_S)  # the process that makes it has not written it yet
        raise OSError(f"{MARKER} is empty: if it stays so, remove it")

    def names(self, folder: str) -> list[str]:
        self._check_marker()
        place = self._root / folder
        # Hidden ones are half written: what a killed process left.
        return sorted(path.name for path in place.iterdir() if path.name[0] != ".") if place.is_dir() else []

    def write(self, ref: str, content: bytes) -> None:
        self._check_marker()  # else what is written would be hidden once the share is mounted again
        path = self._root / ref
        if not path.parent.is_dir():  # the first file of an inspection makes it
            make_folder(path.parent)
        replace_file(path, content)
        self._sync_day(ref.partition("/")[0])

    def _sync_day(self, day: str) -> None:
        """Sync the root once a day: another process may have made the day's folder and not have it on disk yet."""
        if day != self._durable:
            sync_folder(self._root)
            self._durable = day

    def read(self, ref: str) -> bytes:
        with self._missing_is_checked():
            return (self._root / ref).read_bytes()

    def _check_present(self) -> None:
        if not self._root.is_dir():
            raise OSError(
                "there is no such folder: mount it, or set GLAD_ARTIFACTS_URL to the one that holds the images"
            )
        self._check_marker()

    def _check_marker(self) -> None:
        if self.required_marker is not None and (found := self.read_marker()) != self.required_marker:
            raise OSError(describe_wrong_marker(self._root, found, self.required_marker))

    def read_piece(self, ref: str, start: int, count: int) -> bytes:
        with self._missing_is_checked(), (self._root / ref).open("rb") as file:
            file.seek(start)
            return file.read(count)

    def size(self, ref: str) -> int:
        with self._missing_is_checked():
            return (self._root / ref).stat().st_size

    @contextmanager
    def _missing_is_checked(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            self._check_present()  # else a share that is not mounted would read as an image that is gone
            raise

    def remove(self, ref: str) -> None:
        path = self._root / ref
        path.unlink()
        with contextlib.suppress(OSError):  # not empty
            path.parent.rmdir()

    def folders(self) -> list[str]:
        return [path.name for path in self._root.iterdir() if path.is_dir()] if self._root.is_dir() else []

    def inspections(self, day: str) -> Iterator[tuple[str, dict[str, int]]]:
        """Yield folders in their names' order, each with its files' sizes. Only names are in memory: a day has
        thousands.
        """
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

    def probe(self, name: str, *, make: bool) -> None:
        # No fsync: this runs every few seconds, and a full or read-only disk refuses the write itself.
        if make and self.required_marker is None:
            self._root.mkdir(parents=True, exist_ok=True)
        self._check_present()
        path = self._root / name
        try:
            path.write_bytes(b"glad")
        finally:
            path.unlink(missing_ok=True)
