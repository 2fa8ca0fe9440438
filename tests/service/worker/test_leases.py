"""The lease thread: without it every job would be taken over, so its end is the worker's."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from service.queue import keys
from service.queue.jobs import JobQueue
from service.telemetry.metrics.worker import WorkerMetrics
from service.worker.lease_keeper import LeaseKeeper
from tests.support.processes import eventually
from tests.support.worker_fleet import WorkerFleet


def keeper_of(queue: JobQueue) -> LeaseKeeper:
    """With metrics of its own."""
    return LeaseKeeper(queue, WorkerMetrics(CollectorRegistry()))


def ended(keeper: LeaseKeeper) -> bool:
    """What the engine hears at its next round, which asks only where there is news."""
    if not keeper.has_news.is_set():
        return False
    try:
        keeper.take_lost()
    except RuntimeError as error:
        return "every job would be taken over" in str(error)
    return False


def test_a_lease_thread_that_ends_is_told_to_the_engine(fleet: WorkerFleet) -> None:
    queue = JobQueue(fleet.client, lease_ms=150)
    keeper = keeper_of(queue)
    keeper.start()
    assert not ended(keeper)
    queue._held["spoilt"] = None  # type: ignore[assignment] # as a bug would
    eventually(lambda: ended(keeper))
    keeper.stop()


def test_a_redis_that_refuses_does_not_end_it(fleet: WorkerFleet) -> None:
    leases = keys.PoolKeys("default").leases
    fleet.accept([b"any"])
    queue = JobQueue(fleet.client, lease_ms=60_000)
    [claimed] = queue.claim(1)
    keeper = keeper_of(queue)
    fleet.client.rename(leases, "aside")
    fleet.client.set(leases, "no sorted set")
    keeper.round()
    assert queue.held == (claimed,)
    fleet.client.rename("aside", leases)
    keeper.round()
    assert keeper.take_lost() == frozenset()
