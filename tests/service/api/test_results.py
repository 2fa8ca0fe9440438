"""Waiting for results: told at once, and never left waiting by a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import redis.asyncio

from service.contract import State
from service.queue.connection import connect_async
from service.queue.jobs import JobQueue
from service.queue.results import Results
from service.queue.submitter import JobSubmitter
from tests.support.line import make_job, result_of
from tests.support.redis_server import RedisServer

MakeQueue = Callable[..., JobQueue]


async def test_a_waiter_is_told_when_its_inspection_ends(
    submitter: JobSubmitter, make_queue: MakeQueue, async_client: redis.asyncio.Redis
) -> None:
    jobs = [make_job() for _ in range(3)]
    for job in jobs:
        await submitter.submit(job)
    queue = make_queue()
    async with Results(async_client) as results:
        waiting = [asyncio.create_task(results.wait(job.id, 60)) for job in jobs for _ in range(2)]
        await asyncio.sleep(0.05)
        for claimed in queue.claim(3):
            queue.complete(claimed, result_of(claimed))
        found = await asyncio.gather(*waiting)
    assert [result.state for result in found if result] == [State.DONE] * 6


async def test_a_waiter_whose_time_is_over_sees_the_inspection_as_it_stands(
    submitter: JobSubmitter, make_queue: MakeQueue, async_client: redis.asyncio.Redis
) -> None:
    job = make_job()
    await submitter.submit(job)
    make_queue().claim(1)
    async with Results(async_client) as results:
        found = await results.wait(job.id, 0.01)
    assert found is not None
    assert (found.state, found.attempts) == (State.RUNNING, 1)


async def test_nobody_waits_for_what_is_unknown(async_client: redis.asyncio.Redis) -> None:
    async with Results(async_client) as results:
        assert await results.wait(make_job().id, 60) is None


async def test_an_end_while_nobody_waited_is_seen_by_the_next_waiter(
    submitter: JobSubmitter, make_queue: MakeQueue, async_client: redis.asyncio.Redis
) -> None:
    queue = make_queue()
    async with Results(async_client, block_ms=50) as results:
        for _ in range(3):
            job = make_job()
            await submitter.submit(job)
            [claimed] = queue.claim(1)
            assert (await results.wait(job.id, 0.01)) is not None
            queue.complete(claimed, result_of(claimed))
            found = await results.wait(job.id, 60)
            assert found is not None
            assert found.state is State.DONE


async def test_a_waiter_outlives_a_killed_and_restarted_redis(own_redis: RedisServer, tmp_path: Path) -> None:
    job = make_job()
    async with connect_async(own_redis.url) as client, Results(client, block_ms=100) as results:
        await JobSubmitter(client).submit(job)
        with own_redis.connect() as worker_client:
            queue = JobQueue(worker_client)
            [claimed] = queue.claim(1)
            waiting = asyncio.create_task(results.wait(job.id, 60))
            await asyncio.sleep(0.1)
            own_redis.kill()
            await asyncio.sleep(0.1)
            await asyncio.to_thread(own_redis.start)
            queue.complete(claimed, result_of(claimed))
            found = await waiting
    assert found is not None
    assert found.state is State.DONE


async def test_after_a_restart_of_redis_nobody_is_called_dead_before_one_lease(own_redis: RedisServer) -> None:
    async with connect_async(own_redis.url) as client:
        await JobSubmitter(client).submit(make_job())
    with own_redis.connect() as worker_client:
        queue = JobQueue(worker_client, lease_ms=60_000)
        queue.claim(1)
        own_redis.kill()
        await asyncio.to_thread(own_redis.start)
        for inspection_id in [claimed.id for claimed in queue.held]:
            worker_client.zadd("glad:v1:leases:default", {inspection_id: 1})
        assert JobQueue(worker_client, lease_ms=60_000).reclaim().suspects == ()
        assert queue.renew() == []
