"""Metrics against values worked out by hand."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from training.metrics import (
    bootstrap,
    f1_max,
    image_ap,
    image_auroc,
    image_auroc_estimate,
    pixel_auroc,
    pixel_auroc_estimate,
    pro,
    pro_estimate,
    rate_estimate,
)


def _truth(*boxes: tuple[slice, slice], side: int = 20) -> NDArray[np.bool_]:
    truth = np.zeros((side, side), dtype=bool)
    for box in boxes:
        truth[box] = True
    return truth


def _map(truth: NDArray[np.bool_], inside: float, outside: float) -> NDArray[np.float32]:
    return np.where(truth, inside, outside).astype(np.float32)


def test_image_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    # good 0.1, 0.4; defects 0.35, 0.8: of the four pairs only 0.35 < 0.4 is wrong.
    assert image_auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75


def test_image_auroc_counts_a_tie_as_half() -> None:
    assert image_auroc([0.5, 0.5], [0, 1]) == 0.5


def test_average_precision_and_best_f1_by_hand() -> None:
    # In falling order: defect, good, defect. Precisions at the defects: 1 and 2/3; F1 at the last: 2 * 2/3 / (5/3).
    scores, defect = [0.9, 0.8, 0.7], [1, 0, 1]
    assert image_ap(scores, defect) == pytest.approx((1 + 2 / 3) / 2)
    assert f1_max(scores, defect) == pytest.approx(0.8)


def test_pixel_auroc_takes_the_pixels_of_all_images_together() -> None:
    one, other = np.array([[0.1, 0.4]], np.float32), np.array([[0.35, 0.8]], np.float32)
    truths = [np.array([[False, False]]), np.array([[True, True]])]
    assert pixel_auroc([one, other], truths) == 0.75


def test_pro_of_a_perfect_map_is_one() -> None:
    truth = _truth(np.s_[2:5, 2:5], np.s_[10:18, 10:12])
    assert pro([_map(truth, 1, 0)], [truth]) == pytest.approx(1.0)


def test_pro_of_a_map_that_is_wrong_everywhere_is_zero() -> None:
    truth = _truth(np.s_[2:5, 2:5])
    assert pro([_map(truth, 0, 1)], [truth]) == 0.0


def test_pro_weighs_every_region_alike_whatever_its_size() -> None:
    found, missed = _truth(np.s_[0:1, 0:1]), _truth(np.s_[5:15, 5:15])
    values = np.zeros((20, 20), np.float32) + found - missed  # the missed region lies below every good pixel
    assert pro([values.astype(np.float32)], [found | missed]) == pytest.approx(0.5)


def test_pro_joins_pixels_that_touch_at_a_corner() -> None:
    diagonal = _truth(np.s_[0:1, 0:1], np.s_[1:2, 1:2])
    values = np.zeros((20, 20), np.float32)
    values[0, 0], values[1, 1] = 1, -1  # half of one region, not all of one and none of another: both give 0.5 ...
    lone = _truth(np.s_[10:11, 10:11])
    values[10, 10] = 1  # ... but not with a second region: (1/2 + 1) / 2, against (1 + 0 + 1) / 3
    assert pro([values], [diagonal | lone]) == pytest.approx(0.75)


def test_pro_of_a_random_map_is_half_the_limit() -> None:
    # Overlap equals the false positive rate r, and the integral of r from 0 to L, divided by L, is L / 2.
    rng = np.random.Generator(np.random.Philox(0))
    truth = _truth(np.s_[:150, :], side=300)
    values = rng.random((300, 300)).astype(np.float32)
    assert pro([values], [truth], limit=0.3) == pytest.approx(0.15, abs=0.01)


def test_clopper_pearson_matches_published_values() -> None:
    # 0 of 10: 1 - 0.025^(1/10) = 0.3085. 5 of 10: 0.1871 to 0.8129. 10 of 10 mirrors 0 of 10.
    assert (rate_estimate(0, 10).low, rate_estimate(0, 10).high) == pytest.approx((0, 1 - 0.025**0.1))
    assert (rate_estimate(5, 10).low, rate_estimate(5, 10).high) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert (rate_estimate(10, 10).low, rate_estimate(10, 10).high) == pytest.approx((0.025**0.1, 1))
    assert rate_estimate(5, 10).value == 0.5


def test_bootstrap_draws_whole_groups() -> None:
    groups = ["a", "a", "a", "b", "c", "c"]

    def measure(indices: NDArray[np.int64]) -> float:
        counts = np.bincount(indices, minlength=6)
        assert counts[0] == counts[1] == counts[2]
        assert counts[4] == counts[5]
        assert counts[0] + counts[3] + counts[4] == 3  # as many groups as there are
        return 1.0

    assert bootstrap(measure, groups, rounds=50) == (1.0, 1.0)


def test_bootstrap_leaves_out_rounds_that_cannot_be_measured_and_repeats_exactly() -> None:
    def measure(indices: NDArray[np.int64]) -> float:
        return math.nan if 0 in indices else float(indices.mean())

    low, high = bootstrap(measure, list("abcd"), rounds=200)
    assert 1 <= low < high <= 3
    assert (low, high) == bootstrap(measure, list("abcd"), rounds=200)


def test_copies_of_an_image_in_one_group_do_not_narrow_the_interval() -> None:
    rng = np.random.Generator(np.random.Philox(4))
    defect = np.arange(20) % 2 == 1
    scores = rng.random(20) + 0.4 * defect
    names = [str(i) for i in range(20)]
    single = image_auroc_estimate(scores, defect, names)
    copied = image_auroc_estimate(np.repeat(scores, 5), np.repeat(defect, 5), np.repeat(names, 5).tolist())
    careless = image_auroc_estimate(np.repeat(scores, 5), np.repeat(defect, 5), [str(i) for i in range(100)])
    assert (copied.value, copied.low, copied.high) == pytest.approx((single.value, single.low, single.high))
    assert careless.high - careless.low < 0.7 * (copied.high - copied.low)
    assert single.low <= single.value <= single.high


def test_the_histograms_of_the_pixel_interval_agree_with_the_exact_figure() -> None:
    rng = np.random.Generator(np.random.Philox(6))
    truth = _truth(np.s_[3:9, 3:9])
    maps = [(rng.random((20, 20)) + 0.5 * truth).astype(np.float32) for _ in range(4)]
    alone = pixel_auroc_estimate(maps, [truth] * 4, ["one group"] * 4)  # every round draws exactly all images
    assert alone.low == alone.high == pytest.approx(alone.value, abs=5e-4)


def test_the_interval_of_pro_holds_its_value() -> None:
    rng = np.random.Generator(np.random.Philox(7))
    truth = _truth(np.s_[3:9, 3:9])
    maps = [(rng.random((20, 20)) + 0.5 * truth).astype(np.float32) for _ in range(6)]
    found = pro_estimate(maps, [truth] * 6, list("abcdef"), rounds=20)
    assert found.low <= found.value <= found.high
    assert found.low < found.high
