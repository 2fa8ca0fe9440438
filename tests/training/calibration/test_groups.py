"""The group is the unit of the promise: by hand, beside the rules for single images, and under simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, norm

from model_store.manifest import CalibrationKind
from training.calibration.thresholds import (
    calibrate,
    confident_rank,
    conformal_quantile,
    representatives,
    threshold,
)
from training.package import MOST_UNUSUAL, most_unusual
from training.recipe import CalibrationRecipe

SURE = 0.001
"""Chance that a simulation with a true rule fails its assertion, had it another seed."""


def test_the_quantile_of_unequal_groups_by_hand() -> None:
    # Three groups: each has 1/4; 1/4 lies at infinity. a: 1 to 4 with 1/16 each; b: 5, 6 with 1/8 each; c: 7 with 1/4.
    # The mass up to 4 is 1/4, up to 5 is 3/8, up to 6 is 1/2, up to 7 is 3/4.
    scores, groups = [1.0, 2, 3, 4, 5, 6, 7], list("aaaabbc")
    wanted = {0.05: 1, 0.0625: 1, 0.07: 2, 0.25: 4, 0.26: 5, 0.375: 5, 0.4: 6, 0.5: 6, 0.51: 7, 0.75: 7}
    assert {q: conformal_quantile(scores, q, groups) for q in wanted} == wanted
    assert conformal_quantile(scores, 0.9, groups) == 7  # more than there is: the largest


def test_many_photographs_of_one_part_count_as_one_part() -> None:
    # 48 parts cannot promise 98 %, however often one of them was photographed; the largest score is that of a part.
    scores = [*range(48), *([47.5] * 200)]
    groups = [*map(str, range(48)), *(["47"] * 200)]
    assert conformal_quantile(scores, 0.98, groups) == 47.5
    assert conformal_quantile(scores, 0.98) == 47.5
    assert conformal_quantile(scores, 0.5, groups) == 24  # (48 + 1) / 2 = 24.5 parts: the 25th of them scores 24
    assert conformal_quantile(scores, 0.5) == 47.5  # most photographs are of that one part


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
    st.sampled_from([0.5, 0.9, 0.98]),
    st.sampled_from([None, 0.6, 0.95]),
)
def test_where_each_image_is_a_part_of_its_own_the_ranks_are_the_usual_ones(
    scores: list[float], quantile: float, confidence: float | None
) -> None:
    count = len(scores)
    if confidence is None:
        rank = min(math.ceil((count + 1) * round(100 * quantile) / 100 - 1e-9), count)
    else:
        rank = confident_rank(count, quantile, confidence) or count
    names = [f"part-{number}" for number in range(count)]
    assert threshold(scores, quantile, confidence, names) == sorted(scores)[rank - 1]
    assert threshold(scores, quantile, confidence) == sorted(scores)[rank - 1]


def test_the_most_unusual_images_name_each_part_once() -> None:
    scores = [(Path(f"good/{number}.png"), float(number % 8)) for number in range(16)]
    parts = [f"part {number % 8 // 2}" for number in range(16)]  # scores of 0 and 1, of 2 and 3, ..., each twice
    named = [(path.stem, score) for path, score in most_unusual(scores, parts)]
    assert named == [("15", 7.0), ("13", 5.0), ("11", 3.0), ("1", 1.0)]
    each = most_unusual(scores, ())
    assert [score for _, score in each] == [7.0, 7.0, 6.0, 6.0, 5.0, 5.0]
    assert len(each) == MOST_UNUSUAL
    again = [*scores, *scores]  # inspected twice, such as among the training's and among the held-out ones
    assert most_unusual(again, ()) == each


def test_representatives_are_one_of_each_part_and_do_not_depend_on_the_scores() -> None:
    groups = ["b", "a", "b", "c", "b", "a"]
    first = representatives([0.0, 1, 2, 3, 4, 5], groups)
    assert len(first) == 3
    assert [groups[int(place)] for place in first] == ["a", "b", "c"]
    again = representatives([10.0, 9, 8, 7, 6, 5], groups)
    assert [10 - score for score in again] == first  # the same places, whatever they scored


def test_too_few_parts_give_the_largest_score_of_all_images() -> None:
    scores = [float(number) for number in range(1, 301)]
    groups = [str(number // 3) for number in range(300)]  # 100 parts, and 95 % confidence takes 149
    assert threshold(scores, 0.98, 0.95, groups) == 300
    assert threshold(scores, 0.98, 0.95) == 299  # 300 parts: P(Binomial(300, 0.02) <= 1) = 0.017, <= 2: 0.06


def test_the_manifest_has_the_number_of_parts_only_where_images_share_one() -> None:
    scores = [0.1, 0.2, 0.3]
    assert calibrate(scores, scores, CalibrationRecipe()).groups is None
    assert calibrate(scores, scores, CalibrationRecipe(), groups=["a", "b", "c"]).groups is None
    found = calibrate(scores, scores, CalibrationRecipe(), groups=["a", "b", "a"], kind=CalibrationKind.ESTIMATE)
    assert (found.groups, found.good_images, found.kind) == (2, 3, CalibrationKind.ESTIMATE)


def test_groups_of_another_number_than_the_scores_are_refused() -> None:
    for confidence in (None, 0.95):
        with pytest.raises(ValueError, match="2 groups for 3 scores: give the group of each score"):
            threshold([0.1, 0.2, 0.3], 0.98, confidence, ["a", "b"])


# The simulation: exposures of one part are correlated (rho), scores are lognormal, so their tail is heavy and the true
# share of photographs beyond a threshold is known: P(N(0, 1) > ln threshold).
Rule = Callable[[Sequence[float], Sequence[str]], float]


def true_rates(rule: Rule, parts: int, rho: float, draws: int) -> NDArray[np.float64]:
    """Return the true share of false rejects of each draw: parts with 1 to 9 photographs."""
    rng = np.random.Generator(np.random.Philox([parts, round(10 * rho)]))
    rates = []
    for _ in range(draws):
        part_of = np.repeat(np.arange(parts), rng.integers(1, 10, parts))
        of_part, of_image = rng.normal(size=parts)[part_of], rng.normal(size=len(part_of))
        scores = np.exp(math.sqrt(rho) * of_part + math.sqrt(1 - rho) * of_image)
        rates.append(norm.sf(math.log(rule(scores.tolist(), [str(part) for part in part_of]))))
    return np.array(rates)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_on_average_no_more_is_rejected_than_promised(rho: float) -> None:
    rates = true_rates(lambda scores, groups: conformal_quantile(scores, 0.9, groups), parts=30, rho=rho, draws=400)
    error = float(np.std(rates)) / math.sqrt(len(rates))
    assert rates.mean() <= 0.1 + norm.isf(SURE) * error
    # And not far fewer. S <= T only if the mass of the calibration below S is under q, so that of all 31 groups is
    # under q + 1/31; by exchangeability that has the probability q + 1/31, and 1/31 more for the last step of the mass.
    assert rates.mean() >= 0.1 - 2 / 31 - norm.isf(SURE) * error


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_with_a_confidence_so_many_draws_keep_the_promise(rho: float) -> None:
    rates = true_rates(lambda scores, groups: threshold(scores, 0.9, 0.9, groups), parts=40, rho=rho, draws=400)
    # Each draw keeps it with probability 0.9 or more, independently.
    assert np.sum(rates <= 0.1) >= binom.ppf(SURE, 400, 0.9)


def test_images_of_one_part_taken_for_parts_break_the_promise() -> None:
    rates = true_rates(lambda scores, groups: threshold(scores, 0.9, 0.9), parts=40, rho=0.9, draws=400)
    assert np.sum(rates <= 0.1) < binom.ppf(SURE, 400, 0.9)


def test_the_representatives_reject_more_than_the_largest_of_each_part_and_so_miss_fewer_defects() -> None:
    def largest(scores: Sequence[float], groups: Sequence[str]) -> float:
        of_parts = dict.fromkeys(groups, 0.0)
        for score, group in zip(scores, groups, strict=True):
            of_parts[group] = max(of_parts[group], score)
        return threshold(list(of_parts.values()), 0.9, 0.9)

    ours = true_rates(lambda scores, groups: threshold(scores, 0.9, 0.9, groups), parts=40, rho=0.5, draws=100)
    assert ours.mean() > 2 * true_rates(largest, parts=40, rho=0.5, draws=100).mean()
