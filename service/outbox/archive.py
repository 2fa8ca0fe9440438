"""The archive: every event with its inspection's result, in the artifact store, one gzip file of JSON lines per day.

    archive/2026-11-24.1795421731432-0_1795421791002-3.jsonl.gz    a part: the events of about a minute; the name holds
                                                                   the ids of the first and the last one
    archive/2026-11-24.jsonl.gz                                    the day, once it is over and all its events are here

Every file is written in one step and never changed, so there is no incomplete line. A part's name says which events it
holds, so an event that is delivered again after a restart is recognised and not written twice. The file of a day (UTC)
is made of its parts, which are then removed; if that is interrupted, it is repeated. Only in between does a line stand
in two files, with the same `event_id`.
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
from service.outbox.relay import DeliveryPolicy, Undelivered
from service.queue import keys
from service.queue.events import StoredEvent
from service.queue.outbox import added_ms
from service.queue.results import RESULT_FIELDS, read_result
from service.storage.artifacts import ArtifactFolder

FOLDER = "archive"
SUFFIX = ".jsonl.gz"
DAY_MS = 86_400_000
RETRY_CLOSING_MS = 60_000
"""How long after a day could not be closed it is tried again."""
_PART_NAME = re.compile(r"(\d{4}-\d\d-\d\d)\.(\d+-\d+)_(\d+-\d+)\.jsonl\.gz")

log = structlog.get_logger(__name__)


class ArchiveSink:
    """The sink that writes events into the archive folder of the artifact store."""

    def __init__(
        self,
        folder: ArtifactFolder,
        client: redis.Redis,
        every_s: float,
        report_days_left: Callable[[int], None] = lambda days: None,
        check_place: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the sink; nothing is read or written yet.

        Args:
            every_s: how long an event waits for others, in seconds, so that there are few parts.
            report_days_left: called with the number of past days that could not be closed.
            check_place: called before anything is read or written; raises OSError where the archive is not.
        """
        self.name = "archive"
        self.policy = DeliveryPolicy(batch=1000, linger_s=every_s, backoff=Backoff(first_s=1.0, most_s=60.0))
        self._folder, self._redis, self._report_days_left = folder, client, report_days_left
        self._check_place = check_place
        self._written = WrittenParts(folder, client, self.name)
        self._close_at_ms = 0
        self._closed_before = ""
        """All days before this one were closed."""

    def deliver(self, events: Sequence[StoredEvent]) -> list[Undelivered]:
        """Write one part per day; return all of these events if that fails, else none."""
        try:
            self._check_place()
            missing = self._written.missing(events)
            for day, of_day in groupby(missing, lambda event: day_of(event.id)):
                self._write_part(day, list(of_day))
        except OSError as error:
            self._written.forget()
            return [Undelivered(event.id, str(error)[:300]) for event in events]
        self._close_past_days(added_ms(events[-1].id))
        return []

    def idle(self, now_ms: int) -> None:
        """Close past days, at the start and after midnight, even if no event comes."""
        self._close_past_days(now_ms)

    def close(self) -> None:
        """Do nothing: the archive keeps no connection."""

    def _write_part(self, day: str, events: Sequence[StoredEvent]) -> None:
        part = ArchivePart(day, events[0].id, events[-1].id)
        self._folder.put(part.name, gzip.compress("".join(self._lines(events)).encode()))
        self._written.add(part)
        if day < self._closed_before:  # a late event of a day that was closed: close it again
            self._close_at_ms = 0

    def _lines(self, events: Sequence[StoredEvent]) -> Iterator[str]:
        with self._redis.pipeline(transaction=False) as pipe:
            for event in events:
                pipe.hmget(keys.inspection(_inspection_id(event)), RESULT_FIELDS)
            rows = cast("list[list[str | None]]", pipe.execute())
        for event, row in zip(events, rows, strict=True):
            line = {"event_id": event.id, **event.fields, "inspection": _inspection(event, row)}
            yield json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"

    def _close_past_days(self, now_ms: int) -> None:
        """Close the days that are over and remove half-written files: once a day, or each minute until it is done.

        All events from before `now_ms` must be in the archive.
        """
        if now_ms < self._close_at_ms:
            return
        self._close_at_ms = now_ms + RETRY_CLOSING_MS
        try:
            self._check_place()
            past = [part for part in parts_in(self._folder) if part.day < day_at(now_ms)]
            swept = self._folder.sweep_unfinished()
        except OSError as error:
            log.warning("past days of the archive not closed", error=str(error))
            return
        if swept:
            log.info("half-written files of the archive removed", files=swept)
        left = close_days(self._folder, past)
        self._report_days_left(len(left))
        if not left:
            self._close_at_ms, self._closed_before = next_midnight_ms(now_ms), day_at(now_ms)


def _inspection_id(event: StoredEvent) -> str:
    """Return the id of an event's inspection; "" for an event of none, such as a station's or a disposition."""
    fields = event.fields
    kind: str = fields["type"]
    inspection_id: str = fields["inspection_id"] if kind.startswith("inspection.") else ""
    return inspection_id


def _inspection(event: StoredEvent, row: Sequence[str | None]) -> Any:
    """Return the inspection as the REST interface shows it; None if there is none, or none any more."""
    try:
        result = read_result(_inspection_id(event), row)
    except ValueError as error:
        log.warning("inspection not archived", event_id=event.id, error=str(error)[:300])
        return None
    return None if result is None else result.model_dump(mode="json")


@dataclass(frozen=True)
class ArchivePart:
    """A file with all events of one day from the first to the last."""

    day: str
    first: str
    last: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"{self.day}.{self.first}_{self.last}{SUFFIX}"

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        """Return the part of this file name; None for any other file."""
        match = _PART_NAME.fullmatch(name)
        return cls(*match.groups()) if match else None

    def covers(self, event_id: str) -> bool:
        """Return whether the event is in this part."""
        # Events are written in the stream's order, so a part has no gaps.
        return stream_position(self.first) <= stream_position(event_id) <= stream_position(self.last)


def parts_in(folder: ArtifactFolder) -> list[ArchivePart]:
    """Return all parts, in the stream's order.

    Raises:
        ArtifactsUnavailable: if the artifact store cannot be reached.
    """
    parts = (ArchivePart.from_name(name) for name in folder.names())
    return sorted((part for part in parts if part), key=lambda part: stream_position(part.first))


class WrittenParts:
    """The newest parts, to find out which events are still to be written.

    The folder is listed once; from then on this process knows what it has written itself. A key in Redis says whether
    another process has written since: then the folder is listed again. So the hundredth part of a day costs no more
    than the first.
    """

    def __init__(self, folder: ArtifactFolder, client: redis.Redis, sink: str) -> None:
        self._folder, self._redis, self._key = folder, client, keys.outbox_writer(sink)
        self._writer = uuid.uuid4().hex
        self._parts: list[ArchivePart] | None = None

    def missing(self, events: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Return those of these events that no part holds, and become the process that writes.

        Raises:
            ArtifactsUnavailable: if the artifact store cannot be reached.
        """
        # Not SET with GET: repeated after a lost reply, it would return this process's own name, and parts that another
        # process has written would stay unknown.
        if self._redis.get(self._key) != self._writer:
            self._parts = None
            self._redis.set(self._key, self._writer)
        parts = parts_in(self._folder) if self._parts is None else self._parts
        # Earlier parts can be dropped: events come in the stream's order, and all before these were acknowledged.
        first = stream_position(events[0].id)
        self._parts = [part for part in parts if stream_position(part.last) >= first]
        return [event for event in events if not any(part.covers(event.id) for part in self._parts)]

    def add(self, part: ArchivePart) -> None:
        """Remember a part that this process has written."""
        if self._parts is not None:
            self._parts.append(part)

    def forget(self) -> None:
        """List the folder again next time: a write failed, or seemed to fail and left a part."""
        self._parts = None


def close_days(folder: ArtifactFolder, parts: Iterable[ArchivePart]) -> tuple[str, ...]:
    """Make one file of each day's parts; return the days that could not be made, whose parts stay."""
    in_order = sorted(parts, key=lambda part: (part.day, stream_position(part.first)))
    days = [(day, [part.name for part in of_day]) for day, of_day in groupby(in_order, lambda part: part.day)]
    return tuple(day for day, names in days if not _try_to_close(folder, day, names))


def _try_to_close(folder: ArtifactFolder, day: str, parts: Sequence[str]) -> bool:
    try:
        _close_day(folder, f"{day}{SUFFIX}", parts)
    except Exception as error:  # a damaged file raises whatever its parser raises: zlib.error, EOFError, KeyError
        log.error("day of the archive left in parts", day=day, error=str(error), kind=type(error).__name__)
        return False
    return True


def _close_day(folder: ArtifactFolder, name: str, parts: Sequence[str]) -> None:
    # The day's file may exist: from a closing that was interrupted before it removed the parts, or from before a late
    # event came. Its lines are kept, each event once.
    earlier = [name] if name in folder.names() else []
    whole = io.BytesIO()
    # mtime=0: the same lines give the same bytes, whenever they are written.
    with gzip.GzipFile(fileobj=whole, mode="wb", mtime=0) as target:
        for line in _distinct(_read_lines(folder, file) for file in [*earlier, *parts]):
            target.write(line)
    folder.put(name, whole.getvalue())
    for part in parts:
        folder.remove(part)
    log.info("day of the archive written", file=name, parts=len(parts), bytes=whole.tell())


def _read_lines(folder: ArtifactFolder, name: str) -> Iterator[bytes]:
    """Yield a file's lines one by one: unpacked at once, a day would take ten times as much memory."""
    with gzip.open(io.BytesIO(folder.get(name))) as file:
        yield from file


def _distinct(files: Iterable[Iterator[bytes]]) -> Iterator[bytes]:
    """Yield the lines of these files, each event once."""
    event_ids: set[str] = set()
    for lines in files:
        for line in lines:
            event_id = json.loads(line)["event_id"]
            if event_id not in event_ids:
                event_ids.add(event_id)
                yield line


def stream_position(event_id: str) -> tuple[int, int]:
    """Return an event's position in the stream; positions compare as the stream is ordered, ids as text do not."""
    ms, _, sequence = event_id.partition("-")
    return int(ms), int(sequence)


def day_of(event_id: str) -> str:
    """Return the day, in UTC, on which an event was added by Redis's clock."""
    return day_at(added_ms(event_id))


def day_at(ms: int) -> str:
    """Return the day, in UTC, of a time in ms since 1970."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def next_midnight_ms(now_ms: int) -> int:
    """Return when the next day begins, in UTC, in ms since 1970."""
    return (now_ms // DAY_MS + 1) * DAY_MS
