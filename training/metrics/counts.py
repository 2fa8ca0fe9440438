"""Detection figures from counts: how much of the positive and of the negative lies in each bin of values.

With a bin per distinct value the figures are exact, ties included: equal values share one threshold. With coarser bins
they are those of a detector that cannot tell the values inside a bin apart. All work along the last axis, so that many
bootstrap rounds are one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """The content of each bin, the bin of the highest values first: (..., K) each, never negative.

    Weights need not be whole: a pixel of a region of n pixels weighs 1/n where regions count alike.
    """

    positive: Weights
    negative: Weights


@dataclass(frozen=True)
class Curve:
    """Points from (0, 0) to (1, 1): the share of negatives, and of positives, at or above each threshold."""

    false_positive_rate: Weights
    true_positive_rate: Weights


def curve(counts: Counts) -> Curve:
    """Return the ROC curve, (..., K + 1) each; with region weights the PRO curve. NaN where a class is empty."""
    with np.errstate(invalid="ignore"):
        return Curve(_shares(counts.negative), _shares(counts.positive))


def auroc(counts: Counts) -> Weights:
    """Return the chance that a positive lies above a negative, a tie counting half: (...).

    NaN where a class is empty.
    """
    total = counts.negative.sum(-1, keepdims=True)
    below = total - np.cumsum(counts.negative, axis=-1)
    wins = (counts.positive * (below + counts.negative / 2)).sum(-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(wins / (counts.positive.sum(-1) * total[..., 0]))


def average_precision(counts: Counts) -> Weights:
    """Return the sum over thresholds of (recall gained) x precision, not interpolated: (...). NaN without positives."""
    found, taken = _found_and_taken(counts)
    with np.errstate(invalid="ignore"):
        return np.asarray((counts.positive * found / np.maximum(taken, _LEAST)).sum(-1) / found[..., -1])


def f1_max(counts: Counts) -> Weights:
    """Return the largest F1 = 2 found / (taken + positives) over all thresholds: (...). NaN without positives."""
    found, taken = _found_and_taken(counts)
    total = found[..., -1:]
    with np.errstate(invalid="ignore"):
        return np.where(total[..., 0] > 0, (2 * found / np.maximum(taken + total, _LEAST)).max(-1), np.nan)


def area_to(counts: Counts, limit: float) -> Weights:
    """Return the area under `curve` for false positive rates from 0 to `limit`, divided by `limit`: (...).

    Between two thresholds the curve is a straight line, also where the limit cuts it. NaN where a class is empty.
    """
    line = curve(counts)
    start, stop = (np.minimum(edge, limit) for edge in (line.false_positive_rate[..., :-1], _after(line)))
    step = np.diff(line.false_positive_rate, axis=-1)
    share = (stop - start) / np.where(step > 0, step, 1)
    low = line.true_positive_rate[..., :-1]
    high = low + share * np.diff(line.true_positive_rate, axis=-1)
    return np.asarray(((stop - start) * (low + high) / 2).sum(-1) / limit)


_LEAST = np.finfo(np.float64).tiny


def _after(line: Curve) -> Weights:
    return line.false_positive_rate[..., 1:]


def _shares(values: Weights) -> Weights:
    summed = np.cumsum(values, axis=-1)
    return np.concatenate([np.zeros_like(summed[..., :1]), summed], axis=-1) / summed[..., -1:]


def _found_and_taken(counts: Counts) -> tuple[Weights, Weights]:
    found = np.cumsum(counts.positive, axis=-1)
    return found, found + np.cumsum(counts.negative, axis=-1)
