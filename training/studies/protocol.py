"""`glad reproduce --train`: the paper's Tables 6 and 7 by a training of one's own, class by class, beside its figures.

Every class is trained with ATP and without, then measured under every variant of the tables (`studies.ablation`). The
paper's tables average over MVTec-AD at full size: a smaller recipe answers which way a part of the method works there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from model_store.bundle import Bundle, open_bundle
from model_store.files import replace_file
from training.data.dataset import TestImage
from training.evaluation.rows import GOOD
from training.metrics.bootstrap import Estimate
from training.package import Naming
from training.pipeline import train
from training.progress import Progress
from training.recipe import Recipe
from training.recipe_file import AnyRecipe, load_recipe
from training.run_identity import comparable_identity
from training.studies.ablation import (
    FULL,
    AblationRow,
    as_json,
    as_markdown,
    compare,
    fixed_steps,
    image_names,
    measure,
    variants,
)
from training.studies.protocol_tables import (
    IMAGE,
    PIXEL,
    MeasuredClass,
    ProtocolResult,
    classes_table,
    describe_run,
    variants_table,
)
from training.studies.published_figures import FIXED
from training.studies.reproduce import labelled_classes
from training.studies.reproduced_folder import (
    MEASURING,
    claim_folder,
    class_held,
    read_record,
    refuse_unreadable_images,
)
from training.studies.retrained import train_plain
from training.training_run import TrainingRun

TABLES = "tables-6-7"
"""The name of the files with the tables."""
RESULTS = "results"
"""The folder, in a class's own, with what was measured of it until all is."""

TRAININGS = {
    "trained": "with ATP, the first of two trainings",
    "without-atp": "without ATP, the second of two trainings",
}
"""Version of a class's bundle -> how its training is announced."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class ClassTraining:
    """What is trained for one class, and on which images it is measured."""

    product: str
    data: Path
    recipe: AnyRecipe
    images: tuple[TestImage, ...]

    @property
    def identity(self) -> dict[str, Any]:
        """Return what may not change within a run, for JSON."""
        identity = {"recipe": self.recipe.model_dump(mode="json"), "data": str(self.data.resolve())}
        return comparable_identity(identity)


@dataclass(frozen=True)
class ProtocolPlan:
    """The trainings of some classes of a data set by one recipe, checked before anything runs."""

    dataset: str
    recipe: str
    """Its name and its changes, as given."""
    classes: tuple[ClassTraining, ...]


def plan_trainings(
    dataset: str, root: Path, recipe: str, changes: Sequence[str], classes: Sequence[str]
) -> ProtocolPlan:
    """Return every class's training, checked before anything runs.

    Args:
        dataset: a name of `glad.settings.presets`.
        root: the folder that holds the classes' folders.
        recipe: as for `glad train`.
        changes: of single values of the recipe.
        classes: some of them, or none for all.

    Raises:
        ValueError, DataError: names the first one that is wrong.
    """
    trainings = []
    for product, images in labelled_classes(dataset, root, classes):
        folder = root / product
        loaded = load_recipe(recipe, changes, folder)
        if loaded.unet is None or loaded.unet.anomaly_weight == "none":
            raise ValueError(f"recipe {recipe} trains no UNet with ATP, which the tables compare: choose one that does")
        trainings.append(ClassTraining(product, folder, loaded, images))
    return ProtocolPlan(dataset, " ".join((recipe, *(f"--set {change}" for change in changes))), tuple(trainings))


def run_protocol(
    plan: ProtocolPlan,
    out: Path,
    *,
    command: str,
    progress: Progress,
    say: Say,
    workers: int | None = None,
) -> ProtocolResult:
    """Train, measure and tabulate every class; what is done already is not done again.

    Writes OUT/bundles/CLASS, OUT/CLASS-tables-6-7.json (with .md beside it), OUT/tables-6-7.json and .md.

    Raises:
        ValueError: if OUT holds another run, with another recipe or other images; if nothing ever adapts.
        DataError: if images of a class that is not measured cannot be read.
        RunInUse: if another call works on one of the classes.
        DiskFull: what is done stays.
    """
    out.mkdir(parents=True, exist_ok=True)
    claim_folder(out, {one.product: one.identity for one in plan.classes}, comparable_identity)
    left = [(one.data, one.images) for one in plan.classes if not read_record(report_of_class(one.product, out))]
    refuse_unreadable_images(left, progress=progress, workers=workers)
    measured = []
    for one in plan.classes:
        with class_held(out, one.product) as run:
            measured.append(
                _measured_class(one, out, run, command=command, progress=progress, say=say, workers=workers)
            )
        image, pixel = (measured[-1].figures[FULL][key].value for key in (IMAGE, PIXEL))
        say(f"{one.product}: I-AUROC {100 * image:.1f}, P-AUROC {100 * pixel:.1f}")
    made_of = describe_run(plan.dataset, plan.recipe, plan.classes[0].recipe.settings.resolution, measured)
    result = ProtocolResult(made_of, classes_table(plan.dataset, measured), variants_table(measured))
    of_classes = {one.product: read_record(report_of_class(one.product, out)) for one in plan.classes}
    content = {"command": command, **result.as_json(), "of_classes": of_classes}
    replace_file(out / f"{TABLES}.json", (json.dumps(content, indent=2) + "\n").encode())
    replace_file(out / f"{TABLES}.md", f"{result.as_markdown()}\n".encode())
    return result


def report_of_class(product: str, out: Path) -> Path:
    """Return the file with a class's figures; .md lies beside it."""
    return out / f"{product}-{TABLES}.json"


def _measured_class(
    one: ClassTraining,
    out: Path,
    run: TrainingRun,
    *,
    command: str,
    progress: Progress,
    say: Say,
    workers: int | None,
) -> MeasuredClass:
    """Return the figures of a class under each variant: as recorded, or trained and measured now."""
    bundle = _trained(one, one.recipe, "trained", out, command=command, say=say, workers=workers)
    if bundle.manifest.settings.trigger.delta == 0:
        raise ValueError(f"{bundle.path}: its δ is 0, so it never adapts, and the tables have nothing to compare")
    report = report_of_class(one.product, out)
    recorded = read_record(report)
    if (recorded.get("bundle"), recorded.get("images")) != (bundle.hash, image_names(one.images)):
        plain = _without_atp(one, bundle, out, command=command, progress=progress, say=say, workers=workers)
        rows = _measure_rows(one, bundle, plain, run, progress=progress, workers=workers)
        recorded = {"command": command, "bundle": bundle.hash, **as_json(rows, one.images)}
        replace_file(report.with_suffix(".md"), f"{as_markdown(rows)}\n".encode())
        replace_file(report, (json.dumps(recorded, indent=2) + "\n").encode())
        shutil.rmtree(run.folder / RESULTS, ignore_errors=True)
    figures = {
        row["name"]: {key: Estimate(**estimate) for key, estimate in row["figures"].items()} for row in recorded["rows"]
    }
    good = sum(image.defect == GOOD for image in one.images)
    trained_on = bundle.manifest.provenance.data["train_images"]
    return MeasuredClass(one.product, trained_on, good, len(one.images) - good, figures)


def _measure_rows(
    one: ClassTraining,
    bundle: Bundle,
    plain: tuple[Path, float],
    run: TrainingRun,
    *,
    progress: Progress,
    workers: int | None,
) -> list[AblationRow]:
    """Measure every variant of the tables; those that were measured before a stop are in the class's folder."""
    settings, steps = bundle.manifest.settings, fixed_steps(bundle.manifest.settings)
    chosen = [row for row in variants(bundle.path, settings, plain, steps) if row.table in (6, 7)]
    show, keep = partial(_named, progress, one.product), run.folder / RESULTS
    with run.stage(MEASURING, anew=not keep.is_dir()) as note:
        results = measure(chosen, one.images, progress=show, workers=workers, keep=keep, note=note)
        rows = compare(chosen, results, one.images)
    names = {f"fixed {step}": name for step, name in zip(steps, FIXED, strict=True)}
    return [replace(row, name=names.get(row.name, row.name)) for row in rows]


def _without_atp(
    one: ClassTraining, bundle: Bundle, out: Path, *, command: str, progress: Progress, say: Say, workers: int | None
) -> tuple[Path, float]:
    """Return the baseline's folder and delta: of the pixel form with the UNet alone trained anew."""
    if isinstance(one.recipe, Recipe):
        run = out / "runs" / f"{one.product}-without-atp"
        show = partial(_named, progress, one.product)
        say(f"{one.product}: the UNet without ATP")
        return train_plain(bundle, one.data, run, progress=show, workers=workers)
    assert one.recipe.unet is not None, "checked when it was planned"
    change = {"unet": one.recipe.unet.model_copy(update={"anomaly_weight": "none"})}
    recipe = one.recipe.model_copy(update=change)
    plain = _trained(one, recipe, "without-atp", out, command=command, say=say, workers=workers)
    return plain.path, plain.manifest.settings.trigger.delta


def _trained(
    one: ClassTraining, recipe: AnyRecipe, version: str, out: Path, *, command: str, say: Say, workers: int | None
) -> Bundle:
    target = out / "bundles" / one.product / version
    if target.exists():
        return open_bundle(target)
    say(f"{one.product}: training {TRAININGS[version]}")
    run, naming = out / "runs" / f"{one.product}-{version}", Naming(one.product, version)
    return train(recipe, one.data, run, target, naming, command=command, say=say, workers=workers)


def _named(progress: Progress, product: str, stage: str, done: int, total: int) -> None:
    progress(f"{product}: {stage}", done, total)
