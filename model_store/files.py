"""Files that survive a power cut: hashed copies, fsync, atomic replacement, hard links. No torch.

What bundles of one store have in common lies on disk once: equal files are hard links. Fifteen products of one
multi-class model would otherwise keep fifteen copies of one UNet. It is safe because bundles never change, and because
removing one removes its own links only: the content stays as long as any bundle has it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from pydantic import ValidationError

from model_store.manifest import MANIFEST_NAME, FileEntry, Manifest

_CHUNK_BYTES = 1 << 20
HALF_WRITTEN = ".*.tmp"
"""Names of hidden siblings, as a pattern of glob."""


def _chunks(path: Path) -> Iterator[bytes]:
    # O_NOFOLLOW: no symlink can be slipped in between a check for them and this read.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def hash_file(path: Path) -> FileEntry:
    """Return the file's SHA-256 and size.

    Raises:
        OSError: if it is absent, unreadable or a symlink.
    """
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(path):
        digest.update(chunk)
        size += len(chunk)
    return FileEntry(sha256=digest.hexdigest(), bytes=size)


def copy_file(source: Path, target: Path) -> FileEntry:
    """Copy a file, fsync it, and return the hash of the bytes that were really written."""
    with target.open("xb") as stream:
        written = copy_content(source, stream)
        stream.flush()
        os.fsync(stream.fileno())
    return written


def copy_content(source: Path, stream: BinaryIO) -> FileEntry:
    """Write a file's bytes to `stream`, and return the hash of the bytes that were written.

    Raises:
        OSError: if the file is absent, unreadable or a symlink.
    """
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(source):
        digest.update(chunk)
        size += len(chunk)
        stream.write(chunk)
    return FileEntry(sha256=digest.hexdigest(), bytes=size)


def write_file(target: Path, content: bytes) -> None:
    """Write a new file and fsync it.

    Raises:
        FileExistsError: if there is one already.
    """
    with target.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def replace_file(target: Path, content: bytes, check: Callable[[], None] | None = None) -> None:
    """Replace a file in one step: a reader sees the old bytes or the new ones, never a mixture.

    Args:
        target: the file, which need not be there yet.
        content: of the file from then on.
        check: called as the last thing before; what it raises leaves the file as it is.
    """
    temporary = hidden_sibling(target)
    try:
        write_file(temporary, content)
        if check is not None:
            check()
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, each durably; nothing happens where it exists."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable: a rename survives a power cut only after this."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hidden_sibling(target: Path) -> Path:
    """Return a fresh path beside `target` whose leading dot keeps it out of every listing."""
    return target.with_name(f".{target.name}.{uuid4().hex}.tmp")


StoredFiles = Mapping[FileEntry, Sequence[Path]]
"""Content -> the paths where a store has it, according to its manifests."""


def stored_files(root: Path) -> StoredFiles:
    """Return every file of every readable bundle `<root>/<product>/<version>`. Reads manifests only."""
    stored: dict[FileEntry, list[Path]] = {}
    for path in sorted(root.glob(f"[!.]*/[!.]*/{MANIFEST_NAME}")):
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):  # the store reports it; here it only has no files to share
            continue
        for name, entry in manifest.files.items():
            stored.setdefault(entry, []).append(path.parent / name)
    return stored


def link_or_copy(source: Path, target: Path, entry: FileEntry, stored: StoredFiles) -> FileEntry:
    """Make `target` a hard link to a stored file with exactly these bytes, else a copy; return its hash and size."""
    if any(_linked(present, target, entry) for present in stored.get(entry, ())):
        return entry
    return copy_file(source, target)


def _linked(present: Path, target: Path, entry: FileEntry) -> bool:
    try:
        os.link(present, target, follow_symlinks=False)
    except OSError:  # another file system, one without links, too many of them, or the file is gone
        return False
    try:
        # The link is hashed, not the path that it was made from: that could be exchanged in between.
        equal = hash_file(target) == entry
    except OSError:  # a symlink, or unreadable
        equal = False
    if not equal:
        target.unlink()
    return equal
