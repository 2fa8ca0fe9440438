"""The figures of yardsticks and bundles on the same images: each with its interval, and their paired differences.

*Found* is the share of defective images at or above a detector's own fail threshold, beside the false rejects that this
threshold makes. A threshold that is read off the test images is called an oracle: nobody has it in a factory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_store.manifest import VerdictThresholds
from training.data.dataset import TestImage
from training.evaluation.evaluate import evaluation_row, located_maps
from training.evaluation.figures import measure
from training.evaluation.rows import EvaluationRow, Located
from training.metrics import counts
from training.metrics.bootstrap import Estimate, bootstrap, multiplicities, rate_estimate
from training.metrics.counts import Counts, Weights
from training.metrics.image_metrics import image_auroc, image_counts
from training.metrics.pixel_metrics import PRO_LIMIT, Ranked, rank_pixels
from training.parallel_inspection import ImageResult
from training.progress import Count

ORACLE_RATE = 0.02
"""The false rejects at which an oracle's threshold stands."""


@dataclass(frozen=True)
class DetectorCost:
    """What a detector costs; None: not measured."""

    train_seconds: float | None
    image_ms: float | None
    """The median, from the image file to score and map."""
    model_bytes: int | None


@dataclass(frozen=True, eq=False)
class DetectorResult:
    """What a detector said of the test images."""

    name: str
    images: tuple[ImageResult, ...]
    limits: VerdictThresholds | None
    """None: it has no thresholds, and nothing rests on verdicts."""
    cost: DetectorCost
    about: dict[str, Any]
    """Its settings, how it was calibrated, and where it came from."""


@dataclass(frozen=True, eq=False)
class MeasuredDetector:
    """A detector's rows and maps, ready to be drawn again and again."""

    result: DetectorResult
    rows: tuple[EvaluationRow, ...]
    located: tuple[Located, ...]
    ranked: Ranked | None
    """None: no defect has a mask."""

    @property
    def defective(self) -> NDArray[np.bool_]:
        """Return which of the images are defective."""
        return np.array([not row.is_good for row in self.rows])

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Return which of the images fail."""
        return np.array([row.verdict == "fail" for row in self.rows])

    @property
    def scores(self) -> list[float]:
        """Return the images' scores."""
        return [row.score for row in self.rows]

    def exact(self) -> dict[str, float]:
        """Return the figures that are compared."""
        figures = {"image_auroc": image_auroc(self.scores, self.defective)}
        if self.ranked is not None:
            figures["pixel_auroc"] = float(counts.auroc(self.ranked.ranks.by_pixel))
            figures["pro"] = float(counts.area_to(self.ranked.ranks.by_region, PRO_LIMIT))
        if self.result.limits is not None:
            once = np.ones((1, len(self.rows)))
            figures["found"] = float(share(self.failed, self.defective, once)[0])
            figures["false_rejects"] = float(share(self.failed, ~self.defective, once)[0])
        return figures

    def drawn(self, name: str, times: Weights) -> Weights:
        """Return a figure of `exact` for each bootstrap round: (rounds,).

        Args:
            times: (rounds, images), how often each image counts.
        """
        match name:
            case "image_auroc":
                return counts.auroc(image_counts(self.scores, self.defective, times))
            case "found":
                return share(self.failed, self.defective, times)
            case "false_rejects":
                return share(self.failed, ~self.defective, times)
        assert self.ranked is not None
        histograms, of_maps = self.ranked.histograms, times[:, [one.row for one in self.located]]
        negative = of_maps @ histograms.negative
        if name == "pixel_auroc":
            return counts.auroc(Counts(of_maps @ histograms.pixels, negative))
        return counts.area_to(Counts(of_maps @ histograms.regions, negative), PRO_LIMIT)


def measure_detector(result: DetectorResult, images: Sequence[TestImage], data: Path) -> MeasuredDetector:
    """Return a detector's rows, and the ranks of its maps' pixels."""
    rows = tuple(
        evaluation_row(image, one, data, result.limits) for image, one in zip(images, result.images, strict=True)
    )
    located = tuple(located_maps(images, result.images))
    ranked = None
    if any(one.truth.any() for one in located):
        ranked = rank_pixels([one.map for one in located], [one.truth for one in located])
    return MeasuredDetector(result, rows, located, ranked)


def detector_figures(measured: MeasuredDetector, progress: Count) -> dict[str, Any]:
    """Return all figures of one detector, as plain JSON."""
    result = measured.result
    figures = measure(measured.rows, measured.located, result.limits, progress).figures
    del figures["denoising_step"]
    for kind in figures["by_defect"]:
        del kind["denoising_step"]
    sides = {"found": measured.defective, "false_rejects": ~measured.defective}
    by_verdict = {
        name: asdict(share_estimate(measured.failed, among, [row.group for row in measured.rows]))
        for name, among in sides.items()
        if result.limits is not None
    }
    return {
        "name": result.name,
        "about": result.about,
        "cost": asdict(result.cost),
        "found_at_its_threshold": by_verdict,
        "oracle": oracle_figures(measured),
        **figures,
        "scores": {row.file: round(row.score, 6) for row in measured.rows},
    }


def oracle_figures(measured: MeasuredDetector) -> dict[str, Any]:
    """Return what is found at a threshold that the test images' own good ones give: of all defects, and by kind."""
    limit = oracle_threshold([row.score for row in measured.rows if row.is_good])
    defects = [row for row in measured.rows if not row.is_good]
    kinds = sorted({row.defect for row in defects})
    above = np.array(measured.scores) > limit
    return {
        "false_rejects": ORACLE_RATE,
        "threshold": limit,
        "found": asdict(share_estimate(above, measured.defective, [row.group for row in measured.rows])),
        "by_defect": {kind: _share_above(defects, kind, limit) for kind in kinds},
    }


def oracle_threshold(good: Sequence[float]) -> float:
    """Return the score above which at most `ORACLE_RATE` of these good images lie."""
    return sorted(good, reverse=True)[math.floor(ORACLE_RATE * len(good))]


def share_estimate(chosen: NDArray[np.bool_], among: NDArray[np.bool_], groups: Sequence[str]) -> Estimate:
    """Return which share of the images in `among` is chosen, with its interval by group.

    Where none or all of them are chosen every round says the same; the interval is then the exact one, as if each group
    were one image.
    """
    value = float(share(chosen, among, np.ones((1, len(chosen))))[0])
    if value in (0.0, 1.0):
        parts = len({group for group, is_among in zip(groups, among, strict=True) if is_among})
        return rate_estimate(round(value) * parts, parts)
    return bootstrap(value, lambda times: share(chosen, among, times), multiplicities(groups))


def share(chosen: NDArray[np.bool_], among: NDArray[np.bool_], times: Weights) -> Weights:
    """Return which share of the images in `among` is chosen, per round: (rounds,). NaN in rounds without any."""
    weights = times * among
    with np.errstate(invalid="ignore"):
        return np.asarray((weights * chosen).sum(axis=1) / weights.sum(axis=1))


def differences(one: MeasuredDetector, other: MeasuredDetector) -> dict[str, Any]:
    """Return each figure of one detector minus the other's, with the interval over rounds that are drawn for both."""
    draws = multiplicities([row.group for row in one.rows])
    first, second = one.exact(), other.exact()
    return {
        name: asdict(
            bootstrap(
                first[name] - second[name],
                partial(_gap, one, other, name),
                draws,
            )
        )
        for name in first
        if name in second
    }


def _gap(one: MeasuredDetector, other: MeasuredDetector, name: str, times: Weights) -> Weights:
    return one.drawn(name, times) - other.drawn(name, times)


def _share_above(defects: Sequence[EvaluationRow], kind: str, limit: float) -> dict[str, Any]:
    of_kind = [row.score > limit for row in defects if row.defect == kind]
    return {"images": len(of_kind), "found": asdict(rate_estimate(sum(of_kind), len(of_kind)))}
