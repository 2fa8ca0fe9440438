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
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, cast

import redis
import structlog

from service.host.child_process import Backoff
from service.outbox.archive_days import close_days
from service.outbox.archive_parts import Part, day_at, day_of, parts_in
from service.outbox.archive_written import Written
from service.outbox.relay import Policy, Undelivered
from service.queue import keys
from service.queue.events import StoredEvent
from service.queue.outbox import added_ms
from service.queue.results import RESULT_FIELDS, read_result
from service.storage.artifacts import ArtifactFolder

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
