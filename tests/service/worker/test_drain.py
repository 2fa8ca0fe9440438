"""A worker that is asked to stop: it takes nothing more, and all that it holds is finished or handed back, unblamed."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from service.contract import Result, State
from service.queue import keys
from tests.service.worker.conftest import png
from tests.support.nursery import Worker
from tests.support.processes import eventually, free_port
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.worker_fleet import WorkerFleet

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

POOL = keys.PoolKeys("default")
LANES, BUFFER = 2, 2
HELD = LANES + BUFFER
"""Images in a full house: in lanes, and decoded or being decoded for the next free one."""
LONG_LEASE_MS = 600_000
"""Longer than any test is patient: what is taken up sooner was handed back."""


@pytest.fixture
def slow(fleet: WorkerFleet, tmp_path: Path) -> WorkerFleet:
    """A plant whose images take a few seconds each."""
    fleet.store = tmp_path / "store"
    make_tiny_bundle(fleet.store, start=900, steps=60, t_min=10, trigger={"delta": 1000.0})
    return fleet


def full(fleet: WorkerFleet, waiting: int, *, drain_s: float = 60) -> tuple[list[str], Worker, int]:
    """Images, a worker that holds all it can of them while `waiting` more wait in the queue, and the worker's port."""
    ids = fleet.accept([png(seed) for seed in range(HELD + waiting)])
    port = free_port()
    worker = fleet.worker(
        GLAD_LANES=str(LANES),
        GLAD_DECODE_BUFFER=str(BUFFER),
        GLAD_LEASE_MS=str(LONG_LEASE_MS),
        GLAD_WORKER_PORT=str(port),
        GLAD_DRAIN_S=str(drain_s),
    )
    eventually(lambda: fleet.client.zcard(POOL.leases) == HELD and says(port, "ready") == 200)
    return ids, worker, port


def says(port: int, probe: str) -> int | None:
    """The status of a health probe; None: nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/{probe}", timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


def assert_nobody_is_blamed(fleet: WorkerFleet, ids: list[str]) -> None:
    """No lease, suspect or dead letter is left, no death is counted, and the worker has signed off."""
    assert [fleet.client.zcard(key) for key in (POOL.leases, POOL.suspects, POOL.workers)] == [0, 0, 0]
    assert fleet.client.xlen(POOL.dead) == 0
    assert not [name for name in ids if fleet.client.hget(keys.inspection(name), "deaths")]


def taken(results: list[Result]) -> set[str]:
    """Those that a worker has taken up, ever."""
    return {result.id for result in results if result.attempts}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_at_full_lanes_it_finishes_what_it_holds_and_takes_nothing_more(
    slow: WorkerFleet, number: signal.Signals
) -> None:
    ids, worker, port = full(slow, waiting=4)
    worker.signal(number)
    eventually(lambda: says(port, "ready") == 503)
    assert says(port, "live") == 200
    held = taken(slow.results(ids))
    assert worker.wait() == 0
    results = slow.results(ids)
    assert taken(results) == held
    assert {result.id for result in results if result.state is State.DONE} == held
    assert HELD <= len(held) < len(ids)
    assert {result.attempts for result in results if result.id in held} == {1}
    assert_nobody_is_blamed(slow, ids)


def test_what_takes_longer_than_its_time_is_handed_back_and_another_worker_has_it_at_once(slow: WorkerFleet) -> None:
    ids, worker, _ = full(slow, waiting=0, drain_s=0.05)
    heir = slow.worker(GLAD_LANES=str(HELD), GLAD_LEASE_MS=str(LONG_LEASE_MS))
    eventually(lambda: slow.client.zcard(POOL.workers) == 2)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    results = slow.ended(ids)
    assert {result.state for result in results} == {State.DONE}
    assert max(result.attempts for result in results) == 2
    assert len(slow.events()) == len(ids)
    heir.signal(signal.SIGTERM)
    assert heir.wait() == 0
    assert_nobody_is_blamed(slow, ids)


def test_a_second_signal_hands_back_all_that_has_no_result(slow: WorkerFleet) -> None:
    ids, worker, port = full(slow, waiting=2)
    worker.signal(signal.SIGINT)
    eventually(lambda: says(port, "ready") == 503)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    results = slow.results(ids)
    assert State.QUEUED in {result.state for result in results if result.attempts}
    assert {result.state for result in results} <= {State.DONE, State.QUEUED}
    assert_nobody_is_blamed(slow, ids)

    slow.worker(GLAD_LANES=str(HELD))
    assert {result.state for result in slow.ended(ids)} == {State.DONE}
    assert len(slow.events()) == len(ids)


def test_a_worker_that_is_stopped_while_it_loads_and_warms_ends_well_and_takes_nothing(
    fleet: WorkerFleet, tmp_path: Path
) -> None:
    fleet.store = tmp_path / "store"
    for number in range(8):
        make_tiny_bundle(fleet.store, product="toy" if number == 0 else f"toy-{number}", seed=number)
    (waiting,) = fleet.accept([png(1)])
    port = free_port()
    worker = fleet.worker(GLAD_WORKER_PORT=str(port), GLAD_MAX_BUNDLES="9", GLAD_LANES="16", GLAD_LOG_LEVEL="info")
    eventually(lambda: says(port, "live") == 200)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert "worker ready" not in worker.log.read_text()
    assert not taken(fleet.results([waiting]))
    assert_nobody_is_blamed(fleet, [waiting])


def test_a_worker_that_is_stopped_while_it_loads_a_jobs_bundle_still_finishes_the_job(
    slow: WorkerFleet,
) -> None:
    worker = slow.worker(GLAD_MAX_BUNDLES="1", GLAD_LOG_LEVEL="info")  # the shipped product comes first by name
    eventually(lambda: slow.client.zcard(POOL.workers) == 1)
    assert '"toy"' not in worker.log.read_text()
    (job,) = slow.accept([png(1)])
    eventually(lambda: slow.results([job])[0].state is State.RUNNING)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    (result,) = slow.results([job])
    assert (result.state, result.attempts) == (State.DONE, 1)
    assert_nobody_is_blamed(slow, [job])
