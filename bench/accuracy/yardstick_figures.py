"""The figures of yardsticks and bundles on the same images, each with its interval.

A threshold that is read off the test images is called an oracle: nobody has it in a factory. *Found* is never that:
it rests on a detector's own threshold (`training.evaluation.comparison`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model_store.manifest import VerdictThresholds
from training.data.dataset import TestImage
from training.evaluation.comparison import defective, differences, share_estimate
from training.evaluation.evaluate import evaluation_row, located_maps
from training.evaluation.figures import measure
from training.evaluation.rows import Evaluation, EvaluationRow
from training.metrics.bootstrap import rate_estimate
from training.parallel_inspection import ImageResult
from training.progress import Count, Progress

ORACLE_RATE = 0.02
"""The false rejects at which an oracle's threshold stands."""


@dataclass(frozen=True)
class DetectorCost:
    """What a detector costs; None: not measured."""

    train_seconds: float | None
    good_image_ms: float | None
    """The median over good images, from the file to score and map."""
    defective_image_ms: float | None
    """The same over defective ones, which may take a longer way."""
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


def measure_detector(result: DetectorResult, images: Sequence[TestImage], data: Path, progress: Count) -> Evaluation:
    """Return a detector measured on the test images."""
    rows = [evaluation_row(image, one, data, result.limits) for image, one in zip(images, result.images, strict=True)]
    return measure(rows, located_maps(images, result.images), result.limits, progress)


def compare_detectors(
    results: Sequence[DetectorResult], images: Sequence[TestImage], data: Path, progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the figures of each detector, and of each but the first, by name, its differences from the first."""
    measured = [measure_detector(one, images, data, partial(progress, f"measuring {one.name}")) for one in results]
    figures = [detector_figures(result, one) for result, one in zip(results, measured, strict=True)]
    later = zip(results[1:], measured[1:], strict=True)
    return figures, {result.name: differences(one, measured[0]) for result, one in later}


def detector_figures(result: DetectorResult, measured: Evaluation) -> dict[str, Any]:
    """Return all figures of one detector, as plain JSON."""
    figures = {key: value for key, value in measured.figures.items() if key != "denoising_step"}
    by_defect = [{key: value for key, value in of.items() if key != "denoising_step"} for of in figures["by_defect"]]
    return {
        "name": result.name,
        "about": result.about,
        "cost": asdict(result.cost),
        "found_at_its_threshold": {},
        "oracle": oracle_figures(measured.rows),
        **figures,
        "by_defect": by_defect,
        "scores": {row.file: round(row.score, 6) for row in measured.rows},
    }


def oracle_figures(rows: Sequence[EvaluationRow]) -> dict[str, Any]:
    """Return what is found at a threshold that the test images' own good ones give: of all defects, and by kind."""
    limit = oracle_threshold([row.score for row in rows if row.is_good])
    defects = [row for row in rows if not row.is_good]
    kinds = sorted({row.defect for row in defects})
    above = np.array([row.score > limit for row in rows])
    return {
        "false_rejects": ORACLE_RATE,
        "threshold": limit,
        "found": asdict(share_estimate(above, defective(rows), [row.group for row in rows])),
        "by_defect": {kind: _share_above(defects, kind, limit) for kind in kinds},
    }


def oracle_threshold(good: Sequence[float]) -> float:
    """Return the score above which at most `ORACLE_RATE` of these good images lie."""
    return sorted(good, reverse=True)[math.floor(ORACLE_RATE * len(good))]


def _share_above(defects: Sequence[EvaluationRow], kind: str, limit: float) -> dict[str, Any]:
    of_kind = [row.score > limit for row in defects if row.defect == kind]
    return {"images": len(of_kind), "found": asdict(rate_estimate(sum(of_kind), len(of_kind)))}
