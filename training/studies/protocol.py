"""`glad reproduce --train`: the paper's Tables 6 and 7 by a training of one's own, class by class, beside its figures.

Every class is trained with ATP and without, then measured under every variant of the tables (`studies.ablation`). The
paper's tables average over MVTec-AD at full size: a smaller recipe answers which way a part of the method works there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model_store.bundle import Bundle, open_bundle
from training.data.dataset import TestImage
from training.evaluation.tables import Table
from training.package import Naming
from training.pipeline import train
from training.progress import Progress
from training.recipe import Recipe
from training.recipe_file import AnyRecipe, load_recipe
from training.studies.ablation import FULL, as_json, compare, fixed_steps, measure, variants
from training.studies.reproduce import labelled_classes
from training.studies.retrained import train_plain

PAPER = {
    "baseline": (98.3, 98.0),
    "baseline + ADS": (99.0, 98.5),
    "baseline + ATP": (98.7, 98.5),
    "ADS + ATP without SAFF": (99.2, 98.3),
    FULL: (99.3, 98.6),
}
"""I-AUROC and P-AUROC of Table 6, averages over MVTec-AD's 15 classes, in percent."""
PAPER_FIXED = ((98.8, 97.6), (98.8, 98.1), (98.7, 98.5))
"""The same of Table 7's 350, 550 and 750 steps of T = 750."""
FIXED = ("fixed 350/750 of T", "fixed 550/750 of T", "fixed T")
HEADER = ("variant", "I-AUROC", "paper", "P-AUROC", "paper")

Say = Callable[[str], None]


@dataclass(frozen=True)
class ClassTraining:
    """What is trained for one class, and on which images it is measured."""

    product: str
    data: Path
    recipe: AnyRecipe
    images: tuple[TestImage, ...]


def plan_trainings(
    dataset: str, root: Path, recipe: str, changes: Sequence[str], classes: Sequence[str]
) -> tuple[ClassTraining, ...]:
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
    plans = []
    for product, images in labelled_classes(dataset, root, classes):
        folder = root / product
        loaded = load_recipe(recipe, changes, folder)
        if loaded.unet is None or loaded.unet.anomaly_weight == "none":
            raise ValueError(f"recipe {recipe} trains no UNet with ATP, which the tables compare: choose one that does")
        plans.append(ClassTraining(product, folder, loaded, images))
    return tuple(plans)


def run_protocol(
    plans: Sequence[ClassTraining],
    out: Path,
    *,
    command: str,
    progress: Progress,
    say: Say,
    workers: int | None = None,
) -> Table:
    """Train, measure and tabulate every class; what is done already is not done again.

    Returns:
        The averages over the classes beside the paper's, as written to OUT/tables-6-7.md.
    """
    figures = {}
    for one in plans:
        figures[one.product] = _figures(one, out, command=command, progress=progress, say=say, workers=workers)
        image, pixel = figures[one.product][FULL]
        say(f"{one.product}: I-AUROC {100 * image:.1f}, P-AUROC {100 * pixel:.1f}")
    table = protocol_table(figures)
    (out / "tables-6-7.md").write_text(table.as_markdown() + "\n", encoding="utf-8")
    return table


def protocol_table(figures: Mapping[str, Mapping[str, tuple[float, float]]]) -> Table:
    """Return the mean over the classes of each variant's I-AUROC and P-AUROC in percent, beside the paper's.

    Args:
        figures: class -> variant -> (I-AUROC, P-AUROC), shares.
    """
    paper = PAPER | dict(zip(FIXED, PAPER_FIXED, strict=True))
    rows = []
    for name, published in paper.items():
        image, pixel = (float(np.mean([of[name][which] for of in figures.values()])) for which in (0, 1))
        rows.append((name, f"{100 * image:.1f}", f"{published[0]:.1f}", f"{100 * pixel:.1f}", f"{published[1]:.1f}"))
    return Table(HEADER, tuple(rows))


def _figures(
    one: ClassTraining, out: Path, *, command: str, progress: Progress, say: Say, workers: int | None
) -> dict[str, tuple[float, float]]:
    """Return I-AUROC and P-AUROC of each variant: as recorded, or trained and measured now."""
    bundle = _trained(one, one.recipe, "trained", out, command=command, say=say, workers=workers)
    if bundle.manifest.settings.trigger.delta == 0:
        raise ValueError(f"{bundle.path}: its δ is 0, so it never adapts, and the tables have nothing to compare")
    report = out / f"{one.product}-tables-6-7.json"
    recorded = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    if recorded.get("bundle") != bundle.hash:
        recorded = _measured(one, bundle, out, command=command, progress=progress, say=say, workers=workers)
        report.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
    return {
        row["name"]: (row["figures"]["image_auroc"]["value"], row["figures"]["pixel_auroc"]["value"])
        for row in recorded["rows"]
    }


def _measured(
    one: ClassTraining, bundle: Bundle, out: Path, *, command: str, progress: Progress, say: Say, workers: int | None
) -> dict[str, Any]:
    """Measure every variant of the tables."""
    settings, steps = bundle.manifest.settings, fixed_steps(bundle.manifest.settings)
    plain = _without_atp(one, bundle, out, command=command, progress=progress, say=say, workers=workers)
    chosen = [row for row in variants(bundle.path, settings, plain, steps) if row.table in (6, 7)]
    show = partial(_named, progress, one.product)
    rows = compare(chosen, measure(chosen, one.images, progress=show, workers=workers), one.images)
    names = {f"fixed {step}": name for step, name in zip(steps, FIXED, strict=True)}
    found = as_json(rows, one.images)
    renamed = [{**row, "name": names.get(row["name"], row["name"])} for row in found["rows"]]
    return {"command": command, "bundle": bundle.hash, **found, "rows": renamed}


def _without_atp(
    one: ClassTraining, bundle: Bundle, out: Path, *, command: str, progress: Progress, say: Say, workers: int | None
) -> tuple[Path, float]:
    """Return the baseline's folder and delta: of the pixel form with the UNet alone trained anew."""
    if isinstance(one.recipe, Recipe):
        run = out / "runs" / f"{one.product}-without-atp"
        show = partial(_named, progress, one.product)
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
    say(f"{one.product}: training {version}")
    run, naming = out / "runs" / f"{one.product}-{version}", Naming(one.product, version)
    return train(recipe, one.data, run, target, naming, command=command, say=say, workers=workers)


def _named(progress: Progress, product: str, stage: str, done: int, total: int) -> None:
    progress(f"{product}: {stage}", done, total)
