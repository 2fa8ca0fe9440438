"""The stages that fine-tune published models: one after the other, never two networks of full size for one of them.

What a stage has made lies in the run's folder, as a checkpoint that `glad bundle import` takes too. It is not made
again by a run that goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glad.protocols import Condition
from model_store.backbones.vit import VitBackbone
from model_store.bundle import ComponentSource
from model_store.engines.torch import models_from_modules
from model_store.engines.torch_io import save_condition
from model_store.importing.base import Base, autoencoder_of, features_of, unet_of
from model_store.importing.bundle import ImportSpec, Origins, check_origins, import_components
from model_store.importing.prompt import Embedded
from model_store.manifest import ComponentName
from model_store.pretrained import DTYPES, round_to_stored_precision, save_module
from training.data.dataset import Split
from training.finetune.dino import STAGE as DINO_STAGE
from training.finetune.dino import finetune_dino
from training.finetune.pretrained_unet import ADAPTER, PromptedLatents, finetune_unet
from training.finetune.reconstructions import RebuiltImages, rebuild_with
from training.finetune.small_autoencoder import STAGE as SMALL_STAGE
from training.finetune.small_autoencoder import distil_autoencoder
from training.finetune.tuning_split import (
    HeldOutImages,
    held_out_pairs,
    rebuild_good,
    rebuild_held_out,
    tuning_split,
)
from training.finetune.unet import LatentPairs, encode_pairs
from training.finetune.vae import STAGE as VAE_STAGE
from training.finetune.vae import TunedVae, finetune_vae
from training.launched_processes import joined_processes, leave_to_main_process, main_process_first
from training.pretrained_recipe import PretrainedRecipe
from training.synthesis.pairs import PairSet, make_pairs
from training.training_run import TrainingRun

FINETUNED = "finetuned"
"""The folder in a run's that holds what each stage has made."""
CONDITIONS = "conditions"
RECONSTRUCTIONS = "reconstructions"
LATENTS = "latents"
"""Folders in a run's: what its networks have made of its images so far."""
HELD_OUT_PAIRS = 32
"""By which the autoencoder's best weights are chosen."""
TUNING_PAIRS = "pairs-of-the-autoencoder"
"""Made of the images that its stage trains on: others choose its best weights."""
ENCODED_AT_ONCE = 2
"""Images of 512² that Stable Diffusion's autoencoder encodes by one call: some gigabytes of activations."""


@dataclass(frozen=True, eq=False)
class ClassImages:
    """A product, or a class of a model for several, and its pairs."""

    name: str
    """Empty for a single product."""
    recipe: PretrainedRecipe
    pairs: Callable[[], PairSet]
    """Makes them, or reads those that were made."""
    split: Split
    workers: int | None = None


def pretrained_stages(recipe: PretrainedRecipe) -> tuple[str, ...]:
    """Return the names of the stages of a recipe, in order, up to the bundle's components."""
    autoencoder = () if recipe.autoencoder is None else ("pairs", VAE_STAGE)
    unet = () if recipe.unet is None else ("pairs", "latents", "unet")
    small = () if recipe.small is None else ("pairs", SMALL_STAGE)
    features = () if recipe.features is None else ("reconstructions", DINO_STAGE)
    return (*dict.fromkeys((*autoencoder, *unet, *small)), *features, "components")


def finetune_published(classes: Sequence[ClassImages], run: TrainingRun) -> list[dict[ComponentName, ComponentSource]]:
    """Fine-tune what the recipe has a table for, and return each class's components, saved as a bundle stores them.

    Args:
        classes: whose recipes differ in settings and prompt alone.
        run: the run.

    Raises:
        ImportRefused, ModelsDoNotFit: before anything long begins, if the published models do not fit.
    """
    recipe = classes[0].recipe
    published = Origins(recipe.base, recipe.dino)
    told = [check_origins(published, one.recipe.settings, one.recipe.prompt) for one in classes]
    tuned = published
    if recipe.autoencoder is not None:
        tuned = replace(tuned, vae=_tuned(run, "vae", lambda: finetuned_vae(classes[0], published, run), recipe))
    if recipe.unet is not None:
        tuned = replace(tuned, unet=_tuned(run, "unet", lambda: finetuned_unet(classes, told, tuned, run), recipe))
    if recipe.small is not None:
        tuned = replace(tuned, vae=_distilled(run, lambda: distilled_autoencoder(classes[0], tuned, run), recipe))
    if recipe.features is not None:
        dino = _tuned(run, "features", lambda: finetuned_dino(classes[0], told[0], tuned, run), recipe)
        tuned = replace(tuned, features=dino)
    leave_to_main_process()
    with run.stage("components"):
        return _components(classes, told, tuned, run)


def finetuned_vae(one: ClassImages, origins: Origins, run: TrainingRun) -> nn.Module:
    """Return the base's autoencoder, fine-tuned as the recipe's table [autoencoder] says."""
    recipe, vae = one.recipe, one.recipe.autoencoder
    assert vae is not None, "the stage is the recipe's"
    pairs, held_out = _tuning_pairs(one, vae.holdout, run)
    backbone = VitBackbone(features_of(Base(origins.dino), None)) if vae.features_weight else None
    tuned: TunedVae = finetune_vae(
        autoencoder_of(Base(origins.base), origins.vae),
        pairs,
        held_out,
        vae,
        run,
        seed=recipe.seed,
        features=backbone,
        training=recipe.training,
    )
    shutil.rmtree(run.folder / TUNING_PAIRS, ignore_errors=True)
    run.say(f"autoencoder: {tuned.choice.in_words()}")
    module: nn.Module = tuned.module
    return module


def distilled_autoencoder(one: ClassImages, origins: Origins, run: TrainingRun) -> nn.Module:
    """Return a small autoencoder that does what the product's does, as the recipe's table [small] says."""
    recipe = one.recipe
    assert recipe.small is not None, "the stage is the recipe's"
    pairs, held_out = _tuning_pairs(one, recipe.small.holdout, run)
    teacher = autoencoder_of(Base(origins.base), origins.vae)
    made = distil_autoencoder(teacher, pairs, held_out, recipe.small, run, seed=recipe.seed, training=recipe.training)
    shutil.rmtree(run.folder / TUNING_PAIRS, ignore_errors=True)
    run.say(f"small autoencoder: {made.choice.in_words()}")
    module: nn.Module = made.module
    return module


def _tuning_pairs(one: ClassImages, holdout: float, run: TrainingRun) -> tuple[PairSet, PairSet]:
    """Return the pairs that an autoencoder's stage trains on, and those of other parts, by which it is chosen."""
    recipe, workers = one.recipe, one.workers
    split = tuning_split(one.split, holdout, recipe.seed)
    settings, synthesis, seed = recipe.settings, recipe.synthesis, recipe.seed
    with run.stage("pairs"), main_process_first():
        kept = run.folder / TUNING_PAIRS if run.writes else None
        pairs = make_pairs(split.train, settings, synthesis, seed, workers=workers, keep=kept)
        return pairs, held_out_pairs(split, settings, synthesis, HELD_OUT_PAIRS, seed=seed, workers=workers)


def finetuned_unet(
    classes: Sequence[ClassImages], told: Sequence[Embedded], origins: Origins, run: TrainingRun
) -> nn.Module:
    """Return the base's UNet, fine-tuned on the latents of all classes as the recipe's table [unet] says."""
    recipe = classes[0].recipe
    assert recipe.unet is not None, "the stage is the recipe's"
    if recipe.unet.study_minus_sign:
        run.say("warning: unet.study_minus_sign is set: this UNet learns to double anomalies, for a study alone")
    latents = [_latents(one, origins, run) for one in classes]
    data = PromptedLatents.of_classes(latents, [one.condition.product for one in told])
    unet = unet_of(Base(origins.base), None)
    weights = sum(weight.numel() for weight in unet.parameters())
    tuned: nn.Module = finetune_unet(
        unet, data, recipe.unet, recipe.settings, run, seed=recipe.seed, training=recipe.training
    )
    run.say(f"unet: {weights / 1e6:.2f} M weights, {_adapter(run) or 'all of them trained'}")
    return tuned


def _adapter(run: TrainingRun) -> str:
    """Return the size of the adapter in the run's folder; nothing where there is none."""
    files = list((run.folder / ADAPTER).glob("*.safetensors"))
    if not files:
        return ""
    count, size = sum(tensor.numel() for tensor in load_file(files[0]).values()), files[0].stat().st_size
    return f"of which an adapter of {count:,} ({size / 1e6:.2g} MB in {run.folder / ADAPTER}) was trained"


def _latents(one: ClassImages, origins: Origins, run: TrainingRun) -> LatentPairs:
    """Return a class's latents, from the run's folder where they were encoded before."""
    file = run.folder / LATENTS / f"{one.name or 'product'}.safetensors"
    if not file.is_file():
        with run.stage("pairs"):
            pairs = one.pairs()
        with run.stage("latents"), main_process_first():
            if run.writes:
                device: Any = joined_processes().device
                autoencoder = autoencoder_of(Base(origins.base), origins.vae).to(device)
                latents = encode_pairs(autoencoder, pairs, ENCODED_AT_ONCE, keep=file.with_suffix(""))
                save_atomically({"normal": latents.normal, "anomalous": latents.anomalous}, file)
                shutil.rmtree(file.with_suffix(""))
    tensors = load_file(file)
    return LatentPairs(tensors["normal"], tensors["anomalous"])


def finetuned_dino(one: ClassImages, told: Embedded, origins: Origins, run: TrainingRun) -> nn.Module:
    """Return DINO, fine-tuned on reconstructions by these models as the recipe's table [features] says."""
    recipe = one.recipe
    assert recipe.features is not None, "the stage is the recipe's"
    with run.stage("reconstructions"), main_process_first():
        good, held_out = _reconstructions(one, told, origins, run)
    backbone = VitBackbone(features_of(Base(origins.dino), None))
    tuned = finetune_dino(
        backbone,
        good,
        held_out,
        recipe.features,
        run,
        score=recipe.settings.score,
        seed=recipe.seed,
        training=recipe.training,
    )
    run.say(f"dino: {tuned.choice.in_words()}")
    return tuned.backbone.stored


def _reconstructions(
    one: ClassImages, told: Embedded, origins: Origins, run: TrainingRun
) -> tuple[RebuiltImages, HeldOutImages]:
    """Return what the fine-tuned models make of good images and of those held out, kept in the run's folder."""
    recipe, base, device = one.recipe, Base(origins.base), joined_processes().device
    assert recipe.features is not None, "the stage is the recipe's"
    autoencoder, unet = autoencoder_of(base, origins.vae).to(device), unet_of(base, origins.unet).to(device)
    dino: Any = features_of(Base(origins.dino), None)
    condition = Condition(told.condition.product.to(device), told.condition.empty.to(device))
    models = models_from_modules(autoencoder, unet, dino.to(device), recipe.settings, condition).assemble()
    rebuild = rebuild_with(models, recipe.settings, start=recipe.features.start, calls=recipe.features.calls)
    split = tuning_split(one.split, recipe.features.holdout, recipe.seed)
    keep, seed, workers = run.folder / RECONSTRUCTIONS, recipe.seed, one.workers
    good = rebuild_good(split, recipe.settings, rebuild, seed=seed, keep=keep / "train", workers=workers)
    held_out = rebuild_held_out(
        split,
        recipe.settings,
        recipe.synthesis,
        rebuild,
        anomalies=recipe.features.anomalies,
        seed=seed,
        keep=keep / "held-out",
        workers=workers,
    )
    return good, held_out


def _tuned(run: TrainingRun, name: str, make: Callable[[], nn.Module], recipe: PretrainedRecipe) -> Path:
    """Return the file of a stage's weights in the bundle's precision, which is made where it is not there."""
    file = run.folder / FINETUNED / f"{name}.safetensors"
    if not file.is_file():
        module = make()
        round_to_stored_precision(module, recipe.dtype)
        if run.writes:
            save_atomically(nn.Module.to(module, dtype=DTYPES[recipe.dtype]).state_dict(), file)
    joined_processes().wait_for_everyone()
    return file


def _distilled(run: TrainingRun, make: Callable[[], nn.Module], recipe: PretrainedRecipe) -> Path:
    """Return the folder of a small autoencoder, in Hugging Face layout, which is made where it is not there."""
    folder = run.folder / FINETUNED / "small"
    if not folder.is_dir():
        module = make()
        if run.writes:
            draft = folder.with_suffix(".tmp")
            shutil.rmtree(draft, ignore_errors=True)
            save_module(module, draft, "autoencoder_tiny", recipe.dtype, licence=recipe.licence)
            draft.rename(folder)
    joined_processes().wait_for_everyone()
    return folder


def save_atomically(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors as safetensors, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".tmp")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, draft)
    os.replace(draft, file)


def _components(
    classes: Sequence[ClassImages], told: Sequence[Embedded], origins: Origins, run: TrainingRun
) -> list[dict[ComponentName, ComponentSource]]:
    """Return each class's components; all but the condition are the first one's."""
    recipe, folder = classes[0].recipe, run.folder / "components"
    licence = recipe.licence
    spec = ImportSpec("", "", recipe.settings, recipe.prompt, licence, dtype=recipe.dtype)
    shared = import_components(folder, origins, spec, say=lambda _: None)
    others = [
        {
            **shared,
            "condition": save_condition(
                own.condition, folder / "conditions" / one.name, own.about, licence=recipe.licence
            ),
        }
        for one, own in zip(classes[1:], told[1:], strict=True)
    ]
    return [shared, *others]
