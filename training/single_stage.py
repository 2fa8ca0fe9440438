"""One stage of a recipe, alone: its network becomes a folder, in the layout in which a bundle keeps it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path

import torch
from torch import nn

from model_store.checkpoints import checkpoint_file
from model_store.files import hash_file, replace_file
from model_store.importing.bundle import Origins, check_origins
from model_store.manifest import Dtype, Kind
from model_store.pretrained import save_module
from training.data.dataset import good_split
from training.data.image_checks import refuse_unreadable
from training.data.image_survey import survey_images
from training.feature_pipeline import (
    ENCODING,
    NETWORKS,
    FeatureTrainingSet,
    feature_training_set,
    train_feature_decoder,
    train_feature_unet,
    with_backbone_mean,
)
from training.finetune.best_weights import CHOICE
from training.finetune.checkpoints import checkpoint_of
from training.finetune.dino import STAGE as DINO_STAGE
from training.finetune.small_autoencoder import STAGE as SMALL_STAGE
from training.finetune.vae import STAGE as VAE_STAGE
from training.full_disk import full_disk_explained
from training.launched_processes import is_main_process, joined_processes, main_process_first
from training.needed_resources import writable_problem
from training.package import LICENCE, say_weights
from training.pipeline import make_run_pairs
from training.pixel_pipeline import PIXEL_NETWORKS, PIXEL_STAGES, train_pixel_networks
from training.pretrained_pipeline import (
    ClassImages,
    distilled_autoencoder,
    finetuned_dino,
    finetuned_unet,
    finetuned_vae,
)
from training.pretrained_recipe import PretrainedRecipe
from training.progress import named_bars
from training.recipe import FeatureRecipe, Recipe
from training.recipe_file import AnyRecipe
from training.run_identity import RunMismatch, claim_run, resumes_run
from training.run_lock import locked_run
from training.synthesis.pairs import PairSet
from training.synthesis.textures import check_textures
from training.training_run import CHECKPOINTS, TrainingRun

GIVEN = "given.json"
"""In the run's folder: the checkpoints that a stage for published models stands on."""


class StageName(StrEnum):
    """The stages that can be run alone."""

    VAE = "vae"
    UNET = "unet"
    SMALL = "small"
    DINO = "dino"
    DECODER = "decoder"
    FEATURES = "features"

    @property
    def table(self) -> str:
        """Return the recipe's table that describes it."""
        return {"vae": "autoencoder", "dino": "features"}.get(self, self)

    def name_in_run(self, recipe: AnyRecipe) -> str:
        """Return its name in a recipe's run, which is that of its folder of checkpoints too."""
        if isinstance(recipe, Recipe):
            return self.table
        return {"vae": VAE_STAGE, "small": SMALL_STAGE, "dino": DINO_STAGE}.get(self, self)


OF_PUBLISHED: Mapping[StageName, Kind] = {
    StageName.VAE: "autoencoder_kl",
    StageName.UNET: "unet2d_condition",
    StageName.SMALL: "autoencoder_tiny",
    StageName.DINO: "vit",
}
"""The stages for published models, and the kinds of their networks."""
OF_FEATURES: Mapping[StageName, Kind] = {StageName(name): kind for name, kind in NETWORKS.items()}
"""The same of the feature form."""
OF_PIXELS: Mapping[StageName, Kind] = {
    StageName("vae" if name == "autoencoder" else name): kind for name, kind in PIXEL_NETWORKS.items()
}
"""The same of the pixel form, each stage standing on those before it."""


def stages_alone(recipe: AnyRecipe) -> dict[StageName, Kind]:
    """Return the stages of a recipe that can be run alone, with the kinds of the networks that they make."""
    if isinstance(recipe, FeatureRecipe):
        return dict(OF_FEATURES)
    if isinstance(recipe, PretrainedRecipe):
        return {stage: kind for stage, kind in OF_PUBLISHED.items() if getattr(recipe, stage.table) is not None}
    return dict(OF_PIXELS)


def steps_of_stage(stage: StageName, recipe: AnyRecipe) -> tuple[str, ...]:
    """Return what a stage alone runs through, by the names of the whole training's stages.

    Raises:
        ValueError: if the recipe has no such stage; says which stages it has.
    """
    recipe = recipe_with_stage(stage, recipe, ())
    if isinstance(recipe, FeatureRecipe):
        return (*ENCODING, stage.name_in_run(recipe))
    if isinstance(recipe, Recipe):
        return PIXEL_STAGES[: PIXEL_STAGES.index(stage.name_in_run(recipe)) + 1]
    before = {StageName.UNET: ("pairs", "latents"), StageName.DINO: ("reconstructions",)}
    return (*before.get(stage, ("pairs",)), stage.name_in_run(recipe))


def finetune_alone(
    stage: StageName,
    recipe: AnyRecipe,
    data: Path,
    run: TrainingRun,
    out: Path,
    *,
    vae: Path | None = None,
    unet: Path | None = None,
    workers: int | None = None,
) -> Path:
    """Run one stage, and save its network in `out`, with what it chose and why in `choice.json` if it chose.

    A stage of the feature form stands on no other network of its recipe, one of the pixel form on those before it in
    its run. In both forms the run may be another stage's, or a whole training's, and a whole training goes on from what
    was made.

    Args:
        stage: which one.
        recipe: that has it.
        data: folder of good images, see `training.data.dataset`.
        run: of checkpoints; calling again with the same folder resumes.
        out: a new folder, in Hugging Face layout.
        vae: a fine-tuned autoencoder in place of the base's.
        unet: a fine-tuned UNet in place of the base's.
        workers: processes for pairs; None: one per core.

    Raises:
        ValueError: if the recipe has no such stage, or takes no such network; if the run lacks a stage that this one
            stands on; if `out` is there, or cannot be made.
        DataError, RunMismatch, RunInUse, ImportRefused, ModelsDoNotFit: nothing is written.
        DiskFull: what is done stays in the run.
    """
    given = [option for option, path in (("--vae", vae), ("--unet", unet)) if path is not None]
    recipe = recipe_with_stage(stage, recipe, given)
    if out.exists():
        raise ValueError(f"{out} is there already: choose another folder, or remove it")
    if problem := writable_problem(out) or writable_problem(run.folder):  # told before the long work, not after it
        raise ValueError(problem)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    split = good_split(data, recipe.calibration.holdout, recipe.seed)
    recipe = with_backbone_mean(recipe) if isinstance(recipe, FeatureRecipe) else recipe
    if isinstance(recipe, Recipe):
        resumes_run(run.folder, recipe, split)  # of another recipe's run, that is what is wrong
        _refuse_without_stages_before(stage, recipe, run)
    with named_bars() as show:
        check_textures(recipe.synthesis.textures, progress=partial(show, "textures"), workers=workers)
        if is_main_process():
            images = (*split.train, *split.calibration)
            refuse_unreadable(survey_images(images, progress=partial(show, "images"), workers=workers))
    with full_disk_explained(run.folder, out), locked_run(run.folder):
        with main_process_first():
            claim_run(run.folder, recipe, split)
            if isinstance(recipe, PretrainedRecipe):
                _claim_given(run.folder, {"stage": stage.value, "vae": _digest(vae), "unet": _digest(unet)})
        make_pairs = partial(make_run_pairs, recipe, split, workers, run.folder)
        if isinstance(recipe, PretrainedRecipe):
            origins = Origins(recipe.base, recipe.dino, unet=unet, vae=vae)
            module = _finetuned(stage, ClassImages("", recipe, make_pairs, split, workers), origins, run)
        elif isinstance(recipe, Recipe):
            module = _trained_on_those_before(stage, recipe, run, make_pairs)
        else:
            module = _trained(stage, feature_training_set(recipe, split, run, make_pairs), run)
        if run.writes:
            _save(module, out, stage, recipe, run)
        joined_processes().wait_for_everyone()
    return out


def recipe_with_stage(stage: StageName, recipe: AnyRecipe, given: Sequence[str]) -> AnyRecipe:
    """Return the recipe, which has the stage and takes the options of networks that are given.

    Raises:
        ValueError: if it has not, or takes them not; says which stages it has.
    """
    stages = stages_alone(recipe)
    if stage not in stages:
        described = isinstance(recipe, PretrainedRecipe) and stage in OF_PUBLISHED
        missing = f"table [{stage.table}], which describes the stage {stage}" if described else f"stage {stage}"
        way_out = "; add the table, or choose another stage" if described else ""
        has = ", ".join(stages) or "no stage that can be run alone"
        raise ValueError(f"recipe {recipe.name!r} has no {missing}; it has {has}{way_out}")
    if given and not isinstance(recipe, PretrainedRecipe):
        stand_on = (
            "a frozen backbone and on no other network; leave it out"
            if isinstance(recipe, FeatureRecipe)
            else "those that were trained before in the same run; leave it out, and give that --run"
        )
        raise ValueError(
            f"{' and '.join(given)} cannot be used with the recipe {recipe.name!r}: its stages stand on {stand_on}"
        )
    return recipe


def _refuse_without_stages_before(stage: StageName, recipe: Recipe, run: TrainingRun) -> None:
    """Refuse a stage of the pixel form whose run lacks one that it stands on.

    Raises:
        ValueError: names the first of them.
    """
    for before in list(OF_PIXELS)[: list(OF_PIXELS).index(stage)]:
        name, steps = before.name_in_run(recipe), getattr(recipe, before.table).steps
        former = run.folder / f"{name}.ckpt"  # of a run that an earlier version began
        if not (checkpoint_of(run.folder / CHECKPOINTS / name, steps).is_dir() or former.is_file()):
            raise ValueError(
                f"the stage {stage} of the recipe {recipe.name!r} stands on its stage {before}, and {run.folder} holds "
                f"no finished one: run `glad finetune {before}` first, with the same recipe, images and --run, or "
                "`glad train` for all stages"
            )


def _finetuned(stage: StageName, images: ClassImages, origins: Origins, run: TrainingRun) -> nn.Module:
    """Return a published network, fine-tuned."""
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
        case other:
            raise ValueError(f"{other} is no stage for published models")


def _trained(stage: StageName, given: FeatureTrainingSet, run: TrainingRun) -> nn.Module:
    """Return a network of the feature form."""
    train = {StageName.UNET: train_feature_unet, StageName.DECODER: train_feature_decoder}[stage]
    module: nn.Module = train(given, run)
    say_weights(run.say, **{stage.value: module})
    return module


def _trained_on_those_before(
    stage: StageName, recipe: Recipe, run: TrainingRun, make_pairs: Callable[[], PairSet]
) -> nn.Module:
    """Return a network of the pixel form; those before it are in the run."""
    wanted = stage.name_in_run(recipe)
    module = next(module for name, module in train_pixel_networks(recipe, run, make_pairs) if name == wanted)
    say_weights(run.say, **{wanted: module})
    return module


def _save(module: nn.Module, out: Path, stage: StageName, recipe: AnyRecipe, run: TrainingRun) -> None:
    """Save a network as a bundle stores it, whole or not at all."""
    draft = out.with_name(f"{out.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    stored: tuple[Dtype, str] = (
        (recipe.dtype, recipe.licence) if isinstance(recipe, PretrainedRecipe) else ("float16", LICENCE)
    )
    save_module(module, draft, stages_alone(recipe)[stage], stored[0], licence=stored[1])
    choice = run.folder / CHECKPOINTS / stage.name_in_run(recipe) / "best" / CHOICE
    if choice.is_file():
        shutil.copyfile(choice, draft / CHOICE)
    draft.rename(out)


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
