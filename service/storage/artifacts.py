"""Images and pictures of inspections, in a local folder or any fsspec store.

    {root}/{day}/{inspection id}/{name}        day: of the id, so that retention by age is a matter of whole folders

A local file is written beside its place, fsynced and renamed: there is the whole content or nothing, also after a power
cut. Object stores write in one step by themselves. Writing again replaces: a redelivered job writes the same bytes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from service.contract import ARTIFACT_NAMES, IMAGE, ArtifactName, parse_inspection_id
from service.storage.local import Backend, Disk, LocalFolder, local_folder
from service.storage.remote import RemoteStore

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class ArtifactsUnavailable(OSError):
    """The folder or store cannot be read or written now: full, read-only, or out of reach."""


class ArtifactNotFound(FileNotFoundError):
    """Nothing is stored under this reference."""


@dataclass(frozen=True)
class Kept:
    """What is kept of one inspection."""

    inspection_id: str
    names: frozenset[str]
    """Of its files, half-written ones included."""
    bytes: int

    @property
    def at_ms(self) -> int:
        """When the inspection's id was made, ms since 1970."""
        return UUID(self.inspection_id).int >> 80


class ArtifactStore:
    """Keeps the files of inspections. All methods may block; safe to use from several threads."""

    def __init__(self, root: str | Path) -> None:
        """`root`: a folder, or an fsspec URL such as s3://bucket/prefix. Nothing is touched until the first call."""
        self.root = str(root)
        folder = local_folder(root)
        self._backend: Backend = RemoteStore(self.root) if folder is None else LocalFolder(folder)

    @staticmethod
    def ref(inspection_id: str, name: ArtifactName) -> str:
        """The reference of one file. ValueError for an id or name that no inspection has."""
        parse_inspection_id(inspection_id)
        if name not in ARTIFACT_NAMES:
            raise ValueError(f"artifact {name!r} is not one of {', '.join(ARTIFACT_NAMES)}")
        day = datetime.fromtimestamp((UUID(inspection_id).int >> 80) / 1000, UTC).strftime("%Y-%m-%d")
        return f"{day}/{inspection_id}/{name}"

    def put(self, inspection_id: str, name: ArtifactName, content: bytes) -> str:
        """Stores durably and returns the reference. ArtifactsUnavailable if that is not possible."""
        ref = self.ref(inspection_id, name)
        with _as_unavailable(f"{ref} could not be stored in {self.root}"):
            self._backend.write(ref, content)
        return ref

    def get(self, ref: str) -> bytes:
        """The stored bytes. ArtifactNotFound, or ArtifactsUnavailable."""
        checked = _check_ref(ref)
        with _as_unavailable(f"{ref} could not be read from {self.root}"):
            try:
                return self._backend.read(checked)
            except FileNotFoundError as error:
                raise ArtifactNotFound(f"nothing is stored under {ref} in {self.root}") from error

    def remove(self, ref: str) -> None:
        """Removes one file if it is there. ArtifactsUnavailable if that is not possible."""
        checked = _check_ref(ref)
        with _as_unavailable(f"{ref} could not be removed from {self.root}"), contextlib.suppress(FileNotFoundError):
            self._backend.remove(checked)

    def folder(self, name: str) -> ArtifactFolder:
        """A folder of other files. The name is one that no day of inspections has."""
        return ArtifactFolder(self._backend, self.root, name)

    def days(self) -> list[str]:
        """The days of which something is kept, the oldest first. ArtifactsUnavailable."""
        with _as_unavailable(f"{self.root} could not be listed"):
            return sorted(name for name in self._backend.folders() if _is_day(name))

    def kept(self, day: str) -> Iterator[Kept]:
        """What is kept of one day's inspections, the oldest first, looked at one by one. ArtifactsUnavailable."""
        with _as_unavailable(f"{day} in {self.root} could not be listed"):
            for one, sizes in self._backend.inspections(day):
                if _is_id(one):
                    yield Kept(one, frozenset(sizes), sum(sizes.values()))

    def remove_inspection(self, inspection_id: str) -> None:
        """Removes all that is kept of one inspection. ArtifactsUnavailable if that is not possible."""
        folder = self.ref(inspection_id, IMAGE).rpartition("/")[0]
        with _as_unavailable(f"{folder} could not be removed from {self.root}"), contextlib.suppress(FileNotFoundError):
            self._backend.remove_folder(folder)

    def disk(self) -> Disk | None:
        """The disk that artifacts fill; None where that cannot be told, as of an object store. ArtifactsUnavailable."""
        with _as_unavailable(f"the free space of {self.root} could not be read"):
            return self._backend.disk()

    def free_bytes(self) -> int | None:
        """What the disk has left for this process; None where that cannot be told. ArtifactsUnavailable."""
        disk = self.disk()
        return None if disk is None else disk.free

    def probe(self) -> None:
        """Writes and removes a small file; ArtifactsUnavailable says why that failed."""
        with _as_unavailable(f"{self.root} cannot be written"):
            self._backend.probe(f".probe-{uuid4().hex}")


class ArtifactFolder:
    """Files of one folder beside those of the inspections. Methods may block, and raise as the store's do."""

    def __init__(self, backend: Backend, root: str, name: str) -> None:
        self._backend, self._root, self._name = backend, root, name

    def names(self) -> list[str]:
        """Of all files that are stored."""
        with _as_unavailable(f"{self._name} could not be listed in {self._root}"):
            return self._backend.names(self._name)

    def put(self, name: str, content: bytes) -> None:
        """Stores durably, in one step."""
        with _as_unavailable(f"{self._name}/{name} could not be stored in {self._root}"):
            self._backend.write(f"{self._name}/{name}", content)

    def get(self, name: str) -> bytes:
        """The stored bytes."""
        with _as_unavailable(f"{self._name}/{name} could not be read from {self._root}"):
            return self._backend.read(f"{self._name}/{name}")

    def remove(self, name: str) -> None:
        """Removes one file if it is there."""
        with (
            _as_unavailable(f"{self._name}/{name} could not be removed from {self._root}"),
            contextlib.suppress(FileNotFoundError),
        ):
            self._backend.remove(f"{self._name}/{name}")

    def sweep_unfinished(self) -> int:
        """Removes what killed writers left half-written, an hour ago at least; returns how many files."""
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
    """Only what `ArtifactStore.ref` makes: no other path can be reached."""
    parts = ref.split("/")
    try:
        _, inspection_id, name = parts
        if name in ARTIFACT_NAMES and ArtifactStore.ref(inspection_id, name) == ref:
            return ref
    except ValueError:
        pass
    raise ArtifactNotFound(f"{ref!r} is not the reference of an artifact")


@contextmanager
def _as_unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except (ArtifactNotFound, ArtifactsUnavailable):
        raise
    except Exception as error:  # each object store's library has errors of its own
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ArtifactsUnavailable(f"{what}: {reason}") from error
