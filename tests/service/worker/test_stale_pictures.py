"""A worker that slept past its lease: what it still stores is not shown; another worker has the inspection by then."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from service.contract import Result, State
from service.queue import keys
from service.storage.artifacts import ArtifactStore
from tests.service.worker.conftest import png
from tests.support.nursery import Worker
from tests.support.processes import eventually
from tests.support.worker_fleet import WorkerFleet

pytestmark = pytest.mark.timeout(600)  # real processes: slow where other work shares the machine


def asleep_before_its_map_is_stored(fleet: WorkerFleet, waiting: str) -> Worker:
    """A worker that has drawn the pictures, has stored some of them, and is stopped (SIGSTOP)."""
    obstacle = fleet.folder / "artifacts" / ArtifactStore.ref(waiting, "map.npy")
    obstacle.mkdir()
    sleeper = fleet.worker()
    eventually(lambda: sleeper.log.is_file() and "not stored yet" in sleeper.log.read_text())
    sleeper.signal(signal.SIGSTOP)
    obstacle.rmdir()
    return sleeper


def wake_and_end(sleeper: Worker) -> None:
    """Let it go on with what it holds, and end."""
    sleeper.signal(signal.SIGCONT)
    eventually(lambda: "result dropped: another worker has the job" in sleeper.log.read_text())
    sleeper.signal(signal.SIGTERM)
    assert sleeper.wait() == 0


def marked(fleet: WorkerFleet, result: Result) -> dict[str, bytes]:
    """Give each picture that is shown a content of its own, so that whoever writes one anew is found out."""
    for name in result.artifacts:
        if name != "image":
            assert fleet.artifact(result.id, name)
            fleet.artifacts.put(result.id, name, f"shown {name}".encode(), result.attempts)
    return shown(fleet, result)


def shown(fleet: WorkerFleet, result: Result) -> dict[str, bytes]:
    """Each artifact of a result, by its name."""
    return {name: fleet.artifact(result.id, name) for name in result.artifacts}


def test_a_worker_that_slept_past_its_lease_changes_no_picture_of_the_visible_result(fleet: WorkerFleet) -> None:
    (waiting,) = fleet.accept([png(1)])
    sleeper = asleep_before_its_map_is_stored(fleet, waiting)
    awake = fleet.worker()
    (result,) = fleet.ended([waiting])
    awake.kill()
    assert (result.state, result.attempts) == (State.DONE, 2)
    before = marked(fleet, result)
    assert len(before) == 6
    wake_and_end(sleeper)
    assert shown(fleet, result) == before
    assert fleet.results([waiting]) == [result]


def test_a_worker_that_sees_that_another_has_the_job_stores_nothing(fleet: WorkerFleet) -> None:
    (waiting,) = fleet.accept([png(1)])
    folder = Path(fleet.folder / "artifacts" / ArtifactStore.ref(waiting, "image")).parent
    image = (folder / "image").read_bytes()
    (folder / "image").unlink()
    os.mkfifo(folder / "image")  # its decoder waits here
    sleeper = fleet.worker(GLAD_LEASE_MS="600000")
    eventually(lambda: fleet.results([waiting])[0].attempts == 1)
    # As if another worker had taken the job over.
    owner: Any = fleet.client.hget(keys.inspection(waiting), "owner")
    fleet.client.srem(keys.held(owner), waiting)
    fleet.client.hset(keys.inspection(waiting), mapping={"owner": "another", "attempt": 2})
    (folder / "image").write_bytes(image)
    wake_and_end(sleeper)
    assert [path.name for path in folder.iterdir() if path.name != "image"] == []


def test_the_pictures_of_the_first_attempt_keep_their_names(fleet: WorkerFleet) -> None:
    fleet.worker()
    (result,) = fleet.ended(fleet.accept([png(1)]))
    folder = Path(fleet.folder / "artifacts" / ArtifactStore.ref(result.id, "image")).parent
    assert result.attempts == 1
    assert {path.name for path in folder.iterdir()} == set(result.artifacts)
