"""The whole way from a folder of good images to a calibrated bundle. Each stage resumes where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from model_store.bundle import Bundle
from training.calibration.promise import promise_in_words
from training.data.dataset import Split, good_split
from training.finetune.autoencoder import train_autoencoder
from training.finetune.features import reconstruct_pairs, train_features
from training.finetune.unet import encode_pairs, train_unet
from training.package import (
    Naming,
    TrainedModules,
    calibrate_bundle,
    draft_bundle,
    provenance,
    save_rounded,
    write_calibrated_bundle,
)
from training.progress import named_bars, progress_bar
from training.quality_gate import learn_gate
from training.recipe import Recipe
from training.synthesis.pairs import PairSet, make_pairs

Say = Callable[[str], None]
STAGES = (
    "pairs",
    "autoencoder",
    "latents",
    "unet",
    "reconstructions",
    "features",
    "delta",
    "thresholds",
    "quality gate",
)


class RunMismatch(ValueError):
    """The run folder was begun with another recipe or other images."""


def images_digest(split: Split) -> str:
    """Return the SHA-256 over every image's name and bytes, and over which of them train and which calibrate."""
    digest = hashlib.sha256()
    for part in (split.train, split.calibration):
        for path in part:
            digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()


def claim_run(folder: Path, recipe: Recipe, split: Split) -> None:
    """Mark a run folder as this recipe's and these images', or refuse one that belongs to others.

    Checkpoints of other images must not go on: an image that they were trained on could be held out for calibration
    now, and the thresholds would promise too much.

    Raises:
        RunMismatch: if the folder holds a run with another recipe or other images.
    """
    identity = {"recipe": recipe.model_dump(mode="json"), "images": images_digest(split)}
    mark = folder / "run.json"
    if mark.is_file():
        recorded = json.loads(mark.read_text(encoding="utf-8"))
        # A run that an earlier version began goes on, though it wrote the recipe with former names of keys.
        if {**recorded, "recipe": _as_written_now(recorded.get("recipe"))} != identity:
            raise RunMismatch(
                f"{folder} holds a run with another recipe or other images: give --run another folder, or remove it"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps(identity, indent=2), encoding="utf-8")


def _as_written_now(recorded: Any) -> Any:
    """Return a recorded recipe as this version would record it, or as it is where this version cannot read it."""
    try:
        return Recipe.model_validate(recorded).model_dump(mode="json")
    except ValidationError:
        return recorded


def make_run_pairs(recipe: Recipe, split: Split, workers: int | None = None) -> PairSet:
    """Return the run's pairs: made anew at every start, always the same ones."""
    with progress_bar() as bar:
        task = bar.add_task("pairs", total=recipe.synthesis.pairs, note="")
        return make_pairs(
            split.train,
            recipe.settings,
            recipe.synthesis,
            recipe.seed,
            progress=lambda done, total: bar.update(task, completed=done),
            workers=workers,
        )


def train_modules(recipe: Recipe, split: Split, run: Path, say: Say, workers: int | None = None) -> TrainedModules:
    """Train autoencoder, denoiser and features, each from scratch."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    settings, seed = recipe.settings, recipe.seed
    pairs = make_run_pairs(recipe, split, workers)
    autoencoder = train_autoencoder(pairs, recipe.autoencoder, run, seed=seed)
    latents = encode_pairs(autoencoder, pairs)
    unet = train_unet(latents, recipe.unet, settings, run, seed=seed)
    rebuilt = reconstruct_pairs(
        pairs, latents, autoencoder, unet, settings, count=recipe.features.reconstructions, seed=seed
    )
    features = train_features(pairs, rebuilt, recipe.features, settings, run, seed=seed)
    for name, module in (("autoencoder", autoencoder), ("unet", unet), ("features", features)):
        say(f"{name}: {sum(p.numel() for p in module.parameters()) / 1e6:.2f} M weights")
    return TrainedModules(autoencoder, unet, features)


def train(
    recipe: Recipe,
    data: Path,
    run: Path,
    target: Path,
    naming: Naming,
    *,
    command: str,
    say: Say,
    workers: int | None = None,
) -> Bundle:
    """Train the models, calibrate them, and write the bundle to `target`.

    Args:
        data: folder of good images, see `training.data.dataset`.
        run: folder of checkpoints; calling again with the same folder resumes.
        target: the new bundle's folder.
        workers: processes for pairs and calibration; None: one per core; 1: all in this one.

    Raises:
        DataError, RunMismatch, BundleError: no bundle is written.
    """
    split = good_split(data, recipe.calibration.holdout, recipe.seed)
    claim_run(run, recipe, split)
    say(f"{len(split.train)} images to train on; calibration on {split.how}")
    say(promise_in_words(len(split.calibration), split.calibration_groups, recipe.calibration))
    say(f"stages: {', '.join(STAGES)}; each resumes where it was interrupted")
    trained = train_modules(recipe, split, run, say, workers)
    origin = provenance(recipe, _summary(data, split), command)
    sources = save_rounded(trained, run / "components")
    shutil.rmtree(run / "draft", ignore_errors=True)  # of a run interrupted while it calibrated
    draft = draft_bundle(run / "draft", naming, recipe, sources, origin)
    with named_bars() as show:
        settings, calibration, report = calibrate_bundle(draft, recipe, split, show, workers)
        learned = learn_gate(split, settings, progress=partial(show, "quality gate"), workers=workers)
    return write_calibrated_bundle(
        target,
        naming,
        draft,
        settings=settings,
        calibration=calibration,
        report=report,
        learned=learned,
        origin=origin,
    )


def _summary(data: Path, split: Split) -> dict[str, Any]:
    made = data / "sample.json"
    about: dict[str, Any] = {"folder": data.name, "train_images": len(split.train), "calibration": split.how}
    if made.is_file():
        about["sample_product"] = json.loads(made.read_text(encoding="utf-8"))
    return about
