"""What counts as a process's own memory: what it has written, not the files that it has read."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from bench.support.process_watch import anonymous_mib

SIZE_MIB = 32


def test_what_a_process_has_written_counts_and_a_file_that_it_has_mapped_does_not(tmp_path: Path) -> None:
    file = tmp_path / "library"
    file.write_bytes(os.urandom(SIZE_MIB << 20))
    before = anonymous_mib(os.getpid())
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[at] for at in range(0, len(mapped), mmap.PAGESIZE)) > 0
        assert anonymous_mib(os.getpid()) - before < SIZE_MIB / 4
        # Fresh pages: a large object could lie in memory that this process has long held.
        with mmap.mmap(-1, SIZE_MIB << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as written:
            written.write(b"x" * (SIZE_MIB << 20))
            assert anonymous_mib(os.getpid()) - before > SIZE_MIB * 3 / 4


def test_a_process_that_has_ended_has_none() -> None:
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        anonymous_mib(2**22 + 1)
