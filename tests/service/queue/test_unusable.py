"""Jobs whose bundle a worker cannot use: left to others, in order, and ended only when nobody living has the bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from service.contract import DEFAULT_POOL, Priority
from service.queue import keys
from service.queue.claims import UNSERVED_PATIENCE_MS, ClaimedJob, UnusableBundles
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from tests.service.queue.test_queue import ids, submit

MakeQueue = Callable[..., JobQueue]
POOL = keys.PoolKeys(DEFAULT_POOL)
TOY, OTHER = "ab" * 32, "cd" * 32
MISSING = UnusableBundles(missing=frozenset({TOY}))
AWAY = UnusableBundles(away=frozenset({TOY}))


def age_unserved(client: redis.Redis) -> None:
    """As if the bundle had been unserved for as long as a job waits for it."""
    client.decrby(f"{POOL.unserved_prefix}{TOY}", UNSERVED_PATIENCE_MS)


def unserved_since(client: redis.Redis) -> Any:
    """Since when no living worker has had the bundle, ms."""
    return client.get(f"{POOL.unserved_prefix}{TOY}")


def unserved(claimed: list[ClaimedJob]) -> list[bool]:
    """Which claims are for ending the job."""
    return [one.unserved for one in claimed]


@pytest.mark.parametrize("unusable", [MISSING, AWAY])
async def test_what_a_worker_cannot_use_is_left_to_others_in_its_order(
    submitter: JobSubmitter, make_queue: MakeQueue, unusable: UnusableBundles
) -> None:
    left = await submit(submitter, 250)  # several pages
    high = await submit(submitter, 1, priority=Priority.HIGH)
    mine = await submit(submitter, 2, bundle_hash=OTHER)
    lacking, healthy = make_queue("lacking"), make_queue("healthy")
    assert ids(lacking.claim(10, unusable=unusable)) == mine
    assert lacking.claim(10, unusable=unusable) == []
    assert ids(healthy.claim(1)) == high
    assert ids(healthy.claim(250)) == left
    assert [one.attempt for one in healthy.held] == [1] * 251


async def test_what_was_left_is_claimed_again_once_the_bundle_can_be_used(
    submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    left = await submit(submitter, 3)
    queue = make_queue()
    assert queue.claim(10, unusable=MISSING) == []
    assert ids(queue.claim(10)) == left


async def test_a_job_whose_bundle_no_living_worker_has_is_given_out_to_be_ended(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    waiting = await submit(submitter, 3)
    one, two = make_queue("one"), make_queue("two")
    assert [queue.claim(9, unusable=MISSING) for queue in (one, two)] == [[], []]
    age_unserved(client)
    ended = one.claim(2, unusable=MISSING)
    assert (ids(ended), unserved(ended)) == (waiting[:2], [True, True])
    ended = two.claim(2, unusable=MISSING)
    assert (ids(ended), unserved(ended)) == (waiting[2:], [True])


@pytest.mark.parametrize("says", ["nothing, as an older version", "its store is away"])
async def test_a_living_worker_that_may_have_the_bundle_is_waited_for(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis, says: str
) -> None:
    [waiting] = await submit(submitter)
    lacking, other = make_queue("lacking"), make_queue("other")
    lacking.claim(9, unusable=MISSING)
    age_unserved(client)
    if says == "its store is away":
        assert other.claim(9, unusable=AWAY) == []
    else:
        other.renew()
    assert lacking.claim(9, unusable=MISSING) == []
    assert unserved_since(client) is None, "the time begins anew"
    other.retire()
    assert lacking.claim(9, unusable=MISSING) == []
    assert unserved_since(client) is not None
    age_unserved(client)
    assert ids(lacking.claim(9, unusable=MISSING)) == [waiting]


async def test_a_worker_that_died_does_not_keep_a_job_waiting(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    [waiting] = await submit(submitter)
    lacking, dead = make_queue("lacking"), make_queue("dead")
    dead.renew()
    client.zadd(POOL.workers, {dead.owner: 1})
    lacking.claim(9, unusable=MISSING)
    age_unserved(client)
    assert ids(lacking.claim(9, unusable=MISSING)) == [waiting]


async def test_a_job_whose_deadline_has_passed_is_given_out_to_expire(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    late, patient = [(await submit(submitter, deadline_ms=3_600_000))[0] for _ in range(2)]
    queue = make_queue()
    assert queue.claim(9, unusable=AWAY) == []
    client.hincrby(keys.inspection(late), "expires_ms", -3_600_000)
    claimed = queue.claim(9, unusable=AWAY)
    assert (ids(claimed), unserved(claimed)) == ([late], [False])
    assert client.hget(keys.inspection(patient), "state") == "queued"


async def test_a_suspect_is_left_too_and_the_next_one_taken(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    left, mine = (await submit(submitter))[0], (await submit(submitter, bundle_hash=OTHER))[0]
    client.zadd(POOL.suspects, {left: 1, mine: 2})
    lacking, healthy = make_queue("lacking"), make_queue("healthy")
    [claimed] = lacking.claim(9, unusable=MISSING)
    assert (claimed.id, claimed.alone) == (mine, True)
    lacking.hand_back(claimed)
    assert [(one.id, one.alone) for one in healthy.claim(9)] == [(left, True)]
    assert not client.exists(POOL.draining)


async def test_a_job_that_cannot_be_read_is_passed_over_by_nobody(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    for text in ("not JSON", "[1]", json.dumps({"bundle_hash": 7, "deadline_ms": "soon"})):
        [damaged] = await submit(submitter)
        client.hset(keys.inspection(damaged), "job", text)
        assert make_queue().claim(9, unusable=MISSING) == []
        assert client.hget(keys.inspection(damaged), "state") == "failed"


async def test_a_worker_that_signs_off_leaves_no_trace_of_what_it_lacked(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    await submit(submitter)
    queue = make_queue()
    queue.claim(9, unusable=MISSING)
    assert client.smembers(keys.lacking(queue.owner)) == {TOY}
    queue.claim(9, unusable=AWAY)
    assert not client.exists(keys.lacking(queue.owner))
    queue.claim(9, unusable=MISSING)
    queue.retire()
    assert not client.exists(keys.lacking(queue.owner))
