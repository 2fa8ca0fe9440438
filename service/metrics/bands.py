"""Where a score lies among the good images' scores that its bundle was calibrated with.

Histogram buckets are the same for every product and coarse for each. Bands are cut at the calibration's own quantiles,
so that the expected share of every band is known, and a product that drifts shows at once: of good parts 10 % lie below
p10, 40 % up to the median, 40 % up to p90, 10 % above.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Self

import numpy as np

from model_store.manifest import Calibration

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
"""Of the good images' scores, as `glad_calibration_score` shows them."""
BANDS = ("below_p10", "p10_to_p50", "p50_to_p90", "p90_to_max", "above_max")


@dataclass(frozen=True)
class Bands:
    """A bundle's good scores, cut into bands."""

    cuts: tuple[float, ...]
    """p10, p50, p90 and the highest: each is the upper, included end of its band."""

    @classmethod
    def of(cls, calibration: Calibration) -> Self | None:
        """The bands of a calibration; None if it does not tell its scores."""
        found = quantiles(calibration)
        return cls(tuple(found[quantile] for quantile in QUANTILES[1:])) if found else None

    def band(self, score: float) -> str:
        """In which band a score lies."""
        return BANDS[bisect_left(self.cuts, score)]


def quantiles(calibration: Calibration) -> dict[float, float]:
    """Quantile -> score of the good images; empty if the calibration does not tell them."""
    scores = calibration.good_scores
    return {quantile: float(np.quantile(scores, quantile)) for quantile in QUANTILES} if scores else {}
