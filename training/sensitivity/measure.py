"""The share of synthetic anomalies that a bundle's models find at its fail threshold, by kind, contrast and size.

The anomalies lie on good images that no training saw; no defect of a test set is used. Shares come with the one-sided
lower bound of Clopper and Pearson. "From s px on 90 % are found" is read off the isotonic regression of found on size:
the share grows with the size, and nothing else is assumed of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import binomtest

from glad.settings.method import MethodSettings
from training.parallel_inspection import ImageResult, inspect_altered, inspect_images
from training.progress import Progress
from training.sensitivity.choosing import CONTRASTS, ChosenAnomaly, WantedAnomalies, choose_anomalies
from training.synthesis.anomalies import KINDS, fill_source
from training.synthesis_recipe import SensitivityRecipe, SynthesisRecipe

STAGE = "what is found"
"""Of a training; its first part, in which anomalies are drawn, is shown by itself."""
SHARE = 0.9
"""Of the anomalies, that is to be found from some size on."""
CONFIDENCE = 0.95
LEAST_BEYOND = 6
"""Anomalies that must be at least as large, for a size to be named: fewer could all be found by chance."""


@dataclass(frozen=True)
class FoundCount:
    """How many of some anomalies were found."""

    anomalies: int
    found: int

    @classmethod
    def among(cls, found: Iterable[bool]) -> FoundCount:
        """Return the count of what was found, or not."""
        each = tuple(found)
        return cls(len(each), sum(each))

    @property
    def share(self) -> float:
        """Return the share that was found; NaN where none was tried."""
        return self.found / self.anomalies if self.anomalies else float("nan")

    @property
    def at_least(self) -> float:
        """Return the lower bound of the share, with `CONFIDENCE` (Clopper and Pearson); 0 where none was tried."""
        if not self.found:
            return 0.0
        interval = binomtest(self.found, self.anomalies, alternative="greater").proportion_ci(CONFIDENCE, "exact")
        return float(interval.low)


@dataclass(frozen=True)
class TriedAnomaly:
    """An anomaly that was inspected."""

    chosen: ChosenAnomaly
    score: float
    found: bool
    """Its score reaches the fail threshold."""


@dataclass(frozen=True)
class SensitivityLine:
    """What was found of one kind at one contrast."""

    kind: str
    contrast: str
    all: FoundCount
    by_size: tuple[FoundCount, ...]
    """For each class of size."""
    from_px: float | None
    """Size from which `SHARE` is found, in pixels of the original; None: not within the sizes that were tried."""
    beyond: FoundCount
    """Of those at least as large; where no size is named, of the largest class that has any."""


@dataclass(frozen=True)
class Sensitivity:
    """What a bundle finds of synthetic anomalies, and what was tried for it."""

    lines: tuple[SensitivityLine, ...]
    size_edges: tuple[float, ...]
    """Where classes of size begin, in pixels of the originals; the last one has no upper end."""
    tried: tuple[TriedAnomaly, ...]
    chosen: int
    """Anomalies that were to be tried; the time may have been too short for all."""
    good: FoundCount
    """The same images without an anomaly, and how many of them fail."""
    fail: float
    seed: int
    learnt: frozenset[str] | None
    """Kinds that the training made anomalies of; None: not known."""


def measure_sensitivity(
    bundle: Path,
    settings: MethodSettings,
    fail: float,
    paths: Sequence[Path],
    *,
    recipe: SensitivityRecipe,
    synthesis: SynthesisRecipe | None,
    seed: int,
    progress: Progress,
    workers: int | None = None,
) -> Sensitivity:
    """Plant anomalies into good images, inspect them under the settings, and count which reach the fail threshold.

    Args:
        bundle: whose weights inspect.
        settings: under which they inspect, and under which `fail` was found.
        fail: score from which a part fails.
        paths: good images that no training saw.
        recipe: how many anomalies are tried, and for how long.
        synthesis: the training's; None: not known.
        seed: another seed, other anomalies.
        progress: shown while anomalies are drawn, and while they are inspected.
        workers: processes; None: one per core; 1: all in this one.
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 7023])))
    some = tuple(paths[i] for i in sorted(rng.permutation(len(paths))[: recipe.images]))
    made_by = synthesis or SynthesisRecipe(pairs=8)
    cut = made_by.settings(settings)
    wanted = WantedAnomalies(some, cut, recipe.kinds or KINDS, recipe.per_cell, seed, fill_source(made_by))
    edges = wanted.size_edges()
    progress(STAGE, 0, len(wanted.kinds) * len(CONTRASTS) * len(edges) * recipe.per_cell)
    chosen = choose_anomalies(wanted, edges, progress=partial(progress, "anomalies to try"), workers=workers)
    unchanged = inspect_images(bundle, settings, some, progress=partial(progress, "good images"), workers=workers)
    good = FoundCount.among(result.score >= fail for result in unchanged)
    images = [(one.path, one.planting(cut)) for one in chosen]
    results = inspect_altered(bundle, settings, images, progress=partial(progress, STAGE), workers=workers)
    inspected = _within(results, recipe.seconds)
    tried = tuple(
        TriedAnomaly(one, result.score, result.score >= fail) for one, result in zip(chosen, inspected, strict=False)
    )
    learnt = None if synthesis is None else frozenset(kind for kind, weight in synthesis.weights.items() if weight > 0)
    lines = tuple(line_of(kind, contrast, tried, len(edges)) for kind in wanted.kinds for contrast in CONTRASTS)
    return Sensitivity(lines, edges, tried, len(chosen), good, fail, seed, learnt)


def _within(results: Iterable[ImageResult], seconds: float) -> list[ImageResult]:
    """Return the results that came in time, at least one."""
    begun, taken = time.monotonic(), []
    for result in results:
        taken.append(result)
        if time.monotonic() - begun > seconds:
            break
    return taken


def line_of(kind: str, contrast: str, tried: Sequence[TriedAnomaly], size_classes: int) -> SensitivityLine:
    """Return what was found of one kind at one contrast."""
    own = [one for one in tried if (one.chosen.draw.kind, one.chosen.contrast) == (kind, contrast)]
    by_size = tuple(
        FoundCount.among(one.found for one in own if one.chosen.size_class == number) for number in range(size_classes)
    )
    from_px = size_found([one.chosen.size_px for one in own], [one.found for one in own])
    if from_px is None:
        beyond = next((count for count in reversed(by_size) if count.anomalies), FoundCount(0, 0))
    else:
        beyond = FoundCount.among(one.found for one in own if one.chosen.size_px >= from_px)
    return SensitivityLine(kind, contrast, FoundCount.among(one.found for one in own), by_size, from_px, beyond)


def size_found(sizes: Sequence[float], found: Sequence[bool], share: float = SHARE) -> float | None:
    """Return the least size from which the isotonic regression of found on size reaches a share.

    None if it does at no size, or only for the few largest.
    """
    if len(sizes) < LEAST_BEYOND:
        return None
    order = np.argsort(sizes, kind="stable")
    fitted = isotonic_regression(np.asarray(found, dtype=float)[order]).x
    reached = np.flatnonzero(fitted >= share - 1e-9)
    if len(reached) < LEAST_BEYOND:
        return None
    return float(np.asarray(sizes)[order][reached[0]])
