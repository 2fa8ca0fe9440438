"""Takt: which inspections have no verdict though the time of their part is over.

The time of an image is over at a moment that was fixed at its acceptance, by Redis's clock. Whichever comes first says
so, once: the worker's result, which then is at least `review`, or this watch, which any number of processes may keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import redis.asyncio
from pydantic import ValidationError

from service.contract import Event, Result, State
from service.queue import keys
from service.queue.clock import from_ms
from service.queue.results import RESULT_FIELDS, read_result
from service.queue.scripts import load

MOST_AT_ONCE = 100
FIELDS_AT_ONCE = 500
"""Inspections of which one round trip reads."""


class OvertimeWatch:
    """Finds inspections whose takt is over. Methods raise RedisError if Redis is away."""

    def __init__(self, client: redis.asyncio.Redis, *, max_events: int) -> None:
        self._redis, self._max_events = client, max_events
        self._script = client.register_script(load("events", "overtime"))

    async def note_due(self, now_ms: int) -> int:
        """Note the inspections whose takt is over and that have no verdict, each with its event; return how many.

        Args:
            now_ms: Redis's clock, ms since 1970.
        """
        due = await cast(
            "Any", self._redis.zrangebyscore(keys.TAKTS, "-inf", f"({now_ms}", 0, MOST_AT_ONCE, withscores=True)
        )
        return sum([await self._note(inspection_id, int(due_ms)) for inspection_id, due_ms in due])

    async def _note(self, inspection_id: str, due_ms: int) -> bool:
        fields = await cast("Any", self._redis.hmget(keys.inspection(inspection_id), RESULT_FIELDS))
        result = _unfinished(inspection_id, fields)
        if result is None:
            await cast("Any", self._redis.zrem(keys.TAKTS, inspection_id))
            return False
        event = Event.from_overtime(result, from_ms(due_ms)).to_json()
        outcome = await cast(
            "Any",
            self._script(
                keys=[keys.inspection(inspection_id), keys.TAKTS, keys.EVENTS],
                args=[inspection_id, event, self._max_events],
            ),
        )
        return cast(str, outcome) == "recorded"


async def overdue_inspections(
    client: redis.asyncio.Redis, unfinished: Sequence[str], since: datetime, until: datetime
) -> list[Result]:
    """Return the inspections without a verdict whose takt was over from `since` to before `until`.

    Args:
        client: of the service's Redis.
        unfinished: ids of what waits or runs, of which those are chosen.
        since, until: by Redis's clock.

    Raises:
        RedisError: if Redis is away.
    """
    found: list[Result] = []
    for at in range(0, len(unfinished), FIELDS_AT_ONCE):
        some = unfinished[at : at + FIELDS_AT_ONCE]
        due = await _fields(client, some, ["due_ms"])
        over = [one for one, [ms] in zip(some, due, strict=True) if ms and since <= from_ms(int(ms)) < until]
        results = zip(over, await _fields(client, over, RESULT_FIELDS), strict=True)
        found += [result for one, fields in results if (result := _unfinished(one, fields)) is not None]
    return found


async def _fields(client: redis.asyncio.Redis, ids: Sequence[str], names: list[str]) -> list[list[str | None]]:
    async with client.pipeline(transaction=False) as pipe:
        for one in ids:
            pipe.hmget(keys.inspection(one), names)
        return cast("list[list[str | None]]", await pipe.execute())


def _unfinished(inspection_id: str, fields: Sequence[str | None]) -> Result | None:
    """Return the inspection; None if it has ended, is not kept any more, or cannot be read by this version."""
    try:
        result = read_result(inspection_id, fields)
    except ValidationError:
        return None
    return result if result is not None and result.state in {State.QUEUED, State.RUNNING} else None
