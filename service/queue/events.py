"""Following the event stream: many readers, one Redis connection that waits for all of them.

A reader fetches what lies behind its own position with a short call. Where nothing does, it waits for the feed's pulse,
which one blocking read gives. So a reader that sleeps holds no connection, and a slow one no memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

import redis.asyncio
import structlog

from service.queue import keys
from service.queue.connection import LONGEST_BLOCK_MS

BEGINNING = "0-0"
"""Before every event."""
PAUSE_S = 0.2
"""Between an error and the next attempt."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class StoredEvent:
    """One entry of the event stream."""

    id: str
    """Its place: larger than all before it."""
    text: str
    """The JSON of a `contract.Event`, perhaps of a newer version."""

    @property
    def fields(self) -> dict[str, Any]:
        """The event's fields."""
        return cast("dict[str, Any]", json.loads(self.text))


class EventFeed:
    """The event stream for the readers of one process. Use as an async context manager."""

    def __init__(self, client: redis.asyncio.Redis, *, block_ms: int = LONGEST_BLOCK_MS) -> None:
        self._redis = client
        self._block_ms = block_ms
        self.readers = 0
        """Who follow now."""
        self.closed = False
        self.generation = 0
        """Grows when there may be something new."""
        self._pulse = asyncio.Event()
        self._someone_reads = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow(), name="glad-events")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        # Again and again: asyncio and the client may swallow a cancellation that meets the end of an await.
        while self._follower is not None and not self._follower.done():
            self._follower.cancel()
            await asyncio.wait({self._follower}, timeout=0.1)

    def close(self) -> None:
        """Tells every reader to end."""
        self.closed = True
        self._beat()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While it lasts, the feed's pulse beats."""
        self.readers += 1
        self._someone_reads.set()
        try:
            yield
        finally:
            self.readers -= 1
            if not self.readers:
                self._someone_reads.clear()

    async def after(self, last: str, count: int = 100) -> list[StoredEvent]:
        """The first events behind this one. RedisError if Redis is away."""
        rows = await cast("Any", self._redis.xrange(keys.EVENTS, min=f"({last}", count=count))
        return [StoredEvent(entry, fields["event"]) for entry, fields in rows]

    async def span(self) -> tuple[str, str] | None:
        """The ids of the oldest and the newest event; None if there is none."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xrange(keys.EVENTS, count=1)
            pipe.xrevrange(keys.EVENTS, count=1)
            oldest, newest = await pipe.execute()
        return (oldest[0][0], newest[0][0]) if oldest else None

    async def changed(self, generation: int, seconds: float) -> None:
        """Returns when there may be more than at that generation, or when the time is over."""
        if generation == self.generation:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._pulse.wait(), seconds)

    def _beat(self) -> None:
        self.generation += 1
        self._pulse.set()
        self._pulse = asyncio.Event()

    async def _follow(self) -> None:
        """Reads the stream while somebody follows it; goes on after every error."""
        last: str | None = None
        while not self.closed:
            if not self._someone_reads.is_set():
                last = None
                await self._someone_reads.wait()
            try:
                if last is None:
                    span = await self.span()
                    last = span[1] if span else BEGINNING
                    self._beat()
                if newest := await self._newest_after(last):
                    last = newest
                    self._beat()
            except Exception as error:
                log.warning("event stream not read", error=str(error), kind=type(error).__name__)
                last = None
                await asyncio.sleep(PAUSE_S)

    async def _newest_after(self, last: str) -> str | None:
        reply = await cast("Any", self._redis.xread({keys.EVENTS: last}, count=500, block=self._block_ms))
        return cast("str", reply[0][1][-1][0]) if reply else None
