"""Images and pictures of inspections, in a local folder or any fsspec store.

    {root}/{day}/{inspection id}/{name}        day: of the id, so that retention by age is a matter of whole folders

A local file is written beside its place, fsynced and renamed: there is the whole content or nothing, also after a power
cut. Object stores write in one step by themselves. Writing again replaces: a redelivered job writes the same bytes.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

import fsspec
from fsspec.spec import AbstractFileSystem

from model_store.files import make_folder, replace_file
from service.contract import ARTIFACT_NAMES, IMAGE, ArtifactName, parse_inspection_id

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
        folder = _local_folder(root)
        self._backend: _Backend = _Remote(self.root) if folder is None else _Local(folder)

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
            return sorted(name for name in self._backend.folders() if _DAY.fullmatch(name))

    def kept(self, day: str) -> list[Kept]:
        """What is kept of one day's inspections, the oldest first. ArtifactsUnavailable."""
        with _as_unavailable(f"{day} in {self.root} could not be listed"):
            files = self._backend.files(day)
        found: dict[str, dict[str, int]] = {}
        for (inspection_id, name), size in files.items():
            found.setdefault(inspection_id, {})[name] = size
        return [Kept(one, frozenset(names), sum(names.values())) for one, names in sorted(found.items()) if _is_id(one)]

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


@dataclass(frozen=True)
class Disk:
    """The disk under a local folder, in bytes."""

    free: int
    size: int


class ArtifactFolder:
    """Files of one folder beside those of the inspections. Methods may block, and raise as the store's do."""

    def __init__(self, backend: _Backend, root: str, name: str) -> None:
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


class _Backend(Protocol):
    def names(self, folder: str) -> list[str]: ...
    def write(self, ref: str, content: bytes) -> None: ...
    def read(self, ref: str) -> bytes: ...
    def remove(self, ref: str) -> None: ...
    def folders(self) -> list[str]: ...
    def files(self, day: str) -> dict[tuple[str, str], int]: ...
    def remove_folder(self, folder: str) -> None: ...
    def disk(self) -> Disk | None: ...
    def probe(self, name: str) -> None: ...


class _Local:
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

    def files(self, day: str) -> dict[tuple[str, str], int]:
        found = {}
        for path in (self._root / day).glob("*/*"):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                found[path.parent.name, path.name] = path.stat().st_size
        return found

    def remove_folder(self, folder: str) -> None:
        path = self._root / folder
        shutil.rmtree(path)
        with contextlib.suppress(OSError):  # other inspections of that day
            path.parent.rmdir()

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


class _Remote:
    """Any fsspec file system; its libraries are loaded at the first call."""

    def __init__(self, url: str) -> None:
        self._url = url

    def _place(self, ref: str) -> tuple[AbstractFileSystem, str]:
        system, root = fsspec.core.url_to_fs(self._url)
        return system, f"{root.rstrip('/')}/{ref}"

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
            system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            system.pipe_file(path, content)

    def read(self, ref: str) -> bytes:
        system, path = self._place(ref)
        return bytes(system.cat_file(path))

    def remove(self, ref: str) -> None:
        system, path = self._place(ref)
        system.rm_file(path)

    def folders(self) -> list[str]:
        system, root = fsspec.core.url_to_fs(self._url)
        system.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            return [str(name).rstrip("/").rpartition("/")[2] for name in system.ls(root, detail=False)]
        return []

    def files(self, day: str) -> dict[tuple[str, str], int]:
        system, path = self._place(day)
        sizes = {name: int(info["size"] or 0) for name, info in system.find(path, detail=True).items()}
        parts = {name: name.rsplit("/", 2)[-2:] for name in sizes}
        return {(folder, file): sizes[name] for name, (folder, file) in parts.items()}

    def remove_folder(self, folder: str) -> None:
        system, path = self._place(folder)
        system.rm(path, recursive=True)

    def disk(self) -> Disk | None:
        return None

    def probe(self, name: str) -> None:
        self.write(name, b"glad")
        self.remove(name)


def _local_folder(root: str | Path) -> Path | None:
    """The folder that a path or file:// URL names; None for any other URL."""
    if isinstance(root, Path):
        return root.expanduser()
    address = urlsplit(root)
    if address.scheme == "file" and address.netloc in {"", "localhost"}:
        return Path(unquote(address.path))
    return None if "://" in root else Path(root).expanduser()


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
