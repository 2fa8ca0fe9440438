"""One stage of a recipe for published models, alone: its network becomes a folder in Hugging Face layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path

from torch import nn

from model_store.checkpoints import checkpoint_file
from model_store.files import hash_file, replace_file
from model_store.importing.bundle import Origins, check_origins
from model_store.manifest import Kind
from model_store.pretrained import save_module
from training.data.dataset import good_split
from training.finetune.best_weights import CHOICE
from training.finetune.dino import STAGE as DINO_STAGE
from training.finetune.small_autoencoder import STAGE as SMALL_STAGE
from training.finetune.vae import STAGE as VAE_STAGE
from training.launched_processes import joined_processes, main_process_first
from training.pipeline import make_run_pairs
from training.pretrained_pipeline import (
    ClassImages,
    distilled_autoencoder,
    finetuned_dino,
    finetuned_unet,
    finetuned_vae,
)
from training.pretrained_recipe import PretrainedRecipe
from training.run_identity import RunMismatch, claim_run
from training.run_lock import locked_run
from training.training_run import CHECKPOINTS, TrainingRun

GIVEN = "given.json"
"""In the run's folder: the checkpoints that the stage stands on."""


class StageName(StrEnum):
    """The stages that can be run alone."""

    VAE = "vae"
    UNET = "unet"
    SMALL = "small"
    DINO = "dino"

    @property
    def table(self) -> str:
        """Return the recipe's table that describes it."""
        return {"vae": "autoencoder", "dino": "features"}.get(self, self)

    @property
    def kind(self) -> Kind:
        """Return the kind of its network."""
        kinds: Mapping[StageName, Kind] = {
            StageName.VAE: "autoencoder_kl",
            StageName.UNET: "unet2d_condition",
            StageName.SMALL: "autoencoder_tiny",
            StageName.DINO: "vit",
        }
        return kinds[self]

    @property
    def folder(self) -> str:
        """Return the name of its folder of checkpoints."""
        return {"vae": VAE_STAGE, "small": SMALL_STAGE, "dino": DINO_STAGE}.get(self, self)


def finetune_alone(
    stage: StageName,
    recipe: PretrainedRecipe,
    data: Path,
    run: TrainingRun,
    out: Path,
    *,
    vae: Path | None = None,
    unet: Path | None = None,
    workers: int | None = None,
) -> Path:
    """Run one stage, and save its network in `out`, with what it chose and why in `choice.json`.

    Args:
        stage: which one.
        recipe: that has a table for it.
        data: folder of good images, see `training.data.dataset`.
        run: of checkpoints; calling again with the same folder resumes.
        out: a new folder, in Hugging Face layout.
        vae: a fine-tuned autoencoder in place of the base's.
        unet: a fine-tuned UNet in place of the base's.
        workers: processes for pairs; None: one per core.

    Raises:
        ValueError: if the recipe has no such table, or `out` is there.
        DataError, RunMismatch, RunInUse, ImportRefused, ModelsDoNotFit: nothing is written.
    """
    if getattr(recipe, stage.table) is None:
        raise ValueError(
            f"recipe {recipe.name!r} has no table [{stage.table}], which describes the stage {stage}: add it to the "
            "recipe, or choose another stage"
        )
    if out.exists():
        raise ValueError(f"{out} is there already: choose another folder, or remove it")
    split = good_split(data, recipe.calibration.holdout, recipe.seed)
    with locked_run(run.folder):
        with main_process_first():
            claim_run(run.folder, recipe, split)
            _claim_given(run.folder, {"stage": stage.value, "vae": _digest(vae), "unet": _digest(unet)})
        images = ClassImages("", recipe, partial(make_run_pairs, recipe, split, workers, run.folder), split, workers)
        module = _made(stage, images, Origins(recipe.base, recipe.dino, unet=unet, vae=vae), run)
        if run.writes:
            save_module(module, out, stage.kind, recipe.dtype, licence=recipe.licence)
            choice = run.folder / CHECKPOINTS / stage.folder / "best" / CHOICE
            if choice.is_file():
                shutil.copyfile(choice, out / CHOICE)
        joined_processes().wait_for_everyone()
    return out


def _made(stage: StageName, images: ClassImages, origins: Origins, run: TrainingRun) -> nn.Module:
    told = check_origins(origins, images.recipe.settings, images.recipe.prompt)
    match stage:
        case StageName.VAE:
            return finetuned_vae(images, origins, run)
        case StageName.UNET:
            return finetuned_unet([images], [told], origins, run)
        case StageName.SMALL:
            return distilled_autoencoder(images, origins, run)
        case StageName.DINO:
            return finetuned_dino(images, told, origins, run)


def _claim_given(folder: Path, given: Mapping[str, str | None]) -> None:
    """Mark a run's folder as a stage's that stands on these checkpoints: what it keeps was made by them."""
    file = folder / GIVEN
    if not file.is_file():
        replace_file(file, json.dumps(given, indent=2).encode())
        return
    then = json.loads(file.read_text(encoding="utf-8"))
    if then["stage"] != given["stage"]:
        raise RunMismatch(
            f"{folder} holds the run of the stage {then['stage']}, and {given['stage']} is asked for: give --run "
            "another folder"
        )
    if others := [f"--{name}" for name in ("vae", "unet") if then[name] != given[name]]:
        raise RunMismatch(
            f"{folder} holds a run that was begun with another {' and another '.join(others)}: give the same as then, "
            "or --run another folder"
        )


def _digest(checkpoint: Path | None) -> str | None:
    return None if checkpoint is None else hash_file(checkpoint_file(checkpoint)).sha256
