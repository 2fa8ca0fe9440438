"""PRO over many maps: ours, exact over all thresholds, against the usual loop over thresholds and regions.

Synthetic maps: noise, smoothed as anomaly maps are, higher inside a few boxes on every other image. What the loop costs
does not depend on the values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.metrics.bootstrap import multiplicities
from training.metrics.pixel_metrics import TOUCHING, pixel_metrics, pro, pro_estimate, rank_pixels, region_weights
from training.progress import Count

Found = TypeVar("Found")
Map = NDArray[np.float32]
Truth = NDArray[np.bool_]


@dataclass(frozen=True)
class ProTiming:
    """Seconds of each part on one core. ratio: the loop's seconds a map over ours, interval included.

    label_s is a part of rank_s, timed once more by itself; all_metrics_s: P-AUROC, P-AP, P-F1-max and PRO with
    intervals, once ranked. ours_on_loop_maps: the exact PRO of the maps that the loop had, beside the loop's loop_pro.
    """

    maps: int
    side: int
    label_s: float
    rank_s: float
    pro_s: float
    interval_s: float
    all_metrics_s: float
    pro: float
    loop_maps: int
    loop_thresholds: int
    loop_s: float
    loop_pro: float
    ours_on_loop_maps: float

    @property
    def total_s(self) -> float:
        """From maps and truths to PRO with its interval."""
        return self.rank_s + self.pro_s + self.interval_s

    @property
    def ratio(self) -> float:
        """How many times as long the loop takes."""
        return (self.loop_s / self.loop_maps) / (self.total_s / self.maps)


def measure_pro(maps: int, side: int, loop_maps: int, thresholds: int, progress: Count) -> ProTiming:
    """Time both on the same maps; the loop has the first `loop_maps` of them.

    Raises:
        ValueError: fewer than two maps for either, without which no image has a region.
    """
    if min(maps, loop_maps) < 2 or loop_maps > maps:
        raise ValueError(
            f"{maps} maps, {loop_maps} of them for the loop: give at least 2, and no more than all, to both"
        )
    values, truths = _images(maps, side)
    few, few_truths = values[:loop_maps], truths[:loop_maps]
    looped, loop_s = _timed(lambda: pro_by_loop(few, few_truths, thresholds, progress))
    _, label_s = _timed(lambda: [region_weights(truth) for truth in truths])
    ranked, rank_s = _timed(lambda: rank_pixels(values, truths))
    exact, pro_s = _timed(lambda: pro(ranked))
    draws = multiplicities([str(i) for i in range(maps)])
    _, interval_s = _timed(lambda: pro_estimate(ranked, draws))
    _, all_metrics_s = _timed(lambda: pixel_metrics(ranked, draws))
    return ProTiming(
        maps, side, label_s, rank_s, pro_s, interval_s, all_metrics_s, exact,
        loop_maps, thresholds, loop_s, looped, pro(rank_pixels(few, few_truths)),
    )  # fmt: skip


def pro_by_loop(maps: Sequence[Map], truths: Sequence[Truth], thresholds: int, progress: Count) -> float:
    """PRO as it is usually written: evenly spaced thresholds, and at each of them every region of every image."""
    lowest, highest = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
    good = sum(int((~truth).sum()) for truth in truths)
    rates, overlaps = [], []
    for done, threshold in enumerate(np.linspace(lowest, highest, thresholds), start=1):
        shares, false = [], 0
        for values, truth in zip(maps, truths, strict=True):
            above = values >= threshold
            labels, count = ndimage.label(truth, structure=TOUCHING)
            for region in range(1, count + 1):
                inside = labels == region
                shares.append((above & inside).sum() / inside.sum())
            false += int((above & ~truth).sum())
        rates.append(false / good)
        overlaps.append(float(np.mean(shares)))
        progress(done, thresholds)
    return _area(np.array(rates[::-1]), np.array(overlaps[::-1]), 0.3)


def _area(rates: NDArray[np.float64], overlaps: NDArray[np.float64], limit: float) -> float:
    kept = rates < limit
    rates_to, overlaps_to = np.append(rates[kept], limit), np.append(overlaps[kept], np.interp(limit, rates, overlaps))
    return float(np.trapezoid(overlaps_to, rates_to) / limit)


def _images(count: int, side: int) -> tuple[list[Map], list[Truth]]:
    rng = np.random.Generator(np.random.Philox(0))
    truths = [_boxes(rng, side, regions=3 * (index % 2)) for index in range(count)]
    noise = (rng.standard_normal((side, side), dtype=np.float32) for _ in range(count))
    return [ndimage.gaussian_filter(n, side / 64) * (side / 64) + t for n, t in zip(noise, truths, strict=True)], truths


def _boxes(rng: np.random.Generator, side: int, regions: int) -> Truth:
    truth = np.zeros((side, side), dtype=np.bool_)
    for _ in range(regions):
        (y, x), (height, width) = rng.integers(0, side * 3 // 4, 2), rng.integers(side // 32, side // 4, 2)
        truth[y : y + height, x : x + width] = True
    return truth


def _timed(call: Callable[[], Found]) -> tuple[Found, float]:
    start = time.perf_counter()
    found = call()
    return found, time.perf_counter() - start
