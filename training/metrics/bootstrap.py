"""A figure with its 95 % interval: bootstrap over images or groups of images, or exact for a plain share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from training.metrics.counts import Weights

ROUNDS = 1000
ROUNDS_AT_ONCE = 100  # bounds the memory of histograms of thousands of bins


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; both ends NaN where no bootstrap round could be measured."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def multiplicities(groups: Sequence[str], *, rounds: int = ROUNDS, seed: int = 0) -> NDArray[np.int64]:
    """Return how often each image is drawn in each bootstrap round: (rounds, images).

    Whole groups are drawn, as many as there are, with replacement: images of one group, such as the same part
    photographed twice, tell less than as many independent ones.
    """
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = rng.integers(len(names), size=(rounds, len(names)))
    times = np.stack([np.bincount(row, minlength=len(names)) for row in drawn])
    return np.asarray(times[:, group_of], dtype=np.int64)


def bootstrap(value: float, measure: Callable[[Weights], Weights], draws: NDArray[np.int64]) -> Estimate:
    """Return `value` with the percentile interval of `measure` over the rounds.

    Args:
        measure: how often each image counts (rounds, images) -> a figure per round (rounds,). Rounds for which it
            is not finite, such as those without both classes, are left out.
        draws: from `multiplicities`.
    """
    return with_interval(value, np.concatenate([measure(part) for part in weights_of(draws)]))


def with_interval(value: float, measured: Weights) -> Estimate:
    """Return `value` with the percentile interval of a figure of each round; those not finite are left out."""
    finite = measured[np.isfinite(measured)]
    if not len(finite):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.percentile(finite, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def rate_estimate(hits: int, total: int) -> Estimate:
    """Return a share with its exact (Clopper-Pearson) 95 % interval."""
    interval = binomtest(hits, total).proportion_ci(confidence_level=0.95, method="exact")
    return Estimate(hits / total, float(interval.low), float(interval.high))


def weights_of(draws: NDArray[np.int64]) -> Iterator[Weights]:
    """Yield how often each image counts, (rounds, images), some rounds at a time."""
    for start in range(0, len(draws), ROUNDS_AT_ONCE):
        yield draws[start : start + ROUNDS_AT_ONCE].astype(np.float64)
