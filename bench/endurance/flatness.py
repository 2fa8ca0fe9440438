"""The growth of a series of samples: its slope after a warm-up, with an interval, against a bound.

Memory moves in steps and saw teeth, and neighbouring samples are alike. So samples are first made into medians of
equal stretches of time, and the slope is the Theil-Sen one: the median slope of all pairs, which single steps do not
carry away. Its interval is Sen's (1968), by ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.stats import theilslopes

STRETCHES = 40
"""Medians that the slope is fitted through, at most."""
FEWEST = 8
"""With fewer, an interval would say nothing."""
HOUR_S = 3600.0
CONFIDENCE = 0.95


Floats = Sequence[float] | NDArray[np.float64]


class TrendVerdict(StrEnum):
    """The interval of the slope against the bound."""

    FLAT = "flat"
    """Its upper end lies within."""
    GROWS = "grows"
    """Its lower end lies beyond."""
    OPEN = "not shown"
    """The bound lies inside: measure longer."""


@dataclass(frozen=True)
class Trend:
    """The trend of a series after the warm-up. Slopes per hour, in the series' own unit."""

    first: float
    """Median of the first stretch."""
    last: float
    highest: float
    slope: float
    low: float
    high: float
    bound: float

    @property
    def verdict(self) -> TrendVerdict:
        """Flat, growing, or not shown."""
        if self.high <= self.bound:
            return TrendVerdict.FLAT
        return TrendVerdict.GROWS if self.low > self.bound else TrendVerdict.OPEN


def trend(at_s: Floats, values: Floats, *, warm_up_s: float, bound: float) -> Trend:
    """Return the trend of the samples after `warm_up_s`.

    Args:
        bound: the growth per hour that is allowed.

    Raises:
        ValueError: if there are too few samples.
    """
    times, levels = np.asarray(at_s, float), np.asarray(values, float)
    judged = times >= warm_up_s
    if judged.sum() < FEWEST:
        raise ValueError(
            f"{judged.sum()} samples lie after the warm-up of {warm_up_s:g} s; at least {FEWEST} are needed"
        )
    middles, medians = _stretches(times[judged], levels[judged])
    fit = theilslopes(medians, middles / HOUR_S, alpha=CONFIDENCE)
    return Trend(
        first=float(medians[0]),
        last=float(medians[-1]),
        highest=float(levels[judged].max()),
        slope=float(fit.slope),
        low=float(fit.low_slope),
        high=float(fit.high_slope),
        bound=bound,
    )


def _stretches(
    times: NDArray[np.float64], levels: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean time and median level of equal numbers of neighbours."""
    count = max(FEWEST, min(STRETCHES, len(times) // 2))
    parts = np.array_split(np.arange(len(times)), count)
    return (
        np.array([times[part].mean() for part in parts]),
        np.array([np.median(levels[part]) for part in parts]),
    )
