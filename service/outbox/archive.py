"""The archive: every event with its inspection's result, in the artifact store, one gzip file of JSON lines per day.

    archive/2026-11-24.1795421731432-0_1795421791002-3.jsonl.gz    a part: what came in about a minute, by first and
                                                                   last event
    archive/2026-11-24.jsonl.gz                                    the day, once an event of a later day has come

Every file is written in one step and never changed, so there is no torn line. A part's name says which events it holds:
what is delivered again after a restart is recognised and not written twice. The day (UTC) is made of its parts, which
are then removed; where that is cut off, it is made again. Only in between does a line stand in two files, with the same
`event_id`.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Self, cast

import redis
import structlog

from service.artifacts import ArtifactFolder
from service.child import Backoff
from service.outbox.relay import Policy, Undelivered
from service.queue import keys
from service.queue.events import StoredEvent
from service.queue.outbox import added_ms
from service.queue.results import RESULT_FIELDS, read_result

FOLDER = "archive"
SUFFIX = ".jsonl.gz"
_PART = re.compile(r"(\d{4}-\d\d-\d\d)\.(\d+-\d+)_(\d+-\d+)\.jsonl\.gz")

log = structlog.get_logger(__name__)


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


def place(event_id: str) -> tuple[int, int]:
    """An event's place in the stream."""
    ms, _, sequence = event_id.partition("-")
    return int(ms), int(sequence)


def day_of(event_id: str) -> str:
    """The day, in UTC, on which an event was added, by Redis's clock."""
    return datetime.fromtimestamp(added_ms(event_id) / 1000, UTC).strftime("%Y-%m-%d")


class Archive:
    """The archive folder of the artifact store."""

    def __init__(self, folder: ArtifactFolder, client: redis.Redis, every_s: float) -> None:
        """`every_s`: how long events wait for others, so that parts are few."""
        self.name = "archive"
        self.policy = Policy(batch=1000, linger_s=every_s, backoff=Backoff(first_s=1.0, most_s=60.0))
        self._folder, self._redis = folder, client

    def deliver(self, events: Sequence[StoredEvent]) -> list[Undelivered]:
        """Writes one part per day; all or none of these are delivered."""
        try:
            parts = self._parts()
            missing = [event for event in events if not any(part.holds(event.id) for part in parts)]
            written = [
                self._write(day, list(of_day)) for day, of_day in groupby(missing, lambda event: day_of(event.id))
            ]
            self._roll(part for part in (*parts, *written) if part.day < day_of(events[-1].id))
        except OSError as error:
            return [Undelivered(event.id, str(error)[:300]) for event in events]
        return []

    def close(self) -> None:
        """Nothing is kept open."""

    def _parts(self) -> list[Part]:
        found = (Part.parse(name) for name in self._folder.names())
        return sorted((part for part in found if part), key=lambda part: place(part.first))

    def _write(self, day: str, events: Sequence[StoredEvent]) -> Part:
        part = Part(day, events[0].id, events[-1].id)
        self._folder.put(part.name, gzip.compress("".join(self._lines(events)).encode()))
        return part

    def _lines(self, events: Sequence[StoredEvent]) -> Iterator[str]:
        with self._redis.pipeline(transaction=False) as pipe:
            for event in events:
                pipe.hmget(keys.inspection(event.fields["inspection_id"]), RESULT_FIELDS)
            rows = cast("list[list[str | None]]", pipe.execute())
        for event, row in zip(events, rows, strict=True):
            line = {"event_id": event.id, **event.fields, "inspection": _inspection(event, row)}
            yield json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"

    def _roll(self, parts: Iterable[Part]) -> None:
        """Makes one file of each day's parts. A day that cannot be made stays in parts, and is tried again."""
        for day, of_day in groupby(
            sorted(parts, key=lambda part: (part.day, place(part.first))), lambda part: part.day
        ):
            names = [part.name for part in of_day]
            try:
                self._make_day(f"{day}{SUFFIX}", names)
            except (OSError, EOFError, ValueError) as error:
                log.error("day of the archive left in parts", day=day, error=str(error), kind=type(error).__name__)

    def _make_day(self, name: str, parts: Sequence[str]) -> None:
        begun = [name] if name in self._folder.names() else []
        whole = io.BytesIO()
        with gzip.GzipFile(fileobj=whole, mode="wb", mtime=0) as target:
            for line in _once(self._read(file) for file in [*begun, *parts]):
                target.write(line)
        self._folder.put(name, whole.getvalue())
        for part in parts:
            self._folder.remove(part)
        log.info("day of the archive written", file=name, parts=len(parts), bytes=whole.tell())

    def _read(self, name: str) -> list[bytes]:
        return gzip.decompress(self._folder.get(name)).splitlines(keepends=True)


def _once(files: Iterable[list[bytes]]) -> Iterator[bytes]:
    """The lines of these files, each event once."""
    seen: set[str] = set()
    for lines in files:
        for line in lines:
            event_id = json.loads(line)["event_id"]
            if event_id not in seen:
                seen.add(event_id)
                yield line


def _inspection(event: StoredEvent, row: Sequence[str | None]) -> Any:
    """The inspection as the REST interface shows it; None if it is kept no more."""
    try:
        result = read_result(event.fields["inspection_id"], row)
    except ValueError as error:
        log.warning("inspection not archived", event_id=event.id, error=str(error)[:300])
        return None
    return None if result is None else result.model_dump(mode="json")
