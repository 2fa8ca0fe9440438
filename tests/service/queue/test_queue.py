"""The queue on a real Redis: submitted once, claimed by one, taken over, never lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import RedisError

from service.contract import DEFAULT_POOL, Event, Failure, Job, Priority, State, waiting_result
from service.queue import keys
from service.queue.admission import Admission
from service.queue.claims import ClaimedJob
from service.queue.connection import connect_async
from service.queue.jobs import JobQueue
from service.queue.results import Results, Retention
from service.queue.scripts import load
from service.queue.submitter import JobSubmitter
from tests.support.line import make_job, result_of
from tests.support.processes import eventually
from tests.support.redis_server import RedisServer

MakeQueue = Callable[..., JobQueue]
POOL = keys.PoolKeys(DEFAULT_POOL)


async def submit(submitter: JobSubmitter, count: int = 1, **fields: Any) -> list[str]:
    """Submits jobs; returns their ids in order."""
    jobs = [make_job(**fields) for _ in range(count)]
    for job in jobs:
        assert (await submitter.submit(job)).admission is Admission.ADMITTED
    return [job.id for job in jobs]


def ids(claimed: list[ClaimedJob]) -> list[str]:
    """Which jobs."""
    return [one.id for one in claimed]


def end_leases(client: redis.Redis) -> None:
    """As if every worker had been silent for longer than its lease."""
    leased: Any = client.zrange(POOL.leases, 0, -1)
    for inspection_id in leased:
        client.zadd(POOL.leases, {inspection_id: 1})


def events(client: redis.Redis) -> list[Event]:
    """Every event so far."""
    rows: Any = client.xrange(keys.EVENTS)
    return [Event.model_validate_json(fields["event"]) for _, fields in rows]


def stored(client: redis.Redis, inspection_id: str, field: str) -> Any:
    """A field of an inspection's hash."""
    return client.hget(keys.inspection(inspection_id), field)


def survivor(make_queue: MakeQueue, client: redis.Redis) -> JobQueue:
    """A worker that may take over: the server has been up for longer than its lease."""
    info: Any = client.info("server")
    while info["uptime_in_seconds"] < 1:
        time.sleep(0.05)
        info = client.info("server")
    return make_queue("survivor", lease_ms=1000)


async def test_jobs_submitted_before_the_first_worker_are_claimed_in_order(
    submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    submitted = await submit(submitter, 3)
    queue = make_queue()
    assert ids(queue.claim(2)) == submitted[:2]
    assert ids(queue.claim(2)) == submitted[2:]
    assert queue.claim(2) == []


async def test_a_claim_takes_high_priority_first(submitter: JobSubmitter, make_queue: MakeQueue) -> None:
    normal = await submit(submitter, 2)
    high = await submit(submitter, 1, priority=Priority.HIGH)
    assert ids(make_queue().claim(2)) == [*high, normal[0]]


async def test_a_repeated_submission_is_one_job(submitter: JobSubmitter, make_queue: MakeQueue) -> None:
    job = make_job()
    assert [(await submitter.submit(job)).admission for _ in range(3)] == [Admission.ADMITTED] * 3
    assert ids(make_queue().claim(5)) == [job.id]


async def test_a_hundred_submissions_with_one_key_are_one_inspection(
    submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    jobs = [make_job() for _ in range(100)]
    answers = await asyncio.gather(
        *(submitter.submit(job, idempotency_key="part-1", fingerprint="same") for job in jobs)
    )
    assert len({answer.inspection_id for answer in answers}) == 1
    assert sorted(answer.admission for answer in answers) == [Admission.ADMITTED] + [Admission.REPEATED] * 99
    assert ids(make_queue().claim(100)) == [answers[0].inspection_id]


async def test_a_key_belongs_to_one_request_one_product_and_one_client(submitter: JobSubmitter) -> None:
    job = make_job()
    await submitter.submit(job, idempotency_key="k", fingerprint="a")
    other = await submitter.submit(make_job(), idempotency_key="k", fingerprint="b")
    assert (other.admission, other.inspection_id) == (Admission.CONFLICT, job.id)
    elsewhere = make_job(product="other")
    assert (await submitter.submit(elsewhere, idempotency_key="k", fingerprint="b")).admission is Admission.ADMITTED
    stranger = await submitter.submit(make_job(), idempotency_key="k", fingerprint="b", client_name="stranger")
    assert stranger.admission is Admission.ADMITTED


async def test_a_full_backlog_refuses_new_jobs_but_not_repeats(
    async_client: redis.asyncio.Redis, client: redis.Redis, make_queue: MakeQueue
) -> None:
    submitter = JobSubmitter(async_client, max_backlog=2)
    first = make_job()
    await submitter.submit(first, idempotency_key="k", fingerprint="f")
    await submit(submitter, priority=Priority.HIGH)
    refused = make_job()
    assert (await submitter.submit(refused)).admission is Admission.BACKLOG_FULL
    assert client.exists(keys.inspection(refused.id)) == 0
    assert (await submitter.submit(make_job(), idempotency_key="k", fingerprint="f")).admission is Admission.REPEATED
    queue = make_queue()
    high = queue.claim(1)[0]
    assert (await submitter.submit(make_job())).admission is Admission.BACKLOG_FULL  # running counts too
    queue.complete(high, result_of(high))
    assert (await submitter.submit(make_job())).admission is Admission.ADMITTED


async def test_no_two_workers_get_the_same_job(submitter: JobSubmitter, make_queue: MakeQueue) -> None:
    submitted = await submit(submitter, 40)
    queues = [make_queue(f"w{i}") for i in range(4)]
    claims = await asyncio.gather(*(asyncio.to_thread(queue.claim, 10) for queue in queues))
    assert sorted(one for claimed in claims for one in ids(claimed)) == sorted(submitted)


async def test_completion_leaves_one_result_one_event_and_nothing_in_the_queue(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis, async_client: redis.asyncio.Redis
) -> None:
    [inspection_id] = await submit(submitter, serial="SN-1")
    queue = make_queue()
    [claimed] = queue.claim(1)
    assert [queue.complete(claimed, result_of(claimed, 0.25)) for _ in range(2)] == [True, True]
    assert [(event.inspection_id, event.verdict, event.serial) for event in events(client)] == [
        (inspection_id, "pass", "SN-1")
    ]
    result = await Results(async_client).get(inspection_id)
    assert result is not None
    assert (result.state, result.score, result.attempts) == (State.DONE, 0.25, 1)
    assert client.xlen(POOL.jobs(Priority.NORMAL)) == 0
    assert client.zcard(POOL.leases) == 0
    pending: Any = client.xpending(POOL.jobs(Priority.NORMAL), keys.GROUP)
    assert pending["pending"] == 0
    assert queue.held == ()


async def test_a_failure_is_a_result_too(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis, async_client: redis.asyncio.Redis
) -> None:
    [inspection_id] = await submit(submitter)
    queue = make_queue()
    [claimed] = queue.claim(1)
    assert queue.fail(claimed, Failure(code="score_not_finite", detail="the model gave NaN"))
    result = await Results(async_client).get(inspection_id)
    assert result is not None
    assert (result.state, result.verdict) == (State.FAILED, None)
    assert [event.type for event in events(client)] == ["inspection.failed"]


async def test_nothing_expires_before_its_end(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    job = make_job()
    await submitter.submit(job, idempotency_key="k", fingerprint="f")
    queue = make_queue(retention=Retention(result_ttl_s=100))
    [claimed] = queue.claim(1)
    kept = [keys.inspection(job.id), keys.idempotency("", "toy", "k")]
    assert [client.ttl(key) for key in kept] == [-1, -1]
    queue.complete(claimed, result_of(claimed))
    assert all(0 < client.ttl(key) <= 100 for key in kept)
    indexes = client.keys(f"{keys.HISTORY}*")
    assert all(client.ttl(key) == -1 for key in client.keys("*") if key not in {*kept, *indexes})


async def test_a_job_changes_hands_when_its_lease_has_ended_and_the_old_holder_is_fenced(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis, async_client: redis.asyncio.Redis
) -> None:
    [inspection_id] = await submit(submitter)
    zombie, heir = make_queue("zombie"), survivor(make_queue, client)
    [stale] = zombie.claim(1)
    assert heir.reclaim().suspects == ()  # its lease still runs
    end_leases(client)
    assert heir.reclaim().suspects == (inspection_id,)
    [claimed] = heir.claim(1)
    assert (claimed.id, claimed.attempt, claimed.alone) == (inspection_id, 2, True)

    assert zombie.renew() == [stale]
    assert zombie.complete(stale, result_of(stale, 9.0)) is False
    assert zombie.hand_back(stale) is False
    assert events(client) == []

    assert heir.complete(claimed, result_of(claimed, 0.25)) is True
    assert zombie.complete(stale, result_of(stale, 9.0)) is False
    result = await Results(async_client).get(inspection_id)
    assert result is not None
    assert result.score == 0.25
    assert len(events(client)) == 1


async def test_the_same_worker_is_fenced_from_its_own_earlier_claim(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    await submit(submitter)
    queue = survivor(make_queue, client)
    [first] = queue.claim(1)
    end_leases(client)
    queue.reclaim()
    assert queue.renew() == [first]
    [second] = queue.claim(1)
    assert queue.complete(first, result_of(first)) is False
    assert queue.complete(second, result_of(second)) is True


async def test_renewal_keeps_a_lease_even_one_that_has_ended_unnoticed(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    await submit(submitter, 2)
    queue, other = make_queue(), survivor(make_queue, client)
    queue.claim(2)
    end_leases(client)
    assert queue.renew() == []
    assert other.reclaim().suspects == ()


async def test_for_a_lease_after_redis_has_started_nobody_is_called_dead(own_redis: RedisServer) -> None:
    async with connect_async(own_redis.url) as async_client:
        [inspection_id] = await submit(JobSubmitter(async_client))
    with own_redis.connect() as client:
        [claimed] = JobQueue(client).claim(1)
        own_redis.kill()
        own_redis.start()
        end_leases(client)  # it was away for longer than that
        assert JobQueue(client, lease_ms=3_600_000).reclaim().suspects == ()
        assert stored(client, inspection_id, "owner") == claimed.owner
        later = survivor(lambda name, **options: JobQueue(client, worker_id=name, **options), client)
        assert later.reclaim().suspects == (inspection_id,)


async def test_a_suspect_waits_for_an_empty_worker_and_has_it_alone(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    suspects = await submit(submitter, 2)
    dead = make_queue("dead")
    dead.claim(2)
    end_leases(client)
    queue = survivor(make_queue, client)
    await submit(submitter, 3)
    busy = queue.claim(1)
    assert busy[0].alone is False
    queue.reclaim()

    assert queue.claim(2) == []  # makes room: nothing new beside a suspect to come
    queue.complete(busy[0], result_of(busy[0]))
    assert queue.claim(2, idle=False) == []  # the worker has something in hand that the queue does not know
    [first] = queue.claim(2)
    assert (first.id, first.alone) == (suspects[0], True)
    assert queue.claim(2) == []
    queue.complete(first, result_of(first))
    [second] = queue.claim(2)
    assert (second.id, second.alone) == (suspects[1], True)
    queue.complete(second, result_of(second))
    assert [one.alone for one in queue.claim(2)] == [False, False]


async def test_only_one_worker_at_a_time_makes_room_for_suspects(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    await submit(submitter, 1)
    make_queue("dead").claim(1)
    end_leases(client)
    await submit(submitter, 4)
    first, second = make_queue("first"), make_queue("second")
    first.claim(1)
    second.claim(1)
    survivor(make_queue, client).reclaim()
    assert first.claim(1) == []
    assert len(second.claim(1)) == 1


async def test_three_deaths_alone_end_a_job_as_a_dead_letter(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis, async_client: redis.asyncio.Redis
) -> None:
    [inspection_id] = await submit(submitter)
    watch = survivor(make_queue, client)
    make_queue("w0").claim(1)  # in company: this death counts for nothing
    for death in range(3):
        end_leases(client)
        assert watch.reclaim().suspects == (inspection_id,)
        [claimed] = make_queue(f"w{death + 1}").claim(1)
        assert (claimed.alone, claimed.deaths) == (True, death)
    end_leases(client)
    assert watch.reclaim().dead == (inspection_id,)

    result = await Results(async_client).get(inspection_id)
    assert result is not None
    assert (result.state, result.verdict) == (State.FAILED, None)
    assert result.error is not None
    assert result.error.code == "worker_died"
    letters: Any = client.xrange(POOL.dead)
    assert [fields["id"] for _, fields in letters] == [inspection_id]
    assert Job.model_validate_json(letters[0][1]["job"]).id == inspection_id
    assert client.xlen(POOL.jobs(Priority.NORMAL)) == 0
    assert len(events(client)) == 1
    assert watch.claim(1) == []


async def test_the_death_of_who_gives_a_job_up_is_not_the_jobs(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis, async_client: redis.asyncio.Redis
) -> None:
    [inspection_id] = await submit(submitter)
    watch = survivor(make_queue, client)
    for name in ("in-company", "alone"):
        make_queue(name).claim(1)
        end_leases(client)
        watch.reclaim()
    make_queue("alone-again").claim(1)
    end_leases(client)
    # Whoever takes the job to give it up dies before it writes the end.
    undertaker = client.register_script(load("reclaim"))
    args: list[str | int] = [keys.INSPECTION_PREFIX, keys.HELD_PREFIX, "undertaker", 1000, 2, 100]
    _, given_up = undertaker(keys=[POOL.leases, POOL.suspects, POOL.wake, POOL.workers], args=args)
    assert given_up[0] == inspection_id
    end_leases(client)
    assert make_queue("next", lease_ms=1000, max_deaths=2).reclaim().dead == (inspection_id,)
    result = await Results(async_client).get(inspection_id)
    assert result is not None
    assert result.error is not None
    assert result.error.detail.startswith("2 workers died")


async def test_batch_mates_of_a_poisoned_job_are_not_blamed(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    poison, *innocent = await submit(submitter, 4)
    watch = survivor(make_queue, client)
    make_queue("w0").claim(4)
    done: list[str] = []
    for turn in range(20):
        end_leases(client)
        watch.reclaim()
        worker = make_queue(f"turn-{turn}")
        for claimed in worker.claim(4):
            if claimed.id != poison:
                worker.complete(claimed, result_of(claimed))
                done.append(claimed.id)
    assert sorted(done) == sorted(innocent)
    assert stored(client, poison, "state") == "failed"
    assert [event.type for event in events(client)].count("inspection.done") == 3


async def test_jobs_handed_back_are_claimed_again_and_never_counted(
    submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    submitted = await submit(submitter, 2)
    leaving, staying = make_queue("leaving"), make_queue("staying")
    for _ in range(5):
        for claimed in leaving.claim(2):
            assert leaving.hand_back(claimed)
    claims = staying.claim(2)
    assert sorted(ids(claims)) == sorted(submitted)
    assert [(one.attempt, one.alone, one.deaths) for one in claims] == [(6, False, 0)] * 2


async def who_took_over(submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis) -> JobQueue:
    """A living worker, who has found the one job of a dead one: it is a suspect."""
    await submit(submitter)
    make_queue("dead").claim(1)
    end_leases(client)
    queue = survivor(make_queue, client)
    queue.reclaim()
    return queue


async def test_a_suspect_handed_back_stays_a_suspect(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    queue = await who_took_over(submitter, make_queue, client)
    [claimed] = queue.claim(1)
    queue.hand_back(claimed)
    [again] = queue.claim(1)
    assert (again.alone, again.deaths, again.attempt) == (True, 0, 3)


async def test_a_job_handed_back_with_a_delay_is_not_claimed_before(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    [inspection_id] = await submit(submitter)
    queue = make_queue()
    queue.hand_back(queue.claim(1)[0], delay_ms=3_600_000)
    assert queue.claim(1) == []
    client.zadd(POOL.returned(Priority.NORMAL), {inspection_id: 1})  # an hour later
    assert ids(queue.claim(1)) == [inspection_id]


async def test_a_claim_whose_reply_was_lost_is_given_again(submitter: JobSubmitter, make_queue: MakeQueue) -> None:
    submitted = await submit(submitter, 2)
    queue = make_queue()
    lost = queue.claim(1)
    queue._held.clear()  # the process never saw the reply
    [again, new] = queue.claim(2)
    assert (again.id, again.attempt) == (submitted[0], lost[0].attempt + 1)
    assert new.id == submitted[1]
    assert queue.complete(lost[0], result_of(lost[0])) is False
    assert queue.complete(again, result_of(again)) is True


async def test_a_suspect_whose_reply_was_lost_waits_until_the_worker_is_idle(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    queue = await who_took_over(submitter, make_queue, client)
    queue.claim(1)
    queue._held.clear()  # the process never saw the reply
    await submit(submitter)
    assert queue.claim(2, idle=False) == []  # nor anything beside it
    [again] = queue.claim(2)
    assert (again.alone, again.attempt) == (True, 3)


async def test_a_job_that_could_not_be_handed_back_comes_again(own_redis: RedisServer) -> None:
    async with connect_async(own_redis.url) as async_client:
        [inspection_id] = await submit(JobSubmitter(async_client))
    with own_redis.connect() as client:
        queue = JobQueue(client)
        [claimed] = queue.claim(1)
        own_redis.kill()
        with pytest.raises(RedisError):
            queue.hand_back(claimed)
        own_redis.start()
        assert queue.held == ()
        [again] = queue.claim(1)
        assert (again.id, again.attempt) == (inspection_id, 2)


async def test_a_process_that_restarts_under_its_name_does_not_inherit(
    submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    await submit(submitter)
    make_queue("pod-0").claim(1)
    assert make_queue("pod-0").claim(1) == []


async def test_a_claim_that_should_stop_takes_nothing_that_came_while_it_waited(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    queue = make_queue()
    waiting = asyncio.create_task(asyncio.to_thread(queue.claim, 1, 60_000, should_stop=lambda: True))
    await asyncio.to_thread(eventually, lambda: client.info("clients")["blocked_clients"] == 1)
    (job,) = await submit(submitter)
    assert await waiting == []
    assert ids(queue.claim(1)) == [job]


async def test_a_waiting_claim_wakes_for_a_new_job_and_for_one_handed_back(
    submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    first, second = make_queue("first"), make_queue("second")
    waiting = asyncio.create_task(asyncio.to_thread(first.claim, 1, 60_000))
    await asyncio.sleep(0.05)
    [inspection_id] = await submit(submitter)
    [claimed] = await waiting
    assert claimed.id == inspection_id
    waiting = asyncio.create_task(asyncio.to_thread(second.claim, 1, 60_000))
    await asyncio.sleep(0.05)
    first.hand_back(claimed)
    assert ids(await waiting) == [inspection_id]


async def test_the_backlog_never_reads_zero_while_a_job_runs(submitter: JobSubmitter, make_queue: MakeQueue) -> None:
    await submit(submitter, 2)
    queue = make_queue()
    claims = queue.claim(2)
    stats = (await submitter.stats())[DEFAULT_POOL]
    assert (stats.backlog, stats.running, stats.suspects, stats.workers) == (2, 2, 0, 1)
    for claimed in claims:
        queue.complete(claimed, result_of(claimed))
    stats = (await submitter.stats())[DEFAULT_POOL]
    assert (stats.backlog, stats.running, stats.oldest_age_s) == (0, 0, 0.0)
    queue.retire()
    assert (await submitter.stats())[DEFAULT_POOL].workers == 0


async def test_a_pool_knows_what_it_served_last_and_not_more_than_a_hundred_products(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    queue = make_queue()
    assert queue.recently_served() == ()
    for number in (*range(102), 50):
        await submit(submitter, product=f"p{number:03}")
        [claimed] = queue.claim(1)
        if number == 101:
            queue.fail(claimed, Failure(code="model_error", detail="as it happens"))  # nothing was served
        else:
            queue.complete(claimed, result_of(claimed))
    served = queue.recently_served()
    assert len(served) == 100
    assert (served[0], served[-1]) == ("p050", "p001")
    assert make_queue(pool="other").recently_served() == ()


async def test_every_key_carries_the_schema_version(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    job = make_job()
    await submitter.submit(job, idempotency_key="k", fingerprint="f")
    await submit(submitter, 3)
    queue = survivor(make_queue, client)
    claims = queue.claim(3)
    queue.complete(claims[0], result_of(claims[0]))
    queue.hand_back(claims[1])
    end_leases(client)
    queue.reclaim()
    queue.claim(1)
    found: Any = client.keys("*")
    assert len(found) >= 9
    assert [key for key in found if not key.startswith(keys.PREFIX)] == [keys.SCHEMA]


async def test_an_entry_without_an_inspection_is_cleared_away(
    submitter: JobSubmitter, make_queue: MakeQueue, client: redis.Redis
) -> None:
    lost, kept = await submit(submitter, 2)
    client.delete(keys.inspection(lost))
    assert ids(make_queue().claim(2)) == [kept]
    assert client.xlen(POOL.jobs(Priority.NORMAL)) == 1


async def test_a_result_of_another_inspection_is_refused(submitter: JobSubmitter, make_queue: MakeQueue) -> None:
    await submit(submitter, 2)
    queue = make_queue()
    one, other = queue.claim(2)
    with pytest.raises(ValueError, match="the claim is of"):
        queue.complete(one, result_of(other))
    with pytest.raises(ValueError, match="in state queued"):
        queue.complete(one, waiting_result(one.job))
