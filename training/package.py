"""From trained modules to a calibrated bundle on disk: round the weights, find the thresholds, write."""

from __future__ import annotations

import platform
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DModel
from torch import nn
from transformers import ViTModel

from glad.settings.method import MethodSettings
from model_store.bundle import Bundle, BundleParts, ComponentSource, write_bundle
from model_store.engines.torch import round_to_stored_precision, save_components
from model_store.manifest import Calibration, CalibrationKind, ComponentName, Provenance, calibration_digest
from model_store.promise import promise
from training.calibration.promise import GoodScores, thresholds_from_scores
from training.calibration.thresholds import choose_delta
from training.data.dataset import Split
from training.parallel_inspection import (
    TrainingParts,
    inspect_images,
    inspect_without_own_part,
    trigger_peaks,
)
from training.progress import Progress
from training.quality_gate import LearnedGate
from training.recipe import CalibrationRecipe, RecipeBase

LICENCE = "trained from scratch by glad-inspect on the data named in provenance; procedural textures only"


LONGEST_NAME = 64
"""Of a product."""
MOST_UNUSUAL = 6
"""Of the good images whose scores set the thresholds, so many are named: one that is no good part hides defects."""


@dataclass(frozen=True)
class TrainedModules:
    """The three trained modules, in eval mode."""

    autoencoder: AutoencoderKL
    unet: UNet2DModel
    features: ViTModel


@dataclass(frozen=True)
class Naming:
    """The names by which the bundle will be known."""

    product: str
    version: str
    title: str = ""


def product_of_folder(data: Path) -> str:
    """Return the data folder's name as a product's: in small letters, `ü` as `u`, `-` for what a name must not hold."""
    letters = unicodedata.normalize("NFKD", data.resolve().name.lower())
    plain = "".join(one for one in letters if not unicodedata.combining(one))
    return re.sub(r"[^a-z0-9._-]|\.{2,}", "-", plain).lstrip("._-")[:LONGEST_NAME]


def software() -> dict[str, str]:
    """Return the versions of the software on which the numbers depend."""
    names = ("glad-inspect", "torch", "diffusers", "transformers", "numpy", "pillow", "scipy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def provenance(recipe: RecipeBase, data: Mapping[str, Any], command: str) -> Provenance:
    """Return the record of how a bundle was made: when, by which command, from which data, with which software."""
    return Provenance(
        created_at=datetime.now(UTC).replace(microsecond=0),
        command=command,
        recipe=recipe.model_dump(mode="json"),
        data=dict(data),
        software=software(),
        seed=recipe.seed,
    )


def save_rounded(trained: TrainedModules, folder: Path) -> dict[ComponentName, ComponentSource]:
    """Round every weight to what is stored, in place, and save: calibration then sees what inference loads."""
    for module in (trained.autoencoder, trained.unet, trained.features):
        round_to_stored_precision(module)
    return save_components(folder, trained.autoencoder, trained.unet, trained.features, licence=LICENCE)


def say_weights(say: Callable[[str], None], **modules: nn.Module) -> None:
    """Say how many weights each module has."""
    for name, module in modules.items():
        say(f"{name}: {sum(p.numel() for p in module.parameters()) / 1e6:.2f} M weights")


def draft_bundle(
    folder: Path,
    naming: Naming,
    recipe: RecipeBase,
    sources: Mapping[ComponentName, ComponentSource],
    origin: Provenance,
    *,
    settings: MethodSettings | None = None,
) -> Bundle:
    """Return a bundle with placeholder thresholds, from which the calibration's worker processes load.

    Args:
        settings: the recipe's, with what the training has found; None: as they are in the recipe.
    """
    nothing = Calibration(
        review=1.0,
        fail=1.0,
        pixel=1.0,
        pixel_quantile=recipe.calibration.pixel_quantile,
        good_images=1,
        good_scores=(0.0,),
    )
    settings = settings or recipe.settings
    parts = BundleParts(naming.product, naming.version, settings, nothing, origin, title="draft, not calibrated")
    return write_bundle(folder, parts, sources)


def calibrate_bundle(
    draft: Bundle,
    recipe: RecipeBase,
    split: Split,
    progress: Progress,
    *,
    parts: TrainingParts | None = None,
    workers: int | None = None,
) -> tuple[MethodSettings, Calibration, dict[str, Any]]:
    """Return settings with delta from training images, thresholds from calibration images, and a report.

    Args:
        parts: of a training of the feature form: see `CalibrationRecipe.training_parts`.
    """
    chosen = split.train[: recipe.calibration.delta_images]
    base = draft.manifest.settings
    peaks = trigger_peaks(draft.path, base, chosen, progress=partial(progress, "delta"), workers=workers)
    settings = base.with_delta(choose_delta(peaks, recipe.calibration))
    calibration, report = find_thresholds(
        draft.path, settings, recipe.calibration, split, progress, parts=parts, workers=workers
    )
    report["trigger_peaks"] = {
        "images": len(peaks),
        "median": sorted(peaks)[len(peaks) // 2],
        "delta": settings.trigger.delta,
    }
    return settings, calibration, report


def find_thresholds(
    bundle: Path,
    settings: MethodSettings,
    recipe: CalibrationRecipe,
    split: Split,
    progress: Progress,
    *,
    parts: TrainingParts | None = None,
    workers: int | None = None,
) -> tuple[Calibration, dict[str, Any]]:
    """Return the thresholds from the split's calibration images, and a report for the manifest.

    Args:
        parts: the training's, to count too where the others are too few, and the recipe says so.
    """
    show = partial(progress, "thresholds")
    results = list(inspect_images(bundle, settings, split.calibration, progress=show, workers=workers))
    groups, kind, how = split.calibration_groups, CalibrationKind.HELD_OUT, split.how
    if parts is not None and counts_training_parts(recipe, split):
        show = partial(progress, "thresholds: each part of the training against the others")
        results += inspect_without_own_part(bundle, settings, parts, progress=show)
        held_out = groups or tuple(map(str, split.calibration))
        groups, kind = (*held_out, *parts.groups), CalibrationKind.ESTIMATE
        how += f", and {len(parts.paths)} of the training, each held against a memory without its own part"
    good = GoodScores(
        tuple(found.score for found in results), tuple(found.map_peak for found in results), groups or None, kind
    )
    calibration, report = thresholds_from_scores(good, recipe)
    report["calibration_images"] = how
    report["most_unusual"] = [
        {"image": f"{path.parent.name}/{path.name}", "score": round(score, 4)}
        for path, score in most_unusual([(found.path, found.score) for found in results], groups)
    ]
    report["good_triggered_share"] = sum(found.triggered for found in results) / len(results)
    if settings.doubtful is not None:
        report["good_walked_share"] = sum(found.walked for found in results) / len(results)
    return calibration, report


def most_unusual(scores: Sequence[tuple[Path, float]], groups: Sequence[str]) -> list[tuple[Path, float]]:
    """Return the images with the highest scores, the highest first: of each part one image.

    Args:
        scores: of good images.
        groups: the part that each of them shows; none: each a part of its own.
    """
    parts = groups or [str(path) for path, _ in scores]
    highest: dict[str, tuple[Path, float]] = {}
    for (path, score), part in sorted(zip(scores, parts, strict=True), key=lambda each: (-each[0][1], each[0][0])):
        highest.setdefault(part, (path, score))
    return list(highest.values())[:MOST_UNUSUAL]


def counts_training_parts(recipe: CalibrationRecipe, split: Split) -> bool:
    """Return whether the parts held out are too few for the wanted share, and the recipe has others to count."""
    held_out = len(set(split.calibration_groups)) or len(split.calibration)
    return recipe.training_parts and not promise(held_out, recipe.fail_quantile, recipe.confidence).kept


def write_calibrated_bundle(
    target: Path,
    naming: Naming,
    draft: Bundle,
    *,
    settings: MethodSettings,
    calibration: Calibration,
    report: Mapping[str, Any],
    learned: LearnedGate,
    origin: Provenance,
    sensitivity: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write the calibrated bundle to `target`; arguments as of `calibrated_parts`."""
    parts = calibrated_parts(
        naming,
        draft,
        settings=settings,
        calibration=calibration,
        report=report,
        learned=learned,
        origin=origin,
        sensitivity=sensitivity,
    )
    return write_bundle(target, parts, draft.sources())


def calibrated_parts(
    naming: Naming,
    draft: Bundle,
    *,
    settings: MethodSettings,
    calibration: Calibration,
    report: Mapping[str, Any],
    learned: LearnedGate,
    origin: Provenance,
    sensitivity: Mapping[str, Any] | None = None,
) -> BundleParts:
    """Return what a calibrated bundle says; its thresholds record which settings and weights they belong to.

    Args:
        sensitivity: what it finds of synthetic anomalies at these thresholds, see `training.sensitivity`.
    """
    belongs = calibration_digest(settings, draft.manifest.components)
    measured = {} if sensitivity is None else {"synthetic_sensitivity": dict(sensitivity)}
    return BundleParts(
        naming.product,
        naming.version,
        settings,
        calibration.model_copy(update={"calibrated_for": belongs}),
        origin,
        title=naming.title,
        quality={"calibration": dict(report), "gate": learned.report, **measured},
        gate=learned.gate,
    )
