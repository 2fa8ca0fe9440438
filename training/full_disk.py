"""A full disk in the middle of a training, in words: which folder has how much room, and that nothing done is lost.

Whoever writes at that moment, and into which file, differs: a checkpoint (safetensors has an error of its own), a
picture, the list of stages. What is to be done does not.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from training.needed_resources import existing_parent

REASONS = {
    errno.ENOSPC: "a disk is full",
    errno.EDQUOT: "this user's share of a disk (its quota) is used up",
    errno.EFBIG: "a file became larger than this user's files may be (`ulimit -f`, or the kind of disk)",
}
_NUMBER = re.compile(r"\(os error (\d+)\)")


class DiskFull(OSError):
    """No more could be written; says where, how much room is there, and how it goes on."""


@contextmanager
def full_disk_explained(*folders: Path) -> Iterator[None]:
    """Say in words that a disk is full while the block writes into these folders, which need not exist.

    Raises:
        DiskFull: if no more could be written.
    """
    try:
        yield
    except DiskFull:
        raise
    except (OSError, SafetensorError) as error:
        reason = REASONS.get(_error_number(error))
        if reason is None:
            raise
        raise DiskFull(f"{reason}: {_room(folders)}. Free some space; the same command goes on from there") from error


def _error_number(error: OSError | SafetensorError) -> int:
    """Return the operating system's number of an error, which safetensors puts into its text; 0: none."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else 0


def _room(folders: tuple[Path, ...]) -> str:
    """Return how much is free where folders lie, such as "0 MiB are free at runs/tile"."""
    free = [(folder, shutil.disk_usage(existing_parent(folder)).free) for folder in dict.fromkeys(folders)]
    return ", ".join(f"{amount >> 20} MiB are free at {folder}" for folder, amount in free)
