"""Pixel metrics against scikit-learn, against a naive loop over every threshold and region, and by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from training.metrics.bootstrap import multiplicities
from training.metrics.pixel_metrics import (
    Map,
    Ranked,
    Truth,
    pixel_auroc,
    pixel_metrics,
    pro,
    pro_estimate,
    rank_pixels,
)


def _truth(*boxes: tuple[slice, slice], side: int = 20) -> NDArray[np.bool_]:
    truth = np.zeros((side, side), dtype=bool)
    for box in boxes:
        truth[box] = True
    return truth


def _map(truth: NDArray[np.bool_], inside: float, outside: float) -> NDArray[np.float32]:
    return np.where(truth, inside, outside).astype(np.float32)


def _pro(values: Map, truth: Truth, limit: float = 0.3) -> float:
    return pro(rank_pixels([values], [truth]), limit)


Images = tuple[list[Map], list[Truth]]


@st.composite
def tied_maps(draw: st.DrawFn) -> Images:
    """One to three maps of their own sizes with few distinct values, so that nearly everything ties."""
    maps: list[Map] = []
    truths: list[Truth] = []
    kind = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(1, 6)), draw(st.integers(1, 6))
        cells = size[0] * size[1]
        levels = draw(st.lists(st.integers(-2, 4), min_size=cells, max_size=cells))
        marked = draw(st.lists(st.booleans(), min_size=cells, max_size=cells))
        maps.append((np.array(levels).reshape(size) / 4).astype(kind))
        truths.append(np.array(marked).reshape(size))
    truths[0].flat[0] = True
    maps.append(np.zeros((1, 2), kind))
    truths.append(np.zeros((1, 2), np.bool_))  # a good image, so that both classes are there
    return maps, truths


def _regions(truth: Truth) -> list[set[tuple[int, int]]]:
    """Regions that touch by edge or corner, by flood fill."""
    left = {(int(y), int(x)) for y, x in np.argwhere(truth)}
    found = []
    while left:
        region, todo = set(), [left.pop()]
        while todo:
            y, x = todo.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo += near
        found.append(region)
    return found


def _naive_pro(maps: list[Map], truths: list[Truth], limit: float) -> float:
    """Every distinct value as a threshold, every region by itself, the trapezoid's last piece cut at the limit."""
    thresholds = sorted({float(v) for m in maps for v in m.flat}, reverse=True)
    regions = [(m, region) for m, t in zip(maps, truths, strict=True) for region in _regions(t)]
    outside = [float(v) for m, t in zip(maps, truths, strict=True) for v in m[~t]]
    rates, overlaps = [0.0], [0.0]
    for threshold in thresholds:
        rates.append(sum(v >= threshold for v in outside) / len(outside))
        shares = [sum(m[place] >= threshold for place in region) / len(region) for m, region in regions]
        overlaps.append(sum(shares) / len(shares))
    area = 0.0
    for left, right, low, high in zip(rates, rates[1:], overlaps, overlaps[1:], strict=False):
        stop = min(right, limit)
        if stop > left:
            area += (stop - left) * (low + low + (high - low) * (stop - left) / (right - left)) / 2
    return area / limit


@given(tied_maps(), st.sampled_from([0.05, 0.3, 1.0]))
@settings(max_examples=150, deadline=None)
def test_pro_is_that_of_a_loop_over_every_threshold_and_region(images: Images, limit: float) -> None:
    assert pro(rank_pixels(*images), limit) == pytest.approx(_naive_pro(*images, limit))


@given(tied_maps())
@settings(max_examples=150, deadline=None)
def test_pixel_figures_are_scikit_learns_on_all_pixels_together(images: Images) -> None:
    maps, truths = images
    values = np.concatenate([m.ravel() for m in maps]).astype(np.float64)
    truth = np.concatenate([t.ravel() for t in truths])
    found = pixel_metrics(rank_pixels(maps, truths), multiplicities([""] * len(maps), rounds=1))
    precision, recall, _ = precision_recall_curve(truth, values)
    assert found.auroc.value == pytest.approx(roc_auc_score(truth, values))
    assert found.ap.value == pytest.approx(average_precision_score(truth, values))
    assert found.f1_max.value == pytest.approx(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


@given(tied_maps())
@settings(max_examples=100, deadline=None)
def test_histograms_of_few_distinct_values_are_exact(images: Images) -> None:
    ranked = rank_pixels(*images)
    found = pixel_metrics(ranked, multiplicities([""] * len(images[0]), rounds=1))  # the one round draws all images
    for estimate in (found.auroc, found.ap, found.f1_max, found.pro):
        assert estimate.low == pytest.approx(estimate.value)
        assert estimate.high == pytest.approx(estimate.value)


def test_pixel_auroc_takes_the_pixels_of_all_images_together() -> None:
    # As for images: good 0.1, 0.4; defective 0.35, 0.8.
    one, other = np.array([[0.1, 0.4]], np.float32), np.array([[0.35, 0.8]], np.float32)
    truths = [np.array([[False, False]]), np.array([[True, True]])]
    found = pixel_auroc(rank_pixels([one, other], truths), multiplicities(["a", "b"], rounds=1))
    assert found.value == 0.75


def test_pro_of_a_perfect_map_is_one() -> None:
    truth = _truth(np.s_[2:5, 2:5], np.s_[10:18, 10:12])
    assert _pro(_map(truth, 1, 0), truth) == pytest.approx(1.0)


def test_pro_of_a_map_that_is_wrong_everywhere_is_zero() -> None:
    truth = _truth(np.s_[2:5, 2:5])
    assert _pro(_map(truth, 0, 1), truth) == 0.0


def test_pro_of_a_flat_map_is_half_the_limit() -> None:
    # One threshold for all pixels: the curve is the diagonal from (0, 0) to (1, 1), whose area up to L is L^2 / 2.
    truth = _truth(np.s_[2:5, 2:5])
    assert _pro(_map(truth, 1, 1), truth, limit=0.3) == pytest.approx(0.15)


def test_pro_weighs_every_region_alike_whatever_its_size() -> None:
    found, missed = _truth(np.s_[0:1, 0:1]), _truth(np.s_[5:15, 5:15])
    values = np.zeros((20, 20), np.float32) + found - missed  # the missed region lies below every good pixel
    assert _pro(values.astype(np.float32), found | missed) == pytest.approx(0.5)


def test_pro_joins_pixels_that_touch_at_a_corner() -> None:
    diagonal = _truth(np.s_[0:1, 0:1], np.s_[1:2, 1:2])
    values = np.zeros((20, 20), np.float32)
    values[0, 0], values[1, 1] = 1, -1  # half of one region, not all of one and none of another: both give 0.5 ...
    lone = _truth(np.s_[10:11, 10:11])
    values[10, 10] = 1  # ... but not with a second region: (1/2 + 1) / 2, against (1 + 0 + 1) / 3
    assert _pro(values, diagonal | lone) == pytest.approx(0.75)


def _noisy(images: int) -> Ranked:
    rng = np.random.Generator(np.random.Philox(7))
    truth = _truth(np.s_[10:40, 10:30], np.s_[50:53, 50:70], side=80)
    maps = [(rng.random((80, 80)) + 0.3 * truth).astype(np.float32) for _ in range(images)]
    return rank_pixels(maps, [truth if i % 2 else np.zeros_like(truth) for i in range(images)])


def test_the_histograms_of_the_intervals_agree_with_the_exact_figures_where_nothing_ties() -> None:
    found = pixel_metrics(_noisy(6), multiplicities(["one group"] * 6, rounds=2))  # each round draws exactly all images
    # Bins of 1/2,047 of the negatives: half of that for AUROC, over 0.3 for PRO. AP and F1 move with the same bins.
    for estimate, bound in ((found.auroc, 2.5e-4), (found.pro, 8.2e-4), (found.ap, 1e-3), (found.f1_max, 1e-3)):
        assert estimate.low == pytest.approx(estimate.value, abs=bound)
        assert estimate.high == estimate.low


def test_the_intervals_hold_their_figures() -> None:
    draws = multiplicities(list("abcdefgh"), rounds=200)
    found = pixel_metrics(_noisy(8), draws)
    for estimate in (found.auroc, found.ap, found.f1_max, found.pro):
        assert estimate.low < estimate.value < estimate.high
    assert pro_estimate(_noisy(8), draws) == found.pro
    assert pixel_auroc(_noisy(8), draws) == found.auroc


def test_a_bootstrap_round_measures_the_images_drawn() -> None:
    rng = np.random.Generator(np.random.Philox(9))
    truths = [_truth(np.s_[2:9, 2:9]), _truth(np.s_[0:3, 5:8], np.s_[12:18, 1:4]), _truth()]
    maps: list[Map] = [(rng.integers(0, 9, (20, 20)) + 2 * t).astype(np.float32) for t in truths]
    drawn = [0, 1, 1, 2, 2, 2]
    times = np.array([[1, 2, 3]])
    found = pixel_metrics(rank_pixels(maps, truths), times)
    copies = pixel_metrics(rank_pixels([maps[i] for i in drawn], [truths[i] for i in drawn]), np.ones((1, 6), int))
    for one, other in ((found.auroc, copies.auroc), (found.ap, copies.ap), (found.pro, copies.pro)):
        assert one.low == pytest.approx(other.value)


def test_maps_that_cannot_be_ranked_are_refused() -> None:
    truth = _truth(np.s_[2:5, 2:5])
    broken: NDArray[Any] = _map(truth, np.nan, 0)
    with pytest.raises(ValueError, match="not finite"):
        rank_pixels([broken], [truth])
    with pytest.raises(ValueError, match=r"0 defective and 400 good pixels"):
        rank_pixels([_map(truth, 1, 0)], [_truth()])
    with pytest.raises(ValueError, match=r"map 0 is \(20, 20\), its truth \(4, 4\)"):
        rank_pixels([_map(truth, 1, 0)], [_truth(side=4)])
