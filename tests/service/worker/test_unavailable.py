"""An image is gone from every worker: it is tried elsewhere for a minute, and then ends. (Of bundles:
test_unusable_bundles.py.)"""

from __future__ import annotations

import signal
from typing import Any

from service.contract import IMAGE, State
from service.queue import keys
from service.queue.artifact_home import ArtifactHome
from service.storage.artifacts import ArtifactStore
from service.worker.codec_threads import RETRY_ELSEWHERE_MS
from tests.service.worker.conftest import png
from tests.support.nursery import Worker
from tests.support.processes import eventually
from tests.support.worker_fleet import WorkerFleet


def test_images_wait_for_a_folder_that_is_away(fleet: WorkerFleet) -> None:
    ids = fleet.accept([png(seed) for seed in range(4)])
    folder = fleet.folder / "artifacts"
    away = folder.rename(fleet.folder / "away")
    worker = fleet.worker()

    def handed_back() -> int:
        return worker.log.read_text().count("inspection handed back") if worker.log.exists() else 0

    eventually(lambda: handed_back() >= len(ids))
    for name in ids:
        fleet.client.hincrby(keys.inspection(name), "started_ms", -RETRY_ELSEWHERE_MS)
    before = handed_back()
    eventually(lambda: handed_back() > before + len(ids) or fleet.count_ended(ids) > 0)
    assert (fleet.count_ended(ids), folder.exists()) == (0, False), "nothing fails, and no empty folder takes its place"
    away.rename(folder)
    assert {result.state for result in fleet.ended(ids)} == {State.DONE}


def test_images_wait_while_an_empty_folder_is_where_the_share_was(fleet: WorkerFleet) -> None:
    """An NFS mount that was lost leaves its mount point. One worker starts then, another one was there before."""
    folder = fleet.folder / "artifacts"
    ArtifactHome(fleet.client, fleet.artifacts).check(make=True)  # as the API does
    before = fleet.worker()
    fleet.ended(fleet.accept([png(9)]))
    before.signal(signal.SIGSTOP)
    ids = fleet.accept([png(seed) for seed in range(8)])
    away = folder.rename(fleet.folder / "away")
    folder.mkdir()
    before.signal(signal.SIGCONT)
    later = fleet.worker()

    def handed_back(worker: Worker) -> int:
        return worker.log.read_text().count("inspection handed back") if worker.log.exists() else 0

    eventually(lambda: min(handed_back(before), handed_back(later)) > 0)
    for name in ids:
        if fleet.client.hexists(keys.inspection(name), "started_ms"):
            fleet.client.hincrby(keys.inspection(name), "started_ms", -RETRY_ELSEWHERE_MS)
    seen = handed_back(before) + handed_back(later)
    eventually(lambda: handed_back(before) + handed_back(later) > seen + 2 * len(ids))
    assert list(folder.iterdir()) == [], "nothing is written that the share would hide"
    folder.rmdir()
    away.rename(folder)
    assert {result.state for result in fleet.ended(ids)} == {State.DONE}
    assert all(fleet.artifact(name, "overlay.png").startswith(b"\x89PNG") for name in ids)


def test_what_an_api_with_a_larger_limit_has_accepted_is_inspected(fleet: WorkerFleet) -> None:
    """96 × 64 pixels, where the worker's own limit is a hundred."""
    ids = fleet.accept([png(1)], width=96, height=64)
    fleet.worker(GLAD_MAX_PIXELS="100")
    assert {result.state for result in fleet.ended(ids)} == {State.DONE}


def test_an_image_that_no_worker_has_fails_once_it_was_tried_for_a_minute(fleet: WorkerFleet) -> None:
    [waiting] = fleet.accept([png(1)])
    fleet.artifacts.remove(ArtifactStore.ref(waiting, IMAGE))
    fleet.worker()
    eventually(lambda: fleet.results([waiting])[0].attempts >= 1)
    assert fleet.count_ended([waiting]) == 0, "it is handed back first"
    record = keys.inspection(waiting)
    began_ms: Any = fleet.client.hget(record, "started_ms")
    fleet.client.hset(record, "started_ms", int(began_ms) - RETRY_ELSEWHERE_MS)  # as if that was a minute ago
    [result] = fleet.ended([waiting])
    assert (result.state, result.verdict) == (State.FAILED, None)
    assert result.error is not None
    assert result.error.code == "image_unavailable"
    assert result.attempts > 1
