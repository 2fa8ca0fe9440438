"""The pictures of a report: the most unusual good images, and synthetic anomalies, as the finished models see them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glad.settings.method import MethodSettings
from model_store.bundle import Bundle
from model_store.manifest import Calibration
from training.data.dataset import Split
from training.evaluation.misses import strip
from training.html_page import as_jpeg
from training.parallel_inspection import (
    InspectionPictures,
    TrainingParts,
    inspect_with_pictures,
    pictures_without_own_part,
)
from training.progress import Count
from training.report.contents import AnomalyShown, GoodImageShown
from training.synthesis.pairs import single_square_settings
from training.synthesis.probes import make_probes
from training.synthesis_recipe import SynthesisRecipe

PICTURES = "pictures"
"""Folder of a run's pictures."""
GOOD_IMAGES = 4
ANOMALIES = 4
QUALITY = 85
CELL = 300
"""The longer side of a picture, in pixels."""
NOTHING = np.zeros((1, 1), dtype=np.bool_)
"""The defect of a good image."""


@dataclass(frozen=True)
class FinishedModels:
    """The models of a training, in a draft of their bundle, with what calibration has found."""

    draft: Bundle
    settings: MethodSettings
    calibration: Calibration
    split: Split
    parts: TrainingParts | None = None
    """Of the feature form; None: no image of the training was counted."""


def draw_good_images(
    models: FinishedModels, unusual: Sequence[dict[str, object]], folder: Path
) -> tuple[GoodImageShown, ...]:
    """Draw the good images with the highest scores into a folder.

    Args:
        models: of the training.
        unusual: the images with their scores, the highest first, as calibration's report has them.
        folder: for the pictures.
    """
    named = {f"{path.parent.name}/{path.name}": path for path in (*models.split.train, *models.split.calibration)}
    chosen = [(str(one["image"]), float(str(one["score"]))) for one in unusual if one["image"] in named]
    drawn = {seen.path: seen for seen in _inspected(models, [named[name] for name, _ in chosen[:GOOD_IMAGES]])}
    learnt = frozenset(models.split.train)
    shown = []
    for number, (name, score) in enumerate(chosen, start=1):
        file = None
        if (seen := drawn.get(named[name])) is not None:
            file = _draw(seen, models.calibration, NOTHING, folder / f"good-{number}.jpg")
        shown.append(GoodImageShown(image=name, score=score, picture=file, of_training=named[name] in learnt))
    return tuple(shown)


def draw_anomalies(
    models: FinishedModels, synthesis: SynthesisRecipe, folder: Path, *, seed: int, progress: Count | None = None
) -> tuple[AnomalyShown, ...]:
    """Draw synthetic anomalies on good images that nothing was learnt from; none where the recipe makes none."""
    if synthesis.none == 1 or not any(synthesis.weights.values()):
        return ()
    settings = single_square_settings(models.settings)
    images = models.split.calibration[:ANOMALIES]
    with tempfile.TemporaryDirectory() as scratch:
        made = make_probes(images, models.settings, synthesis, Path(scratch), seed=seed)
        probes = [probe for probe in made if probe.defective]
        paths = [probe.path for probe in probes]
        seen = list(inspect_with_pictures(models.draft.path, settings, paths, progress=progress, workers=1))
        return tuple(
            AnomalyShown(
                image=f"{image.parent.name}/{image.name}",
                score=one.score,
                picture=_draw(one, models.calibration, probe.truth, folder / f"anomaly-{number}.jpg"),
            )
            for number, (image, probe, one) in enumerate(zip(images, probes, seen, strict=True), start=1)
        )


def _inspected(models: FinishedModels, paths: Sequence[Path]) -> Iterator[InspectionPictures]:
    """Inspect good images as they were scored: those that were learnt from by a memory without their own part."""
    learnt = frozenset(models.split.train)
    others = [path for path in paths if path not in learnt]
    yield from inspect_with_pictures(models.draft.path, models.settings, others, workers=1)
    if models.parts is not None and len(others) < len(paths):
        yield from pictures_without_own_part(models.draft.path, models.settings, models.parts, paths)


def _draw(seen: InspectionPictures, limits: Calibration, truth: NDArray[np.bool_], file: Path) -> str:
    file.write_bytes(as_jpeg(strip(seen, limits, truth, cell=CELL), quality=QUALITY))
    return file.name
