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
from tests.support.plant import Plant
from tests.support.processes import eventually
from tests.support.wire import Wire

IMAGES = [png(seed) for seed in range(6)]
Start = Callable[[], Worker]


@pytest.fixture
def start(plant: Plant, bucket: ArtifactStore, s3_wire: Wire) -> Start:
    """Starts workers of a plant whose artifacts lie in an object store, at the end of a wire."""
    plant.artifacts = bucket
    environment = {"GLAD_ARTIFACTS_URL": bucket.root, **credentials(s3_wire.url)}
    return lambda: plant.worker(odd=False, **environment)


def handed_back(worker: Worker) -> int:
    """How often a job was, so far."""
    return worker.log.read_text().count("inspection handed back") if worker.log.exists() else 0


def assert_all_done_once(plant: Plant, ids: list[str]) -> None:
    """Each has its one result, with its pictures."""
    assert {result.state for result in plant.ended(ids)} == {State.DONE}
    assert sorted(event.inspection_id for event in plant.events()) == sorted(ids)
    assert all(plant.artifact(name, "overlay.png").startswith(b"\x89PNG") for name in ids)


def test_what_is_queued_waits_for_a_store_that_is_away(plant: Plant, start: Start, s3_wire: Wire) -> None:
    ids = plant.accept(IMAGES)
    s3_wire.cut()
    worker = start()
    eventually(lambda: handed_back(worker) > len(IMAGES))
    # Longer ago than an image that nobody can read is waited for.
    for name in ids:
        plant.client.hincrby(keys.inspection(name), "started_ms", -600_000)
    before = handed_back(worker)
    eventually(lambda: handed_back(worker) > before + 2 * len(IMAGES))
    assert plant.count_ended(ids) == 0
    s3_wire.mend()
    assert_all_done_once(plant, ids)
    assert worker.running


def test_an_image_that_is_gone_fails_while_the_store_is_there(plant: Plant, start: Start) -> None:
    gone, kept = plant.accept(IMAGES[:2])
    plant.artifacts.remove(ArtifactStore.ref(gone, "image"))
    plant.client.hset(keys.inspection(gone), "started_ms", 1)
    start()
    failed, done = plant.ended([gone, kept])
    assert (failed.state, failed.error and failed.error.code) == (State.FAILED, "image_unavailable")
    assert done.state is State.DONE


def test_pictures_wait_for_a_store_that_is_away(plant: Plant, start: Start, s3_wire: Wire) -> None:
    ids = plant.accept(IMAGES)
    worker = start()
    eventually(lambda: plant.count_ended(ids) >= 1)
    s3_wire.cut()
    eventually(lambda: "not stored yet" in worker.log.read_text() or plant.count_ended(ids) == len(ids))
    s3_wire.mend()
    assert_all_done_once(plant, ids)
    assert worker.running
