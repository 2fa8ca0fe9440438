"""Files that survive a power cut: hashed copies, fsync, atomic replacement. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from model_store.manifest import MANIFEST_NAME, FileEntry, Manifest

_CHUNK_BYTES = 1 << 20
HALF_WRITTEN = ".*.tmp"
"""Names of hidden siblings, as a pattern of glob."""


def _chunks(path: Path) -> Iterator[bytes]:
    # O_NOFOLLOW: between a check for symlinks and this read nobody can slip one in.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def hash_file(path: Path) -> FileEntry:
    """The file's SHA-256 and size; OSError if it is absent, unreadable or a symlink."""
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(path):
        digest.update(chunk)
        size += len(chunk)
    return FileEntry(sha256=digest.hexdigest(), bytes=size)


def copy_file(source: Path, target: Path) -> FileEntry:
    """Copies, fsyncs and returns the hash of the bytes that were really written."""
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as stream:
        for chunk in _chunks(source):
            digest.update(chunk)
            size += len(chunk)
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    return FileEntry(sha256=digest.hexdigest(), bytes=size)


def write_file(target: Path, content: bytes) -> None:
    """Writes a new file and fsyncs it; FileExistsError if there is one already."""
    with target.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def replace_file(target: Path, content: bytes) -> None:
    """Replaces a file in one step: a reader sees the old bytes or the new ones, never a mixture."""
    temporary = hidden_sibling(target)
    try:
        write_file(temporary, content)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Creates a folder and those above it, each durably; nothing happens where it exists."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes the folder's entries durable: a rename counts only after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hidden_sibling(target: Path) -> Path:
    """A fresh path beside `target` whose leading dot keeps it out of every listing."""
    return target.with_name(f".{target.name}.{uuid4().hex}.tmp")


Held = Mapping[FileEntry, Sequence[Path]]
"""Content -> where a store has it, according to its manifests."""


def held_files(root: Path) -> Held:
    """Every file of every readable bundle `<root>/<product>/<version>`. Reads manifests only."""
    held: dict[FileEntry, list[Path]] = {}
    for path in sorted(root.glob(f"[!.]*/[!.]*/{MANIFEST_NAME}")):
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):  # the store tells of it; here it only has nothing to give
            continue
        for name, entry in manifest.files.items():
            held.setdefault(entry, []).append(path.parent / name)
    return held


def link_or_copy(source: Path, target: Path, entry: FileEntry, held: Held) -> FileEntry:
    """Makes `target`: a hard link to a held file with exactly these bytes, else a copy; returns what it holds."""
    if any(_linked(present, target, entry) for present in held.get(entry, ())):
        return entry
    return copy_file(source, target)


def _linked(present: Path, target: Path, entry: FileEntry) -> bool:
    try:
        os.link(present, target, follow_symlinks=False)
    except OSError:  # another file system, one without links, too many of them, or the file is gone
        return False
    try:
        # The link is hashed, not the path that it was made from: nobody can exchange the file in between.
        whole = hash_file(target) == entry
    except OSError:  # a symlink, or unreadable
        whole = False
    if not whole:
        target.unlink()
    return whole
