"""The quality gate's limits, learned from good images alone.

Each limit lies beyond the most extreme good image, as far again as that one lies from the median, and at least by a
margin for what the images of one day don't show: lamps age, and a lens is never as sharp in summer as in winter.

Of n good images, a fresh one goes beyond the most extreme with a chance of at most 1 / (n + 1), whatever the measure's
distribution, as long as it comes from the same line. So no more than CHECKS / (n + 1) of the good parts are gated, and
with the distance doubled far fewer.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glad.image_codec import Pixels
from glad.quality_gate.limits import QualityGate
from glad.quality_gate.measure import QualityMeasures, find_unfit, likeness, measure_quality
from glad.settings.method import MethodSettings
from training.data.dataset import Split, read_pixels
from training.process_pool import parallel_map
from training.progress import Count

CHECKS = 6
"""Limits that an image can pass, each on one side."""
LIGHT_MARGIN = 1.25
"""A factor of the brightness: about two thirds of a stop, since grey levels are no linear light."""
SHARE_MARGIN = 0.05
"""Of the image, in black or in white."""
SHARPNESS_MARGIN = 1.1
"""A factor of the sharpness."""
UNLIKENESS_MARGIN = 2.0
"""A factor of 1 - likeness."""
LIKE_ENOUGH = 0.85
"""No image that is so like the good ones is said to be without the part, however alike those are among themselves."""
_LEAST = 1e-6


@dataclass(frozen=True)
class LearnedGate:
    """A gate, and for the manifest how it was found."""

    gate: QualityGate
    report: dict[str, Any]


def learn_gate(
    split: Split, settings: MethodSettings, *, progress: Count | None = None, workers: int | None = None
) -> LearnedGate:
    """Return the gate: the expected view from the training images, every limit from all good images.

    Raises:
        DataError: for an image that cannot be read.
    """
    measured = _all_measured((*split.train, *split.calibration), settings, progress, workers)
    return limits_from_good_images(measured, expected_view(measured[: len(split.train)]))


def first_checks(
    gate: QualityGate,
    settings: MethodSettings,
    paths: Sequence[Path],
    *,
    progress: Count | None = None,
    workers: int | None = None,
) -> list[str]:
    """Return for each image the first reason why the gate stops it; "" for one that it lets through."""
    measured = _all_measured(paths, settings, progress, workers)
    unfit = [find_unfit(gate, one) for one in measured]
    return [reasons[0].check.value if reasons else "" for reasons in unfit]


def limits_from_good_images(measured: Sequence[QualityMeasures], view: NDArray[np.uint8]) -> LearnedGate:
    """Return the gate whose limits good images set.

    Raises:
        ValueError: without any image.
    """
    if not measured:
        raise ValueError("no good image to learn the quality gate from: give at least one")
    bright = [one.light.brightness for one in measured]
    unlike = [1 - likeness(one.view, view.astype(np.float32)) for one in measured]
    farthest = 1 - factor_above(unlike, UNLIKENESS_MARGIN)
    gate = QualityGate(
        darkest=factor_below(bright, LIGHT_MARGIN),
        brightest=factor_above(bright, LIGHT_MARGIN),
        black_share=share_above([one.light.black_share for one in measured]),
        white_share=share_above([one.light.white_share for one in measured]),
        sharpness=factor_below([one.sharpness for one in measured], SHARPNESS_MARGIN),
        likeness=min(farthest, LIKE_ENOUGH) if farthest > 0 else None,
        view=base64.b64encode(view.tobytes()).decode(),
        good_images=len(measured),
    )
    return LearnedGate(gate, _report(gate))


def expected_view(measured: Sequence[QualityMeasures]) -> NDArray[np.uint8]:
    """Return the mean of good images' views: (VIEW_SIDE, VIEW_SIDE)."""
    mean = np.mean([one.view.grey for one in measured], axis=0)
    return np.asarray(np.clip(np.rint(mean), 0, 255), dtype=np.uint8)


def factor_above(values: Sequence[float], margin: float) -> float:
    """Return `beyond` on a scale of factors, for values of at least 0."""
    return float(np.exp(beyond(_logs(values), float(np.log(margin)))))


def factor_below(values: Sequence[float], margin: float) -> float:
    """Return the limit below the smallest value, as `factor_above` does above the largest."""
    return float(np.exp(-beyond(-_logs(values), float(np.log(margin)))))


def share_above(values: Sequence[float]) -> float:
    """Return `beyond` for shares; 1 where nothing could pass it."""
    return min(1.0, beyond(np.asarray(values), SHARE_MARGIN))


def beyond(values: NDArray[np.float64], margin: float) -> float:
    """Return the largest value plus its distance from the median, or plus the margin where that is more."""
    largest = float(np.max(values))
    return largest + max(largest - float(np.median(values)), margin)


def _logs(values: Sequence[float]) -> NDArray[np.float64]:
    return np.log(np.maximum(np.asarray(values, dtype=np.float64), _LEAST))


def _all_measured(
    paths: Sequence[Path], settings: MethodSettings, progress: Count | None, workers: int | None
) -> list[QualityMeasures]:
    measured = []
    for done, one in enumerate(
        parallel_map(partial(_measure, settings=settings), paths, workers=workers, chunk=8), start=1
    ):
        measured.append(one)
        if progress is not None:
            progress(done, len(paths))
    return measured


def _measure(path: Path, settings: MethodSettings) -> QualityMeasures:
    pixels: Pixels = read_pixels(path)
    return measure_quality(pixels, settings)


def _report(gate: QualityGate) -> dict[str, Any]:
    report: dict[str, Any] = {
        "good_images": gate.good_images,
        "good_parts_gated_at_most": round(CHECKS / (gate.good_images + 1), 4),
    }
    if gate.likeness is None:
        report["warning"] = "the good images have no view in common: the gate cannot tell whether the part is there"
    return report
