"""Repeatability: whether the same part gets the same verdict when it is inspected again under simulated camera noise.

The method's own noise is seeded by the pixels, so every repeat draws new noise too: the whole chain is measured.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from glad.settings import Frozen
from model_store.bundle import open_bundle
from model_store.manifest import VerdictThresholds
from training.evaluation.figures import VERDICTS
from training.evaluation.rows import Evaluation, EvaluationRow
from training.metrics.bootstrap import rate_estimate
from training.parallel_inspection import inspect_altered
from training.progress import Count


class CameraNoise(Frozen):
    """Noise of a linear 8-bit camera, each pixel and channel by itself, as the EMVA 1288 standard models it.

    Light of v 8-bit values is v / gain electrons, whose number is Poisson-distributed: a standard deviation of
    sqrt(v gain) 8-bit values. Reading adds a Gaussian one of its own. Rounding to whole values comes last.

    The defaults are those of an ordinary industrial sensor with small pixels, in their order of magnitude and not of a
    certain model: about 10,000 electrons at 255 (gain 0.0255), so 2.5 values of shot noise in white and 1.1 in dark
    grey (50); read noise of 0.5 values, some 20 electrons, more than such sensors' own few, which leaves room for their
    electronics. The image that is noised has its own camera's noise already: this is the noise of one picture more.
    """

    gain: float = Field(default=0.0255, gt=0, description="8-bit values per electron")
    read_noise: float = Field(default=0.5, ge=0, description="standard deviation in 8-bit values")


@dataclass(frozen=True)
class Exposure:
    """An exposure of a file's scene.

    `file` is a name that stays the same wherever the data lies; `number` tells the exposures of one file apart.
    """

    camera: CameraNoise
    file: str
    number: int


def add_camera_noise(pixels: NDArray[np.uint8], exposure: Exposure) -> NDArray[np.uint8]:
    """Return the same scene taken once more.

    Equal pixels and exposure give an equal picture.

    Args:
        pixels: (H, W, 3) uint8.
    """
    digest = hashlib.sha256(f"{exposure.file}:{exposure.number}".encode()).digest()
    rng = np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))
    camera = exposure.camera
    values = rng.poisson(pixels / camera.gain) * camera.gain + rng.normal(0, camera.read_noise, pixels.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


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
        (data / row.file, partial(add_camera_noise, exposure=Exposure(camera, row.file, number)))
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
