"""Hostile files that reached the queue all the same: the worker says so and goes on, in the same process."""

from __future__ import annotations

from service.contract import State
from tests.service.worker.conftest import png
from tests.support import costly_images as costly
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


def test_a_costly_image_fails_and_the_worker_inspects_the_next(fleet: WorkerFleet) -> None:
    files = costly.refused_by_their_headers() | {"runs": costly.run_lengths(3000)}
    worker = fleet.worker(GLAD_DECODE_LIMIT_S="8", GLAD_STUCK_AFTER_S="10")
    ids = fleet.accept([png(1), *files.values(), png(1)])
    first, *refused, last = fleet.ended(ids)
    for name, result in zip(files, refused, strict=True):
        assert (result.state, result.attempts) == (State.FAILED, 1), name
        assert result.error is not None
        assert result.error.code == "image_undecodable", name
    assert refused[-1].error is not None
    assert "raise GLAD_DECODE_LIMIT_S" in refused[-1].error.detail
    assert (first.state, last.state, last.score) == (State.DONE, State.DONE, first.score)
    assert worker.running
