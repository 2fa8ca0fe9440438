"""What a hot folder has sent, in a file within it: one line for each image file that is done with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from model_store.files import replace_file
from service.contract import Message

JOURNAL = ".glad-sent.jsonl"
_SPARE_LINES = 1000


@dataclass(frozen=True)
class Stamp:
    """What tells that a file has changed."""

    size: int
    modified_ns: int


class Sent(Message):
    """A line of the journal: one file that is done with."""

    file: str
    size: int
    modified_ns: int
    sha256: str
    inspection_id: str | None = None
    refused: str | None = None

    @property
    def stamp(self) -> Stamp:
        """The file's stamp when it was sent."""
        return Stamp(self.size, self.modified_ns)


class Journal:
    """What was sent of the files that are still there. Durable; a line that was cut off is as if it were not there."""

    def __init__(self, path: Path) -> None:
        """OSError if it cannot be read."""
        self._path = path
        self._sent: dict[str, Sent] = {}
        self._lines = 0
        self._torn = False
        """The last line may have been written in part."""
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_bytes().splitlines():
                self._lines += 1
                with contextlib.suppress(ValidationError):
                    sent = Sent.model_validate_json(line)
                    self._sent[sent.file] = sent
        self._write_all()

    def of(self, file: str) -> Sent | None:
        """What is known of the file of this name."""
        return self._sent.get(file)

    def add(self, sent: Sent) -> None:
        """Remembers, through a power cut too. OSError if it cannot be written."""
        line = sent.model_dump_json(exclude_none=True).encode() + b"\n"
        line, self._torn = b"\n" + line if self._torn else line, True
        with self._path.open("ab") as target:
            target.write(line)
            target.flush()
            os.fsync(target.fileno())
        self._torn = False
        self._sent[sent.file] = sent
        self._lines += 1

    def keep_only(self, files: Mapping[str, Stamp]) -> None:
        """Forgets the files that are gone, and makes the journal short again when most of it is about such. Where the
        journal is gone too, the folder is: a network share that will come back."""
        if self._sent and not self._path.exists():
            return
        self._sent = {name: sent for name, sent in self._sent.items() if name in files}
        if self._lines > 2 * len(self._sent) + _SPARE_LINES:
            self._write_all()

    def _write_all(self) -> None:
        """Also ends a line that was cut off, so that the next one does not lengthen it."""
        if self._lines:
            lines = [sent.model_dump_json(exclude_none=True) + "\n" for sent in self._sent.values()]
            replace_file(self._path, "".join(lines).encode())
            self._lines = len(lines)
