"""Thresholds from good images alone: delta for the trigger, then review, fail and pixel threshold for the verdict.

The fail and review thresholds are split-conformal: with n good images that no training saw, the k-th smallest score
with k = ceil((n + 1) q) is exceeded by a fresh good part with probability at most 1 - q, whatever the scores'
distribution, as long as fresh parts come from the same line.

That promise is an average over draws of the n images: the share that one draw's threshold rejects follows a Beta law,
and can be twice the promise. With a confidence the rank is raised until that law keeps the promise in so many draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from scipy.special import betainc

from model_store.manifest import Calibration
from training.recipe import CalibrationRecipe


def conformal_quantile(scores: Sequence[float], quantile: float) -> float:
    """Return the k-th smallest score, k = ceil((n + 1) q), or the largest where n is too small for that.

    Raises:
        ValueError: without scores, or for a score that is not finite.
    """
    ordered = sorted(_finite("score", scores))
    rank = math.ceil((len(ordered) + 1) * _exact(quantile))
    return ordered[min(rank, len(ordered)) - 1]


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


def threshold(scores: Sequence[float], quantile: float, confidence: float | None) -> float:
    """Return the score that at least the quantile of good parts stays below: on average, or with a confidence.

    It is the largest score where there are too few to promise as much.

    Raises:
        ValueError: as in `conformal_quantile`.
    """
    if confidence is None or not scores:
        return conformal_quantile(scores, quantile)
    rank = confident_rank(len(scores), quantile, confidence)
    return sorted(_finite("score", scores))[(rank or len(scores)) - 1]


def least_count(quantile: float, confidence: float | None = None) -> int:
    """Return how many good images it takes before the promise for this quantile holds.

    With a confidence: 1 - q^n, the confidence that the largest of n scores gives, must reach it.
    """
    if confidence is None:
        return math.ceil(_exact(quantile) / (1 - _exact(quantile)))
    return math.ceil(math.log(1 - confidence) / math.log(quantile))


def choose_delta(peaks: Sequence[float], recipe: CalibrationRecipe) -> float:
    """Return delta: the quantile of good images' largest trigger scores on their way to t_min.

    A good image that passes it pays with a fused reconstruction, nothing worse; a defect that stays below it is put
    back at t_min. So the quantile is well below the fail threshold's.

    Raises:
        ValueError: without peaks, or for one that is not finite.
    """
    return float(np.quantile(_finite("trigger score", peaks), recipe.delta_quantile))


def calibrate(scores: Sequence[float], map_peaks: Sequence[float], recipe: CalibrationRecipe) -> Calibration:
    """Return thresholds from good images' scores and the largest values of their maps.

    `fail` lies just above the conformal quantile, because a score that equals the threshold fails.

    Raises:
        ValueError: without scores, or for a value that is not finite.
    """
    # The verdict compares float32 scores with `>=`: the next float32 above the quantile lets the score at it pass.
    fail, review = (
        float(np.nextafter(np.float32(threshold(scores, quantile, recipe.confidence)), np.float32(np.inf)))
        for quantile in (recipe.fail_quantile, recipe.review_quantile)
    )
    return Calibration(
        review=min(review, fail),
        fail=fail,
        pixel=conformal_quantile(map_peaks, recipe.pixel_quantile),
        review_quantile=recipe.review_quantile,
        fail_quantile=recipe.fail_quantile,
        pixel_quantile=recipe.pixel_quantile,
        confidence=recipe.confidence,
        good_images=len(scores),
        good_scores=tuple(sorted(round(s, 6) for s in scores)),
    )


def _exact(quantile: float) -> Fraction:
    """Return a quantile as a fraction, 0.98 as 49/50.

    In floating point, a product just above a whole number would move the rank by one.
    """
    return Fraction(str(quantile))


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
