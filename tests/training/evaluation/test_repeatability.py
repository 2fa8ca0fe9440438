"""Verdict agreement under camera noise, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_store.manifest import VerdictThresholds
from tests.support.tiny_bundle import make_tiny_bundle
from tests.support.tiny_recipe import draw_parts
from training.data.camera_noise import CameraNoise
from training.evaluation.evaluate import evaluate
from training.evaluation.repeatability import Repeats, repeat, repeatability_figures
from training.evaluation.rows import EvaluationRow

LIMITS = VerdictThresholds(review=0.4, fail=0.6, pixel=1.0)


def _repeats(file: str, *scores: float) -> Repeats:
    return Repeats(EvaluationRow(file, "good", None, file, scores[0], LIMITS.verdict(scores[0]), 0, False), scores)


def test_agreement_by_hand() -> None:
    # Steady: 4 passes. Flips: 2 passes, 2 reviews: of 6 pairs 2 agree.
    steady, flips = _repeats("a", 0.1, 0.1, 0.1, 0.1), _repeats("b", 0.38, 0.38, 0.44, 0.44)
    found = repeatability_figures([steady, flips], CameraNoise(), LIMITS)
    assert found["never_changes"]["value"] == 0.5
    assert found["pairwise_agreement"] == pytest.approx((1 + 2 / 6) / 2)
    (flip,) = found["flips"]
    assert (flip["file"], flip["verdict"], flip["verdicts"]) == ("b", "pass", {"pass": 2, "review": 2, "fail": 0})
    # Standard deviation of b: sqrt(4 * 0.03^2 / 3) = 0.0346; its mean 0.41 lies 0.01 above the review threshold.
    assert found["score_std"]["largest"] == pytest.approx(0.03 * (4 / 3) ** 0.5)
    assert found["std_over_distance"]["q95"] == pytest.approx(3 * (4 / 3) ** 0.5)
    assert found["std_over_distance"]["median"] == pytest.approx(1.5 * (4 / 3) ** 0.5)  # the middle of 0 and that


def test_without_thresholds_only_the_scores_are_judged() -> None:
    found = repeatability_figures([_repeats("a", 0.1, 0.2)], CameraNoise(), None)
    assert set(found) == {"images", "repeats", "camera", "score_std"}


def test_images_are_inspected_again_under_noise_in_their_order(tmp_path: Path) -> None:
    data, bundle = draw_parts(tmp_path / "ramp"), make_tiny_bundle(tmp_path / "store", resolution=64)
    rows = evaluate(bundle, data, workers=1).rows[2:4]
    quiet, loud = CameraNoise(gain=1e-9, read_noise=0), CameraNoise(read_noise=8)
    again = repeat(bundle, data, rows, 2, quiet, workers=1)
    assert [one.row for one in again] == list(rows)
    for one in again:  # noise far below one value changes no pixel, so the chain finds exactly the same
        assert one.scores == (one.row.score, one.row.score)
    noisy = repeat(bundle, data, rows, 2, loud, workers=1)
    assert all(one.score_std > 0 for one in noisy)


def test_one_repeat_cannot_agree_with_anything(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 repeats: agreement takes at least 2, raise --repeats"):
        repeat(tmp_path, tmp_path, [], 1, CameraNoise())
