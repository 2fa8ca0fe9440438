"""Hostile files that reached the queue all the same: the worker says so and goes on, in the same process."""

from __future__ import annotations

from service.contract import State
from tests.service.worker.conftest import png
from tests.support import hostile
from tests.support.worker_fleet import WorkerFleet


def test_no_file_ends_the_worker_or_changes_what_the_next_image_gets(fleet: WorkerFleet) -> None:
    files = hostile.bombs() | dict(list(hostile.truncated().items())[::5]) | dict(list(hostile.flipped().items())[::5])
    worker = fleet.worker()
    [before] = fleet.ended(fleet.accept([png(1)]))
    results = dict(zip(files, fleet.ended(fleet.accept(list(files.values()))), strict=True))
    for name, result in results.items():
        assert result.attempts == 1, name
        if result.state is not State.DONE:
            assert (result.state, result.verdict) == (State.FAILED, None), name
            assert result.error is not None
            assert result.error.code in {"image_undecodable", "image_not_inspectable"}, f"{name}: {result.error}"
    assert sum(result.state is State.FAILED for result in results.values()) > len(files) // 2
    [after] = fleet.ended(fleet.accept([png(1)]))
    assert (after.state, after.score) == (State.DONE, before.score)
    assert worker.running
