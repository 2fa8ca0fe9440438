"""The journal of a hot folder: a file in that folder with one line for each image file that was dealt with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from glad_client.fields import Message

JOURNAL = ".glad-sent.jsonl"
_SPARE_LINES = 1000


@dataclass(frozen=True)
class Stamp:
    """Size and time of a file; if they differ, the file has changed."""

    size: int
    modified_ns: int


def stamp_of(path: Path) -> Stamp:
    """Return a file's size and time.

    Raises:
        OSError: if it is gone, or cannot be looked at.
    """
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns)


class SentFile(Message):
    """A line of the journal: one file that the service has accepted or refused."""

    file: str
    size: int
    modified_ns: int
    sha256: str
    inspection_id: str | None = None
    refused: str | None = None
    moved_from: str | None = None
    """The file URI of the place that a refused file was moved away from; then `file` is the URI of where it lies."""

    @property
    def stamp(self) -> Stamp:
        """The file's size and time when it was sent."""
        return Stamp(self.size, self.modified_ns)


class Journal:
    """The files of a folder that were sent. It survives a power cut; a line that was cut off is ignored."""

    def __init__(self, path: Path) -> None:
        """Read the journal, if there is one.

        Raises:
            OSError: if it cannot be read or written.
        """
        self._path = path
        self._sent: dict[str, SentFile] = {}
        self._lines = 0
        self._torn = False
        """Whether the last line may be incomplete, because writing it failed."""
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_bytes().splitlines():
                self._lines += 1
                with contextlib.suppress(ValidationError):
                    sent = SentFile.model_validate_json(line)
                    self._sent[sent.file] = sent
        self._write_all()

    def lines(self) -> tuple[SentFile, ...]:
        """Return all lines, one for each file."""
        return tuple(self._sent.values())

    def find(self, file: str) -> SentFile | None:
        """Return the line about the file of this name; None if it was not sent."""
        return self._sent.get(file)

    def add(self, sent: SentFile) -> None:
        """Add a line; when this returns, it is on disk.

        Raises:
            OSError: if it cannot be written.
        """
        line = sent.model_dump_json(exclude_none=True).encode() + b"\n"
        # After an incomplete line a new one is begun first, so that only that line is lost.
        line, self._torn = b"\n" + line if self._torn else line, True
        with self._path.open("ab") as target:
            target.write(line)
            target.flush()
            os.fsync(target.fileno())
        self._torn = False
        self._sent[sent.file] = sent
        self._lines += 1

    def keep_only(self, files: Collection[str]) -> None:
        """Forget the files that are gone; rewrite the journal when most of its lines are about such files."""
        # A missing journal means that the whole folder is gone: a network share that will come back with its files.
        if self._sent and not self._path.exists():
            return
        self._sent = {name: sent for name, sent in self._sent.items() if name in files}
        if self._lines > 2 * len(self._sent) + _SPARE_LINES:
            self._write_all()

    def _write_all(self) -> None:
        """Write the journal anew, without lines that were cut off: the next line would become a part of such a line."""
        if self._lines:
            lines = [sent.model_dump_json(exclude_none=True) + "\n" for sent in self._sent.values()]
            _replace_file(self._path, "".join(lines).encode())
            self._lines = len(lines)


def _replace_file(target: Path, content: bytes) -> None:
    """Replace a file in one durable step: after a power cut it holds the old bytes or the new ones."""
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # makes the new name durable; the file's own fsync does not
    finally:
        os.close(folder)
