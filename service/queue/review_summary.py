"""How much waits for people, and how people and service agree, counted from the reviews that are kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

import redis.asyncio

from glad_client.decisions import counted_review
from glad_client.reviews import (
    AgreementTable,
    DecisionCounts,
    DoubleReadFigures,
    ReviewSummary,
    WaitingReviews,
    cohens_kappa,
)
from service.contract import Decision, Review
from service.queue import keys
from service.queue.clock import redis_now
from service.queue.history import position_at
from service.queue.review_queue import WaitingKind

AT_ONCE = 500
"""Inspections whose reviews are read in one round trip."""


@dataclass
class _Counts:
    """What is counted while the reviews are read."""

    reviewed: int = 0
    withdrawn: int = 0
    decisions: Counter[tuple[str, Decision]] = field(default_factory=Counter)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)

    def add(self, verdict: str, reviews: list[Review]) -> None:
        counting = [review for review in reviews if review.counts]
        self.withdrawn += len(reviews) - len(counting)
        if (decided := counted_review(reviews)) is not None:
            self.reviewed += 1
            self.decisions[verdict, decided.decision] += 1
        if (pair := double_read_pair(counting)) is not None:
            self.pairs.append(pair)


def double_read_pair(counting: list[Review]) -> tuple[Decision, Decision] | None:
    """Return what two people decided on the same image, the first one and the one who looked again blind; or None."""
    second = next((review for review in counting if review.double_read), None)
    if second is None:
        return None
    before = [one for one in counting[: counting.index(second)] if one.by != second.by]
    return (before[-1].decision, second.decision) if before else None


async def summarize(
    client: redis.asyncio.Redis, *, ttl_s: int, product: str | None = None, since: datetime | None = None
) -> ReviewSummary:
    """Return what waits, and how people decided on inspections that ended since a time.

    Args:
        client: of the service's Redis.
        ttl_s: how long inspections are kept: what is older does not wait any more.
        product: only of this one.
        since: None: of all that are kept.

    Raises:
        RedisError: if Redis is away.
    """
    counts = _Counts()
    async for verdict, reviews in _reviewed(client, product, since):
        counts.add(verdict, reviews)
    pairs = counts.pairs
    return ReviewSummary(
        waiting=await _waiting(client, product, ttl_s),
        reviewed=counts.reviewed,
        withdrawn=counts.withdrawn,
        agreement=AgreementTable(
            passed=_decided(counts, "pass"), review=_decided(counts, "review"), fail=_decided(counts, "fail")
        ),
        double_read=DoubleReadFigures(
            pairs=len(pairs), agreed=sum(first == second for first, second in pairs), kappa=cohens_kappa(pairs)
        ),
    )


def _decided(counts: _Counts, verdict: str) -> DecisionCounts:
    return DecisionCounts(ok=counts.decisions[verdict, Decision.OK], defect=counts.decisions[verdict, Decision.DEFECT])


async def _waiting(client: redis.asyncio.Redis, product: str | None, ttl_s: int) -> WaitingReviews:
    kept_from = position_at(await redis_now(client) - timedelta(seconds=ttl_s))
    suffix = keys.waiting_suffix(product, None)
    async with client.pipeline(transaction=False) as pipe:
        for kind in WaitingKind:
            pipe.zcount(f"{keys.WAITING_PREFIX}{kind.value}{suffix}", kept_from, "+inf")
        counts = await pipe.execute()
    return WaitingReviews(**dict(zip((kind.value for kind in WaitingKind), counts, strict=True)))


async def _reviewed(
    client: redis.asyncio.Redis, product: str | None, since: datetime | None
) -> AsyncIterator[tuple[str, list[Review]]]:
    """Yield verdict and reviews of every inspection that ever had a review, some at a time."""
    index, beyond = keys.history("reviews", "any"), "-inf" if since is None else str(position_at(since))
    while True:
        rows = await cast("Any", client.zrangebyscore(index, beyond, "+inf", 0, AT_ONCE, withscores=True))
        for outcome, reviews in await _read(client, [inspection_id for inspection_id, _ in rows], product):
            yield outcome, [Review.model_validate_json(line) for line in reviews.split("\n") if line]
        if len(rows) < AT_ONCE:
            return
        beyond = f"({int(rows[-1][1])}"
        await asyncio.sleep(0)


async def _read(client: redis.asyncio.Redis, ids: list[str], product: str | None) -> list[tuple[str, str]]:
    """Return outcome and reviews of those inspections that are kept, and of the product."""
    if not ids:
        return []
    async with client.pipeline(transaction=False) as pipe:
        pipe.zmscore(keys.HISTORY if product is None else keys.history("product", product), ids)
        for inspection_id in ids:
            pipe.hmget(keys.inspection(inspection_id), ["outcome", "reviews"])
        places, *rows = await pipe.execute()
    return [(row[0], row[1]) for place, row in zip(places, rows, strict=True) if place is not None and all(row)]
