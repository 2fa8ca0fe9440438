"""The images that the quality gate stops: good parts, defects, and images that are spoiled on purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.accuracy.spoiled import SPOILINGS
from bench.support.command_line import spread_evenly
from glad.image_codec import Pixels
from glad.quality_gate.limits import QualityCheck, QualityGate
from glad.quality_gate.measure import QualityMeasures, find_unfit, measure_quality
from glad.settings.method import MethodSettings
from training.data.dataset import TestImage, read_pixels
from training.evaluation.rows import GOOD
from training.process_pool import parallel_map
from training.progress import Count
from training.sample_product import render_empty

EMPTY = 50
"""Pictures of the sample product's empty fixture."""


@dataclass(frozen=True)
class StoppedImages:
    """The images of one set that the quality gate stopped."""

    name: str
    expected: str | None
    """The check that should stop them; None: none should."""
    images: int
    stopped: int
    reasons: Mapping[str, int]
    """The first reason of each that was stopped."""


@dataclass(frozen=True)
class GateCase:
    """An image to put before the gate."""

    path: Path
    spoiling: int = 0
    """Which of `SPOILINGS`; the first one leaves it as it is."""


def at_the_gate(
    gate: QualityGate, settings: MethodSettings, labelled: Sequence[TestImage], count: int, progress: Count
) -> list[StoppedImages]:
    """Return what the gate stops of all labelled images, and of `count` good ones that are spoiled in every way."""
    good = [image.path for image in labelled if image.defect == GOOD]
    kinds = sorted({image.defect for image in labelled} - {GOOD})
    sets: list[tuple[str, QualityCheck | None, list[GateCase]]] = [("good", None, [GateCase(path) for path in good])]
    sets += [(kind, None, [GateCase(image.path) for image in labelled if image.defect == kind]) for kind in kinds]
    some = spread_evenly(good, count)
    sets += [
        (spoiling.name, spoiling.expected, [GateCase(path, number) for path in some])
        for number, spoiling in enumerate(SPOILINGS)
        if number > 0
    ]
    todo = [asked for _, _, of in sets for asked in of]
    measured = []
    for done, one in enumerate(parallel_map(partial(_measured, settings=settings), todo, chunk=4), start=1):
        measured.append(one)
        progress(done, len(todo))
    rest = iter(measured)
    return [stopped_images(gate, name, expected, [next(rest) for _ in of]) for name, expected, of in sets]


def stopped_images(
    gate: QualityGate, name: str, expected: QualityCheck | None, measured: Sequence[QualityMeasures]
) -> StoppedImages:
    """Return what the gate stops of one set of measured images."""
    reasons = Counter(unfit[0].check.value for one in measured if (unfit := find_unfit(gate, one)))
    return StoppedImages(name, expected, len(measured), reasons.total(), dict(reasons))


def other_parts(gate: QualityGate, settings: MethodSettings, name: str, files: Sequence[Path]) -> StoppedImages:
    """Return what the gate stops of images of another part."""
    return stopped_images(
        gate, name, QualityCheck.NO_PART, [measure_quality(read_pixels(path), settings) for path in files]
    )


def empty_fixture(gate: QualityGate, settings: MethodSettings) -> StoppedImages:
    """Return what the gate stops of pictures of the sample product's fixture without a part."""
    measured = [measure_quality(render_empty(seed), settings) for seed in range(EMPTY)]
    return stopped_images(gate, "the fixture without a part", QualityCheck.NO_PART, measured)


def spoiled(path: Path, number: int) -> Pixels:
    """Return an image under one of `SPOILINGS`; always the same one for the same file name."""
    seed = [number, *path.name.encode()]
    return SPOILINGS[number].apply(
        read_pixels(path), np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    )


def _measured(asked: GateCase, settings: MethodSettings) -> QualityMeasures:
    return measure_quality(spoiled(asked.path, asked.spoiling), settings)
