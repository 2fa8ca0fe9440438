"""Repeatability: whether the same part gets the same verdict when it is inspected again under simulated camera noise.

The method's own noise is seeded by the pixels, so every repeat draws new noise too: the whole chain is measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model_store.bundle import open_bundle
from model_store.manifest import VerdictThresholds
from training.data.camera_noise import CameraNoise, add_camera_noise
from training.evaluation.figures import VERDICTS
from training.evaluation.rows import Evaluation, EvaluationRow
from training.metrics.bootstrap import rate_estimate
from training.parallel_inspection import inspect_altered
from training.progress import Count


@dataclass(frozen=True)
class Repeats:
    """The scores of an image, one per exposure, beside its row without noise."""

    row: EvaluationRow
    scores: tuple[float, ...]

    @property
    def score_std(self) -> float:
        """The scores' standard deviation (n - 1)."""
        return float(np.std(self.scores, ddof=1))


def repeat(
    bundle_folder: Path,
    data: Path,
    rows: Sequence[EvaluationRow],
    count: int,
    camera: CameraNoise,
    *,
    progress: Count | None = None,
    workers: int | None = None,
) -> tuple[Repeats, ...]:
    """Inspect each row's image `count` times, each time as the camera would show it.

    Raises:
        ValueError: if `count` is below 2.
    """
    if count < 2:
        raise ValueError(f"{count} repeats: agreement takes at least 2, raise --repeats")
    exposures = [
        (data / row.file, partial(add_camera_noise, camera=camera, name=f"{row.file}:{number}"))
        for row in rows
        for number in range(count)
    ]
    settings = open_bundle(bundle_folder).manifest.settings
    scanned = inspect_altered(bundle_folder, settings, exposures, progress=progress, workers=workers)
    scores = [result.score for result in scanned]
    return tuple(Repeats(row, tuple(scores[i * count : (i + 1) * count])) for i, row in enumerate(rows))


def with_repeatability(
    outcome: Evaluation, repeats: Sequence[Repeats], camera: CameraNoise, limits: VerdictThresholds | None
) -> Evaluation:
    """Return the evaluation with its figures' `repeatability`."""
    repeatability = repeatability_figures(repeats, camera, limits)
    return replace(outcome, figures={**outcome.figures, "repeatability": repeatability})


def repeatability_figures(
    repeats: Sequence[Repeats], camera: CameraNoise, limits: VerdictThresholds | None
) -> dict[str, Any]:
    """Return how steady scores are and, where there are thresholds, verdicts, as plain JSON."""
    spreads = [one.score_std for one in repeats]
    return {
        "images": len(repeats),
        "repeats": len(repeats[0].scores),
        "camera": camera.model_dump(),
        "score_std": {"median": float(np.median(spreads)), "largest": float(np.max(spreads))},
        **({} if limits is None else _agreement(repeats, limits)),
    }


def _agreement(repeats: Sequence[Repeats], limits: VerdictThresholds) -> dict[str, Any]:
    verdicts = [Counter(str(limits.verdict(score)) for score in one.scores) for one in repeats]
    flips = [_flip(one, counted) for one, counted in zip(repeats, verdicts, strict=True) if len(counted) > 1]
    ratios = [_std_over_distance(one, limits) for one in repeats]
    return {
        "never_changes": asdict(rate_estimate(len(repeats) - len(flips), len(repeats))),
        "pairwise_agreement": float(np.mean([_pairs_that_agree(counted) for counted in verdicts])),
        "std_over_distance": {
            "median": float(np.median(ratios)),
            "q95": float(np.quantile(ratios, 0.95, method="inverted_cdf")),
        },
        "flips": flips,
    }


def _pairs_that_agree(verdicts: Counter[str]) -> float:
    """Return the share of an image's pairs of repeats that have the same verdict."""
    total = verdicts.total()
    return sum(n * (n - 1) for n in verdicts.values()) / (total * (total - 1))


def _std_over_distance(one: Repeats, limits: VerdictThresholds) -> float:
    """Return the scores' standard deviation over the distance of their mean from the nearer threshold.

    A mean that lies on the threshold counts as the smallest distance there is: the ratio is huge, not infinite.
    """
    mean = float(np.mean(one.scores))
    distance = min(abs(mean - limits.review), abs(mean - limits.fail))
    return one.score_std / max(distance, float(np.spacing(limits.fail)))


def _flip(one: Repeats, verdicts: Counter[str]) -> dict[str, Any]:
    return {
        "file": one.row.file,
        "defect": one.row.defect,
        "score": one.row.score,
        "verdict": one.row.verdict,
        "mean_score": float(np.mean(one.scores)),
        "score_std": one.score_std,
        "verdicts": {name: verdicts[name] for name in VERDICTS},
    }
