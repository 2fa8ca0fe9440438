"""What limits are tried on: kept between calls, complete, and no more than is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from service.queue import keys
from service.queue.history import History
from service.queue.jobs import JobQueue
from service.queue.recent import EndedInspection, RecentInspections
from service.queue.submitter import JobSubmitter
from tests.support.line import make_job, result_of

MakeQueue = Callable[..., JobQueue]
MINE, OTHER = "ab" * 32, "cd" * 32


def every(_: EndedInspection) -> bool:
    return True


@pytest.fixture
def end(submitter: JobSubmitter, make_queue: MakeQueue) -> Callable[..., Any]:
    """Ends inspections with these scores; returns their ids, the latest first."""
    queue = make_queue()

    async def end_(*scores: float, bundle_hash: str = MINE, **fields: Any) -> list[str]:
        ids = []
        for score in scores:
            await submitter.submit(make_job(bundle_hash=bundle_hash, **fields))
            [claimed] = queue.claim(1)
            queue.complete(claimed, result_of(claimed, score))
            ids.append(claimed.id)
        return ids[::-1]

    return end_


async def ids(recent: RecentInspections, last: int = 100, max_read: int = 100, **options: Any) -> list[str]:
    return [one.id for one in await recent.read("toy", MINE, options.pop("counts", every), last, max_read=max_read)]


async def test_each_call_sees_what_has_ended_by_then_and_each_inspection_once(
    async_client: redis.asyncio.Redis, end: Any
) -> None:
    recent = RecentInspections(History(async_client))
    assert await ids(recent) == []
    first = await end(0.1, 0.2)
    await end(0.3, bundle_hash=OTHER)
    assert await ids(recent) == first
    second = await end(0.4)
    assert await ids(recent) == [*second, *first]
    assert await ids(recent, last=1) == second


async def test_a_call_for_more_reads_on_where_the_last_one_stopped(
    async_client: redis.asyncio.Redis, end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.queue.recent.PAGE", 2)
    recent = RecentInspections(History(async_client))
    old = await end(*(0.1 * number for number in range(7)))
    assert await ids(recent, last=1) == old[:1]
    new = await end(0.9)
    assert await ids(recent, last=5) == [*new, *old][:5]
    assert await ids(recent) == [*new, *old]
    # Of those that count as many are found as are asked for, however many do not count between them.
    assert await ids(recent, last=2, counts=lambda one: one.score < 0.25) == old[4:6]


async def test_what_is_no_longer_stored_is_left_out(
    async_client: redis.asyncio.Redis, client: redis.Redis, end: Any
) -> None:
    recent = RecentInspections(History(async_client))
    await end(0.1, 0.2)
    assert len(await ids(recent)) == 2
    client.delete(keys.history("product", "toy"))  # as when all were too old to be kept
    assert await ids(recent) == []


async def test_no_more_of_a_product_is_read_than_allowed(async_client: redis.asyncio.Redis, end: Any) -> None:
    recent = RecentInspections(History(async_client))
    mine = await end(0.1, 0.2)
    await end(0.3, 0.4, 0.5, bundle_hash=OTHER)
    assert await ids(recent, max_read=3) == []
    assert await ids(recent, max_read=4) == mine[:1]


async def test_limit_samples_are_no_parts_and_a_hold_is_no_verdict_by_score(
    async_client: redis.asyncio.Redis, end: Any
) -> None:
    recent = RecentInspections(History(async_client))
    [part] = await end(0.1)
    await end(0.9, limit_sample="bad")
    [held] = await end(0.2, hold="lens is dirty")
    assert await ids(recent) == [held, part]
    assert await ids(recent, counts=lambda one: one.by_score) == [part]
