"""Detection and localisation metrics with bootstrap intervals. Library implementations where they exist.

Maps are float arrays (H, W), truths bool arrays of the same shape; sizes may differ from image to image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def image_auroc(scores: ArrayLike, defect: ArrayLike) -> float:
    """I-AUROC: the chance that a defective image outscores a good one."""
    return float(roc_auc_score(np.asarray(defect), np.asarray(scores)))


def image_ap(scores: ArrayLike, defect: ArrayLike) -> float:
    """I-AP: average precision."""
    return float(average_precision_score(np.asarray(defect), np.asarray(scores)))


def f1_max(scores: ArrayLike, defect: ArrayLike) -> float:
    """The largest F1 over all thresholds."""
    precision, recall, _ = precision_recall_curve(np.asarray(defect), np.asarray(scores))
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def pixel_auroc(maps: Sequence[Floats], truths: Sequence[Bools]) -> float:
    """P-AUROC over all pixels of all images, exact."""
    return float(roc_auc_score(np.concatenate([t.ravel() for t in truths]), np.concatenate([m.ravel() for m in maps])))


def pro(maps: Sequence[Floats], truths: Sequence[Bools], limit: float = 0.3) -> float:
    """PRO: mean overlap of the true regions (8-connected) over the false positive rate from 0 to `limit`, scaled to 1.

    Exact at 1,001 evenly spaced false positive rates between 0 and the limit, integrated by the trapezoidal rule.
    """
    negatives = np.sort(np.concatenate([m[~t] for m, t in zip(maps, truths, strict=True)]))[::-1]
    rates = np.linspace(0, limit, 1001)
    thresholds = negatives[np.minimum((rates * len(negatives)).astype(int), len(negatives) - 1)]
    overlap, regions = np.zeros_like(rates), 0
    for values, truth in zip(maps, truths, strict=True):
        labels, count = ndimage.label(truth, structure=np.ones((3, 3)))
        for index in range(1, count + 1):
            inside = np.sort(values[labels == index])
            overlap += 1 - np.searchsorted(inside, thresholds, side="right") / len(inside)
            regions += 1
    return float(np.trapezoid(overlap / max(regions, 1), rates) / limit)


def bootstrap(
    measure: Callable[[NDArray[np.int64]], float], groups: Sequence[str], *, rounds: int = 500, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of `measure(indices)` under resampling of whole groups.

    Rounds in which `measure` is not finite, such as those without both classes, are left out.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    blocks = [np.array(block) for block in members.values()]
    values = []
    for _ in range(rounds):
        drawn = np.concatenate([blocks[i] for i in rng.integers(len(blocks), size=len(blocks))])
        value = measure(drawn)
        if np.isfinite(value):
            values.append(value)
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def image_auroc_estimate(scores: ArrayLike, defect: ArrayLike, groups: Sequence[str]) -> Estimate:
    """I-AUROC with its interval."""
    s, d = np.asarray(scores, dtype=float), np.asarray(defect, dtype=bool)

    def measure(indices: NDArray[np.int64]) -> float:
        chosen = d[indices]
        return image_auroc(s[indices], chosen) if 0 < chosen.sum() < len(chosen) else float("nan")

    return Estimate(image_auroc(s, d), *bootstrap(measure, groups))


def pixel_auroc_estimate(
    maps: Sequence[Floats], truths: Sequence[Bools], groups: Sequence[str], bins: int = 4096
) -> Estimate:
    """P-AUROC, exact, with an interval over images from per-image histograms (4,096 bins: exact to about 1e-4)."""
    top = max(float(m.max()) for m in maps)
    edges = np.linspace(0, top + 1e-9, bins + 1)
    positive = np.stack([np.histogram(m[t], edges)[0] for m, t in zip(maps, truths, strict=True)]).astype(float)
    negative = np.stack([np.histogram(m[~t], edges)[0] for m, t in zip(maps, truths, strict=True)]).astype(float)

    def measure(indices: NDArray[np.int64]) -> float:
        p, n = positive[indices].sum(0), negative[indices].sum(0)
        if p.sum() == 0 or n.sum() == 0:
            return float("nan")
        below = np.cumsum(n) - n
        return float((p * (below + n / 2)).sum() / (p.sum() * n.sum()))

    return Estimate(pixel_auroc(maps, truths), *bootstrap(measure, groups))


def pro_estimate(maps: Sequence[Floats], truths: Sequence[Bools], groups: Sequence[str], rounds: int = 50) -> Estimate:
    """PRO with an interval over images."""

    def measure(indices: NDArray[np.int64]) -> float:
        chosen_maps, chosen_truths = [maps[i] for i in indices], [truths[i] for i in indices]
        return pro(chosen_maps, chosen_truths) if any(t.any() for t in chosen_truths) else float("nan")

    return Estimate(pro(maps, truths), *bootstrap(measure, groups, rounds=rounds))


def rate_estimate(hits: int, total: int) -> Estimate:
    """A share with its exact (Clopper-Pearson) 95 % interval."""
    interval = binomtest(hits, total).proportion_ci(confidence_level=0.95, method="exact")
    return Estimate(hits / total, float(interval.low), float(interval.high))
