"""The share of one API key in the backlog: at most nine times the places that are free, counted exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from service.auth.api_keys import KeyStore
from service.auth.scopes import Scope
from service.contract import DEFAULT_POOL, Failure, Priority, State
from service.queue import keys
from service.queue.admission import Admission
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from tests.service.conftest import StartApp
from tests.service.queue.test_queue import end_leases, survivor
from tests.support.line import make_job, picture, result_of
from tests.support.redis_server import RedisServer

MakeQueue = Callable[..., JobQueue]
POOL = keys.PoolKeys(DEFAULT_POOL)
URL = "/v1/products/toy/inspections"


async def fill(
    submitter: JobSubmitter, key_id: str, most: int = 1000, *, by_chance: bool = False, **fields: Any
) -> tuple[int, Admission]:
    """How many jobs with this key are admitted before one is refused, and why that one is.

    The estimate says the same before each of them; `by_chance`: it looks at some places of many, and may miss.
    """
    for count in range(most):
        estimate = await submitter.estimate(
            fields.get("priority", Priority.NORMAL),
            fields.get("deadline_ms"),
            key_id=key_id,
            pool=fields.get("pool", DEFAULT_POOL),
        )
        decision = (await submitter.submit(make_job(**fields), key_id=key_id)).admission
        assert by_chance or estimate.admission is decision
        if decision is not Admission.ADMITTED:
            return count, decision
    return most, Admission.ADMITTED


def places_of(client: redis.Redis, key_id: str) -> int:
    """How many places of the backlog the key holds."""
    return int(client.scard(POOL.places(key_id)))


def set_pace(client: redis.Redis, mean_ms: float) -> None:
    """As if twenty completions had been measured."""
    client.hset(POOL.pace, mapping={"last_ms": 1, "busy_ms": 20 * mean_ms, "completions": 20})


async def test_one_key_leaves_the_last_tenth_to_others(async_client: redis.asyncio.Redis) -> None:
    submitter = JobSubmitter(async_client, max_backlog=100)
    assert await fill(submitter, "flood") == (90, Admission.SHARE_FULL)  # 90 = 9 × (100 - 90)
    assert await fill(submitter, "camera", 5) == (5, Admission.ADMITTED)
    assert await fill(submitter, "flood") == (0, Admission.SHARE_FULL)


async def test_several_keys_that_fill_the_backlog_leave_places_too(async_client: redis.asyncio.Redis) -> None:
    submitter = JobSubmitter(async_client, max_backlog=1000)
    floods = [await fill(submitter, f"flood-{number}") for number in range(3)]
    # Each leaves a tenth of what it found.
    assert floods == [(900, Admission.SHARE_FULL), (90, Admission.SHARE_FULL), (9, Admission.SHARE_FULL)]
    assert await fill(submitter, "camera", 1) == (1, Admission.ADMITTED)


async def test_without_a_key_every_place_can_be_taken(async_client: redis.asyncio.Redis, client: redis.Redis) -> None:
    assert await fill(JobSubmitter(async_client, max_backlog=100), "") == (100, Admission.BACKLOG_FULL)
    assert client.keys(POOL.places("*")) == []


async def test_of_what_is_done_within_the_longest_wait_a_tenth_is_left_too(
    async_client: redis.asyncio.Redis, client: redis.Redis
) -> None:
    submitter = JobSubmitter(async_client, max_backlog=1000, max_wait_s=100)
    set_pace(client, 1000)
    # 101 jobs have at most 100 ahead of them: 91 = 9 × (101 - 91) + 1
    assert await fill(submitter, "flood") == (91, Admission.SHARE_FULL)
    assert await fill(submitter, "camera", 5) == (5, Admission.ADMITTED)


async def test_a_key_that_always_sends_high_takes_three_of_four_turns_from_others_and_no_more(
    async_client: redis.asyncio.Redis, client: redis.Redis, make_queue: MakeQueue
) -> None:
    submitter, queue = JobSubmitter(async_client, max_backlog=100), make_queue()
    set_pace(client, 1000)
    assert await fill(submitter, "flood", priority=Priority.HIGH) == (90, Admission.SHARE_FULL)
    # Its turn comes after three of `high`: at a second each, in three seconds and not in ninety.
    estimate = await submitter.estimate(Priority.NORMAL, 5000, key_id="camera")
    assert (estimate.admission, estimate.ahead) == (Admission.ADMITTED, 3)
    assert await fill(submitter, "camera", 5, deadline_ms=60_000) == (5, Admission.ADMITTED)
    served = ""
    while served.count("n") < 5:
        await fill(submitter, "flood", priority=Priority.HIGH)  # as many as it may, all the time
        [claimed] = queue.claim(1)
        queue.complete(claimed, result_of(claimed))
        served += claimed.job.priority.value[0]
    assert served == "hhhn" * 5


async def test_the_share_in_one_pool_is_none_in_another(async_client: redis.asyncio.Redis) -> None:
    submitter = JobSubmitter(async_client, max_backlog=100)
    assert await fill(submitter, "line") == (90, Admission.SHARE_FULL)
    assert await fill(submitter, "line", pool="fast") == (90, Admission.SHARE_FULL)


async def test_a_repeat_takes_no_second_place_and_is_never_refused(
    async_client: redis.asyncio.Redis, client: redis.Redis
) -> None:
    submitter = JobSubmitter(async_client, max_backlog=100)
    first = make_job()
    await submitter.submit(first, idempotency_key="k", fingerprint="f", key_id="line")
    await submitter.submit(first, idempotency_key="k", fingerprint="f", key_id="line")  # its reply was lost
    assert places_of(client, "line") == 1
    await fill(submitter, "line")
    again = await submitter.submit(make_job(), idempotency_key="k", fingerprint="f", key_id="line")
    assert again.admission is Admission.REPEATED
    assert (await submitter.submit(first, key_id="line")).admission is Admission.ADMITTED
    assert places_of(client, "line") == 90


async def test_a_place_is_held_until_the_end_whoever_has_the_job_meanwhile(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    await fill(submitter, "line", 1)
    first, second = make_queue("first"), make_queue("second")
    [claimed] = first.claim(1)
    first.hand_back(claimed)
    [stale] = first.claim(1)
    end_leases(client)
    survivor(make_queue, client).reclaim()
    [suspect] = second.claim(1)
    assert not first.complete(stale, result_of(stale))
    assert places_of(client, "line") == 1
    assert second.complete(suspect, result_of(suspect))
    second.complete(suspect, result_of(suspect))  # its reply was lost
    assert places_of(client, "line") == 0
    assert client.hget(keys.inspection(suspect.id), "places") is None


@pytest.mark.parametrize("state", [State.FAILED, State.EXPIRED])
async def test_an_image_without_a_verdict_gives_its_place_back(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis, state: State
) -> None:
    await fill(submitter, "line", 2)
    queue = make_queue()
    claimed, _ = queue.claim(2)
    queue.fail(claimed, Failure(code="deadline_passed", detail="late"), state=state)
    assert places_of(client, "line") == 1


async def test_dead_letters_hold_no_place(submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis) -> None:
    await fill(submitter, "line", 2)
    unreadable: Any = client.srandmember(POOL.places("line"))
    client.hset(keys.inspection(unreadable), "job", "{")
    make_queue("dies").claim(2)  # the unreadable one ends here
    assert places_of(client, "line") == 1
    watch = survivor(make_queue, client)
    for death in range(3):
        end_leases(client)
        watch.reclaim()
        make_queue(f"dies-{death}").claim(1)
    end_leases(client)
    assert len(watch.reclaim().dead) == 1
    assert places_of(client, "line") == 0


def complete_as_before(client: redis.Redis, queue: JobQueue, count: int) -> None:
    """Completes jobs as a worker of an older version, which does not know that they hold a place."""
    for claimed in queue.claim(count):
        client.hdel(keys.inspection(claimed.id), "places")
        queue.complete(claimed, result_of(claimed))


async def test_what_workers_of_an_older_version_end_holds_no_place(
    async_client: redis.asyncio.Redis, make_queue: MakeQueue, client: redis.Redis
) -> None:
    submitter = JobSubmitter(async_client, max_backlog=100)
    assert await fill(submitter, "line") == (90, Admission.SHARE_FULL)
    complete_as_before(client, make_queue(), 45)
    assert await fill(submitter, "line") == (45, Admission.SHARE_FULL)
    assert places_of(client, "line") == 90


async def test_of_very_many_that_they_ended_few_hold_a_place_and_none_for_long(
    async_client: redis.asyncio.Redis, make_queue: MakeQueue, client: redis.Redis
) -> None:
    submitter = JobSubmitter(async_client, max_backlog=1000)
    await fill(submitter, "line")
    ended: Any = client.smembers(POOL.places("line"))
    complete_as_before(client, make_queue(), 900)
    client.delete(*(keys.inspection(one) for one in sorted(ended)[:450]))  # kept for their time, and gone
    # Each look takes 100 of them: of more than 100 that had ended, one finds none with a chance of 1 in 100,000.
    count, decision = await fill(submitter, "line", by_chance=True)
    assert count >= 890
    assert decision is Admission.SHARE_FULL


async def test_jobs_of_an_older_version_count_for_nobody_and_end(
    async_client: redis.asyncio.Redis, make_queue: MakeQueue, client: redis.Redis
) -> None:
    submitter = JobSubmitter(async_client, max_backlog=100)
    await fill(submitter, "", 50)
    assert await fill(submitter, "line") == (45, Admission.SHARE_FULL)  # 9 × (100 - 50 - 45)
    queue = make_queue()
    for claimed in queue.claim(50):
        queue.complete(claimed, result_of(claimed))
    assert await fill(submitter, "line") == (45, Admission.SHARE_FULL)
    assert places_of(client, "line") == 90


@pytest.mark.usefixtures("keys_read_at_once")
async def test_a_camera_with_its_own_key_is_accepted_while_another_key_floods(
    client: redis.Redis, shared_redis: RedisServer, make_queue: MakeQueue, start_app: StartApp
) -> None:
    misused, camera = ({"X-API-Key": KeyStore(client).create(name, [Scope.SUBMIT])} for name in ("misused", "camera"))
    api = await start_app(shared_redis.url, max_backlog=20)

    async def post(headers: dict[str, str], count: int) -> list[int]:
        return [(await api.http.post(URL, content=picture(), headers=headers)).status_code for _ in range(count)]

    assert await post(misused, 21) == [202] * 18 + [429] * 3
    assert await post(camera, 1) == [202]
    refused = (await api.http.post(URL, content=picture(), headers=misused)).json()
    assert refused["type"] == "urn:glad:problem:backlog-full"
    assert "give each camera a key of its own" in refused["detail"]
    queue = make_queue()
    for claimed in queue.claim(10):
        queue.complete(claimed, result_of(claimed))
    assert await post(misused, 1) == [202]
