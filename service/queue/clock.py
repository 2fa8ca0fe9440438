"""Redis's clock: the one clock that all processes share, and by which everything is decided.

The clocks of two machines differ, and an order by them is wrong by as much: a part would pass by an older image of a
view. So a moment that is compared with another one, or with an age, is Redis's, whichever process asks. What this
machine's own clock says is only compared with it, to tell people that it is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import redis.asyncio

MOST_OFFSET_S = 1.0
"""A machine whose clock is further off than this needs somebody to look after it."""


@dataclass(frozen=True)
class ClockReading:
    """Redis's clock, read between two looks at this machine's own; all in seconds since 1970."""

    before_s: float
    redis_s: float
    after_s: float

    @property
    def offset_s(self) -> float:
        """How far this machine's clock is ahead of Redis's, at least; negative: behind.

        Redis read its clock at some time between the two looks, so that nothing smaller than half the round trip is
        known: a slow answer is no wrong clock.
        """
        if self.before_s > self.redis_s:
            return self.before_s - self.redis_s
        return min(0.0, self.after_s - self.redis_s)

    @property
    def problem(self) -> str:
        """What is amiss, with what to do; empty: nothing."""
        if abs(self.offset_s) <= MOST_OFFSET_S:
            return ""
        where = "ahead of" if self.offset_s > 0 else "behind"
        return (
            f"this machine's clock is {abs(self.offset_s):.1f} s {where} that of Redis; at most {MOST_OFFSET_S:g} s "
            "are allowed: synchronise both with one time server (NTP)"
        )


async def read_clock(client: redis.asyncio.Redis, own_clock: Callable[[], float] = time.time) -> ClockReading:
    """Return Redis's time beside that of this machine.

    Raises:
        RedisError: if Redis is away.
    """
    before_s = own_clock()
    seconds, micros = await cast("Any", client.time())
    return ClockReading(before_s, seconds + micros / 1e6, own_clock())


async def redis_now(client: redis.asyncio.Redis) -> datetime:
    """Return Redis's time in UTC, to the millisecond.

    Raises:
        RedisError: if Redis is away.
    """
    seconds, micros = await cast("Any", client.time())
    return from_ms(seconds * 1000 + micros // 1000)


def to_ms(moment: datetime) -> int:
    """Return a time in ms since 1970."""
    return round(moment.timestamp() * 1000)


def from_ms(moment_ms: int) -> datetime:
    """Return the time in UTC of a moment in ms since 1970."""
    seconds, milliseconds = divmod(moment_ms, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1000)
