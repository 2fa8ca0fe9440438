"""Failures between worker and Redis, with real processes: what is accepted ends, once, and the worker lives on."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence

import pytest

from service.contract import State
from service.queue import keys
from tests.service.worker.conftest import RedisServer, png
from tests.service.worker.test_worker import get, ready_port
from tests.support.nursery import Worker
from tests.support.processes import eventually
from tests.support.wire import Wire
from tests.support.worker_fleet import WorkerFleet

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

IMAGES = [png(seed) for seed in range(12)]


@pytest.fixture
def wire(redis_server: RedisServer, fleet: WorkerFleet) -> Iterator[Wire]:
    """The plant's wire to Redis."""
    with Wire(redis_server.url) as wire:
        yield wire


def begun(fleet: WorkerFleet, wire: Wire | None = None, answer_s: str = "8") -> tuple[list[str], Worker]:
    """Twelve images, of which a worker has finished two; over the wire, if there is one."""
    ids = fleet.accept(IMAGES)
    worker = fleet.worker(GLAD_REDIS_URL=wire.url if wire else fleet.url, GLAD_REDIS_ANSWER_S=answer_s)
    eventually(lambda: fleet.count_ended(ids) >= 2)
    return ids, worker


def assert_all_ended_once(fleet: WorkerFleet, ids: Sequence[str]) -> None:
    """Each has its one result, and nothing is left behind."""
    assert {result.state for result in fleet.ended(ids)} == {State.DONE}
    assert sorted(str(event.inspection_id) for event in fleet.events()) == sorted(ids)
    pool = keys.PoolKeys("default")
    assert [fleet.client.zcard(key) for key in (pool.leases, pool.suspects)] == [0, 0]
    assert fleet.client.xlen(pool.dead) == 0


def test_a_redis_that_pauses_longer_than_the_lease_loses_nothing(fleet: WorkerFleet) -> None:
    ids, worker = begun(fleet)
    fleet.client.client_pause(2500)  # the lease is 1500 ms
    assert_all_ended_once(fleet, ids)
    assert worker.running


def test_a_wire_that_is_cut_again_and_again_loses_nothing(fleet: WorkerFleet, wire: Wire) -> None:
    ids, worker = begun(fleet, wire)
    for _ in range(5):
        wire.cut()
        time.sleep(0.1)
        wire.mend()
        time.sleep(0.1)
    assert_all_ended_once(fleet, ids)
    assert worker.running


def test_a_worker_that_redis_cannot_hear_loses_its_jobs_and_completes_none_twice(
    fleet: WorkerFleet, wire: Wire
) -> None:
    ids, silent = begun(fleet, wire)
    wire.silence()
    fleet.worker()
    results = fleet.ended(ids)
    wire.mend()
    silent.signal(signal.SIGTERM)
    assert silent.wait() == 0
    assert fleet.results(ids) == results
    assert_all_ended_once(fleet, ids)


def test_replies_that_are_lost_lose_no_job_and_give_no_second_result(fleet: WorkerFleet, wire: Wire) -> None:
    ids, worker = begun(fleet, wire)
    for _ in range(3):
        wire.lose_replies()
        time.sleep(0.2)
        wire.mend()
        time.sleep(0.2)
    assert_all_ended_once(fleet, ids)
    assert worker.running


def test_results_wait_for_a_redis_without_memory(fleet: WorkerFleet) -> None:
    ids, worker = begun(fleet)
    fleet.client.config_set("maxmemory", "1")
    try:
        eventually(lambda: "maxmemory" in worker.log.read_text() or fleet.count_ended(ids) == len(ids))
    finally:
        fleet.client.config_set("maxmemory", "0")
    assert_all_ended_once(fleet, ids)
    assert worker.running


def test_a_redis_that_is_stopped_for_longer_than_a_command_is_tried_loses_nothing(
    fleet: WorkerFleet, redis_server: RedisServer
) -> None:
    ids, worker = begun(fleet, answer_s="3")
    other = fleet.worker(GLAD_REDIS_ANSWER_S="3")  # takes over what the first one seems to have lost
    redis_server.child.signal(signal.SIGSTOP)
    time.sleep(8)  # a command is given up after six seconds at the latest, and the lease is 1.5
    redis_server.child.signal(signal.SIGCONT)
    assert_all_ended_once(fleet, ids)
    assert worker.running
    assert other.running


def test_an_idle_worker_lives_while_redis_refuses_it_and_while_redis_leaves_it_waiting(
    fleet: WorkerFleet, wire: Wire
) -> None:
    # What lasts too long is the absence itself; a claim that gets no answer ends after six seconds at the latest. On a
    # machine that stands still for a moment it does later.
    worker = fleet.worker(
        GLAD_REDIS_URL=wire.url, GLAD_LOG_LEVEL="info", GLAD_STUCK_AFTER_S="11", GLAD_REDIS_ANSWER_S="3"
    )
    eventually(lambda: worker.log.exists() and ready_port(worker) is not None)
    port = ready_port(worker)
    assert port is not None
    for go_away in (wire.cut, wire.silence):
        go_away()
        until = time.monotonic() + 13
        while time.monotonic() < until:
            assert get(port, "/health/live")[0] == 200
            time.sleep(0.5)
        wire.mend()
        (result,) = fleet.ended(fleet.accept(IMAGES[:1]))
        assert result.state is State.DONE
