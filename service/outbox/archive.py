"""The archive: every event with its inspection's result, in the artifact store, one gzip file of JSON lines per day.

    archive/2026-11-24.1795421731432-0_1795421791002-3.jsonl.gz    a part: what came in about a minute, by first and
                                                                   last event
    archive/2026-11-24.jsonl.gz                                    the day, once it is over and all its events are here

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
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Self, cast

import redis
import structlog

from service.host.child_process import Backoff
from service.outbox.relay import Policy, Undelivered
from service.queue import keys
from service.queue.events import StoredEvent
from service.queue.outbox import added_ms
from service.queue.results import RESULT_FIELDS, read_result
from service.storage.artifacts import ArtifactFolder


class Written:
    """The newest parts. They are listed once; then this process knows what it wrote itself.

    Redis says whether another process has written since: then they are listed anew. So a further part costs as much as
    the first one of its day.
    """

    def __init__(self, folder: ArtifactFolder, client: redis.Redis, sink: str) -> None:
        self._folder, self._redis, self._key = folder, client, keys.outbox_writer(sink)
        self._writer = uuid.uuid4().hex
        self._parts: list[Part] | None = None

    def missing(self, events: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Those of these that no part holds. From now on this process is the one that writes. ArtifactsUnavailable."""
        # Not SET with GET: repeated after a lost reply, it would name this process.
        if self._redis.get(self._key) != self._writer:
            self._parts = None
            self._redis.set(self._key, self._writer)
        found = parts_in(self._folder) if self._parts is None else self._parts
        # The stream's order is kept: what came before these was acknowledged.
        self._parts = [part for part in found if place(part.last) >= place(events[0].id)]
        return [event for event in events if not any(part.holds(event.id) for part in self._parts)]

    def add(self, part: Part) -> None:
        """This process wrote it."""
        if self._parts is not None:
            self._parts.append(part)

    def forget(self) -> None:
        """A write failed, or seemed to: what stands there is looked up again."""
        self._parts = None


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


log = structlog.get_logger(__name__)


def close_days(folder: ArtifactFolder, parts: Iterable[Part]) -> tuple[str, ...]:
    """Makes one file of each day's parts; returns the days that could not be made: they stay in parts, to be tried
    again."""
    in_order = sorted(parts, key=lambda part: (part.day, place(part.first)))
    days = [(day, [part.name for part in of_day]) for day, of_day in groupby(in_order, lambda part: part.day)]
    return tuple(day for day, names in days if not _is_closed(folder, day, names))


def _is_closed(folder: ArtifactFolder, day: str, parts: Sequence[str]) -> bool:
    try:
        _close(folder, f"{day}{SUFFIX}", parts)
    except Exception as error:  # a damaged file raises what it likes: zlib.error, EOFError, KeyError
        log.error("day of the archive left in parts", day=day, error=str(error), kind=type(error).__name__)
        return False
    return True


def _close(folder: ArtifactFolder, name: str, parts: Sequence[str]) -> None:
    begun = [name] if name in folder.names() else []
    whole = io.BytesIO()
    with gzip.GzipFile(fileobj=whole, mode="wb", mtime=0) as target:
        for line in _once(_lines(folder, file) for file in [*begun, *parts]):
            target.write(line)
    folder.put(name, whole.getvalue())
    for part in parts:
        folder.remove(part)
    log.info("day of the archive written", file=name, parts=len(parts), bytes=whole.tell())


def _lines(folder: ArtifactFolder, name: str) -> Iterator[bytes]:
    """One by one: a day unpacked is ten times as large."""
    with gzip.open(io.BytesIO(folder.get(name))) as file:
        yield from file


def _once(files: Iterable[Iterator[bytes]]) -> Iterator[bytes]:
    """The lines of these files, each event once."""
    seen: set[str] = set()
    for lines in files:
        for line in lines:
            event_id = json.loads(line)["event_id"]
            if event_id not in seen:
                seen.add(event_id)
                yield line


FOLDER = "archive"
DAY_MS = 86_400_000
LOOK_AGAIN_MS = 60_000
"""After a day could not be closed."""

log = structlog.get_logger(__name__)


class Archive:
    """The archive folder of the artifact store."""

    def __init__(
        self,
        folder: ArtifactFolder,
        client: redis.Redis,
        every_s: float,
        tell_left: Callable[[int], None] = lambda days: None,
    ) -> None:
        """`every_s`: how long events wait for others, so that parts are few. `tell_left`: hears how many days that are
        over could not be closed."""
        self.name = "archive"
        self.policy = Policy(batch=1000, linger_s=every_s, backoff=Backoff(first_s=1.0, most_s=60.0))
        self._folder, self._redis, self._tell_left = folder, client, tell_left
        self._written = Written(folder, client, self.name)
        self._look_at_ms = 0
        self._today = ""
        """Days before it were looked through and closed."""

    def deliver(self, events: Sequence[StoredEvent]) -> list[Undelivered]:
        """Writes one part per day; all or none of these are delivered."""
        try:
            missing = self._written.missing(events)
            for day, of_day in groupby(missing, lambda event: day_of(event.id)):
                self._write(day, list(of_day))
        except OSError as error:
            self._written.forget()
            return [Undelivered(event.id, str(error)[:300]) for event in events]
        self._look_through(added_ms(events[-1].id))
        return []

    def idle(self, now_ms: int) -> None:
        """At the start and after midnight, though no event comes."""
        self._look_through(now_ms)

    def _look_through(self, now_ms: int) -> None:
        """Closes the days that are over, and sweeps what killed writers left: once a day, or each minute until it is
        done. All events of the days before this moment must be here."""
        if now_ms < self._look_at_ms:
            return
        self._look_at_ms = now_ms + LOOK_AGAIN_MS
        try:
            over = [part for part in parts_in(self._folder) if part.day < day_at(now_ms)]
            swept = self._folder.sweep_unfinished()
        except OSError as error:
            log.warning("archive not looked through", error=str(error))
            return
        if swept:
            log.info("half-written files of the archive removed", files=swept)
        left = close_days(self._folder, over)
        self._tell_left(len(left))
        if not left:
            self._look_at_ms, self._today = next_midnight_ms(now_ms), day_at(now_ms)

    def close(self) -> None:
        """Nothing is kept open."""

    def _write(self, day: str, events: Sequence[StoredEvent]) -> None:
        part = Part(day, events[0].id, events[-1].id)
        self._folder.put(part.name, gzip.compress("".join(self._lines(events)).encode()))
        self._written.add(part)
        if day < self._today:  # it was closed already
            self._look_at_ms = 0

    def _lines(self, events: Sequence[StoredEvent]) -> Iterator[str]:
        with self._redis.pipeline(transaction=False) as pipe:
            for event in events:
                pipe.hmget(keys.inspection(event.fields["inspection_id"]), RESULT_FIELDS)
            rows = cast("list[list[str | None]]", pipe.execute())
        for event, row in zip(events, rows, strict=True):
            line = {"event_id": event.id, **event.fields, "inspection": _inspection(event, row)}
            yield json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


def next_midnight_ms(now_ms: int) -> int:
    """When the next day begins, in UTC, ms since 1970."""
    return (now_ms // DAY_MS + 1) * DAY_MS


def _inspection(event: StoredEvent, row: Sequence[str | None]) -> Any:
    """The inspection as the REST interface shows it; None if it is kept no more."""
    try:
        result = read_result(event.fields["inspection_id"], row)
    except ValueError as error:
        log.warning("inspection not archived", event_id=event.id, error=str(error)[:300])
        return None
    return None if result is None else result.model_dump(mode="json")
