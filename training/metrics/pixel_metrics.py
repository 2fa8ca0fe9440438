"""Pixel metrics with bootstrap intervals: P-AUROC, P-AP, P-F1-max and PRO, exact over all thresholds, fast.

Only positive pixels, which are few, need ranks. The negatives of all images are sorted once, by value alone, and every
distinct positive value is looked up in them; that gives the counts per threshold, with ties, from which all four
figures follow. The bootstrap works on per-image histograms of a few thousand bins.

Maps are float arrays (H, W), truths bool arrays of the same shape; sizes may differ from image to image. Memory: one
copy of the negatives (4 bytes a pixel), and about 100 bytes per positive pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from training.metrics import counts
from training.metrics.bootstrap import Estimate, bootstrap
from training.metrics.counts import Counts, Weights

Map = NDArray[np.floating[Any]]
Truth = NDArray[np.bool_]

PRO_LIMIT = 0.3
"""The false positive rate up to which PRO is integrated (Bergmann et al. 2020)."""
GRID = 2048
TOUCHING = np.ones((3, 3), dtype=np.bool_)
"""Pixels of a region touch by an edge or a corner."""


@dataclass(frozen=True)
class Ranks:
    """The place of each distinct positive value among all negatives: highest first, (K,) each.

    pixels, regions: weight of the positive pixels of exactly this value, each pixel 1, or 1 / its region's size; above,
    at_least: negatives greater than the value, and not smaller.
    """

    values: Map
    pixels: Weights
    regions: Weights
    above: NDArray[np.int64]
    at_least: NDArray[np.int64]
    negatives: int

    @property
    def by_pixel(self) -> Counts:
        """The counts in which every positive pixel weighs the same."""
        return Counts(_between(self.pixels), self._negative())

    @property
    def by_region(self) -> Counts:
        """The counts in which every true region weighs the same, whatever its size.

        The true positive rate is then the mean overlap.
        """
        return Counts(_between(self.regions), self._negative())

    def _negative(self) -> Weights:
        """Return alternately the negatives between two positive values and those that tie with one."""
        negative = np.empty(2 * len(self.values) + 1)
        negative[1::2] = self.at_least - self.above
        negative[0::2] = np.diff(self.at_least, append=self.negatives, prepend=0)
        negative[0:-1:2] -= negative[1::2]
        return negative


@dataclass(frozen=True)
class Histograms:
    """Every image's pixels by value: (images, K) each, the bin of the highest values first."""

    pixels: Weights
    regions: Weights
    negative: Weights


@dataclass(frozen=True)
class Ranked:
    """Everything that the four figures and their intervals need; no map."""

    ranks: Ranks
    histograms: Histograms


@dataclass(frozen=True)
class PixelMetrics:
    """Figures of how well the map tells defective pixels from good ones."""

    auroc: Estimate
    ap: Estimate
    f1_max: Estimate
    pro: Estimate


def rank_pixels(maps: Sequence[Map], truths: Sequence[Truth]) -> Ranked:
    """Return the ranks and histograms of all pixels of all images.

    Raises:
        ValueError: a map and its truth differ in shape, a value is not finite, or one of the two classes is empty.
    """
    for index, (values, truth) in enumerate(zip(maps, truths, strict=True)):
        if values.shape != truth.shape:
            raise ValueError(f"map {index} is {values.shape}, its truth {truth.shape}: they must be of one size")
    inside = [values[truth] for values, truth in zip(maps, truths, strict=True)]
    weights = [region_weights(truth) for truth in truths]
    negatives = sorted_values(maps, [~truth for truth in truths])
    positives = sorted_values(maps, truths)
    if not len(negatives) or not len(positives):
        raise ValueError(f"{len(positives)} defective and {len(negatives)} good pixels: both kinds are needed")
    edges = _edges(negatives, positives)
    ranks = _ranks(np.concatenate(inside), np.concatenate(weights), negatives)
    return Ranked(ranks, _histograms(maps, truths, inside, weights, edges))


def pixel_metrics(ranked: Ranked, draws: NDArray[np.int64]) -> PixelMetrics:
    """Return all four, exact, with intervals over the rounds of `training.metrics.bootstrap.multiplicities`.

    The rounds' figures come from the histograms. A bin holds about 1/2,000 of the negatives, so that a round's AUROC is
    off by at most about 1/4,000 and its PRO by that over 0.3; ties cost nothing, they never lie in two bins.
    """
    return PixelMetrics(
        auroc=_estimate(counts.auroc, ranked.ranks.by_pixel, ranked.histograms.pixels, ranked, draws),
        ap=_estimate(counts.average_precision, ranked.ranks.by_pixel, ranked.histograms.pixels, ranked, draws),
        f1_max=_estimate(counts.f1_max, ranked.ranks.by_pixel, ranked.histograms.pixels, ranked, draws),
        pro=_estimate(_pro, ranked.ranks.by_region, ranked.histograms.regions, ranked, draws),
    )


def pixel_auroc(ranked: Ranked, draws: NDArray[np.int64]) -> Estimate:
    """Return P-AUROC alone, with its interval."""
    return _estimate(counts.auroc, ranked.ranks.by_pixel, ranked.histograms.pixels, ranked, draws)


def pro(ranked: Ranked, limit: float = PRO_LIMIT) -> float:
    """Return PRO: mean overlap of the true regions over false positive rates from 0 to `limit`, scaled to 1; exact."""
    return float(counts.area_to(ranked.ranks.by_region, limit))


def pro_estimate(ranked: Ranked, draws: NDArray[np.int64]) -> Estimate:
    """Return PRO alone, with its interval."""
    return _estimate(_pro, ranked.ranks.by_region, ranked.histograms.regions, ranked, draws)


def region_weights(truth: Truth) -> Weights:
    """Return 1 / (its region's size) for each true pixel, in the order of `values[truth]`."""
    if not truth.any():
        return np.zeros(0)
    labels, _ = ndimage.label(truth, structure=TOUCHING)
    of_pixel = labels[truth]
    return np.asarray(1 / np.bincount(of_pixel)[of_pixel])


def sorted_values(maps: Sequence[Map], chosen: Sequence[Truth]) -> Map:
    """Return the chosen pixels of all maps in one rising array.

    Raises:
        ValueError: for a value that is not finite.
    """
    kind = np.result_type(np.float32, *{values.dtype for values in maps})
    values_sorted = np.empty(sum(int(np.count_nonzero(mask)) for mask in chosen), dtype=kind)
    start = 0
    for values, mask in zip(maps, chosen, strict=True):
        part = values[mask]
        if not np.isfinite(part).all():
            raise ValueError("a map holds a value that is not finite: no rank can be given to it; inspect again")
        values_sorted[start : start + len(part)] = part
        start += len(part)
    values_sorted.sort()
    return values_sorted


def per_edge(values: Map, edges: Map) -> NDArray[np.int64]:
    """Return how many of the rising `values` are not smaller than each of the falling `edges`."""
    return np.asarray(len(values) - np.searchsorted(values, edges, side="left"), dtype=np.int64)


def _ranks(values: Map, weights: Weights, negatives: Map) -> Ranks:
    rising, where = np.unique(values.astype(negatives.dtype), return_inverse=True)
    left = np.searchsorted(negatives, rising, side="left")
    right = np.searchsorted(negatives, rising, side="right")
    return Ranks(
        values=rising[::-1],
        pixels=np.bincount(where)[::-1].astype(np.float64),
        regions=np.bincount(where, weights=weights)[::-1].astype(np.float64),
        above=len(negatives) - right[::-1],
        at_least=len(negatives) - left[::-1],
        negatives=len(negatives),
    )


def _edges(negatives: Map, positives: Map) -> Map:
    """Return falling values between which pixels are not distinguished.

    They are even in rank, and ever finer towards the highest.
    """
    ranks = np.concatenate([np.linspace(1, len(negatives), GRID), np.geomspace(1, len(negatives), GRID)])
    positive_ranks = np.linspace(1, len(positives), GRID)
    chosen = [negatives[-ranks.astype(np.int64)], positives[-positive_ranks.astype(np.int64)]]
    return np.unique(np.concatenate(chosen))[::-1]


def _histograms(
    maps: Sequence[Map], truths: Sequence[Truth], inside: Sequence[Map], weights: Sequence[Weights], edges: Map
) -> Histograms:
    """Return the histograms of every image.

    Bin k holds the values from edge k up to, without it, edge k - 1; the last one holds all below the lowest edge.
    """
    shape = len(maps), len(edges) + 1
    pixels, regions, negative = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for index, (values, truth) in enumerate(zip(maps, truths, strict=True)):
        outside = np.sort(values[~truth].astype(edges.dtype))
        negative[index] = np.diff(per_edge(outside, edges), prepend=0, append=len(outside))
        bins = len(edges) - np.searchsorted(edges[::-1], inside[index].astype(edges.dtype), side="right")
        pixels[index] = np.bincount(bins, minlength=shape[1])
        regions[index] = np.bincount(bins, weights=weights[index], minlength=shape[1])
    return Histograms(pixels, regions, negative)


def _estimate(
    figure: Callable[[Counts], Weights],
    exact: Counts,
    positive: Weights,
    ranked: Ranked,
    draws: NDArray[np.int64],
) -> Estimate:
    negative = ranked.histograms.negative
    return bootstrap(float(figure(exact)), lambda times: figure(Counts(times @ positive, times @ negative)), draws)


def _pro(counted: Counts) -> Weights:
    return counts.area_to(counted, PRO_LIMIT)


def _between(positive: Weights) -> Weights:
    """Return (2 K + 1,) for (K,): nothing positive in the gaps."""
    spread = np.zeros(2 * len(positive) + 1)
    spread[1::2] = positive
    return spread
