"""A real worker at the quality gate: an unfit image takes no lane, and the switch is the job's, not the moment's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from glad.image_codec import to_png
from model_store.store import Store
from service.contract import PinnedGateLimits, QualityCheck, Result, State, Verdict
from tests.support.gates import a_gate, a_part
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.worker_fleet import WorkerFleet


@pytest.fixture
def gated(fleet: WorkerFleet, tmp_path: Path) -> WorkerFleet:
    """A plant whose product has a quality gate."""
    fleet.store = tmp_path / "gated"
    make_tiny_bundle(fleet.store, gate=a_gate(sharpness=0.0))
    return fleet


def files(*pictures: NDArray[np.uint8]) -> list[bytes]:
    return [to_png(picture) for picture in pictures]


def reasons(result: Result) -> list[QualityCheck]:
    assert result.quality is not None
    return [reason.check for reason in result.quality.reasons]


def test_unfit_images_are_for_review_and_their_neighbours_are_inspected(gated: WorkerFleet) -> None:
    dark, empty = a_part(level=30), np.full((64, 80, 3), 90, dtype=np.uint8)
    ids = gated.accept(files(a_part(), dark, a_part(level=110), empty))
    gated.worker()
    fit, too_dark, also_fit, without = gated.ended(ids)
    for result in (fit, also_fit):
        assert result.state is State.DONE
        assert result.quality is not None
        assert result.quality.passed
        assert result.score is not None
        assert "heatmap.png" in result.artifacts
    for result, check in ((too_dark, QualityCheck.TOO_DARK), (without, QualityCheck.NO_PART)):
        assert (result.state, result.verdict, result.score) == (State.DONE, Verdict.REVIEW, None)
        assert reasons(result) == [check]
        assert (result.unet_evaluations, result.regions) == (0, ())
        assert list(result.artifacts) == ["image"]
        assert result.timings_ms is not None
        assert (result.timings_ms.denoise, result.timings_ms.total > 0) == (0, True)
    assert {event.inspection_id: event.verdict for event in gated.events()}[ids[1]] is Verdict.REVIEW


def test_a_job_keeps_the_switch_that_it_was_accepted_with(gated: WorkerFleet) -> None:
    dark = files(a_part(level=30))
    [while_on] = gated.accept(dark)
    Store(gated.store).switch_gate("toy", on=False, by="ann")
    [while_off] = gated.accept(dark)
    gated.worker()
    stopped, inspected = gated.ended([while_on, while_off])
    assert reasons(stopped) == [QualityCheck.TOO_DARK]
    assert inspected.quality is None
    assert inspected.score is not None


def test_a_job_keeps_the_limits_that_it_was_accepted_with_and_each_result_what_was_measured(gated: WorkerFleet) -> None:
    dark = files(a_part(level=30))
    [learned] = gated.accept(dark)
    [lowered] = gated.accept(dark, gate_limits=PinnedGateLimits(darkest=10, likeness=0))
    gated.worker()
    stopped, inspected = gated.ended([learned, lowered])
    assert reasons(stopped) == [QualityCheck.TOO_DARK]
    assert (inspected.quality is not None and inspected.quality.passed, inspected.score is None) == (True, False)
    for result in (stopped, inspected):
        assert result.quality is not None
        assert result.quality.measures is not None
        assert 10 < result.quality.measures["brightness"] < 60
        assert set(result.quality.measures) == {"brightness", "black_share", "white_share", "sharpness", "likeness"}
