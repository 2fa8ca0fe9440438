"""Private copies of files: what was hashed is what is read, whatever becomes of the files meanwhile. No torch.

A file that is hashed, and then opened again by its path, may be another one by then: replaced, or written over in
place. So each file is opened once. Its bytes are hashed as they are copied into sealed memory, which nobody can change
any more, and readers get a folder whose names lead there. A reader may map the memory: weights that are used as they
lie in the file are held once, and the memory is freed with the last mapping.

One component or export is copied at a time, so that never more than its files lie in memory beside the models.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from model_store.files import copy_content, copy_file
from model_store.manifest import FileEntry
from model_store.verification import check_hash


@contextmanager
def verified_copies(files: Mapping[Path, FileEntry], *, on_disk: bool = False) -> Iterator[Path]:
    """Yield a folder with a private copy of each file, under its own name; the folder ends with the context.

    What a reader in the context raises names the files themselves, not their copies.

    Args:
        files: of one folder, each with what it must be.
        on_disk: as real files in the folder for temporary files, for a reader that resolves links itself. So it is
            where the system has no sealed memory: it is Linux's.

    Raises:
        HashMismatch: if a file is not what it must be.
        OSError: if a file is absent, unreadable or a symlink, or there is no room for the copy.
    """
    with tempfile.TemporaryDirectory(prefix="glad-") as name, ExitStack() as opened:
        folder = Path(name)
        for path, entry in files.items():
            memory = None if on_disk else _memory(path.name)
            if memory is None:
                check_hash(path, copy_file(path, folder / path.name), entry)
                continue
            opened.callback(os.close, memory)
            _fill(memory, path, entry)
            (folder / path.name).symlink_to(f"/proc/self/fd/{memory}")
        try:
            yield folder
        except Exception as error:
            origin = next(iter(files)).parent
            error.args = tuple(arg.replace(name, str(origin)) if isinstance(arg, str) else arg for arg in error.args)
            raise


def _memory(name: str) -> int | None:
    """Return the descriptor of an empty file in memory; None where there is no such thing, or it is not allowed."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None


def _fill(memory: int, path: Path, entry: FileEntry) -> None:
    with os.fdopen(memory, "wb", closefd=False) as stream:
        found = copy_content(path, stream)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    check_hash(path, found, entry)
