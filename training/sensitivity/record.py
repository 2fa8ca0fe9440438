"""The sensitivity of a run's bundle, and of any other: measured, written as JSON with a picture beside it, and told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glad.settings.method import MethodSettings
from model_store.bundle import open_bundle
from model_store.manifest import Provenance
from training.data.dataset import Split, good_split
from training.progress import Progress
from training.recalibrate import recorded_recipes
from training.recipe import RecipeBase
from training.sensitivity.measure import Sensitivity, measure_sensitivity
from training.sensitivity.plot import sensitivity_plot
from training.sensitivity.words import as_json, as_record, as_table, explanation, sentences, size_table
from training.synthesis_recipe import SensitivityRecipe

FILE_OF_RUN = "synthetic-sensitivity.json"
"""In a run's folder; the picture lies beside it."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class MeasuredSensitivity:
    """What was found, and on which images."""

    found: Sensitivity
    images: str
    """Which good images they were, in words."""

    @property
    def record(self) -> dict[str, Any]:
        """What a manifest keeps."""
        return as_record(self.found, self.images)

    def write(self, file: Path, about: Mapping[str, Any]) -> Path:
        """Write everything as JSON, and the picture beside it; return the picture's path."""
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {**about, **as_json(self.found, self.images)}
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        picture = file.with_suffix(".png")
        picture.write_bytes(sensitivity_plot(self.found))
        return picture

    def tell(self, say: Say) -> None:
        """Say the tables, what they mean, and a sentence for each kind."""
        say(size_table(self.found).as_markdown() + "\n")
        say(as_table(self.found).as_markdown() + "\n")
        say(explanation(self.found))
        for sentence in sentences(self.found):
            say(f"- {sentence}")


def sensitivity_of_run(
    draft: Path,
    settings: MethodSettings,
    fail: float,
    split: Split,
    recipe: RecipeBase,
    *,
    progress: Progress,
    workers: int | None = None,
) -> MeasuredSensitivity | None:
    """Return what a training's models find on its calibration images; None: the recipe asks for none.

    Args:
        draft: the bundle's folder, whatever its thresholds.
        settings: with which the thresholds were found.
        fail: score from which a part fails.
    """
    if recipe.sensitivity.per_cell == 0:
        return None
    found = measure_sensitivity(
        draft,
        settings,
        fail,
        split.calibration,
        recipe=recipe.sensitivity,
        synthesis=recipe.synthesis,
        seed=recipe.seed,
        progress=progress,
        workers=workers,
    )
    return MeasuredSensitivity(found, split.how)


def sensitivity_of_bundle(
    folder: Path, data: Path, recipe: SensitivityRecipe, *, seed: int, progress: Progress, workers: int | None = None
) -> MeasuredSensitivity:
    """Return what a calibrated bundle finds on the calibration images of a data folder.

    They are those of calibration/good, or the share of the good images that the bundle's training holds out.

    Raises:
        DataError, BundleError: before anything long begins; also for a bundle without thresholds.
    """
    manifest = open_bundle(folder).manifest
    fail = manifest.thresholds.fail
    calibration, synthesis, split_seed = recorded_recipes(manifest.provenance)
    split = good_split(data, calibration.holdout, split_seed)
    found = measure_sensitivity(
        folder,
        manifest.settings,
        fail,
        split.calibration,
        recipe=recipe,
        synthesis=synthesis if _trained_from_recipe(manifest.provenance) else None,
        seed=seed,
        progress=progress,
        workers=workers,
    )
    return MeasuredSensitivity(found, f"{data.name}: {split.how}")


def _trained_from_recipe(origin: Provenance) -> bool:
    """Return whether the recorded recipe says of what anomalies the models have learnt."""
    return "synthesis" in origin.recipe
