"""AUPIMO: how much of each defect is found while good images stay all but free of false alarms.

Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low Tolerance", 2024. The
shared false positive rate F of a threshold is the mean over good images of the share of their pixels at or above it. An
anomalous image's curve is the share of its defective pixels that is found (its overlap), over log F; AUPIMO is the area
under that curve for F from 1e-5 to 1e-4, divided by log(1e-4 / 1e-5). Good pixels of anomalous images take no part.

Here it is exact. The curve at F is the overlap at the lowest threshold whose rate does not exceed F; so a defective
pixel of value v counts from F(v) on, the rate of the threshold v, and its share of the area is log(upper / F(v)) over
log(upper / lower), clipped to 0 ... 1. Many evenly spaced thresholds, as the authors take, approach the same number.
Where the good images have too few pixels for a rate of 1e-5, the curve below their finest rate is the overlap without
any false positive: defined, and never extrapolated. `finest_rate` tells how fine the images are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.metrics.bootstrap import Estimate, bootstrap
from training.metrics.counts import Weights
from training.metrics.pixel_metrics import Map, Truth, per_edge

LOWER, UPPER = 1e-5, 1e-4
GRID = 1024


@dataclass(frozen=True)
class Aupimo:
    """mean: over the anomalous images; per_image: theirs; finest_rate: the smallest F above 0 that can be measured."""

    mean: Estimate
    per_image: tuple[float, ...]
    finest_rate: float


@dataclass(frozen=True)
class _Reference:
    """The highest values of the good images, falling, and the shared false positive rate of each as a threshold."""

    values: Map
    rates: Weights


@dataclass(frozen=True)
class _Binned:
    """Per falling edge: of each good image the share of its pixels at or above it, of each anomalous image the share of
    its defective pixels between it and the edge above."""

    rates: Weights
    shares: Weights


def aupimo(maps: Sequence[Map], truths: Sequence[Truth], draws: NDArray[np.int64]) -> Aupimo:
    """Return AUPIMO of every anomalous image, and their mean with its interval.

    Args:
        maps: (H, W) float each, finite.
        truths: (H, W) bool each; an image without a true pixel is good.
        draws: (rounds, images), from `training.metrics.bootstrap.multiplicities`.

    Raises:
        ValueError: no good or no anomalous image.
    """
    anomalous = np.array([truth.any() for truth in truths], dtype=np.bool_)
    if anomalous.all() or not anomalous.any():
        raise ValueError(
            f"{anomalous.sum()} of {len(maps)} images are anomalous: AUPIMO needs both, good ones set its thresholds"
        )
    good = [values for values, bad in zip(maps, anomalous, strict=True) if not bad]
    defects = [values[truth] for values, truth in zip(maps, truths, strict=True) if truth.any()]
    reference = _reference(good)
    per_image = tuple(float(admitted(_rates(reference, values)).mean()) for values in defects)
    edges = _edges(good, defects, reference)
    return Aupimo(
        mean=_interval(float(np.mean(per_image)), _binned(good, defects, edges), draws, anomalous),
        per_image=per_image,
        finest_rate=1 / (len(good) * max(values.size for values in good)),
    )


def admitted(rates: Weights) -> Weights:
    """Return the share of the log interval [1e-5, 1e-4] in which a pixel is found that needs this shared rate."""
    share = np.log(UPPER / np.maximum(rates, LOWER)) / math.log(UPPER / LOWER)
    return np.asarray(np.clip(share, 0, 1))


def _reference(good: Sequence[Map]) -> _Reference:
    """Return the highest values of the good images with their rates.

    Of n good images, a rate of at most UPPER leaves no more than n UPPER of an image's pixels above the threshold. So
    each image's highest pixels, one more than that, hold every threshold that counts.
    """
    kept = [_highest(values.ravel(), int(len(good) * UPPER * values.size) + 1) for values in good]
    weights = np.concatenate([np.full(len(top), 1 / (len(good) * m.size)) for top, m in zip(kept, good, strict=True)])
    values = np.concatenate(kept)
    order = np.argsort(-values, kind="stable")
    return _Reference(values[order], np.cumsum(weights[order]))


def _highest(values: Map, count: int) -> Map:
    return values if count >= len(values) else np.partition(values, len(values) - count)[-count:]


def _rates(reference: _Reference, values: Map) -> Weights:
    """Return F of each value as a threshold.

    Beyond what the reference holds it is the last rate, which lies above UPPER.
    """
    above = np.searchsorted(-reference.values, -values, side="right")
    return np.concatenate([[0.0], reference.rates])[above]


def _binned(good: Sequence[Map], defects: Sequence[Map], edges: Map) -> _Binned:
    return _Binned(
        rates=np.stack([per_edge(np.sort(values, axis=None), edges) / values.size for values in good]),
        shares=np.stack([_shares(values, edges) for values in defects]),
    )


def _interval(value: float, binned: _Binned, draws: NDArray[np.int64], anomalous: Truth) -> Estimate:
    """Return the mean with its bootstrap interval.

    In the rounds a defective pixel counts from the rate of the edge below it on: about 1 % of the rate late.
    """

    def measure(times: Weights) -> Weights:
        of_good, of_defects = times[:, ~anomalous], times[:, anomalous]
        with np.errstate(invalid="ignore"):
            shared = of_good @ binned.rates / of_good.sum(1, keepdims=True)
            mean_shares = of_defects @ binned.shares / of_defects.sum(1, keepdims=True)
        return np.asarray((admitted(shared) * mean_shares).sum(1))

    return bootstrap(value, measure, draws)


def _edges(good: Sequence[Map], defects: Sequence[Map], reference: _Reference) -> Map:
    """Return falling values between which pixels are not distinguished in the bootstrap.

    They are the reference's by rank, fine at the top, where one pixel matters; every good image's highest, any of which
    may become the highest of a round; and the defects' by rank.
    """
    ranks = np.geomspace(1, len(reference.values), GRID).astype(np.int64)
    defective = np.sort(np.concatenate(defects))
    places = np.linspace(0, len(defective) - 1, GRID).astype(np.int64)
    highest = np.array([values.max() for values in good])
    return np.unique(np.concatenate([reference.values[ranks - 1], highest, defective[places]]))[::-1]


def _shares(values: Map, edges: Map) -> Weights:
    return np.diff(per_edge(np.sort(values), edges), prepend=0) / len(values)
