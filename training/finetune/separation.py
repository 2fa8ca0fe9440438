"""How well anomalies stand out from good images, and whether a network does it better than another by more than chance.

A few dozen good images of a few parts are held out. An AUROC on them moves by some hundredths with the draw of the
parts, so the largest one of several epochs is easily larger than that of the published weights and worth nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.metrics.bootstrap import multiplicities
from training.metrics.counts import Weights

SURE = 0.025
"""Share of the bootstrap rounds in which a gain may be smaller than the one that counts."""


@dataclass(frozen=True, eq=False)
class Separation:
    """Values of G good and A anomalous images, such as those of their patches, each held against each."""

    wins: Weights
    """(G, A): of their pairs of values, those in which the anomalous image's is larger; equal ones count half."""
    good: Weights
    """(G,): the number of values."""
    anomalous: Weights
    """(A,): the same."""

    @classmethod
    def of_values(cls, good: Sequence[Tensor], anomalous: Sequence[Tensor]) -> Separation:
        """Return how these values (n,) of each image, at least one of a good one, lie to each other."""
        ordered = [np.sort(values.double().numpy()) for values in good]
        loud = [values.double().numpy() for values in anomalous]
        wins = np.array([[_wins(quiet, values) for values in loud] for quiet in ordered])
        return cls(wins, np.array([float(len(one)) for one in ordered]), np.array([float(len(one)) for one in loud]))

    def aurocs(self, times: Weights) -> Weights:
        """Return the chance that a value of an anomalous image is larger than one of a good image, per round: (R,).

        Args:
            times: (R, G + A), how often each image counts, the good ones first.
        """
        of_good, of_anomalous = times[:, : len(self.good)], times[:, len(self.good) :]
        total = (of_good @ self.good) * (of_anomalous @ self.anomalous)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.einsum("rg,ga,ra->r", of_good, self.wins, of_anomalous) / total)

    @property
    def auroc(self) -> float:
        """Return the same with every image once."""
        return float(self.aurocs(np.ones((1, len(self.good) + len(self.anomalous))))[0])


def _wins(quiet: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """Return how many pairs the values win against sorted ones."""
    below, not_above = np.searchsorted(quiet, values, "left"), np.searchsorted(quiet, values, "right")
    return float(below.sum() + not_above.sum()) / 2


def gain_over(ones: Sequence[Separation], others: Sequence[Separation], parts: Sequence[str]) -> tuple[float, float]:
    """Return the gain in mean AUROC over other separations of the same images, and what it is at least.

    The latter is a quantile (`SURE`) of the gain over draws of the parts, the same for both sides.

    Args:
        ones: by one network.
        others: by another.
        parts: of each image, the good ones first.
    """

    def gain(times: Weights) -> Weights:
        pairs = zip(ones, others, strict=True)
        return np.asarray(np.mean([one.aurocs(times) - other.aurocs(times) for one, other in pairs], axis=0))

    rounds = gain(multiplicities(parts).astype(np.float64))
    finite = rounds[np.isfinite(rounds)]  # a round without a changed patch says nothing
    at_least = float(np.quantile(finite, SURE)) if len(finite) else -1.0
    return float(gain(np.ones((1, len(parts))))[0]), at_least
