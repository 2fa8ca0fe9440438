"""What becomes of parts: scrap, rework, use as is. Every decision is kept with its part; the last one is in force."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, cast

import redis.asyncio

from service.contract import Event, PartDisposition, Result
from service.queue import keys
from service.queue.history import MOST_PER_PART
from service.queue.scripts import load

MOST_DISPOSITIONS = 50
"""Decisions that are kept of a part."""


class DispositionOutcome(StrEnum):
    """Outcome of recording what becomes of a part."""

    RECORDED = "recorded"
    UNKNOWN = "unknown"
    """No image of the part is kept."""
    NO_MEMORY = "no_memory"
    """Redis is so full that what is left is for images."""


class Dispositions:
    """Reads and records what becomes of parts. Methods raise RedisError if Redis is away."""

    def __init__(self, client: redis.asyncio.Redis, *, max_events: int, ttl_s: int) -> None:
        """Prepare the script; nothing connects yet.

        Args:
            client: of the service's Redis.
            max_events: how long the event stream may grow.
            ttl_s: how long a part's decisions are kept after the last one, or after its last image.
        """
        self._redis, self._max_events, self._ttl_ms = client, max_events, ttl_s * 1000
        self._set = client.register_script(load("reviewed", "events", "set_disposition"))

    async def of_part(self, serial: str) -> list[PartDisposition]:
        """Return what was decided about a part, oldest first."""
        lines = await cast("Any", self._redis.lrange(keys.disposition(serial), 0, -1))
        return [PartDisposition.model_validate_json(line) for line in lines]

    async def set(self, serial: str, last: Result, disposition: PartDisposition) -> DispositionOutcome:
        """Record a decision, with an event. A repeated call records it once.

        Args:
            serial: of the part.
            last: its last inspection: the event names its product, lot and station.
            disposition: to record; one without a value takes back what was decided.
        """
        outcome = await cast(
            "Any",
            self._set(
                keys=[
                    keys.disposition(serial),
                    keys.HISTORY,
                    keys.history("serial", serial),
                    keys.unfinished(serial),
                    keys.EVENTS,
                ],
                args=[
                    disposition.model_dump_json(),
                    disposition.disposition.value if disposition.disposition else "",
                    Event.from_disposition(serial, last, disposition).model_dump_json(exclude_none=True),
                    self._max_events,
                    self._ttl_ms,
                    keys.INSPECTION_PREFIX,
                    MOST_DISPOSITIONS,
                    MOST_PER_PART,
                ],
            ),
        )
        return DispositionOutcome(outcome)
