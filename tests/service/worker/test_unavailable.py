"""What a job was accepted for is gone from every worker: it is tried elsewhere for a minute, and then ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.contract import IMAGE, State
from service.queue import keys
from service.storage.artifacts import ArtifactStore
from service.worker.codec_threads import RETRY_ELSEWHERE_MS
from tests.service.worker.conftest import png
from tests.support.processes import eventually
from tests.support.worker_fleet import WorkerFleet


@pytest.mark.parametrize("gone", ["bundle_unavailable", "image_unavailable"])
def test_what_no_worker_has_fails_once_it_was_tried_for_a_minute(fleet: WorkerFleet, tmp_path: Path, gone: str) -> None:
    [waiting] = fleet.accept([png(1)])
    if gone == "image_unavailable":
        fleet.artifacts.remove(ArtifactStore.ref(waiting, IMAGE))
    fleet.worker(GLAD_STORE=str(tmp_path / "empty" if gone == "bundle_unavailable" else fleet.store))
    eventually(lambda: fleet.results([waiting])[0].attempts >= 1)
    assert fleet.count_ended([waiting]) == 0, "it is handed back first"
    record = keys.inspection(waiting)
    began_ms: Any = fleet.client.hget(record, "started_ms")
    fleet.client.hset(record, "started_ms", int(began_ms) - RETRY_ELSEWHERE_MS)  # as if that was a minute ago
    [result] = fleet.ended([waiting])
    assert (result.state, result.verdict) == (State.FAILED, None)
    assert result.error is not None
    assert result.error.code == gone
    assert result.attempts > 1
