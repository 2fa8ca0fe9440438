"""Image metrics and their intervals against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.metrics import counts
from training.metrics.bootstrap import bootstrap, multiplicities, rate_estimate
from training.metrics.counts import Weights
from training.metrics.image_metrics import (
    image_ap,
    image_auroc,
    image_auroc_estimate,
    image_counts,
    image_f1_max,
    image_metrics,
    stratified_auroc,
)


def test_image_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    # good 0.1, 0.4; defects 0.35, 0.8: of the four pairs only 0.35 < 0.4 is wrong.
    assert image_auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75


def test_image_auroc_counts_a_tie_as_half() -> None:
    assert image_auroc([0.5, 0.5], [0, 1]) == 0.5


def test_average_precision_and_best_f1_by_hand() -> None:
    # In falling order: defect, good, defect. Precisions at the defects: 1 and 2/3; F1 at the last: 2 * 2/3 / (5/3).
    scores, defect = [0.9, 0.8, 0.7], [1, 0, 1]
    assert image_ap(scores, defect) == pytest.approx((1 + 2 / 3) / 2)
    assert image_f1_max(scores, defect) == pytest.approx(0.8)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=2, max_size=12))
def test_a_bootstrap_round_measures_what_scikit_learn_does_on_the_images_drawn(
    images: list[tuple[int, bool, int]],
) -> None:
    drawn = [(score, defect) for score, defect, times in images for _ in range(times)]
    if len({defect for _, defect in drawn}) < 2:
        return
    scores, defects = [s for s, _ in drawn], [d for _, d in drawn]
    found = image_counts([i[0] for i in images], [i[1] for i in images], [i[2] for i in images])
    assert float(counts.auroc(found)) == pytest.approx(image_auroc(scores, defects))
    assert float(counts.average_precision(found)) == pytest.approx(image_ap(scores, defects))
    assert float(counts.f1_max(found)) == pytest.approx(image_f1_max(scores, defects))


def test_perfect_scores_have_intervals_without_width() -> None:
    found = image_metrics([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], list("abcd"))
    for estimate in (found.auroc, found.ap, found.f1_max):
        assert (estimate.value, estimate.low, estimate.high) == (1, 1, 1)


def test_an_interval_holds_its_figure() -> None:
    rng = np.random.Generator(np.random.Philox(3))
    defect = np.arange(60) % 2 == 1
    found = image_metrics(rng.random(60) + 0.3 * defect, defect, [str(i) for i in range(60)])
    for estimate in (found.auroc, found.ap, found.f1_max):
        assert estimate.low < estimate.value < estimate.high


def test_clopper_pearson_matches_published_values() -> None:
    # 0 of 10: 1 - 0.025^(1/10) = 0.3085. 5 of 10: 0.1871 to 0.8129. 10 of 10 mirrors 0 of 10.
    assert (rate_estimate(0, 10).low, rate_estimate(0, 10).high) == pytest.approx((0, 1 - 0.025**0.1))
    assert (rate_estimate(5, 10).low, rate_estimate(5, 10).high) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert (rate_estimate(10, 10).low, rate_estimate(10, 10).high) == pytest.approx((0.025**0.1, 1))
    assert rate_estimate(5, 10).value == 0.5


def test_bootstrap_draws_whole_groups() -> None:
    draws = multiplicities(["a", "a", "a", "b", "c", "c"], rounds=50)
    assert draws.shape == (50, 6)
    for times in draws:
        assert times[0] == times[1] == times[2]
        assert times[4] == times[5]
        assert times[0] + times[3] + times[4] == 3  # as many groups as there are
    assert len(np.unique(draws, axis=0)) > 1


def test_bootstrap_leaves_out_rounds_that_cannot_be_measured_and_repeats_exactly() -> None:
    def mean_number(times: Weights) -> Weights:  # images are numbered 0 ... 3; no round with image 0 can be measured
        return np.where(times[:, 0] > 0, math.nan, times @ np.arange(4) / times.sum(1))

    found = bootstrap(2.0, mean_number, multiplicities(list("abcd"), rounds=200))
    assert 1 <= found.low < found.high <= 3
    assert found == bootstrap(2.0, mean_number, multiplicities(list("abcd"), rounds=200))


def test_an_interval_that_no_round_could_measure_is_not_a_number() -> None:
    found = bootstrap(0.5, lambda times: np.full(len(times), math.nan), multiplicities(["one"], rounds=10))
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_copies_of_an_image_in_one_group_do_not_narrow_the_interval() -> None:
    rng = np.random.Generator(np.random.Philox(4))
    defect = np.arange(20) % 2 == 1
    scores = rng.random(20) + 0.4 * defect
    names = [f"{i:02}" for i in range(20)]
    single = image_auroc_estimate(scores, defect, names)
    copied = image_auroc_estimate(np.repeat(scores, 5), np.repeat(defect, 5), np.repeat(names, 5).tolist())
    careless = image_auroc_estimate(np.repeat(scores, 5), np.repeat(defect, 5), [str(i) for i in range(100)])
    assert (copied.value, copied.low, copied.high) == pytest.approx((single.value, single.low, single.high))
    assert careless.high - careless.low < 0.7 * (copied.high - copied.low)
    assert single.low <= single.value <= single.high


def test_within_strata_only_images_of_the_same_one_are_compared() -> None:
    # Stratum 0: 1 of 1 pair won. Stratum 1: of 2 pairs 1 won. Across strata the good 9 beats all: it does not count.
    scores, defect, strata = [1.0, 2.0, 5.0, 9.0, 6.0], [False, True, False, False, True], [0, 0, 1, 1, 1]
    once = np.ones((1, 5))
    assert stratified_auroc(scores, defect, strata, once)[0] == pytest.approx(2 / 3)
    assert stratified_auroc(scores, defect, np.zeros(5), once)[0] == pytest.approx(image_auroc(scores, defect))
    twice = np.array([[1.0, 1, 1, 0, 1], [0, 1, 0, 0, 1]])  # without the good 9; without any good one
    found = stratified_auroc(scores, defect, strata, twice)
    assert found[0] == 1.0
    assert np.isnan(found[1])
