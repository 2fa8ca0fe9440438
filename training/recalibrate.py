"""`glad calibrate` and `glad gate`: a new version of a bundle with other settings, thresholds or quality gate.

No weight changes.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from glad.settings.method import MethodSettings
from model_store.bundle import Bundle, BundleParts, open_bundle, write_bundle
from model_store.manifest import Form, Provenance
from training.calibration.promise import promise_in_words
from training.calibration.search import SearchRanges, SettingsChoice, as_rows, choose_settings
from training.data.dataset import Split, good_split
from training.package import Naming, find_thresholds, software, write_calibrated_bundle
from training.progress import Progress
from training.quality_gate import learn_gate
from training.recipe import CalibrationRecipe
from training.recipe_file import problems_in_words, recipe_class
from training.synthesis.pairs import single_square_settings
from training.synthesis.probes import make_probes
from training.synthesis_recipe import SynthesisRecipe

LEAST_PROBED = 4


@dataclass(frozen=True)
class RecalibrationPlan:
    """The settings to calibrate, and on how many images."""

    ranges: SearchRanges | None
    """The values to try for T, t_min and delta; None: the bundle's own stay, only the thresholds are found."""
    images: int = 40
    """Good images of which probes are made."""
    overlay: Path | None = None
    """A file of settings laid over the bundle's own, see `training.recalibrate`."""
    confidence: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images < LEAST_PROBED:
            raise ValueError(f"{self.images} images to try settings on; give at least {LEAST_PROBED}: raise --images")


@dataclass(frozen=True)
class Recalibrated:
    """The new version, and how its settings were chosen."""

    bundle: Bundle
    choice: SettingsChoice | None
    report: Mapping[str, Any]


def recalibrate(
    folder: Path,
    data: Path,
    target: Path,
    plan: RecalibrationPlan,
    *,
    command: str,
    progress: Progress,
    say: Callable[[str], None] | None = None,
    workers: int | None = None,
) -> Recalibrated:
    """Choose settings on good images and synthetic anomalies, find thresholds on other good images, write a new
    version.

    Args:
        folder: the bundle, calibrated or not.
        data: good images, see `training.data.dataset`.
        target: the new version's folder.
        say: is told first what these images can promise.

    Raises:
        DataError, BundleError, ValueError: before anything long begins.
    """
    bundle = open_bundle(folder)
    recipe, synthesis, seed = recorded_recipes(bundle.manifest.provenance, plan.confidence, plan.seed)
    split = good_split(data, recipe.holdout, seed)
    if plan.ranges is not None and bundle.manifest.form is Form.FEATURE:
        raise ValueError(
            f"{folder} is of the feature form, whose memory knows the images on which settings would be tried: give "
            "--keep-settings to find thresholds under its settings, or --settings FILE with it to change them"
        )
    if say is not None:
        say(promise_in_words(len(split.calibration), split.calibration_groups, recipe))
    settings_of_bundle = bundle.manifest.settings
    base = settings_of_bundle if plan.overlay is None else apply_settings_file(settings_of_bundle, plan.overlay)
    choice = _choose(bundle, base, split, synthesis, plan, progress=progress, workers=workers)
    settings = base if choice is None else choice.chosen.candidate.settings(base)
    calibration, report = find_thresholds(bundle.path, settings, recipe, split, progress, workers=workers)
    if choice is not None:
        report["settings"] = {
            "probed_images": min(plan.images, len(split.train)),
            "chosen": asdict(choice.chosen.candidate),
            "tried": as_rows(choice.tried),
        }
    learned = learn_gate(split, settings, progress=partial(progress, "quality gate"), workers=workers)
    made = write_calibrated_bundle(
        target,
        Naming(bundle.manifest.product, target.name, bundle.manifest.title),
        bundle,
        settings=settings,
        calibration=calibration,
        report=report,
        learned=learned,
        origin=_recalibrated_origin(bundle, data, split, command),
    )
    return Recalibrated(made, choice, report)


def recorded_recipes(
    origin: Provenance, confidence: float | None = None, seed: int = 0
) -> tuple[CalibrationRecipe, SynthesisRecipe, int]:
    """Return the calibration and synthesis recipes and the seed of a bundle's training.

    With them images are split as they were then. A bundle that was not trained from a recipe gets the defaults and
    `seed`.

    Args:
        confidence: in place of the recipe's; None: the recipe's own stays.
    """
    try:
        recipe = recipe_class(origin.recipe).model_validate(origin.recipe)
    except ValidationError:
        return CalibrationRecipe(confidence=confidence), SynthesisRecipe(pairs=LEAST_PROBED * 2), seed
    changed = {} if confidence is None else {"confidence": confidence}
    calibration = recipe.calibration.model_copy(update=changed)
    return calibration, recipe.synthesis, recipe.seed


def _choose(
    bundle: Bundle,
    base: MethodSettings,
    split: Split,
    synthesis: SynthesisRecipe,
    plan: RecalibrationPlan,
    *,
    progress: Progress,
    workers: int | None,
) -> SettingsChoice | None:
    if plan.ranges is None:
        return None
    order = np.random.Generator(np.random.Philox(plan.seed)).permutation(len(split.train))
    chosen = [split.train[i] for i in sorted(order[: plan.images])]
    with tempfile.TemporaryDirectory(prefix="glad-probes-") as folder:
        probes = make_probes(chosen, base, synthesis, Path(folder), seed=plan.seed)
        framed = single_square_settings(base)
        return choose_settings(bundle.path, framed, probes, plan.ranges, progress=progress, workers=workers)


def _recalibrated_origin(bundle: Bundle, data: Path, split: Split, command: str) -> Provenance:
    """Return the weights' own origin, with what was done to their settings and thresholds."""
    origin = bundle.manifest.provenance
    about = {**origin.data, "calibrated_on": {"folder": data.name, "calibration": split.how}, "weights_of": bundle.hash}
    about.setdefault("trained_by", origin.command)
    return origin.model_copy(
        update={
            "created_at": datetime.now(UTC).replace(microsecond=0),
            "command": command,
            "data": about,
            "software": software(),
        }
    )


def relearn_gate(
    folder: Path, data: Path, target: Path, *, command: str, progress: Progress, workers: int | None = None
) -> Bundle:
    """Learn the quality gate from good images and write the bundle with it to `target`; all else stays as it is.

    Args:
        data: good images, see `training.data.dataset`.

    Raises:
        DataError, BundleError, ValueError: before anything long begins.
    """
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    recipe, _, seed = recorded_recipes(manifest.provenance)
    split = good_split(data, recipe.holdout, seed)
    learned = learn_gate(split, manifest.settings, progress=partial(progress, "quality gate"), workers=workers)
    parts = BundleParts(
        manifest.product,
        target.name,
        manifest.settings,
        manifest.calibration,
        _regated_origin(bundle, data, split, command),
        title=manifest.title,
        quality={**manifest.quality, "gate": learned.report},
        gate=learned.gate,
    )
    return write_bundle(target, parts, bundle.sources())


def _regated_origin(bundle: Bundle, data: Path, split: Split, command: str) -> Provenance:
    """Return the bundle's own origin, with where its gate is from."""
    origin = bundle.manifest.provenance
    about = {
        **origin.data,
        "gate_learned_on": {"folder": data.name, "images": len(split.train) + len(split.calibration)},
        "before_the_gate": {"hash": bundle.hash, "command": origin.command},
    }
    changed = {"created_at": datetime.now(UTC).replace(microsecond=0), "command": command, "data": about}
    return origin.model_copy(update=changed)


def apply_settings_file(base: MethodSettings, file: Path) -> MethodSettings:
    """Return the base with the fields of the file laid over it; the rest stays. TOML, or JSON by its name's end.

    A delta of the base that would no longer belong to the settings is kept, but no longer recorded as found under them:
    it must be calibrated anew.

    Raises:
        ValueError: names the file and what is wrong in it.
    """
    given = _read_settings_file(file)
    free = base.model_copy(update={"trigger": base.trigger.model_copy(update={"calibrated_for": None})})
    try:
        changed = MethodSettings.model_validate(_merged(free.model_dump(mode="json"), given))
    except ValidationError as error:
        raise ValueError(f"{file}: {problems_in_words(error, MethodSettings)}") from error
    same = changed.delta_basis == base.delta_basis and changed.trigger.delta == base.trigger.delta
    return base.changed(**changed.model_dump(exclude={"trigger"})) if same else changed


def _read_settings_file(file: Path) -> Mapping[str, Any]:
    content = file.read_text(encoding="utf-8")
    try:
        given = json.loads(content) if file.suffix.lower() == ".json" else tomllib.loads(content)
    except ValueError as error:
        raise ValueError(f"{file} is neither TOML nor, named .json, JSON: {error}") from error
    if not isinstance(given, dict):
        raise ValueError(f"{file} holds {type(given).__name__}; give fields of the settings, such as zones or framing")
    return given


def _merged(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return `given` laid over `base` field by field.

    What has a `kind`, such as a framing, is replaced whole when its kind changes.
    """
    merged = dict(base)
    for name, value in given.items():
        base_value = base.get(name)
        if (
            isinstance(base_value, Mapping)
            and isinstance(value, Mapping)
            and value.get("kind") in (None, base_value.get("kind"))
        ):
            merged[name] = _merged(base_value, value)
        else:
            merged[name] = value
    return merged
