"""A job that nobody can read ends with a reason and as a dead letter, and stops nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from service.contract import DEFAULT_POOL, Event, Job, Priority, Result, State
from service.queue import keys
from service.queue.history import History
from service.queue.jobs import JobQueue
from service.queue.results import Results
from service.queue.submitter import JobSubmitter
from tests.support.line import make_job, result_of

MakeQueue = Callable[..., JobQueue]
POOL = keys.PoolKeys("default")


async def spoil(submitter: JobSubmitter, client: redis.Redis, text: str | None, **fields: Any) -> Job:
    """Submits a job and replaces what is stored of it; None: removes it."""
    job = make_job(**fields)
    await submitter.submit(job)
    if text is None:
        client.hdel(keys.inspection(job.id), "job")
    else:
        client.hset(keys.inspection(job.id), "job", text)
    return job


async def shown(client: redis.asyncio.Redis, job: Job) -> Result:
    """The inspection as the API has it."""
    found = await Results(client).get(job.id)
    assert found is not None
    return found


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "{}", '{"id": 7}', None])
async def test_it_becomes_a_failed_inspection_and_a_dead_letter_and_its_neighbours_go_on(
    submitter: JobSubmitter,
    make_queue: MakeQueue,
    client: redis.Redis,
    async_client: redis.asyncio.Redis,
    text: str | None,
) -> None:
    first, last = make_job(), make_job()
    await submitter.submit(first)
    spoilt = await spoil(submitter, client, text)
    await submitter.submit(last)
    assert (await shown(async_client, spoilt)).state is State.QUEUED
    queue = make_queue()
    claimed = queue.claim(3)
    assert [one.id for one in claimed] == [first.id, last.id]

    result = await shown(async_client, spoilt)
    assert (result.state, result.verdict, result.product, result.bundle) == (State.FAILED, None, "unknown", None)
    assert result.error is not None
    assert result.error.code == "job_unreadable"
    letters: Any = client.xrange(POOL.dead)
    assert [(fields["id"], fields["job"]) for _, fields in letters] == [(spoilt.id, text or "")]
    rows: Any = client.xrange(keys.EVENTS)
    assert [Event.model_validate_json(fields["event"]).inspection_id for _, fields in rows] == [spoilt.id]

    for one in claimed:
        assert queue.complete(one, result_of(one))
    stats = (await submitter.stats())[DEFAULT_POOL]
    assert (stats.backlog, stats.running, stats.dead) == (0, 0, 1)
    assert client.smembers(keys.held(queue.owner)) == set()


async def test_a_part_does_not_pass_without_its_unreadable_image_and_does_end(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis, async_client: redis.asyncio.Redis
) -> None:
    """The job's own text tells no serial any more."""
    for text in ("{", None):
        job = make_job(serial="SN-1", view="top")
        await submitter.submit(job)
        if text is None:
            client.hdel(keys.inspection(job.id), "job")
        else:
            client.hset(keys.inspection(job.id), "job", text)
        assert make_queue().claim(1) == []
        images = await History(async_client).part_images("SN-1")
        assert job.id in [image.result.id for image in images]
        assert {image.result.state for image in images} == {State.FAILED}
        assert client.smembers(keys.unfinished("SN-1")) == set()


async def test_what_can_be_read_of_it_is_kept(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis, async_client: redis.asyncio.Redis
) -> None:
    job = make_job(serial="SN-1", station="line-3", priority=Priority.HIGH)
    newer = json.loads(job.to_json()) | {"width": "wide", "priority": "urgent"}
    await submitter.submit(job)
    client.hset(keys.inspection(job.id), "job", json.dumps(newer))
    assert make_queue().claim(1) == []
    result = await shown(async_client, job)
    assert (result.serial, result.station, result.product) == ("SN-1", "line-3", "toy")
    assert result.thresholds is not None
    assert result.thresholds.model_dump() == job.thresholds.model_dump()
    assert result.bundle is not None
    assert (result.bundle.version, result.height, result.width) == ("1", 20, None)
    assert result.error is not None
    assert "width" in result.error.detail
    assert "priority" in result.error.detail
    assert client.xlen(POOL.jobs(Priority.HIGH)) == 0


async def test_more_unreadable_jobs_than_a_claim_takes_do_not_delay_what_lies_behind_them(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    for _ in range(5):
        await spoil(submitter, client, "?")
    job = make_job()
    await submitter.submit(job)
    assert [one.id for one in make_queue().claim(2)] == [job.id]


async def test_one_that_was_held_by_a_dead_worker_ends_too(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis, async_client: redis.asyncio.Redis
) -> None:
    job = make_job()
    await submitter.submit(job)
    make_queue("dead").claim(1)
    client.hset(keys.inspection(job.id), mapping={"job": "?", "alone": "1"})
    client.zadd(POOL.leases, {job.id: 1})
    heir = make_queue("heir", lease_ms=1, max_deaths=1)
    assert heir.reclaim().dead == (job.id,)
    assert (await shown(async_client, job)).state is State.FAILED
    assert client.xlen(POOL.dead) == 1
