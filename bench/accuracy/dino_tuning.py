"""What DINO's fine-tuning does to real pretrained features: on good images held out, and on labelled test images.

No published Stable Diffusion is at hand here, so reconstructions come from a stand-in: an autoencoder and a UNet as
small as the recipe `nano` has them, trained for a short while. It blurs, and rebuilds anomalies in part: about what
the stage is to forgive. Epochs are chosen on parts held out of the training; the test images meet the networks at the
end alone, by two reads: the method's own, of an image against its reconstruction, and a memory of good patches, which
needs no reconstruction and so shows what the features themselves have lost or gained.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.accuracy.yardstick_figures import DetectorCost, DetectorResult
from glad.embedding import full_resolution
from glad.images.placement import letterbox
from glad.models import PixelModels
from glad.settings.embedding import EmbeddingSettings
from glad.settings.method import MethodSettings, ScoreSettings
from model_store.backbones.vit import VitBackbone
from model_store.engines.torch import TorchAutoencoder, TorchFeatures
from model_store.engines.torch_modules import TorchDenoiser
from training.data.dataset import Split, TestImage, read_pixels
from training.finetune.autoencoder import train_autoencoder
from training.finetune.best_weights import Choice
from training.finetune.checkpoints import CheckpointFolder
from training.finetune.dino import STAGE, finetune_dino, patch_maps
from training.finetune.reconstructions import Rebuild, RebuiltImages, rebuild_with
from training.finetune.tuning_split import TuningSplit, rebuild_good, rebuild_held_out, tuning_split
from training.finetune.unet import encode_pairs, train_unet
from training.parallel_inspection import ImageResult
from training.pipeline import make_run_pairs
from training.pretrained_recipe import DinoFinetuneRecipe
from training.progress import Count, Progress
from training.recipe import Recipe
from training.recipe_file import load_recipe
from training.training_run import CHECKPOINTS, TrainingRun
from training.yardstick.patch_memory import (
    YARDSTICK,
    inspect_all,
    learn_memory,
    learn_patch_memory,
    mapped_result,
)

PUBLISHED = "published weights"
RECIPE = DinoFinetuneRecipe(side=168, epochs=5, batch=2, anomalies=40)
NO_COST = DetectorCost(None, None, None, None)


@dataclass(frozen=True)
class DinoTuningPlan:
    """How long the stand-in and DINO are trained, and on how much."""

    stand_in: tuple[str, ...] = (
        "synthesis.pairs=300",
        "autoencoder.steps=200",
        "unet.widths=[32, 64, 96]",
        "unet.steps=200",
        "unet.batch=8",
    )
    """Changes to the recipe `nano`, of which the stand-in is made."""
    recipe: DinoFinetuneRecipe = RECIPE
    images: int = 80
    """Good images to train on: with the batch they decide how many steps an epoch has."""
    memory_levels: tuple[int, ...] = (6, 9)
    """Blocks whose outputs the memory of good patches keeps."""

    @property
    def steps(self) -> int:
        """Return the steps of the optimizer."""
        return self.recipe.epochs * (self.images // self.recipe.batch)


@dataclass(frozen=True, eq=False)
class TunedNetworks:
    """The networks that are compared, by name, the published one first; and how the stage chose."""

    networks: dict[str, VitBackbone]
    choice: Choice
    rebuild: Rebuild
    settings: MethodSettings
    """Of the stand-in: how images are framed for it."""


def tune_networks(backbone: VitBackbone, split: Split, plan: DinoTuningPlan, run: TrainingRun) -> TunedNetworks:
    """Return the published network, that of the last epoch, and that of the chosen one, where it is another."""
    stand_in = load_recipe("nano", plan.stand_in)
    assert isinstance(stand_in, Recipe), "nano is of the pixel form"
    rebuild = stand_in_rebuild(stand_in, split, backbone, plan.recipe, run)
    parts = tuning_split(split, plan.recipe.holdout, stand_in.seed)
    few = TuningSplit(evenly(parts.train, plan.images), parts.held_out)
    made = run.folder / "reconstructions"
    good = rebuild_good(few, stand_in.settings, rebuild, seed=stand_in.seed, keep=made / "train", workers=1)
    held_out = rebuild_held_out(
        few,
        stand_in.settings,
        stand_in.synthesis,
        rebuild,
        anomalies=plan.recipe.anomalies,
        seed=stand_in.seed,
        keep=made,
        workers=1,
    )
    published = copy.deepcopy(backbone)
    tuned = finetune_dino(backbone, good, held_out, plan.recipe, run, score=ScoreSettings(), seed=stand_in.seed)
    networks = {PUBLISHED: published, f"epoch {plan.recipe.epochs}": last_weights(published, run)}
    if 0 < tuned.choice.chosen < plan.recipe.epochs:
        networks[f"epoch {tuned.choice.chosen}, chosen"] = tuned.backbone
    return TunedNetworks(networks, tuned.choice, rebuild, stand_in.settings)


def stand_in_rebuild(
    recipe: Recipe, split: Split, backbone: VitBackbone, tuning: DinoFinetuneRecipe, run: TrainingRun
) -> Rebuild:
    """Return what a small autoencoder and a UNet, trained for a short while, make of images."""
    pairs = make_run_pairs(recipe, split, 1, run.folder)
    autoencoder = train_autoencoder(pairs, recipe.autoencoder, run, seed=recipe.seed)
    latents = encode_pairs(autoencoder, pairs)
    unet = train_unet(latents, recipe.unet, recipe.settings, run, seed=recipe.seed)
    module: Any = backbone.module  # takes no part in a reconstruction
    models = PixelModels(TorchAutoencoder(autoencoder), TorchDenoiser(unet), TorchFeatures(module)).assemble()
    return rebuild_with(models, recipe.settings, start=tuning.start, calls=tuning.calls)


def last_weights(published: VitBackbone, run: TrainingRun) -> VitBackbone:
    """Return the network of the stage's last step."""
    last = CheckpointFolder(run.folder / CHECKPOINTS / STAGE, keep=1).read()
    assert last is not None, "the stage has ended"
    made = copy.deepcopy(published)
    made.module.load_state_dict(dict(last.tensors["model"]), strict=False)
    return made


def evenly(paths: Sequence[Path], count: int) -> tuple[Path, ...]:
    """Return so many of the paths, evenly spread; all of them if they are no more."""
    return tuple(paths[number * len(paths) // count] for number in range(count)) if count < len(paths) else tuple(paths)


def read_by_reconstruction(
    tuned: TunedNetworks, images: Sequence[TestImage], plan: DinoTuningPlan, progress: Progress
) -> list[DetectorResult]:
    """Return what each network says of the test images, each against its reconstruction by the stand-in."""
    paths = tuple(image.path for image in images)
    rebuilt = rebuild_good(TuningSplit(paths, ()), tuned.settings, tuned.rebuild, seed=0, keep=None, workers=1)
    rebuilt = rebuilt.at_side(plan.recipe.side)
    results = []
    for name, network in tuned.networks.items():
        found = _mapped(network, rebuilt, paths, plan, partial(progress, f"reconstruction, {name}"))
        results.append(DetectorResult(f"reconstruction, {name}", tuple(found), None, NO_COST, {}))
    return results


def _mapped(
    network: VitBackbone, rebuilt: RebuiltImages, paths: Sequence[Path], plan: DinoTuningPlan, progress: Count
) -> Iterator[ImageResult]:
    maps = patch_maps(network, rebuilt, plan.recipe.blocks, ScoreSettings())
    for done, (path, one) in enumerate(zip(paths, maps, strict=True), start=1):
        height, width = read_pixels(path).shape[:2]
        placement = letterbox(width, height, plan.recipe.side)
        shown = torch.from_numpy(placement.valid_pixels())
        yield mapped_result(path, one.score, full_resolution(one.map, one.inside, shown), placement)
        progress(done, len(paths))


def read_by_memory(
    tuned: TunedNetworks,
    images: Sequence[TestImage],
    good: tuple[Path, Split],
    plan: DinoTuningPlan,
    progress: Progress,
) -> list[DetectorResult]:
    """Return what a memory of good patches says of the test images, with each network's features."""
    levels, paths = plan.memory_levels, [image.path for image in images]
    results = []
    for title, network in tuned.networks.items():
        embedding = EmbeddingSettings(levels=levels, averages=(3,) * len(levels), stride=network.stride(1))
        using = YARDSTICK.model_copy(update={"backbone": title, "side": plan.recipe.side, "embedding": embedding})
        learnt = learn_patch_memory(learn_memory(*good, network, using, progress), progress)
        learnt = replace(learnt, name=f"memory, {title}")
        results.append(DetectorResult(learnt.name, inspect_all(learnt, paths, progress), None, NO_COST, {}))
    return results
