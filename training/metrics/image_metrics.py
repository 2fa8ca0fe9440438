"""Image metrics with bootstrap intervals: I-AUROC, I-AP, I-F1-max. The figures are scikit-learn's.

Only the bootstrap rounds are counted here, many at once (`training.metrics.counts`): the same figures, one bin per
score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from training.metrics import counts
from training.metrics.bootstrap import Estimate, bootstrap, multiplicities
from training.metrics.counts import Counts, Weights


@dataclass(frozen=True)
class ImageMetrics:
    """Figures of how well the score alone tells defective images from good ones."""

    auroc: Estimate
    ap: Estimate
    f1_max: Estimate


def image_auroc(scores: ArrayLike, defect: ArrayLike) -> float:
    """Return I-AUROC: the chance that a defective image outscores a good one."""
    return float(roc_auc_score(np.asarray(defect), np.asarray(scores)))


def image_ap(scores: ArrayLike, defect: ArrayLike) -> float:
    """Return I-AP: average precision."""
    return float(average_precision_score(np.asarray(defect), np.asarray(scores)))


def image_f1_max(scores: ArrayLike, defect: ArrayLike) -> float:
    """Return I-F1-max: the largest F1 over all thresholds."""
    precision, recall, _ = precision_recall_curve(np.asarray(defect), np.asarray(scores))
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def image_counts(scores: ArrayLike, defect: ArrayLike, times: ArrayLike) -> Counts:
    """Return good and defective images per distinct score, the highest first: (..., K) each.

    Args:
        scores: (N,).
        defect: (N,) bool.
        times: (..., N), how often each image counts.
    """
    values, bin_of = np.unique(-np.asarray(scores, dtype=np.float64), return_inverse=True)
    member = np.zeros((len(bin_of), len(values)))
    member[np.arange(len(bin_of)), bin_of] = 1
    is_defect = np.asarray(defect, dtype=np.float64)
    weights = np.asarray(times, dtype=np.float64)
    return Counts((weights * is_defect) @ member, (weights * (1 - is_defect)) @ member)


def stratified_auroc(scores: ArrayLike, defect: ArrayLike, strata: ArrayLike, times: ArrayLike) -> Weights:
    """Return the chance that a defective image outscores a good one of its own stratum, per round: (...).

    That is the AUROC of each stratum, weighed by its pairs. NaN where no stratum has both.

    Args:
        scores: (N,).
        defect: (N,) bool.
        strata: (N,), which stratum each image is in.
        times: (..., N), how often each image counts.
    """
    of, weights = np.asarray(strata), np.asarray(times, dtype=np.float64)
    wins, pairs = np.zeros(weights.shape[:-1]), np.zeros(weights.shape[:-1])
    for stratum in np.unique(of):
        counted = image_counts(scores, defect, weights * (of == stratum))
        here = counted.positive.sum(-1) * counted.negative.sum(-1)
        wins += np.nan_to_num(counts.auroc(counted)) * here
        pairs += here
    with np.errstate(invalid="ignore"):
        return np.asarray(wins / pairs)


def image_metrics(scores: ArrayLike, defect: ArrayLike, groups: Sequence[str]) -> ImageMetrics:
    """Return all three with intervals over groups.

    Raises:
        ValueError: scikit-learn's, without both classes.
    """
    return ImageMetrics(
        image_auroc_estimate(scores, defect, groups),
        _estimate(image_ap(scores, defect), counts.average_precision, scores, defect, groups),
        _estimate(image_f1_max(scores, defect), counts.f1_max, scores, defect, groups),
    )


def image_auroc_estimate(scores: ArrayLike, defect: ArrayLike, groups: Sequence[str]) -> Estimate:
    """Return I-AUROC with its interval."""
    return _estimate(image_auroc(scores, defect), counts.auroc, scores, defect, groups)


def _estimate(
    value: float,
    figure: Callable[[Counts], Weights],
    scores: ArrayLike,
    defect: ArrayLike,
    groups: Sequence[str],
) -> Estimate:
    draws = multiplicities(groups)
    return bootstrap(value, lambda times: _where_both(figure, image_counts(scores, defect, times)), draws)


def _where_both(figure: Callable[[Counts], Weights], counted: Counts) -> Weights:
    """Return the figure, NaN in rounds that drew only one class: there AP and F1 would be 1 for any detector."""
    both = (counted.positive.sum(-1) > 0) & (counted.negative.sum(-1) > 0)
    return np.where(both, figure(counted), np.nan)
