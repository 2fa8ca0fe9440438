"""One model for all classes of a data set: one training, and a calibrated bundle for each class.

The bundles share their weights; a store keeps equal files once. What differs are prompt, settings and thresholds.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from model_store.bundle import Bundle, open_bundle
from training.data.dataset import Split, good_split
from training.full_disk import full_disk_explained
from training.launched_processes import main_process_first
from training.package import Naming, provenance
from training.pipeline import (
    Say,
    TrainedComponents,
    calibrated_bundle,
    data_summary,
    last_stages,
    make_run_pairs,
)
from training.pretrained_pipeline import ClassImages, finetune_published, pretrained_stages
from training.pretrained_recipe import PretrainedRecipe
from training.run_identity import claim_run
from training.run_lock import locked_run
from training.training_plan import planned_promise
from training.training_run import TrainingRun


def train_classes(
    recipes: Mapping[str, PretrainedRecipe],
    data: Path,
    run: Path,
    targets: Mapping[str, Path],
    *,
    title: str = "",
    command: str,
    say: Say,
    workers: int | None = None,
) -> list[Bundle]:
    """Train one UNet on the good images of all classes, and write a calibrated bundle for each.

    Args:
        recipes: of each class, by name: they differ in settings and prompt alone.
        data: the folder that holds the classes' folders.
        run: folder of checkpoints; calling again with the same folder resumes.
        targets: the new bundle's folder, by class; a bundle that is there already stays.
        title: of the bundles.
        command: that is recorded.
        say: prints a line for people.
        workers: processes for pairs and calibration.

    Raises:
        DataError, RunMismatch, RunInUse, DiskFull, ImportRefused, BundleError: no bundle is written.
    """
    with ExitStack() as held:
        held.enter_context(full_disk_explained(run, *targets.values()))
        for folder in (run, *(run / name for name in recipes)):  # a class's can be the run of a training of its own
            held.enter_context(locked_run(folder))
        return _train_classes(recipes, data, run, targets, title=title, command=command, say=say, workers=workers)


def _train_classes(
    recipes: Mapping[str, PretrainedRecipe],
    data: Path,
    run: Path,
    targets: Mapping[str, Path],
    *,
    title: str,
    command: str,
    say: Say,
    workers: int | None,
) -> list[Bundle]:
    splits = {name: good_split(data / name, one.calibration.holdout, one.seed) for name, one in recipes.items()}
    for name, recipe in recipes.items():
        with main_process_first():
            claim_run(run / name, recipe, splits[name])
        say(f"{name}: {len(splits[name].train)} images to train on; {planned_promise(recipe, splits[name]).words}")
    first = next(iter(recipes.values()))
    if first.threads:
        torch.set_num_threads(first.threads)
    last = last_stages(first)
    stages = (*pretrained_stages(first), *last)
    say(f"stages: {', '.join(stages)}; the last {len(last)} for each class; each resumes where it stopped")
    record = TrainingRun(run, stages, say=say)
    shutil.rmtree(run / "components", ignore_errors=True)  # of a run interrupted while it calibrated
    images = [_images(name, recipe, splits[name], run, workers) for name, recipe in recipes.items()]
    made = zip(recipes.items(), finetune_published(images, record), strict=True)
    bundles = []
    for (name, recipe), sources in made:
        if targets[name].exists():
            say(f"{name}: {targets[name]} is there already")
            bundles.append(open_bundle(targets[name]))
            continue
        say(f"{name}: calibrating")
        bundle = calibrated_bundle(
            recipe,
            splits[name],
            TrainedComponents(sources, recipe.settings),
            targets[name],
            Naming(name, targets[name].name, title),
            data=data / name,
            run=TrainingRun(run / name, last, say=say),
            origin=provenance(recipe, data_summary(data / name, splits[name]), command),
            workers=workers,
        )
        bundles.append(bundle)
    return bundles


def _images(name: str, recipe: PretrainedRecipe, split: Split, run: Path, workers: int | None) -> ClassImages:
    return ClassImages(name, recipe, partial(make_run_pairs, recipe, split, workers, run / name), split, workers)
