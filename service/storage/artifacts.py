"""Images and pictures of inspections, in a local folder or any fsspec store.

    {root}/{day}/{inspection id}/{name}              day: of the id, so that retention by age goes by whole folders
    {root}/{day}/{inspection id}/{attempt}.{name}    pictures of the second attempt and later ones

Each attempt writes under its own names, and the result says which attempt it is of (`attempts`). So a worker that slept
past its lease, whose job another one has by now, changes no picture of the result that is shown.

A local file is written beside its place, fsynced and renamed: there is the whole content or nothing, also after a power
cut. Object stores write in one step by themselves. Writing again replaces: an attempt may repeat what it wrote.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

from service.contract import IMAGE, OF_NO_ATTEMPT, STORED_NAMES, StoredName, parse_inspection_id
from service.storage.bounded import BoundedFolder
from service.storage.local import Disk, LocalFolder
from service.storage.remote import RemoteStore

T = TypeVar("T")

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_LATER_ATTEMPT = re.compile(r"([1-9]\d{0,8})\.(.+)")
FIRST_ATTEMPT = 1
"""Its pictures have names without a number, as those of every attempt had in older versions."""


class ArtifactsUnavailable(OSError):
    """The folder or store cannot be read or written now: full, read-only, or out of reach."""


class ArtifactNotFound(FileNotFoundError):
    """No file is stored under this reference."""


@dataclass(frozen=True)
class StoredInspection:
    """The files that are stored of one inspection."""

    inspection_id: str
    names: frozenset[str]
    """Names of its files, half-written ones included."""
    bytes: int

    @property
    def at_ms(self) -> int:
        """Time at which the inspection's id was made, ms since 1970."""
        return UUID(self.inspection_id).int >> 80


class StorageBackend(Protocol):
    """The place where an artifact store keeps its files. `ref` is a path within it."""

    def names(self, folder: str) -> list[str]: ...
    def write(self, ref: str, content: bytes) -> None: ...
    def read(self, ref: str) -> bytes: ...
    def read_piece(self, ref: str, start: int, count: int) -> bytes: ...
    def size(self, ref: str) -> int: ...
    def remove(self, ref: str) -> None: ...
    def folders(self) -> list[str]: ...
    def inspections(self, day: str) -> Iterator[tuple[str, dict[str, int]]]: ...
    def remove_folder(self, folder: str) -> None: ...
    def sweep_unfinished(self, folder: str) -> int: ...
    def disk(self) -> Disk | None: ...
    def probe(self, name: str, *, make: bool) -> None: ...


class ArtifactStore:
    """Stores the files of inspections. All methods may block; safe to use from several threads."""

    def __init__(self, root: str | Path) -> None:
        """Remember the root: a folder, or an fsspec URL such as s3://bucket/prefix. Nothing is opened before the first
        call.
        """
        self.root = str(root)
        folder = local_folder(root)
        self._local = None if folder is None else BoundedFolder(LocalFolder(folder))
        self._backend: StorageBackend = self._local or RemoteStore(self.root)

    @property
    def marked(self) -> bool:
        """Whether a marker tells the store from an empty place: a folder's does; a bucket that is gone says so."""
        return self._local is not None

    def marker(self, *, make: bool = False) -> str | None:
        """Return what the marker of a local folder says; None: there is no marker.

        Args:
            make: write one where there is none.

        Raises:
            ArtifactsUnavailable: if that is not possible now.
        """
        assert self._local is not None, "only a folder is marked"
        with _as_unavailable(f"the marker of {self.root} could not be read or made"):
            return self._local.make_marker() if make else self._local.read_marker()

    def require_marker(self, marker: str) -> None:
        """From now on, nothing is written, and nothing counts as not found, unless the folder has this marker."""
        assert self._local is not None, "only a folder is marked"
        self._local.require_marker(marker)

    @staticmethod
    def ref(inspection_id: str, name: StoredName, attempt: int = FIRST_ATTEMPT) -> str:
        """Return the reference of one file.

        Args:
            attempt: of the worker that stores it; the image as it came, and smaller ones of it, belong to none.

        Raises:
            ValueError: for an id or name that no inspection has.
        """
        parse_inspection_id(inspection_id)
        if name not in STORED_NAMES:
            raise ValueError(f"artifact {name!r} is not one of {', '.join(STORED_NAMES)}")
        day = datetime.fromtimestamp((UUID(inspection_id).int >> 80) / 1000, UTC).strftime("%Y-%m-%d")
        numbered = attempt > FIRST_ATTEMPT and name not in OF_NO_ATTEMPT
        return f"{day}/{inspection_id}/{f'{attempt}.' if numbered else ''}{name}"

    def put(self, inspection_id: str, name: StoredName, content: bytes, attempt: int = FIRST_ATTEMPT) -> str:
        """Store a file durably and return its reference; `attempt` as in `ref`.

        Raises:
            ArtifactsUnavailable: if that is not possible now.
        """
        ref = self.ref(inspection_id, name, attempt)
        with _as_unavailable(f"{ref} could not be stored in {self.root}"):
            self._backend.write(ref, content)
        return ref

    def get(self, ref: str) -> bytes:
        """Return the stored bytes.

        Raises:
            ArtifactNotFound: if no file is stored under this reference.
            ArtifactsUnavailable: if it cannot be read now.
        """
        return self._read(ref, self._backend.read)

    def get_piece(self, ref: str, start: int, count: int) -> bytes:
        """Return `count` of the stored bytes from `start` on; fewer at the end of the file. Raise as `get` does."""
        return self._read(ref, lambda checked: self._backend.read_piece(checked, start, count))

    def size(self, ref: str) -> int:
        """Return the number of the stored bytes. Raise as `get` does."""
        return self._read(ref, self._backend.size)

    def _read(self, ref: str, read: Callable[[str], T]) -> T:
        checked = _check_ref(ref)
        with _as_unavailable(f"{ref} could not be read from {self.root}"):
            try:
                return read(checked)
            except FileNotFoundError as error:
                raise ArtifactNotFound(f"nothing is stored under {ref} in {self.root}") from error

    def remove(self, ref: str) -> None:
        """Remove one file if it is there.

        Raises:
            ArtifactsUnavailable: if that is not possible now.
        """
        checked = _check_ref(ref)
        with _as_unavailable(f"{ref} could not be removed from {self.root}"), contextlib.suppress(FileNotFoundError):
            self._backend.remove(checked)

    def folder(self, name: str) -> ArtifactFolder:
        """Return a folder of other files. Its name must not be that of a day."""
        return ArtifactFolder(self._backend, self.root, name)

    def days(self) -> list[str]:
        """Return the days of which files are stored, the oldest first.

        Raises:
            ArtifactsUnavailable: if that is not possible now.
        """
        with _as_unavailable(f"{self.root} could not be listed"):
            return sorted(name for name in self._backend.folders() if _is_day(name))

    def inspections(self, day: str) -> Iterator[StoredInspection]:
        """Yield the stored inspections of one day, the oldest first, read one by one.

        Raises:
            ArtifactsUnavailable: if that is not possible now.
        """
        with _as_unavailable(f"{day} in {self.root} could not be listed"):
            for one, sizes in self._backend.inspections(day):
                if _is_id(one):
                    yield StoredInspection(one, frozenset(sizes), sum(sizes.values()))

    def remove_inspection(self, inspection_id: str) -> None:
        """Remove all files of one inspection.

        Raises:
            ArtifactsUnavailable: if that is not possible now.
        """
        folder = self.ref(inspection_id, IMAGE).rpartition("/")[0]
        with _as_unavailable(f"{folder} could not be removed from {self.root}"), contextlib.suppress(FileNotFoundError):
            self._backend.remove_folder(folder)

    def disk(self) -> Disk | None:
        """Return the disk that artifacts fill; None where it is unknown, as of an object store.

        Raises:
            ArtifactsUnavailable: if that is not possible now.
        """
        with _as_unavailable(f"the free space of {self.root} could not be read"):
            return self._backend.disk()

    def free_bytes(self) -> int | None:
        """Return the bytes that the disk has left for this process; None where that is unknown.

        Raises:
            ArtifactsUnavailable: if that is not possible now.
        """
        disk = self.disk()
        return None if disk is None else disk.free

    def probe(self, *, make: bool = True) -> None:
        """Write and remove a small file.

        Args:
            make: a local folder that is not there is made, as by the first image; else it counts as out of reach.

        Raises:
            ArtifactsUnavailable: if that is not possible now.
        """
        with _as_unavailable(f"{self.root} cannot be written"):
            self._backend.probe(f".probe-{uuid4().hex}", make=make)


class ArtifactFolder:
    """The files of one folder beside those of the inspections. Methods may block, and raise as the store's do."""

    def __init__(self, backend: StorageBackend, root: str, name: str) -> None:
        self._backend, self._root, self._name = backend, root, name

    def names(self) -> list[str]:
        """Return the names of all stored files."""
        with _as_unavailable(f"{self._name} could not be listed in {self._root}"):
            return self._backend.names(self._name)

    def put(self, name: str, content: bytes) -> None:
        """Store a file durably, in one step."""
        with _as_unavailable(f"{self._name}/{name} could not be stored in {self._root}"):
            self._backend.write(f"{self._name}/{name}", content)

    def get(self, name: str) -> bytes:
        """Return the stored bytes."""
        with _as_unavailable(f"{self._name}/{name} could not be read from {self._root}"):
            return self._backend.read(f"{self._name}/{name}")

    def remove(self, name: str) -> None:
        """Remove one file if it is there."""
        with (
            _as_unavailable(f"{self._name}/{name} could not be removed from {self._root}"),
            contextlib.suppress(FileNotFoundError),
        ):
            self._backend.remove(f"{self._name}/{name}")

    def sweep_unfinished(self) -> int:
        """Remove files that killed writers left half-written at least an hour ago; return how many."""
        with _as_unavailable(f"{self._name} could not be swept in {self._root}"):
            return self._backend.sweep_unfinished(self._name)


def _is_day(text: str) -> bool:
    try:
        return bool(_DAY.fullmatch(text) and datetime.fromisoformat(text))
    except ValueError:  # the 99th of a month
        return False


def _is_id(text: str) -> bool:
    try:
        return parse_inspection_id(text) == text
    except ValueError:
        return False


def _check_ref(ref: str) -> str:
    """Return a reference that `ArtifactStore.ref` can make; refuse all others, so that no other path can be reached."""
    parts = ref.split("/")
    try:
        _, inspection_id, stored_name = parts
        later = _LATER_ATTEMPT.fullmatch(stored_name)
        attempt, name = (int(later[1]), later[2]) if later else (FIRST_ATTEMPT, stored_name)
        if name in STORED_NAMES and ArtifactStore.ref(inspection_id, name, attempt) == ref:
            return ref
    except ValueError:
        pass
    raise ArtifactNotFound(f"{ref!r} is not the reference of an artifact")


@contextmanager
def _as_unavailable(failure: str) -> Iterator[None]:
    try:
        yield
    except (ArtifactNotFound, ArtifactsUnavailable):
        raise
    except Exception as error:  # each object store's library has errors of its own
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ArtifactsUnavailable(f"{failure}: {reason}") from error


def local_folder(root: str | Path) -> Path | None:
    """Return the folder that a path or file:// URL names; None for any other URL."""
    if isinstance(root, Path):
        return root.expanduser()
    address = urlsplit(root)
    if address.scheme == "file" and address.netloc in {"", "localhost"}:
        return Path(unquote(address.path))
    return None if "://" in root else Path(root).expanduser()
