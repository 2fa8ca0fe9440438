"""A request for a picture comes to a worker that has nothing else to do, and changes nothing but the picture."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import redis

from service.contract import Failure
from service.queue import keys
from service.queue.claims import UnusableBundles
from service.queue.connection import connect_async
from service.queue.jobs import JobQueue
from service.queue.picture_requests import ANSWER_TTL_S, PictureRequests
from service.queue.submitter import JobSubmitter
from tests.support.line import make_job, result_of
from tests.support.redis_server import RedisServer

POOL = keys.PoolKeys("default")


class Line:
    """The API's side of the queue, and a worker's."""

    def __init__(self, client: redis.Redis, requests: PictureRequests, submitter: JobSubmitter) -> None:
        self.client, self.requests, self.submitter = client, requests, submitter
        self.queue = JobQueue(client)

    async def ended(self, score: float = 0.25) -> str:
        """An inspection that has ended."""
        await self.submitter.submit(make_job())
        [claimed] = self.queue.claim(1)
        self.queue.complete(claimed, result_of(claimed, score))
        return claimed.id


@pytest_asyncio.fixture
async def line(client: redis.Redis, shared_redis: RedisServer) -> AsyncIterator[Line]:
    async with connect_async(shared_redis.url) as own:
        yield Line(client, PictureRequests(own), JobSubmitter(own, max_backlog=100))


async def test_a_request_is_given_once_with_what_inspected_the_image(line: Line) -> None:
    name = await line.ended()
    assert [await line.requests.request(name, "default") for _ in range(3)] == [None, None, None]
    [claimed] = line.queue.claim(4)
    assert (claimed.id, claimed.picture_only, claimed.job.bundle_hash) == (name, True, "ab" * 32)
    assert claimed.job.draws_pictures(0.0)
    assert not claimed.job.gate
    assert line.queue.claim(4) == []
    assert line.queue.held == ()  # it has no lease to renew, and no job is given up for it


async def test_images_go_first_and_a_worker_with_work_takes_none(line: Line) -> None:
    name = await line.ended()
    await line.requests.request(name, "default")
    await line.submitter.submit(make_job())
    [image] = line.queue.claim(4)
    assert not image.picture_only
    assert line.queue.claim(4, idle=False) == []
    line.queue.complete(image, result_of(image))
    [picture] = line.queue.claim(4)
    assert picture.picture_only


async def test_a_waiting_worker_wakes_for_it(line: Line) -> None:
    name = await line.ended()
    found: list[str] = []

    def wait() -> None:
        found.extend(one.id for one in line.queue.claim(1, block_ms=100_000))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    await line.requests.request(name, "default")
    thread.join(60)  # long before it wakes by itself
    assert found == [name]


async def test_the_inspection_stays_as_it_is(line: Line) -> None:
    name = await line.ended()
    before = line.client.hgetall(keys.inspection(name)), line.client.xlen(keys.EVENTS), line.client.zcard(keys.HISTORY)
    await line.requests.request(name, "default")
    [claimed] = line.queue.claim(1)
    with pytest.raises(ValueError, match="of a picture"):
        line.queue.complete(claimed, result_of(claimed))
    with pytest.raises(ValueError, match="of a picture"):
        line.queue.fail(claimed, Failure(code="internal_error", detail="x"))
    line.queue.end_picture(claimed)
    after = line.client.hgetall(keys.inspection(name)), line.client.xlen(keys.EVENTS), line.client.zcard(keys.HISTORY)
    assert before == after
    assert not line.client.exists(keys.picture(name), POOL.pictures)


async def test_a_failure_is_told_for_a_while_and_then_it_is_tried_again(line: Line) -> None:
    name = await line.ended()
    await line.requests.request(name, "default")
    [claimed] = line.queue.claim(1)
    line.queue.end_picture(claimed, Failure(code="bundle_unavailable", detail="bundle 1 is gone"))
    assert await line.requests.request(name, "default") == "bundle 1 is gone"
    assert line.queue.claim(1) == []
    assert 0 < int(line.client.ttl(keys.picture(name))) <= ANSWER_TTL_S
    line.client.delete(keys.picture(name))  # as it does by itself
    assert await line.requests.request(name, "default") is None
    assert len(line.queue.claim(1)) == 1


async def test_a_worker_that_stops_leaves_it_to_another(line: Line) -> None:
    name = await line.ended()
    await line.requests.request(name, "default")
    [claimed] = line.queue.claim(1)
    assert line.queue.hand_back(claimed)
    [again] = JobQueue(line.client).claim(1)
    assert again.id == name


async def test_a_worker_without_the_bundle_leaves_the_request_to_one_that_has_it(line: Line) -> None:
    name = await line.ended()
    line.queue.retire()
    await line.requests.request(name, "default")
    lacking, has = (JobQueue(line.client, worker_id=worker) for worker in ("lacking", "has"))
    has.renew()
    for unusable in (UnusableBundles(missing=frozenset({"ab" * 32})), UnusableBundles(away=frozenset({"ab" * 32}))):
        assert lacking.claim(1, unusable=unusable) == []
    [claimed] = has.claim(1)
    assert (claimed.id, claimed.unserved) == (name, False)


async def test_what_it_leaves_does_not_keep_it_from_what_comes_behind(line: Line) -> None:
    left, drawn = await line.ended(), await line.ended()
    row = line.client.hget(keys.inspection(drawn), "result")
    assert row is not None
    line.client.hset(keys.inspection(drawn), "result", str(row).replace("ab" * 32, "cd" * 32))
    for name in (left, drawn):
        await line.requests.request(name, "default")
    [claimed] = JobQueue(line.client).claim(1, unusable=UnusableBundles(missing=frozenset({"ab" * 32})))
    assert (claimed.id, claimed.job.bundle_hash) == (drawn, "cd" * 32)
    assert line.client.zrange(POOL.pictures, 0, -1) == [left]


async def test_a_picture_whose_bundle_no_living_worker_has_is_answered_by_one_of_them(line: Line) -> None:
    name = await line.ended()
    line.queue.retire()
    await line.requests.request(name, "default")
    first, second = (JobQueue(line.client, worker_id=worker) for worker in ("first", "second"))
    missing = UnusableBundles(missing=frozenset({"ab" * 32}))
    second.renew()  # it has not said yet what it lacks
    assert first.claim(1, unusable=missing) == []
    [claimed] = second.claim(1, unusable=missing)
    assert (claimed.id, claimed.unserved) == (name, True)


async def test_a_request_for_what_is_not_kept_any_more_is_passed_over(line: Line) -> None:
    forgotten, kept = await line.ended(), await line.ended()
    for name in (forgotten, kept):
        await line.requests.request(name, "default")
    line.client.delete(keys.inspection(forgotten))
    [claimed] = line.queue.claim(1)
    assert claimed.id == kept
