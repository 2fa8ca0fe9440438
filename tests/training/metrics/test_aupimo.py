"""AUPIMO by hand, and against a naive search for the lowest threshold at every false positive rate."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.metrics.aupimo import LOWER, UPPER, admitted, aupimo
from training.metrics.bootstrap import multiplicities
from training.metrics.counts import Weights
from training.metrics.pixel_metrics import Map, Truth

SIDE = 200  # 40,000 pixels: one false positive pixel in one of n good images is a shared rate of 2.5e-5 / n


def _good(*highest: float) -> Map:
    """All pixels 0 but these."""
    values = np.zeros(SIDE * SIDE, np.float32)
    values[: len(highest)] = highest
    return values.reshape(SIDE, SIDE)


def _measured(good: list[Map], defects: list[list[float]]) -> tuple[float, ...]:
    anomalous: list[Map] = [np.array([values], np.float32) for values in defects]
    truths: list[Truth] = [np.zeros((SIDE, SIDE), np.bool_)] * len(good)
    truths += [np.ones_like(values, dtype=np.bool_) for values in anomalous]
    found = aupimo(good + anomalous, truths, multiplicities([""] * len(truths), rounds=1))
    assert found.mean.value == pytest.approx(np.mean(found.per_image))
    return found.per_image


def test_a_defect_counts_from_the_rate_that_its_threshold_costs() -> None:
    # One good image, so rates are multiples of 2.5e-5. A pixel of 0.5 has one good pixel above (0.9): 2.5e-5; what is
    # left of the interval is log10(1e-4 / 2.5e-5) = log10(4) of one decade. A pixel of 0.3 has three: log10(4/3).
    good = [_good(0.9, 0.4, 0.4)]
    assert _measured(good, [[0.5]]) == pytest.approx([math.log10(4)])
    assert _measured(good, [[0.3]]) == pytest.approx([math.log10(4 / 3)])
    assert _measured(good, [[0.5, 0.3, 0.3, -1.0]]) == pytest.approx([(math.log10(4) + 2 * math.log10(4 / 3)) / 4])


def test_a_defect_that_ties_with_a_good_pixel_shares_its_threshold() -> None:
    # At the threshold 0.4 all three good pixels are false positives, at any higher one the defect is missed.
    assert _measured([_good(0.9, 0.4, 0.4)], [[0.4]]) == pytest.approx([math.log10(4 / 3)])


def test_a_defect_above_every_good_pixel_counts_whole_and_one_below_the_upper_rate_not_at_all() -> None:
    # Five good pixels above are 1.25e-4, beyond the upper bound; four are 1e-4, its very end.
    five = [_good(0.9, 0.8, 0.7, 0.6, 0.5)]
    assert _measured(five, [[1.0], [0.45], [0.55]]) == pytest.approx([1.0, 0.0, 0.0])


def test_the_shared_rate_is_the_mean_over_good_images_whatever_their_sizes() -> None:
    # One pixel of the large image and none of the small: the mean of 2.5e-5 and 0.
    small = np.zeros((10, 10), np.float32)
    anomalous, none = np.array([[0.5]], np.float32), [np.zeros((SIDE, SIDE), np.bool_), np.zeros((10, 10), np.bool_)]
    found = aupimo([_good(0.9), small, anomalous], [*none, np.array([[True]])], multiplicities([""] * 3, rounds=1))
    assert found.per_image[0] == pytest.approx(math.log10(1e-4 / 1.25e-5))
    assert found.finest_rate == 1.25e-5  # half of 1 / 40,000


def test_images_too_small_for_the_rates_measure_the_overlap_without_any_false_positive() -> None:
    # One good image of 100 pixels: the lowest rate above 0 is 1e-2. Two of the three defective pixels lie above it all.
    good, anomalous = np.full((10, 10), 0.5, np.float32), np.array([[0.6, 0.7, 0.5]], np.float32)
    truths = [np.zeros((10, 10), np.bool_), np.ones((1, 3), np.bool_)]
    found = aupimo([good, anomalous], truths, multiplicities(["", ""], rounds=1))
    assert found.per_image == pytest.approx([2 / 3])
    assert found.finest_rate == 1e-2


def _naive(good: list[Map], defect: Map) -> float:
    """The overlap at the lowest threshold whose shared rate does not exceed F, summed over the steps of F."""
    thresholds = sorted({float(v) for m in [*good, defect] for v in m.flat} | {math.inf})
    rates = [float(np.mean([(m >= t).mean() for m in good])) for t in thresholds]
    breaks = sorted({LOWER, UPPER, *(r for r in rates if LOWER < r < UPPER)})
    area = 0.0
    for left, right in pairwise(breaks):
        middle = math.sqrt(left * right)
        lowest = next(t for t, r in zip(thresholds, rates, strict=True) if r <= middle)
        area += math.log(right / left) * float((defect >= lowest).mean())
    return area / math.log(UPPER / LOWER)


@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([np.float16, np.float32]))
@settings(max_examples=25, deadline=None)
def test_aupimo_is_that_of_a_search_for_the_threshold_at_every_rate(seed: int, images: int, kind: type) -> None:
    rng = np.random.Generator(np.random.Philox(seed))
    sides = rng.integers(60, 240, images)
    good: list[Map] = [np.round(rng.exponential(size=(side, side)), 0).astype(kind) for side in sides]
    defect: Map = np.round(rng.exponential(size=(5, 4)) + 8).astype(kind)
    truths = [*(np.zeros(m.shape, np.bool_) for m in good), np.ones((5, 4), np.bool_)]
    found = aupimo([*good, defect], truths, multiplicities([""] * (images + 1), rounds=1))
    assert found.per_image == pytest.approx([_naive(good, defect)])


def _noisy(images: int) -> tuple[list[Map], list[Truth]]:
    rng = np.random.Generator(np.random.Philox(11))
    mark = np.zeros((SIDE, SIDE), np.bool_)
    mark[50:90, 60:100] = True
    truths: list[Truth] = [mark if i % 2 else np.zeros_like(mark) for i in range(images)]
    return [(rng.normal(size=(SIDE, SIDE)) + 4 * t).astype(np.float32) for t in truths], truths


def test_the_histograms_of_the_interval_agree_with_the_exact_figure() -> None:
    maps, truths = _noisy(8)
    found = aupimo(maps, truths, multiplicities(["one group"] * 8, rounds=2)).mean  # each round draws all images
    assert 0.1 < found.value < 0.9
    assert found.low == found.high == pytest.approx(found.value, abs=5e-3)


def test_a_round_shares_the_rate_of_the_good_images_it_drew() -> None:
    maps, truths = _noisy(8)
    drawn = [0, 0, 2, 4, 1, 1, 3, 7]
    times = np.bincount(drawn, minlength=8)[None]
    exact = aupimo([maps[i] for i in drawn], [truths[i] for i in drawn], np.ones((1, 8), int)).mean.value
    assert aupimo(maps, truths, times).mean.low == pytest.approx(exact, abs=5e-3)


def test_the_interval_holds_the_figure() -> None:
    maps, truths = _noisy(12)
    found = aupimo(maps, truths, multiplicities(list("abcdefghijkl"), rounds=200)).mean
    assert found.low < found.value < found.high


def test_the_share_of_the_interval_falls_from_one_to_zero_on_a_logarithmic_scale() -> None:
    rates: Weights = np.array([0, 1e-6, 1e-5, 10**-4.5, 1e-4, 1e-3])
    assert admitted(rates) == pytest.approx([1, 1, 1, 0.5, 0, 0])


def test_good_and_anomalous_images_are_both_needed() -> None:
    maps, truths = _noisy(4)
    with pytest.raises(ValueError, match="0 of 2 images are anomalous"):
        aupimo(maps[::2], truths[::2], multiplicities(["", ""], rounds=1))
