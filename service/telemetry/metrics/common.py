"""Label values that clients choose, bounded: a typing error per image must not become a time series per image."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass
from typing import Self

import numpy as np
from prometheus_client import CollectorRegistry, Histogram

from model_store.manifest import Calibration

MOST_STATIONS = 128
NONE = "none"
"""No value was given."""
OTHER = "other"
"""One more than are told apart."""


class Bounded:
    """The first so many values as they are; every later one is `other`. Safe to use from several threads."""

    def __init__(self, most: int = MOST_STATIONS) -> None:
        self._most = most
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def label(self, value: str | None) -> str:
        """What stands for this value in a label."""
        if value is None:
            return NONE
        with self._lock:
            if value in self._seen or len(self._seen) < self._most:
                self._seen.add(value)
                return value
            return OTHER


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


SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""From a decoded thumbnail to a queue that stands."""
LOADING = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
"""Seconds from a file of a few MB in memory to a full-size model over a network."""
SCORES = tuple(round(10 ** (step / 8), 4) for step in range(-16, 9))
"""0.01 to 10, eight to a decade: raw scores of different products differ by an order of magnitude."""
LANES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STEPS = tuple(range(0, 1001, 100))
EVALUATIONS = (1, 2, 5, 10, 15, 20, 25, 30, 50, 100, 200, 500)
"""An untiled image takes as many as it has steps; one of many tiles, times its tiles."""


def stage_durations(registry: CollectorRegistry) -> Histogram:
    """`glad_stage_duration_seconds`."""
    return Histogram(
        "glad_stage_duration_seconds", "Duration of one stage", ["stage"], buckets=SECONDS, registry=registry
    )
