"""Other measures that could tell blur or a missing part, beside those that the quality gate uses.

Each gets its limit from the same good images by the same rule, and is asked about the same spoiled images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench.accuracy.gate import Asked, spoiled
from bench.accuracy.spoiled import SPOILINGS
from bench.support.images import spread as evenly
from glad.images.placement import fit
from glad.quality_gate.limits import VIEW_SIDE, Check
from glad.quality_gate.measure import MOST_SHIFT, grey_of
from glad.quality_gate.sharpness import sharpness
from training.process_pool import spread
from training.progress import Count
from training.quality_gate import SHARPNESS_MARGIN, UNLIKENESS_MARGIN, factor_above, factor_below

Grey = NDArray[np.float32]
CREASE = 9
"""Pixels over which the blur effect blurs again."""
COMPONENTS = 4
_LEAST = 1e-6


@dataclass(frozen=True)
class Seen:
    """One image at the two sizes that the candidates look at."""

    square: Grey
    """As the models see it, without padding."""
    view: Grey
    """(VIEW_SIDE, VIEW_SIDE)."""


@dataclass(frozen=True)
class Told:
    """One candidate on one set: the share that it stops, and how far the median lies inside its limit, as a factor."""

    candidate: str
    name: str
    stopped: float
    inside: float


def compare(good: Sequence[Path], tested: Sequence[Path], side: int, count: int, progress: Count) -> list[Told]:
    """Every candidate learned on at most `count` good images, and asked about as many spoiled ones of every kind."""
    learned = [Asked(path) for path in evenly(good, count)]
    asked = [Asked(path, number) for number in range(len(SPOILINGS)) for path in evenly(tested, count)]
    seen = []
    for done, one in enumerate(spread(partial(_see, side=side), [*learned, *asked], chunk=4), start=1):
        seen.append(one)
        progress(done, len(learned) + len(asked))
    known, rest = seen[: len(learned)], seen[len(learned) :]
    per = len(rest) // len(SPOILINGS)
    found = []
    for number, spoiling in enumerate(SPOILINGS):
        part = rest[number * per : (number + 1) * per]
        if spoiling.expected in (None, Check.BLURRED):
            found += [_sharp(name, measure, known, part, spoiling.name) for name, measure in SHARPNESS.items()]
        if spoiling.expected in (None, Check.NO_PART):
            found += [_alike(name, learn(known), known, part, spoiling.name) for name, learn in LIKENESS.items()]
    return found


def _see(asked: Asked, side: int) -> Seen:
    pixels = spoiled(asked.path, asked.spoiling)
    fitted = fit(pixels, side)
    return Seen(grey_of(fitted.pixels[fitted.placement.content]), grey_of(fit(pixels, VIEW_SIDE).pixels))


def _sharp(name: str, measure: Callable[[Grey], float], known: Sequence[Seen], part: Sequence[Seen], on: str) -> Told:
    limit = factor_below([measure(one.square) for one in known], SHARPNESS_MARGIN)
    values = np.array([measure(one.square) for one in part])
    return Told(name, on, float((values < limit).mean()), float(np.median(values)) / max(limit, _LEAST))


def _alike(name: str, unlike: Callable[[Grey], float], known: Sequence[Seen], part: Sequence[Seen], on: str) -> Told:
    limit = factor_above([unlike(one.view) for one in known], UNLIKENESS_MARGIN)
    values = np.array([unlike(one.view) for one in part])
    return Told(name, on, float((values > limit).mean()), limit / max(float(np.median(values)), _LEAST))


def laplacian_variance(grey: Grey) -> float:
    """Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000."""
    return float(ndimage.laplace(grey, mode="nearest").var())


def laplacian_over_contrast(grey: Grey) -> float:
    """The same over the image's own variance, so that light cancels."""
    return laplacian_variance(grey) / (float(grey.var()) + _LEAST)


def tenengrad_over_contrast(grey: Grey) -> float:
    """Mean squared gradient (Krotkov, "Focusing", 1988) over the variance."""
    down, across = np.gradient(grey)
    return float((down**2 + across**2).mean()) / (float(grey.var()) + _LEAST)


def blur_effect(grey: Grey) -> float:
    """1 - the blur effect of Crete et al., 2007: how much of its variation an image loses when it is blurred again."""
    return min(_lost(grey, axis) for axis in (0, 1))


def _lost(grey: Grey, axis: int) -> float:
    again = ndimage.uniform_filter1d(grey, CREASE, axis=axis, mode="nearest")
    own, left = (np.abs(np.diff(values, axis=axis)) for values in (grey, again))
    return float(np.maximum(0, own - left).sum()) / (float(own.sum()) + _LEAST)


def mean_frequency(grey: Grey) -> float:
    """The quality gate's own: `glad.quality_gate.sharpness`."""
    return sharpness([(grey, np.ones(grey.shape, dtype=np.bool_))])


def correlation(known: Sequence[Seen], shift: int) -> Callable[[Grey], float]:
    """1 - the correlation with the mean of good images, the best over shifts of so many pixels (Lewis, 1995)."""
    inner = slice(shift, VIEW_SIDE - shift)
    mean = _normed(np.mean([one.view for one in known], axis=0)[inner, inner])
    moves = [(y, x) for y in range(2 * shift + 1) for x in range(2 * shift + 1)]
    size = VIEW_SIDE - 2 * shift

    def unlike(view: Grey) -> float:
        return 1 - max(float((_normed(view[y : y + size, x : x + size]) * mean).sum()) for y, x in moves)

    return unlike


def eigenspace(known: Sequence[Seen]) -> Callable[[Grey], float]:
    """What a few principal components of good images leave over (Turk and Pentland, "Eigenfaces", 1991)."""
    rows = np.array([_normed(one.view).ravel() for one in known])
    mean = rows.mean(axis=0)
    components = np.linalg.svd(rows - mean, full_matrices=False)[2][:COMPONENTS]

    def unlike(view: Grey) -> float:
        off = _normed(view).ravel() - mean
        return float(np.linalg.norm(off - components.T @ (components @ off)))

    return unlike


def _normed(view: Grey) -> Grey:
    off = view - view.mean()
    return np.asarray(off / (np.linalg.norm(off) + _LEAST))


SHARPNESS: dict[str, Callable[[Grey], float]] = {
    "variance of the Laplacian": laplacian_variance,
    "Laplacian over contrast": laplacian_over_contrast,
    "Tenengrad over contrast": tenengrad_over_contrast,
    "blur effect": blur_effect,
    "mean frequency (used)": mean_frequency,
}
LIKENESS: dict[str, Callable[[Sequence[Seen]], Callable[[Grey], float]]] = {
    "correlation": partial(correlation, shift=0),
    "correlation over shifts (used)": partial(correlation, shift=MOST_SHIFT),
    "four principal components": eigenspace,
}
