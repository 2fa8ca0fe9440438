"""Parts that metrics of several processes share: buckets, bounded label values, score bands, `glad_build_info`."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass
from typing import Self

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from model_store.manifest import Calibration
from service.telemetry.logs import package_version

# Upper limits of the buckets of histograms.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""From decoding a thumbnail to waiting in a long queue."""
LOADING = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
"""Seconds, from a file of a few MB in memory to a full-size model over a network."""
SCORES = tuple(round(10 ** (step / 8), 4) for step in range(-16, 9))
"""0.01 to 10, eight to a decade: raw scores of different products differ by an order of magnitude."""
LANES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STEPS = tuple(range(0, 1001, 100))
EVALUATIONS = (1, 2, 5, 10, 15, 20, 25, 30, 50, 100, 200, 500)
"""An untiled image takes one for each of its steps; an image of several tiles, one for each step and tile."""

MAX_STATIONS = 128
NONE = "none"
"""The label of a missing value."""
OTHER = "other"
"""The label of every value beyond the limit."""

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
"""Of the good images' scores, as `glad_calibration_score` shows them."""
BANDS = ("below_p10", "p10_to_p50", "p50_to_p90", "p90_to_max", "above_max")


class BoundedLabel:
    """A label whose values clients choose: the first `limit` values stand for themselves, every later one is `other`.

    Without the limit, a client that sends a new station name with every image would make a time series for each. Safe
    to use from several threads.
    """

    def __init__(self, limit: int = MAX_STATIONS) -> None:
        self._limit = limit
        self._values: set[str] = set()
        self._lock = threading.Lock()

    def label_for(self, value: str | None) -> str:
        """Return the label of this value."""
        if value is None:
            return NONE
        with self._lock:
            if value in self._values or len(self._values) < self._limit:
                self._values.add(value)
                return value
            return OTHER


@dataclass(frozen=True)
class ScoreBands:
    """The scores of a bundle's good images, cut into `BANDS`."""

    cuts: tuple[float, ...]
    """p10, p50, p90 and the highest score: each is the upper, included end of its band."""

    @classmethod
    def from_calibration(cls, calibration: Calibration) -> Self | None:
        """Return the bands of a calibration; None if it does not list its scores."""
        scores = good_score_quantiles(calibration)
        return cls(tuple(scores[quantile] for quantile in QUANTILES[1:])) if scores else None

    def band_of(self, score: float) -> str:
        """Return the band in which a score lies."""
        return BANDS[bisect_left(self.cuts, score)]


def good_score_quantiles(calibration: Calibration) -> dict[float, float]:
    """Return the good images' score at each of `QUANTILES`; empty if the calibration does not list its scores."""
    scores = calibration.good_scores
    return {quantile: float(np.quantile(scores, quantile)) for quantile in QUANTILES} if scores else {}


def stage_durations(registry: CollectorRegistry) -> Histogram:
    """Register `glad_stage_duration_seconds`."""
    return Histogram(
        "glad_stage_duration_seconds", "Duration of one stage", ["stage"], buckets=SECONDS, registry=registry
    )


def decoder_ends(registry: CollectorRegistry) -> Counter:
    """Register `glad_decoders_ended_total`."""
    return Counter(
        "glad_decoders_ended_total",
        "Decoder processes that an image ended, by what it had too much of, and that were replaced",
        ["reason"],
        registry=registry,
    )


def build_info(registry: CollectorRegistry) -> None:
    """Register `glad_build_info`, whose label names the installed version."""
    info = Gauge("glad_build_info", "1; the labels say what runs", ["version"], registry=registry)
    info.labels(package_version()).set(1)
