"""The archive's files before a day is closed: parts, whose names say which events they hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from service.queue.outbox import added_ms
from service.storage.artifacts import ArtifactFolder

SUFFIX = ".jsonl.gz"
_PART = re.compile(r"(\d{4}-\d\d-\d\d)\.(\d+-\d+)_(\d+-\d+)\.jsonl\.gz")


@dataclass(frozen=True)
class Part:
    """A file with the events of one day, from the first to the last."""

    day: str
    first: str
    last: str

    @property
    def name(self) -> str:
        """Of the file."""
        return f"{self.day}.{self.first}_{self.last}{SUFFIX}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The part of this name; None for any other file."""
        match = _PART.fullmatch(name)
        return cls(*match.groups()) if match else None

    def holds(self, event_id: str) -> bool:
        """Parts hold all events from their first to their last: the stream's order is kept."""
        return place(self.first) <= place(event_id) <= place(self.last)


def parts_in(folder: ArtifactFolder) -> list[Part]:
    """All parts, in the stream's order. ArtifactsUnavailable."""
    found = (Part.parse(name) for name in folder.names())
    return sorted((part for part in found if part), key=lambda part: place(part.first))


def place(event_id: str) -> tuple[int, int]:
    """An event's place in the stream."""
    ms, _, sequence = event_id.partition("-")
    return int(ms), int(sequence)


def day_of(event_id: str) -> str:
    """The day, in UTC, on which an event was added, by Redis's clock."""
    return day_at(added_ms(event_id))


def day_at(ms: int) -> str:
    """The day, in UTC, at a time in ms since 1970."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")
