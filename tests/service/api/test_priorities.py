"""`high` comes first, `normal` always gets its share, and pools do not see each other."""

from __future__ import annotations

from collections.abc import Callable

import redis
import redis.asyncio

from service.contract import Priority
from service.queue.admission import Admission
from service.queue.jobs import JobQueue
from service.queue.submitter import JobSubmitter
from tests.support.line import make_job, result_of

MakeQueue = Callable[..., JobQueue]


async def submit(submitter: JobSubmitter, count: int, priority: Priority) -> None:
    """Jobs of one priority."""
    for _ in range(count):
        assert (await submitter.submit(make_job(priority=priority))).admission is Admission.ADMITTED


def given(queue: JobQueue, claims: int, each: int) -> str:
    """The priorities in the order in which they were given out: h and n."""
    return "".join(one.job.priority.value[0] for _ in range(claims) for one in queue.claim(each))


async def test_each_fourth_job_is_normal_while_both_wait(submitter: JobSubmitter, make_queue: MakeQueue) -> None:
    await submit(submitter, 6, Priority.NORMAL)
    await submit(submitter, 12, Priority.HIGH)
    assert given(make_queue(), 1, 18) == "hhhn" * 4 + "nn"


async def test_the_share_holds_over_many_small_claims_of_many_workers(
    submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    await submit(submitter, 6, Priority.NORMAL)
    await submit(submitter, 12, Priority.HIGH)
    workers = [make_queue(f"w{number}") for number in range(3)]
    assert "".join(given(worker, 1, 1) for _ in range(4) for worker in workers) == "hhhn" * 3


async def test_a_flood_of_high_ones_does_not_starve_a_normal_one(
    submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    await submit(submitter, 4, Priority.HIGH)
    await submit(submitter, 1, Priority.NORMAL)
    served = ""
    while "n" not in served:
        await submit(submitter, 1, Priority.HIGH)  # as fast as they are worked on
        [claimed] = queue.claim(1)
        queue.complete(claimed, result_of(claimed))
        served += claimed.job.priority.value[0]
    assert served == "hhhn"


async def test_alone_each_gets_everything(submitter: JobSubmitter, make_queue: MakeQueue) -> None:
    await submit(submitter, 5, Priority.NORMAL)
    assert given(make_queue(), 1, 10) == "nnnnn"
    await submit(submitter, 5, Priority.HIGH)
    assert given(make_queue(), 1, 10) == "hhhhh"


async def test_what_was_handed_back_keeps_its_priority_and_its_place_before_new_ones(
    submitter: JobSubmitter, make_queue: MakeQueue
) -> None:
    queue = make_queue()
    await submit(submitter, 2, Priority.NORMAL)
    handed_back = queue.claim(1)[0]
    queue.hand_back(handed_back)
    await submit(submitter, 1, Priority.HIGH)
    claimed = queue.claim(3)
    assert [one.job.priority.value for one in claimed] == ["high", "normal", "normal"]
    assert claimed[1].id == handed_back.id


async def test_pools_share_nothing(async_client: redis.asyncio.Redis, client: redis.Redis) -> None:
    submitter = JobSubmitter(async_client, max_backlog=1)
    jobs = [make_job(pool="fast"), make_job(pool="slow")]
    for job in jobs:
        assert (await submitter.submit(job)).admission is Admission.ADMITTED  # the other's backlog does not count
    assert (await submitter.submit(make_job(pool="fast"))).admission is Admission.BACKLOG_FULL
    assert (await submitter.estimate(pool="fast")).admission is Admission.BACKLOG_FULL
    assert (await submitter.estimate(pool="third")).admission is Admission.ADMITTED
    queues = [JobQueue(client, pool=pool) for pool in ("fast", "slow")]
    claimed = [queue.claim(5) for queue in queues]
    assert [[one.id for one in ones] for ones in claimed] == [[job.id] for job in jobs]
    assert queues[0].complete(claimed[0][0], result_of(claimed[0][0]))
    seen = await submitter.stats(("fast",))
    assert {pool: queue.backlog for pool, queue in seen.items()} == {"fast": 0, "slow": 1}
