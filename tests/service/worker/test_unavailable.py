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
from tests.support.plant import Plant
from tests.support.processes import eventually


@pytest.mark.parametrize("gone", ["bundle_unavailable", "image_unavailable"])
def test_what_no_worker_has_fails_once_it_was_tried_for_a_minute(plant: Plant, tmp_path: Path, gone: str) -> None:
    [waiting] = plant.accept([png(1)])
    if gone == "image_unavailable":
        plant.artifacts.remove(ArtifactStore.ref(waiting, IMAGE))
    plant.worker(GLAD_STORE=str(tmp_path / "empty" if gone == "bundle_unavailable" else plant.store))
    eventually(lambda: plant.results([waiting])[0].attempts >= 1)
    assert plant.count_ended([waiting]) == 0, "it is handed back first"
    record = keys.inspection(waiting)
    began_ms: Any = plant.client.hget(record, "started_ms")
    plant.client.hset(record, "started_ms", int(began_ms) - RETRY_ELSEWHERE_MS)  # as if that was a minute ago
    [result] = plant.ended([waiting])
    assert (result.state, result.verdict) == (State.FAILED, None)
    assert result.error is not None
    assert result.error.code == gone
    assert result.attempts > 1
