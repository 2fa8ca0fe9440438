"""Two detectors on the same images: shares with their intervals, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from model_store.manifest import VerdictThresholds
from training.evaluation.comparison import differences, share, share_estimate, verdict_shares
from training.evaluation.figures import measure_overall
from training.evaluation.rows import Evaluation, EvaluationRow, Located

LIMITS = VerdictThresholds(review=0.5, fail=0.5, pixel=0.5)


def _rows(
    good: Sequence[float], defects: Sequence[float], limits: VerdictThresholds | None = LIMITS
) -> list[EvaluationRow]:
    named = [("good", score) for score in good] + [("dent", score) for score in defects]
    return [
        EvaluationRow(
            f"{number}", kind, None, f"{number}", score, None if limits is None else limits.verdict(score), 0, False
        )
        for number, (kind, score) in enumerate(named)
    ]


def _measured(good: Sequence[float], defects: Sequence[float], limits: VerdictThresholds | None = LIMITS) -> Evaluation:
    return measure_overall(_rows(good, defects, limits), (), limits)


def test_a_share_counts_each_image_as_often_as_it_was_drawn() -> None:
    chosen, among = np.array([True, False, True]), np.array([True, True, False])
    found = share(chosen, among, np.array([[1, 1, 5], [3, 1, 0], [0, 0, 2]]))
    assert found[:2].tolist() == [0.5, 0.75]
    assert np.isnan(found[2])


def test_a_share_of_none_has_the_exact_interval_of_its_parts() -> None:
    nothing, everything = np.zeros(6, dtype=bool), np.ones(6, dtype=bool)
    found = share_estimate(nothing, everything, ["a", "a", "b", "b", "c", "c"])
    # Clopper-Pearson for 0 of 3: (1 - p)³ = 0.025.
    assert (found.value, found.low, found.high) == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / 3)))


def test_good_images_alone_show_false_rejects_and_nothing_found() -> None:
    shares = verdict_shares(_rows([0.1, 0.6, 0.2, 0.3], []))
    assert list(shares) == ["false_rejects"]
    assert shares["false_rejects"]["value"] == 0.25


def test_a_detector_does_not_differ_from_itself_in_any_round() -> None:
    one = _measured([0.1, 0.7, 0.3], [0.4, 0.9])
    assert set(differences(one, one)) == {"image_auroc", "found", "false_rejects"}
    assert all(gap == {"value": 0.0, "low": 0.0, "high": 0.0} for gap in differences(one, one).values())


def test_differences_of_pixels_are_those_of_the_maps() -> None:
    # Two images of 4 pixels; in the second the left two are defective. One map rises exactly there: 1 and 1. The other
    # is flat: every threshold takes all or nothing, so its curves are the diagonal: 0.5, and half of 0.3 over 0.3.
    truth = np.array([[True, True, False, False]])
    located = {
        name: [Located(0, np.zeros((1, 4), np.float16), np.zeros_like(truth)), Located(1, map_, truth)]
        for name, map_ in (("exact", truth.astype(np.float16)), ("flat", np.zeros((1, 4), np.float16)))
    }
    exact, flat = (measure_overall(_rows([0.1], [0.9]), located[name], LIMITS) for name in ("exact", "flat"))
    found = differences(exact, flat)
    assert found["pixel_auroc"]["value"] == pytest.approx(0.5)
    assert found["pro"]["value"] == pytest.approx(0.85)
    assert found["image_auroc"]["value"] == 0.0


def test_without_thresholds_only_the_ranking_is_compared() -> None:
    one, other = _measured([0.1, 0.2], [0.9], None), _measured([0.1, 0.2], [0.15])
    # 0.15 lies above one of two good ones.
    assert {name: gap["value"] for name, gap in differences(one, other).items()} == {"image_auroc": 0.5}


def test_other_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match="the same images"):
        differences(_measured([0.1, 0.2], [0.9]), _measured([0.1], [0.9]))
