"""Files that survive a power cut: hashed copies, fsync, atomic replacement. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from model_store.manifest import FileEntry

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
