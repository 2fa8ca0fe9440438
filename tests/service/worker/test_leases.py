"""The lease thread: without it every job would be taken over, so its end is the worker's."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from service.queue import keys
from service.queue.jobs import JobQueue
from service.telemetry.metrics.worker import WorkerMetrics
from service.worker.lease_keeper import LeaseKeeper
from tests.support.plant import Plant
from tests.support.processes import eventually


def keeper_of(queue: JobQueue) -> LeaseKeeper:
    """With metrics of its own."""
    return LeaseKeeper(queue, WorkerMetrics(CollectorRegistry()))


def ended(keeper: LeaseKeeper) -> bool:
    """What the engine hears at its next round."""
    try:
        keeper.take_lost()
    except RuntimeError as error:
        return "every job would be taken over" in str(error)
    return False


def test_a_lease_thread_that_ends_is_told_to_the_engine(plant: Plant) -> None:
    queue = JobQueue(plant.client, lease_ms=150)
    keeper = keeper_of(queue)
    keeper.start()
    assert not ended(keeper)
    queue._held["spoilt"] = None  # type: ignore[assignment] # as a bug would
    eventually(lambda: ended(keeper))
    keeper.stop()


def test_a_redis_that_refuses_does_not_end_it(plant: Plant) -> None:
    leases = keys.PoolKeys("default").leases
    plant.accept([b"any"])
    queue = JobQueue(plant.client, lease_ms=60_000)
    [claimed] = queue.claim(1)
    keeper = keeper_of(queue)
    plant.client.rename(leases, "aside")
    plant.client.set(leases, "no sorted set")
    keeper.round()
    assert queue.held == (claimed,)
    plant.client.rename("aside", leases)
    keeper.round()
    assert keeper.take_lost() == frozenset()
