"""`glad reproduce`: a published data set's table from the published weights, class by class, with one command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from glad.settings.presets import SINGLE_CLASS, Preset, preset
from model_store.bundle import Bundle, open_bundle
from model_store.files import replace_file
from model_store.importing.bundle import ImportSpec, Origins, import_bundle
from training.data.dataset import TestImage, test_images
from training.evaluation.evaluate import evaluate
from training.evaluation.misses import inspect_worst
from training.evaluation.report import write_report
from training.evaluation.rows import GOOD
from training.evaluation.tables import IMAGE, PIXEL, Table
from training.progress import Progress
from training.studies.reproduced_folder import (
    MEASURING,
    claim_folder,
    class_held,
    read_record,
    refuse_unreadable_images,
)
from training.training_run import TrainingRun
from training.yardstick.report_row import with_learnt_yardstick

VERSION = "published"
CLASS = "{class}"
"""Stands for the class's name in a checkpoint's path."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class PublishedWeights:
    """The places of the published models. `{class}` in a checkpoint's path stands for the class's name."""

    base: str
    dino: str
    licence: str
    unet: str | None = None
    vae: str | None = None
    features: str | None = None

    def origins(self, product: str) -> Origins:
        """Return where the class's own weights lie.

        Raises:
            ValueError: for a checkpoint that does not exist.
        """
        return Origins(
            self.base,
            self.dino,
            unet=_existing("unet", self.unet, product),
            vae=_existing("vae", self.vae, product),
            features=_existing("features", self.features, product),
        )


@dataclass(frozen=True)
class ReproductionPlan:
    """The settings, images and weights of one class, all found before anything runs."""

    product: str
    preset: Preset
    data: Path
    origins: Origins


def plan(
    dataset: str, root: Path, weights: PublishedWeights, classes: Sequence[str], *, multi: bool
) -> tuple[ReproductionPlan, ...]:
    """Return every class's plan, checked whole: folders, labels, masks, checkpoints.

    Args:
        dataset: a name of `glad.settings.presets`.
        root: the folder that holds the classes' folders.
        classes: some of them, or none for all.
        multi: whether to use the settings of the one model for all classes.

    Raises:
        ValueError, DataError: names the first one that is wrong.
    """
    plans = []
    for product, _ in labelled_classes(dataset, root, classes):
        chosen = preset(f"{'multi/' if multi else ''}{dataset}/{product}")
        plans.append(ReproductionPlan(product, chosen, root / product, weights.origins(product)))
    return tuple(plans)


def labelled_classes(dataset: str, root: Path, classes: Sequence[str]) -> Iterator[tuple[str, tuple[TestImage, ...]]]:
    """Yield each class of a published data set with its test images, every defect of which has a mask.

    Args are those of `plan`.

    Raises:
        ValueError, DataError: names the first one that is wrong.
    """
    if dataset not in SINGLE_CLASS:
        raise ValueError(f"no data set {dataset!r}: give one of {', '.join(SINGLE_CLASS)}")
    known = SINGLE_CLASS[dataset][1]
    if unknown := [name for name in classes if name not in known]:
        raise ValueError(f"{dataset} has no class {unknown[0]!r}: its classes are {', '.join(known)}")
    for product in classes or known:
        folder = root / product
        if not folder.is_dir():
            raise ValueError(
                f"{folder} is missing: {root} must hold a folder per class of {dataset}, or give --classes"
            )
        images = tuple(test_images(folder))
        defects = [image for image in images if image.defect != GOOD]
        if unmasked := [image.path for image in defects if image.mask is None]:
            raise ValueError(
                f"{unmasked[0]} has no mask: the table needs one for every defect in ground_truth/<defect>"
            )
        if not defects:
            raise ValueError(f"{folder} holds no defects: the table needs labelled ones in test/<defect>")
        yield product, images


def reproduce(
    plans: Sequence[ReproductionPlan],
    weights: PublishedWeights,
    out: Path,
    *,
    command: str,
    progress: Progress,
    say: Say,
    worst: int = 12,
    workers: int | None = None,
) -> Table:
    """Import, evaluate and report each class, and return the table; what is there already is not done again.

    Writes OUT/bundles/CLASS/published, OUT/CLASS.json (with table, page and rows beside it) and OUT/table.md.

    Raises:
        ValueError: if OUT holds another run, with other settings, weights or images.
        DataError: if images of a class that is not measured cannot be read.
        RunInUse: if another call works on one of the classes.
        DiskFull: what is done stays.
    """
    out.mkdir(parents=True, exist_ok=True)
    claim_folder(out, identities(plans, weights))
    left = [(one.data, test_images(one.data)) for one in plans if not read_record(out / f"{one.product}.json")]
    refuse_unreadable_images(left, progress=progress, workers=workers)
    figures = {}
    for one in plans:
        with class_held(out, one.product) as run:
            bundle = _bundle(one, weights, out, command, say)
            figures[one.product] = _figures(
                one, bundle, out, run, command=command, progress=progress, worst=worst, workers=workers
            )
        say(f"{one.product}: {_cells(figures[one.product])[0]}")
    table = paper_table(figures)
    replace_file(out / "table.md", f"{table.as_markdown()}\n".encode())
    return table


def identities(plans: Sequence[ReproductionPlan], weights: PublishedWeights) -> dict[str, dict[str, Any]]:
    """Return what may not change within a run, of each class, for JSON."""
    return {
        one.product: {"preset": one.preset.name, "data": str(one.data.resolve()), "weights": asdict(weights)}
        for one in plans
    }


def paper_table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return classes down, detection and localization across, in percent with one decimal; the average comes last."""
    header = ("class", "/".join(IMAGE), "/".join(PIXEL), "AUPIMO")
    rows = [(product, *_cells(measured)) for product, measured in figures.items()]
    average = {
        group: {key: {"value": float(np.mean([of[group][key]["value"] for of in figures.values()]))} for key in keys}
        for group, keys in (("image", IMAGE.values()), ("pixel", (*PIXEL.values(), "aupimo")))
    }
    return Table(header, (*rows, ("average", *_cells(average))))


def _cells(figures: Mapping[str, Any]) -> tuple[str, str, str]:
    def line(group: str, keys: Sequence[str]) -> str:
        return "/".join(f"{100 * figures[group][key]['value']:.1f}" for key in keys)

    return line("image", [*IMAGE.values()]), line("pixel", [*PIXEL.values()]), line("pixel", ["aupimo"])


def _bundle(one: ReproductionPlan, weights: PublishedWeights, out: Path, command: str, say: Say) -> Bundle:
    target = out / "bundles" / one.product / VERSION
    if target.exists():
        return open_bundle(target)
    say(f"{one.product}: importing")
    spec = ImportSpec(one.product, VERSION, one.preset.settings, one.preset.prompt, weights.licence)
    return import_bundle(target, one.origins, spec, command=command, say=lambda stage: None)


def _figures(
    one: ReproductionPlan,
    bundle: Bundle,
    out: Path,
    run: TrainingRun,
    *,
    command: str,
    progress: Progress,
    worst: int,
    workers: int | None,
) -> dict[str, Any]:
    """Return what was measured before, of exactly this bundle, or measure it now."""
    report = out / f"{one.product}.json"
    recorded = read_record(report)
    if recorded and recorded["bundle"]["hash"] == bundle.hash:
        return recorded

    def show(stage: str, done: int, total: int) -> None:
        progress(f"{one.product}: {stage}", done, total)

    with run.stage(MEASURING, anew=True):
        outcome = evaluate(bundle.path, one.data, progress=show, command=command, workers=workers)
        outcome = with_learnt_yardstick(outcome, bundle.path, one.data, progress=show)
        misses = inspect_worst(bundle.path, one.data, outcome.rows, worst, progress=partial(show, "worst misses"))
        write_report(outcome, misses, None, report)
    return outcome.figures


def _existing(name: str, pattern: str | None, product: str) -> Path | None:
    if pattern is None:
        return None
    path = Path(pattern.replace(CLASS, product))
    if not path.exists():
        raise ValueError(f"--{name} {pattern!r} gives {path} for class {product}: it does not exist")
    return path
