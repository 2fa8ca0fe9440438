"""Thresholds from good images alone: delta for the trigger, then review, fail and pixel threshold for the verdict.

The fail and review thresholds are conformal. The unit is the group: photographs of one part are alike, so K parts say
as much as K numbers, however many photographs there are. What is promised is a share of the photographs of fresh parts
from the same line, in which each part counts alike: at most 1 - q of them lie above the threshold, whatever the scores'
distribution.

On average over draws of the parts, that is what `conformal_quantile` gives. One draw's threshold can reject twice as
many: the share follows a Beta law. With a confidence, `threshold` raises the rank until that law keeps the promise in
so many draws. Where each image is a group of its own, both are the usual split-conformal ranks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.special import betainc

from model_store.manifest import Calibration, CalibrationKind
from model_store.promise import exact
from training.recipe import CalibrationRecipe

REPRESENTATIVE_SEED = 0
"""Fixed, so that nobody can draw representatives until a threshold pleases."""


def conformal_quantile(scores: Sequence[float], quantile: float, groups: Sequence[str] | None = None) -> float:
    """Return the least score at or below which the quantile of the mass lies, or the largest where that is too little.

    Each of K groups has the mass 1 / (K + 1), spread evenly over its images; as much lies at infinity, for the fresh
    part (hierarchical conformal prediction: Lee, Barber, Willett 2023). The K + 1 groups are exchangeable, so a
    photograph drawn from a fresh one lies above that score with probability at most 1 - q. With n images that are each
    a group of their own it is the k-th smallest score, k = ceil((n + 1) q).

    Args:
        groups: the group of each score; None: each is a group of its own.

    Raises:
        ValueError: without scores, or for a score that is not finite.
    """
    known = _groups(_finite("score", scores), groups)
    sizes = Counter(known)
    unit = math.lcm(*sizes.values())  # the mass 1 / (K + 1), in whole numbers: no rounding can move the rank
    wanted = exact(quantile) * (len(sizes) + 1) * unit
    mass = 0
    ordered = sorted(zip(scores, known, strict=True))
    for score, group in ordered:
        mass += unit // sizes[group]
        if mass >= wanted:
            return score
    return ordered[-1][0]


def confident_rank(count: int, quantile: float, confidence: float) -> int | None:
    """Return the least k with this confidence that the k-th smallest of `count` scores lies above the true quantile.

    The share of fresh good parts below it follows Beta(k, count + 1 - k), whatever the scores' distribution. None where
    even the largest score gives less.
    """
    # P(Beta(k, n + 1 - k) > q) rises with k, because a higher rank lies above more good parts: the first that suffices
    # rejects more good parts than any later one, and so misses the fewest defects.
    ranks = np.arange(1, count + 1)
    kept = 1 - betainc(ranks, count + 1 - ranks, quantile)
    return int(ranks[np.argmax(kept >= confidence)]) if kept[-1] >= confidence else None


def representatives(scores: Sequence[float], groups: Sequence[str]) -> list[float]:
    """Return one score of each group, drawn with a fixed seed.

    The draw knows the groups' names and sizes and no score. So of independent groups these scores are independent, each
    has the law of a photograph drawn from a fresh part, and a rule for independent scores holds exactly. The images of
    a group must stand in an order that does not follow from their scores, such as that of their names.
    """
    members: dict[str, list[float]] = {}
    for score, group in zip(scores, groups, strict=True):
        members.setdefault(group, []).append(score)
    rng = np.random.Generator(np.random.Philox(REPRESENTATIVE_SEED))
    return [of_group[rng.integers(len(of_group))] for _, of_group in sorted(members.items())]


def threshold(
    scores: Sequence[float], quantile: float, confidence: float | None, groups: Sequence[str] | None = None
) -> float:
    """Return the score that at least the quantile of good photographs stays below: on average, or with a confidence.

    With a confidence it is the `confident_rank` among the groups' representatives. Of the rules that were tried, this
    one rejects the nearest to what is promised and is proven: docs/decisions/0012-thresholds-by-part.md. It is the
    largest score of all where there are too few groups to promise as much.

    Args:
        groups: the group of each score; None: each is a group of its own.

    Raises:
        ValueError: as in `conformal_quantile`.
    """
    if confidence is None or not scores:
        return conformal_quantile(scores, quantile, groups)
    drawn = representatives(scores, _groups(_finite("score", scores), groups))
    rank = confident_rank(len(drawn), quantile, confidence)
    return max(scores) if rank is None else sorted(drawn)[rank - 1]


def choose_delta(peaks: Sequence[float], recipe: CalibrationRecipe) -> float:
    """Return delta: the quantile of good images' largest trigger scores on their way to t_min.

    A good image that passes it pays with a fused reconstruction, nothing worse; a defect that stays below it is put
    back at t_min. So the quantile is well below the fail threshold's.

    Raises:
        ValueError: without peaks, or for one that is not finite.
    """
    return float(np.quantile(_finite("trigger score", peaks), recipe.delta_quantile))


def calibrate(
    scores: Sequence[float],
    map_peaks: Sequence[float],
    recipe: CalibrationRecipe,
    *,
    groups: Sequence[str] | None = None,
    kind: CalibrationKind = CalibrationKind.HELD_OUT,
) -> Calibration:
    """Return thresholds from good images' scores and the largest values of their maps.

    `fail` lies just above the conformal quantile, because a score that equals the threshold fails.

    Args:
        groups: the group of each image, in their order; None: each is a group of its own.
        kind: how the scores came about; recorded, and no threshold depends on it.

    Raises:
        ValueError: without scores, for a value that is not finite, or for groups of another number than the scores.
    """
    # The verdict compares float32 scores with `>=`: the next float32 above the quantile lets the score at it pass.
    fail, review = (
        float(np.nextafter(np.float32(threshold(scores, quantile, recipe.confidence, groups)), np.float32(np.inf)))
        for quantile in (recipe.fail_quantile, recipe.review_quantile)
    )
    parts = len(scores) if groups is None else len(set(groups))
    return Calibration(
        review=min(review, fail),
        fail=fail,
        pixel=conformal_quantile(map_peaks, recipe.pixel_quantile, groups),
        review_quantile=recipe.review_quantile,
        fail_quantile=recipe.fail_quantile,
        pixel_quantile=recipe.pixel_quantile,
        confidence=recipe.confidence,
        good_images=len(scores),
        groups=parts if parts < len(scores) else None,
        kind=kind,
        good_scores=tuple(sorted(round(s, 6) for s in scores)),
    )


def _groups(scores: Sequence[float], groups: Sequence[str] | None) -> Sequence[str]:
    if groups is None:
        return [str(index) for index in range(len(scores))]
    if len(groups) != len(scores):
        raise ValueError(f"{len(groups)} groups for {len(scores)} scores: give the group of each score, in their order")
    return groups


def _finite(what: str, values: Sequence[float]) -> Sequence[float]:
    if not values:
        raise ValueError(f"no {what} to calibrate on: give at least one good image")
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise ValueError(
                f"the {what} of good image {index + 1} of {len(values)} is {value}; thresholds need finite ones: "
                "the models diverged, train them again with a lower learning rate"
            )
    return values
