"""Thresholds from good images: the promise, its edge cases, and what is refused."""

import math

import numpy as np
import pytest

from glad.settings.method import MethodSettings
from model_store.manifest import Verdict
from model_store.promise import least_count
from training.calibration.thresholds import calibrate, choose_delta, conformal_quantile
from training.recipe import CalibrationRecipe

RECIPE = CalibrationRecipe()


@pytest.mark.parametrize(
    ("count", "quantile", "rank"),
    [
        (99, 0.98, 98),  # (99 + 1) * 0.98 = 98
        (300, 0.98, 295),  # 301 * 0.98 = 294.98
        (49, 0.98, 49),  # 50 * 0.98 = 49: the fewest images that keep the promise
        (9, 0.9, 9),
        (4, 0.5, 3),  # 5 * 0.5 = 2.5
    ],
)
def test_the_conformal_quantile_is_the_score_of_rank_n_plus_one_times_q(count: int, quantile: float, rank: int) -> None:
    scores = [float(i) for i in range(count, 0, -1)]  # the score of rank k is k
    assert conformal_quantile(scores, quantile) == rank


def test_too_few_images_give_the_largest_score() -> None:
    assert conformal_quantile([0.1, 0.3, 0.2], 0.98) == 0.3


@pytest.mark.parametrize(("quantile", "count"), [(0.98, 49), (0.9, 9), (0.5, 1), (0.99, 99)])
def test_the_least_count_is_the_first_that_keeps_the_promise(quantile: float, count: int) -> None:
    assert least_count(quantile) == count
    assert math.ceil((count + 1) * round(100 * quantile) / 100) <= count


def test_a_fresh_good_part_is_rejected_at_most_as_often_as_promised() -> None:
    # 400 lines of 300 calibration and 500 fresh images each, with a heavy tail. Expected: (301 - 295) / 301 = 1.99 %.
    rng = np.random.Generator(np.random.Philox(0))
    rates = []
    for _ in range(400):
        scores = rng.lognormal(size=800)
        found = calibrate(scores[:300].tolist(), scores[:300].tolist(), RECIPE)
        rates.append(np.mean([found.verdict(score) == "fail" for score in scores[300:].tolist()]))
    error = np.std(rates) / math.sqrt(len(rates))
    assert np.mean(rates) - 2 * error <= 0.02
    assert abs(np.mean(rates) - 6 / 301) < 3 * error


def test_a_score_at_the_threshold_fails_and_the_good_images_up_to_the_quantile_do_not() -> None:
    scores = [0.01 * i for i in range(1, 100)]
    found = calibrate(scores, scores, RECIPE)
    assert found.verdict(found.fail) == "fail"
    assert found.verdict(found.review) == "review"
    verdicts = [found.verdict(score) for score in scores]
    assert verdicts.count(Verdict.FAIL) == 1  # 99 images, rank 98
    assert verdicts.count(Verdict.REVIEW) == 8  # rank 90 still passes, 91 to 98 do not
    assert found.verdict(scores[89]) == "pass"


def test_the_pixel_threshold_is_a_quantile_of_the_map_peaks_and_the_heatmap_ends_at_twice_that() -> None:
    peaks = [float(i) for i in range(1, 100)]
    found = calibrate([0.5] * 99, peaks, RECIPE)
    assert found.pixel == 98.0
    assert found.heatmap_top == 196.0
    assert found.good_images == 99


def test_the_good_scores_are_kept_sorted_for_a_later_recalibration() -> None:
    assert calibrate([0.3, 0.1, 0.2], [1.0, 1.0, 1.0], RECIPE).good_scores == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_an_error_that_names_its_place_and_the_fix(bad: float) -> None:
    with pytest.raises(ValueError, match=r"score of good image 2 of 3 is .*lower learning rate"):
        calibrate([0.1, bad, 0.2], [1.0, 1.0, 1.0], RECIPE)
    with pytest.raises(ValueError, match="good image 3 of 3"):
        calibrate([0.1, 0.3, 0.2], [1.0, 1.0, bad], RECIPE)
    with pytest.raises(ValueError, match="trigger score of good image 1 of 2"):
        choose_delta([bad, 0.2], RECIPE)


def test_calibration_without_images_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one good image"):
        calibrate([], [], RECIPE)


def test_delta_is_the_quantile_of_the_trigger_scores_and_changes_nothing_else() -> None:
    delta = choose_delta([i / 10 for i in range(11)], RECIPE)
    assert delta == pytest.approx(0.9)
    settings = MethodSettings.model_validate({"trigger": {"delta": 0.5, "window": 2}, "steps": 10})
    changed = settings.with_delta(delta)
    assert changed.trigger.delta == delta
    assert changed.changed(trigger=settings.trigger) == settings
