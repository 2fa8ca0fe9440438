"""Takt: what has no verdict when the time of its part is over is for review, and one event says so, whoever notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
import redis.asyncio

from service.contract import Failure, Job, State, Verdict, now
from service.queue import keys
from service.queue.jobs import JobQueue
from service.queue.overtime import OvertimeWatch
from service.queue.results import Results
from service.queue.submitter import JobSubmitter
from tests.support.line import make_job, result_of

MakeQueue = Callable[..., JobQueue]
LONG = 3_600_000
"""A takt that is not over while a test runs, in ms."""


def overdue() -> Job:
    """A job that was accepted a second ago, at a station with a takt of 200 ms."""
    return make_job(accepted_at=now() - timedelta(seconds=1), takt_ms=200, station="line-3", serial="SN-1")


def told(client: redis.Redis) -> list[dict[str, Any]]:
    """The events, in order."""
    rows: Any = client.xrange(keys.EVENTS)
    return [json.loads(fields["event"]) for _, fields in rows]


def kinds(client: redis.Redis) -> list[str]:
    """The types of the events, in order."""
    return [event["type"] for event in told(client)]


@pytest.fixture
def watch(async_client: redis.asyncio.Redis) -> OvertimeWatch:
    """That of one API process."""
    return OvertimeWatch(async_client, max_events=1000)


async def redis_ms(client: redis.asyncio.Redis) -> int:
    seconds, micros = await client.time()
    return int(seconds) * 1000 + int(micros) // 1000


async def test_many_processes_tell_once_that_a_takt_is_over(
    submitter: JobSubmitter, client: redis.Redis, async_client: redis.asyncio.Redis
) -> None:
    job = overdue()
    await submitter.submit(job)
    at = await redis_ms(async_client)
    noted = await asyncio.gather(*(OvertimeWatch(async_client, max_events=1000).note_due(at) for _ in range(8)))
    assert sum(noted) == 1
    [event] = told(client)
    assert event == {
        "type": "inspection.overtime",
        "inspection_id": job.id,
        "product": "toy",
        "serial": "SN-1",
        "station": "line-3",
        "verdict": "review",
        "review_reasons": ["overtime"],
        "overtime": True,
        "at": event["at"],
    }
    assert datetime.fromisoformat(event["at"]) == job.accepted_at + timedelta(milliseconds=200)
    assert client.zcard(keys.TAKTS) == 0


async def test_what_was_told_to_be_late_does_not_pass(
    submitter: JobSubmitter,
    make_queue: MakeQueue,
    watch: OvertimeWatch,
    client: redis.Redis,
    async_client: redis.asyncio.Redis,
) -> None:
    await submitter.submit(overdue())
    await watch.note_due(await redis_ms(async_client))
    queue = make_queue()
    [claimed] = queue.claim(1)
    recorded = queue.record(claimed, result_of(claimed, 0.25))  # toy passes below 0.5
    assert recorded is not None
    assert (recorded.verdict, recorded.overtime, recorded.score) == (Verdict.REVIEW, True, 0.25)
    shown = await Results(async_client).get(claimed.id)
    assert shown == recorded
    assert kinds(client) == ["inspection.overtime", "inspection.done"]
    assert told(client)[1]["verdict"] == "review"
    assert client.zrange(keys.history("outcome", "review"), 0, -1) == [claimed.id]


async def test_a_late_result_tells_it_itself_where_nobody_has_looked_yet(
    submitter: JobSubmitter, make_queue: MakeQueue, watch: OvertimeWatch, client: redis.Redis
) -> None:
    await submitter.submit(overdue())
    queue = make_queue()
    [claimed] = queue.claim(1)
    for _ in range(2):  # again, as after a lost reply
        recorded = queue.record(claimed, result_of(claimed, 0.25))
        assert recorded is not None
        assert (recorded.verdict, recorded.overtime) == (Verdict.REVIEW, True)
    assert await watch.note_due(2**52) == 0
    assert kinds(client) == ["inspection.overtime", "inspection.done"]


async def test_a_result_in_time_is_what_it_is_and_leaves_nothing_to_watch(
    submitter: JobSubmitter, make_queue: MakeQueue, watch: OvertimeWatch, client: redis.Redis
) -> None:
    await submitter.submit(make_job(takt_ms=LONG))
    await submitter.submit(make_job())
    assert client.zcard(keys.TAKTS) == 1
    queue = make_queue()
    for claimed in queue.claim(2):
        recorded = queue.record(claimed, result_of(claimed, 0.25))
        assert recorded is not None
        assert recorded.verdict is Verdict.PASS
        assert recorded.overtime is (None if claimed.job.takt_ms is None else False)
    assert client.zcard(keys.TAKTS) == 0
    assert await watch.note_due(2**52) == 0
    assert kinds(client) == ["inspection.done"] * 2


@pytest.mark.parametrize(("score", "verdict"), [(0.7, "review"), (1.5, "fail")])
async def test_what_fails_still_fails_when_it_is_late(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis, score: float, verdict: str
) -> None:
    await submitter.submit(overdue())
    queue = make_queue()
    [claimed] = queue.claim(1)
    recorded = queue.record(claimed, result_of(claimed, score))
    assert recorded is not None
    assert (recorded.verdict, recorded.overtime) == (verdict, True)
    assert told(client)[1]["verdict"] == verdict


async def test_a_late_inspection_without_a_verdict_is_told_once_too(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    await submitter.submit(overdue())
    queue = make_queue()
    [claimed] = queue.claim(1)
    assert queue.fail(claimed, Failure(code="model_error", detail="x"), state=State.FAILED)
    assert kinds(client) == ["inspection.overtime", "inspection.failed"]


async def test_after_a_takeover_the_takt_is_still_that_of_the_acceptance(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    await submitter.submit(overdue())
    lost, heir = make_queue("lost"), make_queue("heir")
    [stale] = lost.claim(1)
    lost.hand_back(stale)
    [claimed] = heir.claim(1)
    assert lost.record(stale, result_of(stale, 0.25)) is None
    recorded = heir.record(claimed, result_of(claimed, 0.25))
    assert recorded is not None
    assert (recorded.verdict, recorded.overtime) == (Verdict.REVIEW, True)
    assert kinds(client) == ["inspection.overtime", "inspection.done"]


async def test_who_waits_for_the_end_is_not_woken_by_the_takt(
    submitter: JobSubmitter, make_queue: MakeQueue, watch: OvertimeWatch, async_client: redis.asyncio.Redis
) -> None:
    job = overdue()
    await submitter.submit(job)
    async with Results(async_client) as results:
        waiting = asyncio.create_task(results.wait(job.id, 30))
        await asyncio.sleep(0.05)
        await watch.note_due(await redis_ms(async_client))
        while (standing := await results.get(job.id)) is None or not standing.overtime:
            await asyncio.sleep(0.01)
        assert (standing.state, standing.verdict) == (State.QUEUED, None)
        queue = make_queue()
        [claimed] = await asyncio.to_thread(queue.claim, 1)
        await asyncio.to_thread(queue.record, claimed, result_of(claimed, 0.25))
        ended = await waiting
    assert ended is not None
    assert ended.state is State.DONE


async def test_what_a_worker_of_an_older_version_has_ended_is_not_told_to_be_late(
    submitter: JobSubmitter, watch: OvertimeWatch, client: redis.Redis
) -> None:
    job = overdue()
    await submitter.submit(job)
    client.hset(keys.inspection(job.id), "state", "expired")  # its script does not know the set
    assert await watch.note_due(2**52) == 0
    client.zadd(keys.TAKTS, {"019abc12-0000-7def-8123-456789abcdef": 1})  # one that is not kept any more
    assert await watch.note_due(2**52) == 0
    assert (kinds(client), client.zcard(keys.TAKTS)) == ([], 0)
