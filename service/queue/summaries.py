"""Summaries of ended inspections: what statistics need of each, read a hundred thousand at a time.

`complete.lua` writes a summary beside each result; of an inspection that ended before there were any, `summaries.lua`
makes one from the result. A summary never changes, so what was read of an hour is kept as text, and only what ended
since is read again. Reviews do change: those of inspections that have any are read anew each time.

They are read a few at a time: in between the process has time for all else.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern
from typing import Any, NamedTuple, cast

import redis.asyncio

from service.contract import Disposition, Priority, Review, Verdict
from service.queue import keys
from service.queue.history import CHUNK, POSITIONS_PER_MS, TURN_S, position_at
from service.queue.results import acceptance
from service.queue.scripts import load

HOUR = 3_600_000 * POSITIONS_PER_MS
"""Positions of an hour."""
MOST_KEPT_LETTERS = 32 << 20
"""Of all summaries that one process keeps; some 250,000. Beyond it the hours that were not asked for longest go."""
_REVIEWED = keys.history("reviews", "any")
"""Those that have, or had, a review: it may change at any time."""
COUNTS_AT_A_TIME = 2
"""Each holds the parts of its span in memory until it is answered; further ones wait."""
MOST_UNFINISHED = 10_000
"""Of one pool and priority that are looked at."""
ACCEPTED_PER_MS = 1 << 20
_FIELDS = 11
_VERDICTS = {verdict.value: verdict for verdict in Verdict}


class InspectionSummary(NamedTuple):
    """An ended inspection as far as statistics need it. A tuple, because there are many."""

    position: int
    """In the history: the order of ending."""
    id: str
    accepted: int
    """When Redis took its job: the order of acceptance, `ACCEPTED_PER_MS` numbers in a ms since 1970."""
    verdict: Verdict | None
    """Of the image; None: it ended without one."""
    serial: str | None
    product: str
    view: str | None
    station: str | None
    replay_of: str | None
    reviews: tuple[Review, ...]

    @property
    def accepted_ms(self) -> int:
        """When Redis took its job, in ms since 1970."""
        return self.accepted // ACCEPTED_PER_MS

    @property
    def ended_ms(self) -> int:
        """When it ended by Redis's clock, in ms since 1970."""
        return self.position // POSITIONS_PER_MS


@dataclass
class _Hour:
    """What was read of an hour."""

    texts: list[str] = field(default_factory=list)
    """Lines of summaries.lua, at most `CHUNK` a text."""
    ids: int = 0
    """That were looked at."""
    last: int = 0
    """Position up to which all was read."""

    @property
    def letters(self) -> int:
        return sum(map(len, self.texts))


class Summaries:
    """Reads the summaries of a time span. One reader at a time: the others wait for their turn."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client
        self._script = client.register_script(load("summary", "summaries"))
        self._hours: OrderedDict[int, _Hour] = OrderedDict()
        self._turn = asyncio.Lock()
        self.counts = asyncio.Semaphore(COUNTS_AT_A_TIME)
        """For who reads a whole span and keeps what was read."""

    async def count(self, since: datetime, until: datetime) -> int:
        """Return how many inspections ended from `since` to before `until`.

        Raises:
            RedisError: if Redis is away.
        """
        return await self._redis.zcount(keys.HISTORY, position_at(since), f"({position_at(until)}")

    async def read(self, since: datetime, until: datetime) -> AsyncGenerator[list[InspectionSummary], None]:
        """Yield the inspections that ended from `since` to before `until`, in this order, at most `CHUNK` at a time.

        Limit samples are left out: they are no parts.

        Raises:
            RedisError: if Redis is away.
        """
        low, high = position_at(since), position_at(until)
        async with self._turn:
            reviewed = await self._reviewed(low, high)
            for hour in await self._hours_with_inspections(low, high):
                for text in (await self._hour(hour)).texts:
                    yield [one for one in _parse(text, reviewed) if low <= one.position < high]
                    await asyncio.sleep(TURN_S)
            self._forget_hours()

    async def _hours_with_inspections(self, low: int, high: int) -> list[int]:
        hours = range(low // HOUR, -(-high // HOUR))
        async with self._redis.pipeline(transaction=False) as pipe:
            for hour in hours:
                pipe.zcount(keys.HISTORY, hour * HOUR, f"({(hour + 1) * HOUR}")
            counts = await pipe.execute()
        return [hour for hour, count in zip(hours, counts, strict=True) if count]

    async def _hour(self, number: int) -> _Hour:
        """Return all of an hour: what was read before, if it still stands, and what ended since."""
        low, high = number * HOUR, f"({(number + 1) * HOUR}"
        hour = self._hours.pop(number, None)
        if hour is None or hour.ids != await cast("Any", self._redis.zcount(keys.HISTORY, low, hour.last)):
            hour = _Hour()  # new, or the oldest have been let go
        rows = CHUNK
        while rows == CHUNK:
            lowest = f"({hour.last}" if hour.ids else low
            rows, last, text = await cast(
                "Any",
                self._script(
                    keys=[keys.HISTORY],
                    args=[lowest, high, CHUNK, keys.INSPECTION_PREFIX, keys.UNFINISHED_PREFIX],
                ),
            )
            _append(hour, rows, last, text)
            await asyncio.sleep(0)
        self._hours[number] = hour
        return hour

    def _forget_hours(self) -> None:
        letters = sum(hour.letters for hour in self._hours.values())
        while letters > MOST_KEPT_LETTERS:
            letters -= self._hours.popitem(last=False)[1].letters

    async def dispositions(self, since: datetime, until: datetime) -> dict[str, str]:
        """Return, of the inspections that ended in the span, id -> what was decided to do with the part.

        Raises:
            RedisError: if Redis is away.
        """
        found: dict[str, str] = {}
        for disposition in Disposition:
            index = keys.history("disposition", disposition.value)
            ids = await cast("Any", self._redis.zrangebyscore(index, position_at(since), f"({position_at(until)}"))
            found |= dict.fromkeys(ids, disposition.value)
        return found

    async def unfinished(self, until: datetime) -> list[str]:
        """Return the ids of the images that were accepted before `until` and wait or run.

        Raises:
            RedisError: if Redis is away.
        """
        ids: list[str] = []
        for pool in await cast("Any", self._redis.smembers(keys.POOLS)):
            for priority in Priority:
                stream, last = keys.PoolKeys(pool).jobs(priority), f"({round(until.timestamp() * 1000)}-0"
                rows = await cast("Any", self._redis.xrange(stream, max=last, count=MOST_UNFINISHED))
                ids += [fields["id"] for _, fields in rows]
        return ids

    async def serials_of(self, ids: Sequence[str]) -> set[str]:
        """Return the serials of images that wait or run.

        Raises:
            RedisError: if Redis is away.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for one in ids:
                pipe.hget(keys.inspection(one), "unfinished")
            found = await pipe.execute()
        return {key.removeprefix(keys.UNFINISHED_PREFIX) for key in found if key}

    async def _reviewed(self, low: int, high: int) -> dict[str, str]:
        """Return id -> reviews, one JSON a line, of those whose reviews have changed."""
        ids = await cast("Any", self._redis.zrangebyscore(_REVIEWED, low, f"({high}"))
        found: dict[str, str] = {}
        for at in range(0, len(ids), CHUNK):
            some = ids[at : at + CHUNK]
            async with self._redis.pipeline(transaction=False) as pipe:
                for one in some:
                    pipe.hget(keys.inspection(one), "reviews")
                found |= {one: text or "" for one, text in zip(some, await pipe.execute(), strict=True)}
            await asyncio.sleep(TURN_S)
        return found


def _append(hour: _Hour, rows: int, last: str, text: str) -> None:
    if not rows:
        return
    hour.ids, hour.last = hour.ids + rows, int(float(last))
    if not text:
        return
    if hour.texts and hour.texts[-1].count("\n") + text.count("\n") + 2 <= CHUNK:
        hour.texts[-1] += "\n" + text
    else:
        hour.texts.append(text)


def _parse(text: str, reviewed: Mapping[str, str]) -> Iterator[InspectionSummary]:
    """Yield the summaries of the lines that summaries.lua wrote, but for limit samples."""
    for line in text.split("\n"):
        # A newer version may have added fields at the end.
        position, id_, reviews, entry, outcome, serial, product, view, station, sample, replay_of = line.split(
            "\t", _FIELDS
        )[:_FIELDS]
        if sample:
            continue
        accepted_ms, number = acceptance(None, entry)
        lines = reviewed[id_].split("\n") if id_ in reviewed else reviews.split("\x1e") if reviews else ()
        yield InspectionSummary(
            position=int(float(position)),
            id=id_,
            accepted=accepted_ms * ACCEPTED_PER_MS + number,
            verdict=_VERDICTS.get(outcome),
            serial=serial or None,
            product=intern(product),
            view=intern(view) or None,
            station=intern(station) or None,
            replay_of=replay_of or None,
            reviews=tuple(Review.model_validate_json(one) for one in lines if one),
        )
