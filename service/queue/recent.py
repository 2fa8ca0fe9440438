"""The last ended inspections of a version, kept in memory: who moves a limit sees its effect at once.

Reading a thousand results takes a second or two. What limits are tried on never changes once an inspection has ended,
so it is kept: each call reads what has ended since the last one. Reviews change, and are read anew where they count.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from service.contract import Decision, Result, State, Verdict
from service.queue.history import History, HistoryFilter

PAGE = 200
MOST_KEPT = 20_000
"""Inspections of a version; with more the reading begins anew."""
CLOCKS_APART = timedelta(minutes=1)
"""An inspection's end may be by another clock than its place in the history."""
MOST_VERSIONS = 16
"""Versions whose inspections are kept in one process: those asked for last."""


@dataclass(frozen=True)
class EndedInspection:
    """What decides a verdict, of a part's inspection that is done. Limit samples are no parts."""

    id: str
    score: float | None
    verdict: Verdict
    by_score: bool
    """The score decided: the station was not on hold, and the verdict did not come too late."""
    passed: bool
    """The quality gate let it through, or was not asked."""
    measures: Mapping[str, float] | None
    """What the gate measured; None: it was not asked, or an older worker did not keep it."""
    decision: Decision | None
    """The last that people made, when it was read."""
    finished_at: datetime | None


@dataclass
class _KeptVersion:
    """The inspections between two positions of the history that are of a version."""

    product: str
    bundle_hash: str
    rows: list[EndedInspection] = field(default_factory=list)
    """The latest first."""
    newest: int = 0
    oldest: int | None = None
    """None: nothing is read yet."""
    read: int = 0
    """Inspections of the product that were read backwards, of whatever version."""
    is_whole: bool = False
    """There is nothing older."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class RecentInspections:
    """Reads and keeps the last inspections of versions."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._versions: OrderedDict[tuple[str, str], _KeptVersion] = OrderedDict()

    async def read(
        self,
        product: str,
        bundle_hash: str,
        counts: Callable[[EndedInspection], bool],
        last: int,
        *,
        max_read: int,
        anew: bool = False,
    ) -> list[EndedInspection]:
        """Return a version's last inspections that are done and count, the latest first.

        Args:
            product: its name.
            bundle_hash: of the version.
            counts: returns whether an inspection counts.
            last: how many, at most.
            max_read: how many of the product's inspections to read for that: most may be of another version.
            anew: read all of them again, for people's decisions.

        Raises:
            RedisError: if Redis is away.
        """
        if anew or len(self._kept(product, bundle_hash).rows) > MOST_KEPT:
            self._versions.pop((product, bundle_hash), None)
        kept = self._kept(product, bundle_hash)
        async with kept.lock:
            if kept.oldest is not None:
                await self._read_new(kept)
            await self._read_back(kept, counts, last, max_read)
            first = await self._history.first_end(product)
        found = (one for one in kept.rows if counts(one) and _is_stored(one, first))
        return list(islice(found, last))

    def _kept(self, product: str, bundle_hash: str) -> _KeptVersion:
        key = product, bundle_hash
        kept = self._versions.setdefault(key, _KeptVersion(*key))
        self._versions.move_to_end(key)
        while len(self._versions) > MOST_VERSIONS:
            self._versions.popitem(last=False)
        return kept

    async def _read_new(self, kept: _KeptVersion) -> None:
        """Read what has ended since the last call."""
        known, more = {one.id for one in kept.rows[:PAGE]}, True
        while more:
            page = await self._history.page(_done(kept.product), after=kept.newest, limit=PAGE)
            new = [one for one in _rows(page.results, kept.bundle_hash) if one.id not in known]
            kept.rows = [*reversed(new), *kept.rows]
            kept.newest, more = page.position, page.more

    async def _read_back(
        self,
        kept: _KeptVersion,
        counts: Callable[[EndedInspection], bool],
        last: int,
        max_read: int,
    ) -> None:
        """Read further back, until enough inspections count."""
        if kept.oldest is None:
            # Before the rows: what ends meanwhile may come twice, and is not lost.
            kept.newest = await self._history.last_position(kept.product)
        missing = last - sum(counts(one) for one in kept.rows)
        while missing > 0 and kept.read < max_read and not kept.is_whole:
            limit = min(PAGE, max_read - kept.read)
            page = await self._history.page(_done(kept.product), after=kept.oldest, limit=limit, newest_first=True)
            rows = _rows(page.results, kept.bundle_hash)
            kept.rows += rows
            kept.oldest, kept.is_whole = page.position, not page.more
            kept.read += len(page.results)
            missing -= sum(counts(one) for one in rows)


def _done(product: str) -> HistoryFilter:
    return HistoryFilter(product=product, state=State.DONE)


def _rows(results: tuple[Result, ...], bundle_hash: str) -> list[EndedInspection]:
    return [
        EndedInspection(
            id=one.id,
            score=one.score,
            verdict=one.verdict,
            by_score=one.score is not None and one.hold is None and not one.overtime,
            passed=not one.unfit,
            measures=None if one.quality is None else one.quality.measures,
            decision=None if one.counting_review is None else one.counting_review.decision,
            finished_at=one.finished_at,
        )
        for one in results
        if one.verdict is not None and one.bundle is not None and one.bundle.hash == bundle_hash
        if one.limit_sample is None
    ]


def _is_stored(one: EndedInspection, first: datetime | None) -> bool:
    """Return whether an inspection is still kept, where the first that is kept ended at that time."""
    return first is not None and one.finished_at is not None and one.finished_at >= first - CLOCKS_APART
