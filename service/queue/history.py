"""Ended inspections in the order in which they ended, by product, serial, lot, station, outcome and time.

`complete.lua` gives every ended inspection a position, larger than all before it, in the step that makes it visible.
So a client that has read up to a position has missed nothing before it, however late an image finished.

A few pages are made at a time, and of these a few results: in between the process has time for all else, however many
read the history and however long their pages are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import redis.asyncio

from service.contract import Disposition, Result, State, Verdict
from service.queue import keys
from service.queue.clock import from_ms
from service.queue.results import ACCEPTANCE_FIELDS, RESULT_FIELDS, acceptance, read_result

POSITIONS_PER_MS = 1024
DAY_MS = 24 * 3600 * 1000
CHUNK = 1000
"""Ids that are checked in one round trip."""
MOST_SCANNED = 20_000
"""Ids that one page checks: two filters that rarely match together cost many small pages, not one slow one."""
PAGES_AT_A_TIME = 4
"""Each holds its results in memory; further calls wait. Those that judge a part do not wait for those of history."""
RESULTS_A_TURN = 20
TURN_S = 0.005
"""Time for all else after each turn, which takes about as long."""
MOST_PER_PART = 1000
"""Ended inspections of one serial that count for the part's verdict."""

_OUTCOMES: dict[State, tuple[str, ...]] = {
    State.DONE: tuple(verdict.value for verdict in Verdict),
    State.FAILED: (State.FAILED.value,),
    State.EXPIRED: (State.EXPIRED.value,),
}

_REVIEWED = keys.history("reviewed", "true")


@dataclass(frozen=True)
class HistoryFilter:
    """Conditions on ended inspections; None means any."""

    product: str | None = None
    serial: str | None = None
    lot: str | None = None
    station: str | None = None
    verdict: Verdict | None = None
    state: State | None = None
    """A final one."""
    since: datetime | None = None
    """Ended at this time or later, by Redis's clock."""
    until: datetime | None = None
    """Ended before this time."""
    defect_code: str | None = None
    """Of the review that counts."""
    disposition: Disposition | None = None
    """Of the part."""
    reviewed: bool | None = None
    """Whether a review counts."""

    def indexes(self) -> tuple[tuple[str, ...], ...]:
        """Return groups of index keys: an inspection must be in one index of each group."""
        fields = {name: getattr(self, name) for name in ("product", "serial", "lot", "station", "defect_code")}
        groups: list[tuple[str, ...]] = [
            (keys.history(name, value),) for name, value in fields.items() if value is not None
        ]
        if self.verdict is not None:
            groups.append((keys.history("outcome", self.verdict.value),))
        if self.state is not None:
            groups.append(tuple(keys.history("outcome", outcome) for outcome in _OUTCOMES[self.state]))
        if self.disposition is not None:
            groups.append((keys.history("disposition", self.disposition.value),))
        if self.reviewed:
            groups.append((_REVIEWED,))
        return tuple(groups)

    @property
    def excluded(self) -> str | None:
        """The index that an inspection must not be in."""
        return _REVIEWED if self.reviewed is False else None


@dataclass(frozen=True)
class HistoryPage:
    """A page of ended inspections, in order."""

    results: tuple[Result, ...]
    position: int
    """The next page begins here: everything up to it was checked."""
    more: bool
    """Whether there may be more to read now."""


@dataclass(frozen=True)
class PartImage:
    """An inspection of a part."""

    result: Result
    accepted_at: datetime
    """When Redis took its job. Compare by this one: that of the result is of the version and machine that made it."""


@dataclass(frozen=True)
class _Walk:
    """The index to walk, between two positions, and the groups that its ids must be in as well."""

    index: str
    groups: tuple[tuple[str, ...], ...]
    excluded: str | None
    """The index that its ids must not be in."""
    low: str
    high: str
    newest_first: bool

    @property
    def selects(self) -> bool:
        """Whether ids of the index may be left out."""
        return bool(self.groups) or self.excluded is not None


@dataclass(frozen=True)
class _Taken:
    """Results of a chunk of ids."""

    results: list[Result | None]
    looked_at: int
    """Number of ids that are done with."""


class History:
    """Reads ended inspections."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis = client
        self._turns = asyncio.Lock()
        self._pages, self._parts = asyncio.Semaphore(PAGES_AT_A_TIME), asyncio.Semaphore(PAGES_AT_A_TIME)

    async def page(
        self, filters: HistoryFilter, *, after: int | None = None, limit: int = 50, newest_first: bool = False
    ) -> HistoryPage:
        """Return at most `limit` inspections beyond position `after`.

        Raises:
            RedisError: if Redis is away.
        """
        async with self._pages:
            return await self._read_page(await self._plan(filters, after, newest_first), after, limit)

    async def _read_page(self, walk: _Walk, after: int | None, limit: int) -> HistoryPage:
        found: list[Result] = []
        position, scanned = after or 0, 0
        while len(found) < limit and scanned < MOST_SCANNED:
            chunk = _chunk(limit, scanned) if walk.selects else limit - len(found)
            rows = await self._rows(walk, position if scanned else None, chunk)
            taken = await self._take(walk, [inspection_id for inspection_id, _ in rows], limit - len(found))
            found.extend(result for result in taken.results if result is not None)
            scanned += len(rows)
            if rows:
                position = rows[taken.looked_at - 1][1]
            if len(rows) < chunk and taken.looked_at == len(rows):
                return HistoryPage(tuple(found), position, more=False)
        return HistoryPage(tuple(found), position, more=True)

    async def ended_in_last_day(self, product: str) -> int:
        """Return how many inspections of a product ended in the 24 hours up to the latest one: also on a day off.

        Raises:
            RedisError: if Redis is away.
        """
        latest = await self.last_position(product)
        index = keys.history("product", product)
        return int(await self._redis.zcount(index, latest - DAY_MS * POSITIONS_PER_MS, "+inf"))

    async def last_position(self, product: str) -> int:
        """Return the position of the product's latest inspection; 0 if there is none.

        Raises:
            RedisError: if Redis is away.
        """
        latest = await cast("Any", self._redis.zrevrange(keys.history("product", product), 0, 0, withscores=True))
        return int(latest[0][1]) if latest else 0

    async def first_end(self, product: str) -> datetime | None:
        """Return when the first of the product's inspections that are kept ended; None if there is none.

        Raises:
            RedisError: if Redis is away.
        """
        first = await cast("Any", self._redis.zrange(keys.history("product", product), 0, 0, withscores=True))
        return from_ms(int(first[0][1]) // POSITIONS_PER_MS) if first else None

    async def part_images(self, serial: str) -> tuple[PartImage, ...]:
        """Return the part's inspections in the order of acceptance: all that wait or run, and the latest that ended.

        Redis's clock tells the order, whichever machine an image came to.

        Raises:
            RedisError: if Redis is away.
        """
        async with self._parts:
            return await self._read_part(serial)

    async def _read_part(self, serial: str) -> tuple[PartImage, ...]:
        async with self._redis.pipeline(
            transaction=True
        ) as pipe:  # one snapshot: an inspection that ends meanwhile is in one of the two
            pipe.smembers(keys.unfinished(serial))
            pipe.zrevrange(keys.history("serial", serial), 0, MOST_PER_PART - 1)
            unfinished, ended = await pipe.execute()
        ids = list(dict.fromkeys([*unfinished, *ended]))
        results = dict(zip(ids, await self._results(ids), strict=True))
        accepted = dict(zip(ids, await self._acceptances(ids), strict=True))
        images = [(accepted[one], results[one]) for one in sorted(ids, key=accepted.__getitem__)]
        return tuple(PartImage(result, from_ms(at_ms)) for (at_ms, _), result in images if result is not None)

    async def _plan(self, filters: HistoryFilter, after: int | None, newest_first: bool) -> _Walk:
        """Choose the index with the fewest entries in the range; the other filters are checked id by id."""
        low = "-inf" if filters.since is None else str(position_at(filters.since))
        high = "+inf" if filters.until is None else f"({position_at(filters.until)}"
        if after is not None and newest_first:
            high = f"({after}" if filters.until is None else f"({min(after, position_at(filters.until))}"
        elif after is not None:
            low = f"({after}" if filters.since is None else f"({max(after, position_at(filters.since) - 1)}"
        groups = filters.indexes()
        single = [group[0] for group in groups if len(group) == 1] or [keys.HISTORY]
        async with self._redis.pipeline(transaction=False) as pipe:
            for index in single:
                pipe.zcount(index, low, high)
            sizes = await pipe.execute()
        chosen = single[sizes.index(min(sizes))]
        others = tuple(group for group in groups if group != (chosen,))
        return _Walk(chosen, others, filters.excluded, low, high, newest_first)

    async def _rows(self, walk: _Walk, beyond: int | None, count: int) -> list[tuple[str, int]]:
        """Return (id, position) of the next ids of the walk."""
        if walk.newest_first:
            high = walk.high if beyond is None else f"({beyond}"
            read = self._redis.zrevrangebyscore(walk.index, high, walk.low, 0, count, withscores=True)
        else:
            low = walk.low if beyond is None else f"({beyond}"
            read = self._redis.zrangebyscore(walk.index, low, walk.high, 0, count, withscores=True)
        return [(inspection_id, int(score)) for inspection_id, score in await cast("Any", read)]

    async def _take(self, walk: _Walk, ids: list[str], limit: int) -> _Taken:
        """Read the first `limit` of these ids that are in every group. An id that has just expired has no result."""
        matching = await self._matching(walk, ids)
        chosen = [place for place, matches in enumerate(matching) if matches][:limit]
        results = await self._results([ids[place] for place in chosen])
        return _Taken(results, looked_at=chosen[-1] + 1 if len(chosen) == limit else len(ids))

    async def _matching(self, walk: _Walk, ids: list[str]) -> list[bool]:
        if not ids or not walk.selects:
            return [True] * len(ids)
        excluded = () if walk.excluded is None else (walk.excluded,)
        indexes = [index for group in (*walk.groups, excluded) for index in group]
        async with self._redis.pipeline(transaction=False) as pipe:
            for index in indexes:
                pipe.zmscore(index, ids)
            scores = dict(zip(indexes, await pipe.execute(), strict=True))
        return [
            all(any(scores[index][place] is not None for index in group) for group in walk.groups)
            and all(scores[index][place] is None for index in excluded)
            for place in range(len(ids))
        ]

    async def _results(self, ids: Sequence[str]) -> list[Result | None]:
        found: list[Result | None] = []
        for at in range(0, len(ids), RESULTS_A_TURN):
            async with self._turns:  # in the order of their coming
                found += await self._few_results(ids[at : at + RESULTS_A_TURN])
                await asyncio.sleep(TURN_S)
        return found

    async def _few_results(self, ids: Sequence[str]) -> list[Result | None]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for inspection_id in ids:
                pipe.hmget(keys.inspection(inspection_id), RESULT_FIELDS)
            return [read_result(one, fields) for one, fields in zip(ids, await pipe.execute(), strict=True)]

    async def _acceptances(self, ids: Sequence[str]) -> list[tuple[int, int]]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for inspection_id in ids:
                pipe.hmget(keys.inspection(inspection_id), ACCEPTANCE_FIELDS)
            return [acceptance(*row) for row in await pipe.execute()]


def position_at(moment: datetime) -> int:
    """Return the first position of this millisecond."""
    return round(moment.timestamp() * 1000) * POSITIONS_PER_MS


def _chunk(limit: int, scanned: int) -> int:
    """Return how many ids to check next: few at first, since where most ids match, more would be read for nothing."""
    return CHUNK if scanned else min(CHUNK, 2 * limit)
