"""A disk that is full, as the system tells of it, and one that hangs."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.storage.local import MARKER


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses longer files, as it refuses any on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def hang(folder: Path) -> str:
    """Have every write into a folder of artifacts hang, by a FIFO in its marker's place; return what the marker said.

    To open a FIFO waits until somebody writes into it, as a file on a share waits whose server is gone.
    """
    marker = (folder / MARKER).read_text()
    (folder / MARKER).unlink()
    os.mkfifo(folder / MARKER)
    return marker


def go_on(folder: Path, marker: str) -> None:
    """Put the marker back, and answer whoever waits at the FIFO: the first one gets the marker, the others nothing."""
    fifo = folder / "fifo"
    (folder / MARKER).rename(fifo)
    (folder / MARKER).write_text(marker)
    with fifo.open("w") as answering:
        answering.write(marker)
    fifo.unlink()
