"""The whole way from a folder of good images to a calibrated bundle. Each stage resumes where it was interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from glad.settings.method import MethodSettings
from model_store.bundle import Bundle, ComponentSource, write_bundle
from model_store.engines.feature_form import save_feature_components
from model_store.manifest import ComponentName, Provenance
from training.data.dataset import Split, good_split
from training.feature_pipeline import FEATURE_STAGES, train_feature_modules, with_backbone_mean
from training.full_disk import full_disk_explained
from training.launched_processes import is_main_process, leave_to_main_process, main_process_first
from training.package import (
    LICENCE,
    Naming,
    TrainedModules,
    calibrate_bundle,
    calibrated_parts,
    draft_bundle,
    provenance,
    save_rounded,
    say_weights,
)
from training.parallel_inspection import TrainingParts
from training.pixel_pipeline import PIXEL_STAGES, train_pixel_networks
from training.pretrained_pipeline import (
    RECONSTRUCTIONS,
    ClassImages,
    finetune_published,
    pretrained_stages,
)
from training.pretrained_recipe import PretrainedRecipe
from training.progress import named_bars, progress_bar
from training.quality_gate import learn_gate
from training.recipe import FeatureRecipe, Recipe, RecipeBase
from training.recipe_file import AnyRecipe
from training.report.pictures import FinishedModels
from training.report.writing import RunRecord, renew_report, report_training, write_readme
from training.run_identity import claim_run
from training.run_lock import locked_run
from training.sensitivity.measure import STAGE as SENSITIVITY
from training.sensitivity.record import FILE_OF_RUN, sensitivity_of_run
from training.synthesis.contact_sheet import draw_sheet_of_run
from training.synthesis.pairs import PairSet, make_pairs
from training.synthesis.textures import check_textures
from training.training_plan import TrainingPlan, planned_promise
from training.training_run import TrainingRun

Say = Callable[[str], None]
PAIRS = "pairs"
"""The folder in a run's that keeps its pairs, until the training is done."""
LAST_STAGES = ("delta", "thresholds", "quality gate")


@dataclass(frozen=True)
class TrainedComponents:
    """What a training has made, saved in its run, and what it has found for the settings."""

    sources: Mapping[ComponentName, ComponentSource]
    settings: MethodSettings
    """The recipe's, with which images walk; delta is calibration's to find."""
    parts: TrainingParts | None = None
    """What the memory was made of; None in the pixel form."""


def make_run_pairs(recipe: RecipeBase, split: Split, workers: int | None = None, folder: Path | None = None) -> PairSet:
    """Return the run's pairs, always the same ones: from the run's folder as far as they are there."""
    with main_process_first(), progress_bar() as bar:
        task = bar.add_task("pairs", total=recipe.synthesis.pairs, note="")
        return make_pairs(
            split.train,
            recipe.settings,
            recipe.synthesis,
            recipe.seed,
            progress=lambda done, total: bar.update(task, completed=done),
            workers=workers,
            keep=None if folder is None else folder / PAIRS,
        )


def train_components(
    recipe: AnyRecipe, split: Split, run: TrainingRun, workers: int | None = None
) -> TrainedComponents:
    """Train the models of a recipe's form, and save them in the run, rounded to what a bundle stores."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    if isinstance(recipe, Recipe):
        made = train_modules(recipe, split, run, workers)
        return TrainedComponents(save_rounded(made, run.folder / "components"), recipe.settings)
    folder = run.folder / "components"
    shutil.rmtree(folder, ignore_errors=True)  # of a run interrupted while it calibrated
    make_pairs = partial(make_run_pairs, recipe, split, workers, run.folder)
    if isinstance(recipe, PretrainedRecipe):
        images = ClassImages("", recipe, make_pairs, split, workers)
        return TrainedComponents(finetune_published([images], run)[0], recipe.settings)
    trained = train_feature_modules(recipe, split, run, make_pairs)
    sources = save_feature_components(folder, trained.modules, licence=LICENCE, backbone_licence=trained.licence)
    owners = trained.modules.witnesses.memory.groups
    parts = None if owners is None else TrainingParts(split.train, split.train_groups, owners)
    return TrainedComponents(sources, trained.settings, parts)


def train_modules(recipe: Recipe, split: Split, run: TrainingRun, workers: int | None = None) -> TrainedModules:
    """Train autoencoder, denoiser and features, each from scratch."""
    made: dict[str, Any] = dict(
        train_pixel_networks(recipe, run, partial(make_run_pairs, recipe, split, workers, run.folder))
    )
    leave_to_main_process()
    say_weights(run.say, **made)
    return TrainedModules(**made)


def stages_of(recipe: AnyRecipe) -> tuple[str, ...]:
    """Return the names of a training's stages, in order."""
    if isinstance(recipe, PretrainedRecipe):
        return (*pretrained_stages(recipe), *last_stages(recipe))
    return (*(PIXEL_STAGES if isinstance(recipe, Recipe) else FEATURE_STAGES), *last_stages(recipe))


def last_stages(recipe: AnyRecipe) -> tuple[str, ...]:
    """Return the names of the stages in which the trained models are calibrated and measured."""
    return (*LAST_STAGES, *([SENSITIVITY] if recipe.sensitivity.per_cell else ()))


def train(
    recipe: AnyRecipe,
    data: Path,
    run: Path,
    target: Path,
    naming: Naming,
    *,
    command: str,
    say: Say,
    workers: int | None = None,
    plan: TrainingPlan | None = None,
) -> Bundle:
    """Train the models, calibrate them, and write the bundle to `target`.

    Args:
        data: folder of good images, see `training.data.dataset`.
        run: folder of checkpoints; calling again with the same folder resumes.
        target: the new bundle's folder.
        workers: processes for pairs and calibration; None: one per core; 1: all in this one.
        plan: what was checked before, to be kept in the run.

    Raises:
        DataError, RunMismatch, RunInUse, DiskFull, BundleError: no bundle is written.
    """
    if isinstance(recipe, PretrainedRecipe) and recipe.multi_class:
        raise ValueError(
            f"recipe {recipe.name} trains one model for all classes of a data set: `glad train {recipe.name} --data "
            "ROOT` makes a bundle for each; or set multi_class to false"
        )
    split = good_split(data, recipe.calibration.holdout, recipe.seed)
    recipe = with_backbone_mean(recipe) if isinstance(recipe, FeatureRecipe) else recipe
    with named_bars() as show:
        check_textures(recipe.synthesis.textures, progress=partial(show, "textures"), workers=workers)
    with full_disk_explained(run, target), locked_run(run):
        with main_process_first():
            claim_run(run, recipe, split)
            if plan is not None and is_main_process():
                plan.write(run)
            write_readme(run, target, command)
        record = TrainingRun(run, stages_of(recipe), say=say)
        return _train(recipe, split, record, target, naming, data=data, command=command, workers=workers)


def _train(
    recipe: AnyRecipe,
    split: Split,
    run: TrainingRun,
    target: Path,
    naming: Naming,
    *,
    data: Path,
    command: str,
    workers: int | None,
) -> Bundle:
    say = run.say
    say(f"{len(split.train)} images to train on; calibration on {split.how}")
    say(planned_promise(recipe, split).words)
    say(f"stages: {', '.join(run.stages)}; each resumes where it was interrupted")
    if run.writes and (sheet := draw_sheet_of_run(recipe, split.train, run.folder)):
        say(f"the anomalies that it learns from: {sheet}")
    made = train_components(recipe, split, run, workers)
    origin = provenance(recipe, data_summary(data, split), command)
    return calibrated_bundle(recipe, split, made, target, naming, data=data, run=run, origin=origin, workers=workers)


def calibrated_bundle(
    recipe: AnyRecipe,
    split: Split,
    made: TrainedComponents,
    target: Path,
    naming: Naming,
    *,
    data: Path,
    run: TrainingRun,
    origin: Provenance,
    workers: int | None = None,
) -> Bundle:
    """Calibrate what a training has made, and write the bundle to `target`; arguments as of `train`."""
    shutil.rmtree(run.folder / "draft", ignore_errors=True)  # of a run interrupted while it calibrated
    draft = draft_bundle(run.folder / "draft", naming, recipe, made.sources, origin, settings=made.settings)
    with named_bars() as bars, run.timed(bars) as show:
        settings, calibration, report = calibrate_bundle(draft, recipe, split, show, parts=made.parts, workers=workers)
        learned = learn_gate(split, settings, progress=partial(show, "quality gate"), workers=workers)
        measured = sensitivity_of_run(
            draft.path, settings, calibration.fail, split, recipe, progress=show, workers=workers
        )
    if measured is not None:
        measured.write(run.folder / FILE_OF_RUN, {"command": origin.command})
        measured.tell(run.say)
    parts = calibrated_parts(
        naming,
        draft,
        settings=settings,
        calibration=calibration,
        report=report,
        learned=learned,
        sensitivity=None if measured is None else measured.record,
        origin=origin,
    )
    models = FinishedModels(draft, settings, calibration, split, made.parts)
    pages = report_training(RunRecord(run.folder, target, data), models, recipe, parts, say=run.say)
    made_bundle = write_bundle(target, parts, draft.sources(), pages)
    renew_report(run.folder, made_bundle)
    for kept in (PAIRS, RECONSTRUCTIONS):
        shutil.rmtree(run.folder / kept, ignore_errors=True)
    return made_bundle


def data_summary(data: Path, split: Split) -> dict[str, Any]:
    """Return what a bundle's origin says of the images."""
    made = data / "sample.json"
    about: dict[str, Any] = {"folder": data.name, "train_images": len(split.train), "calibration": split.how}
    if made.is_file():
        about["sample_product"] = json.loads(made.read_text(encoding="utf-8"))
    return about
