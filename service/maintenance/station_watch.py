"""What happens at stations by itself: parts whose takt is over, and limit samples that have been inspected.

Every API process looks, several times a second, with one call to Redis. That none of it happens twice is not decided
here: each step is one script that takes its inspection off a list and does the rest. So there is no holder of a lease
that could hang, and a process that starts goes on where the last one ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from service.cancelling import cancel_and_wait
from service.queue import keys
from service.queue.limit_samples import LimitSamples
from service.queue.overtime import OvertimeWatch

EVERY_S = 0.1
PAUSE_S = 2.0
"""After an error."""
MOST_AT_ONCE = 100

log = structlog.get_logger(__name__)


class StationWatch:
    """Looks after the stations."""

    def __init__(self, client: redis.asyncio.Redis, overtime: OvertimeWatch, limit_samples: LimitSamples) -> None:
        self._redis, self._overtime, self._limit_samples = client, overtime, limit_samples
        self._unjudged = set[str]()
        """Images that could not be judged, and were told of: they are tried again, and hold up no others."""

    async def look(self) -> None:
        """Note what is overdue, and judge the limit samples that have ended.

        Raises:
            RedisError: if Redis is away: look again later.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(keys.TAKTS, 0, 0, withscores=True)
            pipe.zrange(keys.LIMIT_ENDED, 0, MOST_AT_ONCE + len(self._unjudged) - 1)
            (seconds, micros), first, ended = cast("Any", await pipe.execute())
        now_ms = seconds * 1000 + micros // 1000
        if first and first[0][1] < now_ms and (noted := await self._overtime.note_due(now_ms)):
            log.warning("parts without a verdict in their takt", inspections=noted)
        self._unjudged.intersection_update(ended)
        for inspection_id in ended:
            await self._judge(inspection_id)

    async def _judge(self, inspection_id: str) -> None:
        try:
            check = await self._limit_samples.judge(inspection_id)
        except (ValueError, LookupError):  # one that cannot be judged must not stop the others
            if inspection_id not in self._unjudged:
                log.exception("limit sample not judged", inspection_id=inspection_id)
            self._unjudged.add(inspection_id)
            return
        if check is not None:
            log.info("check by limit samples ended", state=check.state, inspection_id=inspection_id)


@asynccontextmanager
async def watching(watch: StationWatch, every_s: float = EVERY_S) -> AsyncIterator[None]:
    """Look every `every_s` seconds while the context lasts. An error is logged, and the next look tries again."""
    task = asyncio.create_task(_keep_watching(watch, every_s), name="glad-stations")
    try:
        yield
    finally:
        await cancel_and_wait(task)


async def _keep_watching(watch: StationWatch, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await watch.look()
        except (RedisError, OSError) as error:
            log.warning("stations not looked after", error=str(error), kind=type(error).__name__)
            await asyncio.sleep(PAUSE_S)
        except Exception:  # a bug at one inspection must not end the watch for all later ones
            log.exception("stations not looked after")
            await asyncio.sleep(PAUSE_S)
