"""An open loop: arrivals are a Poisson process that waits for no answer, as cameras on a line are.

Every latency counts from the moment at which the arrival was due, not from when the client got round to it. A client
that falls behind therefore shows as latency (and as `lag`), and never hides a queue.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TargetAnswer:
    """The answer of a target."""

    accepted: bool
    refused: bool = False
    """It said "not now": 429 or 503."""
    id: str | None = None


@dataclass(frozen=True)
class Arrival:
    """An arrival. Times in seconds since 1970, by a clock that never steps."""

    due: float
    sent: float
    answered: float
    answer: TargetAnswer | None
    """None: the connection failed."""

    @property
    def latency_s(self) -> float:
        """Seconds from due to answered."""
        return self.answered - self.due


Send = Callable[[int], Awaitable[TargetAnswer]]
"""Sends arrival number n. OSError counts as a failed one."""


async def drive(send: Send, *, rate: float, seconds: float, rng: random.Random) -> list[Arrival]:
    """Offer arrivals at this rate for so many seconds; return all of them in order, once each has its answer."""
    epoch, tasks = time.time() - time.monotonic(), list[asyncio.Task[Arrival]]()
    began, offset = time.monotonic(), 0.0
    while (offset := offset + rng.expovariate(rate)) < seconds:
        due = began + offset
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(_shoot(send, len(tasks), due, epoch)))
    return list(await asyncio.gather(*tasks))


async def _shoot(send: Send, number: int, due: float, epoch: float) -> Arrival:
    sent, answer = time.monotonic(), None
    with suppress(OSError):
        answer = await send(number)
    return Arrival(due + epoch, sent + epoch, time.monotonic() + epoch, answer)


@dataclass(frozen=True)
class Latency:
    """Percentiles in milliseconds."""

    p50: float
    p95: float
    p99: float
    longest: float


def latency(seconds: Sequence[float]) -> Latency | None:
    """Return percentiles; None if there are no values."""
    if not seconds:
        return None
    found = np.percentile(np.array(seconds) * 1000, [50, 95, 99, 100])
    return Latency(*(round(float(one), 1) for one in found))
