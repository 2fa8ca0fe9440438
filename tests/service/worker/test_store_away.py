"""The store of images goes away under a worker: nothing that was accepted is lost, and all ends once it is back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.contract import State
from service.queue import keys
from service.storage.artifacts import ArtifactStore
from tests.service.worker.conftest import png
from tests.support.nursery import Worker
from tests.support.object_store import credentials
from tests.support.processes import eventually
from tests.support.wire import Wire
from tests.support.worker_fleet import WorkerFleet

pytestmark = pytest.mark.timeout(600)  # real processes or trainings: slow where other work shares the machine

IMAGES = [png(seed) for seed in range(6)]
Start = Callable[[], Worker]


@pytest.fixture
def start(fleet: WorkerFleet, bucket: ArtifactStore, s3_wire: Wire) -> Start:
    """Starts workers of a plant whose artifacts lie in an object store, at the end of a wire."""
    fleet.artifacts = bucket
    environment = {"GLAD_ARTIFACTS_URL": bucket.root, **credentials(s3_wire.url)}
    return lambda: fleet.worker(odd=False, **environment)


def handed_back(worker: Worker) -> int:
    """How often a job was, so far."""
    return worker.log.read_text().count("inspection handed back") if worker.log.exists() else 0


def assert_all_done_once(fleet: WorkerFleet, ids: list[str]) -> None:
    """Each has its one result, with its pictures."""
    assert {result.state for result in fleet.ended(ids)} == {State.DONE}
    assert sorted(str(event.inspection_id) for event in fleet.events()) == sorted(ids)
    assert all(fleet.artifact(name, "overlay.png").startswith(b"\x89PNG") for name in ids)


def test_what_is_queued_waits_for_a_store_that_is_away(fleet: WorkerFleet, start: Start, s3_wire: Wire) -> None:
    ids = fleet.accept(IMAGES)
    s3_wire.cut()
    worker = start()
    eventually(lambda: handed_back(worker) > len(IMAGES))
    # Longer ago than an image that nobody can read is waited for.
    for name in ids:
        fleet.client.hincrby(keys.inspection(name), "started_ms", -600_000)
    before = handed_back(worker)
    eventually(lambda: handed_back(worker) > before + 2 * len(IMAGES))
    assert fleet.count_ended(ids) == 0
    s3_wire.mend()
    assert_all_done_once(fleet, ids)
    assert worker.running


def test_an_image_that_is_gone_fails_while_the_store_is_there(fleet: WorkerFleet, start: Start) -> None:
    gone, kept = fleet.accept(IMAGES[:2])
    fleet.artifacts.remove(ArtifactStore.ref(gone, "image"))
    fleet.client.hset(keys.inspection(gone), "started_ms", 1)
    start()
    failed, done = fleet.ended([gone, kept])
    assert (failed.state, failed.error and failed.error.code) == (State.FAILED, "image_unavailable")
    assert done.state is State.DONE


def test_pictures_wait_for_a_store_that_is_away(fleet: WorkerFleet, start: Start, s3_wire: Wire) -> None:
    ids = fleet.accept(IMAGES)
    worker = start()
    eventually(lambda: fleet.count_ended(ids) >= 1)
    s3_wire.cut()
    eventually(lambda: "not stored yet" in worker.log.read_text() or fleet.count_ended(ids) == len(ids))
    s3_wire.mend()
    assert_all_done_once(fleet, ids)
    assert worker.running
