"""Failures between camera, API and Redis, with a real API process: accepted once, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis

from service.contract import Priority
from service.queue import keys
from service.queue.admission import Admission
from service.queue.connection import connect_async
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from tests.support.api_process import Api, running_api
from tests.support.line import make_job, picture, result_of
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer
from tests.support.wire import Wire

STREAM = keys.PoolKeys("default").jobs(Priority.NORMAL)


@pytest.fixture
def api_process(client: redis.Redis, shared_redis: RedisServer, toy_store: Path, tmp_path: Path) -> Iterator[Api]:
    """The API as a process of its own."""
    with running_api({"GLAD_REDIS_URL": shared_redis.url, "GLAD_STORE": str(toy_store)}, tmp_path) as api:
        yield api


def test_an_api_that_is_killed_between_acceptance_and_reply_has_accepted_once(
    api_process: Api, client: redis.Redis
) -> None:
    image, headers = picture(), {"Idempotency-Key": "part-1", "Prefer": "wait=30"}

    def post() -> httpx.Response:
        return httpx.post(api_process.url, content=image, headers=headers, timeout=60)

    with ThreadPoolExecutor() as pool:
        cut_off = pool.submit(post)
        eventually(lambda: client.xlen(STREAM) == 1)
        api_process.child.kill()
        with pytest.raises(httpx.TransportError):
            cut_off.result()
        api_process.start()
        again = pool.submit(post)
        [claimed] = JobQueue(client, lease_ms=60_000).claim(5, 30_000)
        JobQueue(client).complete(claimed, result_of(claimed))
        assert (again.result().status_code, again.result().json()["id"]) == (200, claimed.id)
    assert client.xlen(STREAM) == 0


def test_a_hundred_cameras_with_one_part_are_one_inspection(api_process: Api, client: redis.Redis) -> None:
    image, headers = picture(), {"Idempotency-Key": "part-1"}
    with httpx.Client(timeout=120) as http, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: http.post(api_process.url, content=image, headers=headers), range(100)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert client.xlen(STREAM) == 1


async def test_a_submission_whose_reply_is_lost_is_one_job(client: redis.Redis, shared_redis: RedisServer) -> None:
    with Wire(shared_redis.url) as wire:
        async with connect_async(wire.url) as far:
            submitter = JobSubmitter(far)
            await submitter.submit(make_job())  # the script is known to Redis from now on
            job = make_job()
            wire.lose_replies()
            submitting = asyncio.create_task(submitter.submit(job, idempotency_key="k", fingerprint="f"))
            while client.xlen(STREAM) < 2:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(wire.mend)
            answer = await submitting
    assert (answer.admission, answer.inspection_id) == (Admission.ADMITTED, job.id)
    assert client.xlen(STREAM) == 2
