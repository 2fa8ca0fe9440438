"""Following the event stream: many readers, one Redis connection that waits for all of them.

A reader fetches the events after its own position with a short call. If there are none, it waits for the feed's signal,
which comes from one blocking read. So a waiting reader holds no connection, and a slow one no memory.

Readers that begin far back, or are behind, take turns: in between the process has time for all else, however many they
are. Readers at the same place share one reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

import redis.asyncio
import structlog

from service.cancelling import cancel_and_wait
from service.queue import keys
from service.queue.connection import LONGEST_BLOCK_MS

BEGINNING = "0-0"
"""A position before every event."""
PAUSE_S = 0.2
"""Pause between an error and the next attempt."""
PAGE_EVENTS = 100
TURN_S = 0.005
"""Between two pages for readers that are behind: 200 pages a second, whoever reads them."""
MOST_PAGES = 32
"""Pages that are remembered for other readers: at most some 15 MB."""
PAGE_AGE_S = 5.0
"""How long a page is remembered: Redis may have been emptied, or restored from a backup."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class StoredEvent:
    """An entry of the event stream."""

    id: str
    """Its position: larger than all before it."""
    text: str
    """JSON of a `contract.Event`, perhaps of a newer version."""

    @property
    def fields(self) -> dict[str, Any]:
        """The event's fields."""
        return cast("dict[str, Any]", json.loads(self.text))


@dataclass(frozen=True)
class ReadEvent:
    """An event that was read from JSON, once for all readers."""

    id: str
    text: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class EventPage:
    """The first events after a position."""

    events: tuple[ReadEvent, ...]
    """Those that can be read: one that nobody can read must not end the streams of all readers."""
    last: str
    """The position behind them."""
    is_full: bool
    """Whether there may be more."""


def read_page(after: str, stored: Sequence[StoredEvent]) -> EventPage:
    """Return these events, which are the first ones after a position, as a page."""
    events = []
    for one in stored:
        try:
            fields = one.fields
            events.append(ReadEvent(one.id, one.text, {"type": fields["type"], **fields}))
        except (ValueError, TypeError, LookupError) as error:
            log.warning("event cannot be read", event_id=one.id, error=str(error)[:300])
    return EventPage(tuple(events), stored[-1].id if stored else after, len(stored) >= PAGE_EVENTS)


class EventFeed:
    """The event stream for the readers of one process. Use as an async context manager."""

    def __init__(self, client: redis.asyncio.Redis, *, block_ms: int = LONGEST_BLOCK_MS) -> None:
        self._redis = client
        self._block_ms = block_ms
        self.readers_of: Counter[str] = Counter()
        """API key -> its readers that follow now; "": those without one."""
        self.closed = False
        self.generation = 0
        """Grows whenever there may be new events."""
        self._signal = asyncio.Event()
        self._turns = asyncio.Lock()
        self._pages: OrderedDict[tuple[str, int | None], tuple[float, EventPage]] = OrderedDict()
        self._has_readers = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow(), name="glad-events")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if self._follower is not None:
            await cancel_and_wait(self._follower)

    def close(self) -> None:
        """End all readers."""
        self.closed = True
        self._wake_readers()

    @property
    def readers(self) -> int:
        """Number of readers that follow now."""
        return self.readers_of.total()

    @contextmanager
    def reading(self, key_id: str = "") -> Iterator[None]:
        """Count as a reader while the context lasts; the feed follows the stream only while it has readers.

        Args:
            key_id: of the reader's API key; "" without one.
        """
        self.readers_of[key_id] += 1
        self._has_readers.set()
        try:
            yield
        finally:
            self.readers_of -= Counter([key_id])  # forgets who has no reader left
            if not self.readers:
                self._has_readers.clear()
                self._pages.clear()

    async def wait_for_turn(self) -> None:
        """Return when a reader that is behind may fetch its next page."""
        async with self._turns:  # in the order of their coming
            await asyncio.sleep(TURN_S)

    async def page_after(self, last: str) -> EventPage:
        """Return the first events after this id.

        Raises:
            RedisError: if Redis is away.
        """
        # A full page stays as it is; one at the end of the stream, until there may be more.
        for key in ((last, None), (last, self.generation)):
            read_at, known = self._pages.get(key, (0.0, None))
            if known is not None and time.monotonic() - read_at < PAGE_AGE_S:
                return known
        generation = self.generation
        rows = await cast("Any", self._redis.xrange(keys.EVENTS, min=f"({last}", count=PAGE_EVENTS))
        page = read_page(last, [StoredEvent(entry, fields["event"]) for entry, fields in rows])
        self._pages[last, None if page.is_full else generation] = time.monotonic(), page
        if len(self._pages) > MOST_PAGES:
            self._pages.popitem(last=False)
        return page

    async def span(self) -> tuple[str, str] | None:
        """Return the ids of the oldest and the newest event; None if there is none."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xrange(keys.EVENTS, count=1)
            pipe.xrevrange(keys.EVENTS, count=1)
            oldest, newest = await pipe.execute()
        return (oldest[0][0], newest[0][0]) if oldest else None

    async def changed(self, generation: int, seconds: float) -> None:
        """Wait until there may be more events than at that generation, or the time is over."""
        if generation == self.generation:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._signal.wait(), seconds)

    def _wake_readers(self) -> None:
        self.generation += 1
        self._signal.set()
        self._signal = asyncio.Event()

    async def _follow(self) -> None:
        """Read the stream while it has readers; go on after every error."""
        last: str | None = None
        while not self.closed:
            if not self._has_readers.is_set():
                last = None
                await self._has_readers.wait()
            try:
                if last is None:
                    span = await self.span()
                    last = span[1] if span else BEGINNING
                    self._wake_readers()
                if newest := await self._newest_after(last):
                    last = newest
                    self._wake_readers()
            except Exception as error:
                log.warning("event stream not read", error=str(error), kind=type(error).__name__)
                last = None
                await asyncio.sleep(PAUSE_S)

    async def _newest_after(self, last: str) -> str | None:
        reply = await cast("Any", self._redis.xread({keys.EVENTS: last}, count=500, block=self._block_ms))
        return cast("str", reply[0][1][-1][0]) if reply else None
