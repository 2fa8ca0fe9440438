"""DINO, fine-tuned so that a good image and its reconstruction look alike to it, and an anomaly still does not.

What an autoencoder and a denoiser lose of a good part is no anomaly. The paper fine-tunes DINO for VisA and PCB-Bank:
the MLPs of some blocks learn to give both images equal features, while a small weight holds them to what they were.
The authors chose the epoch on test images; here it is chosen on good images held out and on synthetic anomalies.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from glad.patch_matching import match_map, top_mean
from glad.settings.method import ScoreSettings
from model_store.backbones.base import freeze
from model_store.backbones.vit import VitBackbone, blocks
from training.finetune.best_weights import BestWeights, Choice, Figures
from training.finetune.features import DAMAGED, changed_share
from training.finetune.reconstructions import RebuiltImages
from training.finetune.separation import Separation, gain_over
from training.finetune.stage import Stage
from training.finetune.tuning_split import HeldOutImages
from training.pretrained_recipe import DinoFinetuneRecipe
from training.recipe import LoopRecipe
from training.synthesis.pairs import to_unit
from training.training_run import CHECKPOINTS, TrainingRun

STAGE = "dino"
RULE = (
    "the epoch with the largest mean of two AUROCs on images held out: synthetic anomalies against good images, and "
    "changed patches against those of good images; the published weights, unless an epoch is better in 97.5 % of the "
    "draws of the parts held out"
)
TOP, LEAST_TOP = 0.01, 4
"""The score of an image is the mean of this share of its patches, and of at least so many."""
FULL = 0.99
"""A patch with less of it inside the image is padding."""


@dataclass(frozen=True, eq=False)
class TunedDino:
    """The network after the stage, with its best weights, and how they were chosen."""

    backbone: VitBackbone
    choice: Choice


def feature_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the sum over blocks of 1 - the cosine of the features, each image's flattened; the mean over images.

    Args:
        a: per block (B, D, h, w).
        b: the same, of the other images.
    """
    cosines = [functional.cosine_similarity(one.flatten(1), other.flatten(1)) for one, other in zip(a, b, strict=True)]
    return (1 - torch.stack(cosines)).sum(0).mean()


def train_mlps(backbone: VitBackbone, recipe: DinoFinetuneRecipe) -> None:
    """Let the MLPs of the recipe's blocks take gradients, and nothing else.

    Raises:
        ValueError: if a block is not there, or the side is not a multiple of the patch.
    """
    backbone.check_levels(recipe.blocks)
    patch = backbone.stride(1)
    if recipe.side % patch:
        lower = recipe.side // patch * patch
        raise ValueError(
            f"side is {recipe.side}; this network needs a multiple of its patch, {patch} px: set it to "
            f"{lower or patch} or {lower + patch}"
        )
    layers: Any = blocks(backbone.module)
    for number in recipe.blocks:
        layers[number - 1].mlp.requires_grad_(True)


def finetune_dino(
    backbone: VitBackbone,
    good: RebuiltImages,
    held_out: HeldOutImages,
    recipe: DinoFinetuneRecipe,
    run: TrainingRun,
    *,
    score: ScoreSettings,
    seed: int,
    training: LoopRecipe | None = None,
) -> TunedDino:
    """Train the network in place, by Adam at a constant rate, and return it with the weights of its best epoch.

    Args:
        backbone: of any layout that `VitBackbone` knows: DINO, DINOv2, with registers or without.
        good: images to train on, and their reconstructions.
        held_out: images of other parts, which choose the epoch.
        recipe: of this stage.
        run: of which it is a stage.
        score: how the product's patches are matched: direction and window.
        seed: of the run.
        training: how the device is used.

    Raises:
        ValueError: if recipe and network do not fit.
    """
    train_mlps(backbone, recipe)
    good, held_out = good.at_side(recipe.side), held_out.at_side(recipe.side)
    batch = min(recipe.batch, len(good))
    per_epoch = len(good) // batch  # what is left over is another few images in every epoch
    stage = Stage(run, STAGE, recipe.epochs * per_epoch, seed=seed, loop=training)
    original = copy.deepcopy(backbone).requires_grad_(False).to(stage.device)
    network = stage.prepare(
        backbone.module,
        learning_rate=recipe.learning_rate,
        weight_decay=0.0,
        course="constant",
        warmup=1,
        forward=lambda _, images: backbone(images, recipe.blocks),
    )
    best = BestWeights(run.folder / CHECKPOINTS / STAGE / "best", backbone.module, merit)
    published = read_held_out(original, held_out, recipe.blocks, score)
    best.measure(0, partial(figures_of, published, published, held_out), write=run.writes)

    def measured() -> Figures:
        return figures_of(read_held_out(backbone, held_out, recipe.blocks, score), published, held_out)

    for step in stage:
        epoch, place = divmod(step, per_epoch)
        if place == 0:
            with stage.untimed():
                best.measure(epoch, measured, write=run.writes)
        order = torch.randperm(len(good), generator=stage.generator(epoch * per_epoch))
        chosen = order[place * batch : (place + 1) * batch]
        for part in stage.micro_batches(batch):
            few = torch.cat([good.images[chosen[part]], good.rebuilt[chosen[part]]])
            images = to_unit(few).to(stage.device)
            tuned = network(images)
            inputs, rebuilt = zip(*(one.chunk(2) for one in tuned), strict=True)
            distance = feature_distance(inputs, rebuilt)
            # Each of the two images' own distance to the frozen network: without it equal features for all would do.
            change = _change(original, images, tuned, recipe) if recipe.frozen_weight else 0.0
            stage.backward(distance + recipe.frozen_weight * change, shown=distance)
        stage.update(step)
    stage.finish(backbone.module)
    best.measure(recipe.epochs, measured, write=run.writes)
    choice = best.restore(RULE, "epoch", write=run.writes)
    freeze(backbone)
    return TunedDino(backbone, choice)


def _change(original: VitBackbone, images: Tensor, tuned: Sequence[Tensor], recipe: DinoFinetuneRecipe) -> Tensor:
    """Return the distance of both kinds of images from the network as it was: the sum of their two means."""
    with torch.no_grad():
        frozen = original(images, recipe.blocks)
    return 2 * feature_distance(tuned, frozen)  # half of the images are of either kind


def merit(figures: Figures) -> float:
    """Return what the epoch is chosen by: see `RULE`."""
    return figures["gain"] if figures["gain_at_least"] > 0 else 0.0


@dataclass(frozen=True, eq=False)
class PatchMap:
    """The anomaly map of one image on the grid of its patches (Eqs. 11 and 12)."""

    map: Tensor
    """(h, w)."""
    inside: Tensor
    """(h, w) bool: false on padding."""
    share: Tensor
    """(h, w): of each patch that a synthetic anomaly changed."""
    distance: float
    """Of the whole image from its reconstruction: the loss, for this image."""

    @property
    def values(self) -> Tensor:
        """Return the map's values where it is not padding: (n,)."""
        return self.map[self.inside]

    @property
    def score(self) -> float:
        """Return the image's score."""
        values = self.values
        return float(top_mean(values, min(len(values), max(LEAST_TOP, round(TOP * len(values))))))


@dataclass(frozen=True, eq=False)
class HeldOutReading:
    """What a network says of the images held out."""

    distance: float
    """Of good images from their reconstructions: the loss, without what holds to the frozen network."""
    images: Separation
    """Of the scores of images."""
    patches: Separation
    """Of the patches of good images, and those that an anomaly changed."""


@torch.no_grad()
def read_held_out(
    backbone: VitBackbone, held_out: HeldOutImages, layers: Sequence[int], score: ScoreSettings
) -> HeldOutReading:
    """Return how alike good images and their reconstructions are, and how well anomalies stand out from them.

    Raises:
        ValueError: if no anomaly fills enough of any patch to be told from none.
    """
    good = list(patch_maps(backbone, held_out.good, layers, score))
    anomalous = list(patch_maps(backbone, held_out.anomalous, layers, score))
    loud = [one.map[one.inside & (one.share > DAMAGED)] for one in anomalous]
    if not sum(map(len, loud)):
        raise ValueError(
            f"none of the {len(anomalous)} synthetic anomalies fills {DAMAGED:.0%} of a patch of {backbone.stride(1)} "
            "px: give features.anomalies a larger number, or features.side"
        )
    scores = [torch.tensor([one.score]) for one in (*good, *anomalous)]
    return HeldOutReading(
        sum(one.distance for one in good) / len(good),
        Separation.of_values(scores[: len(good)], scores[len(good) :]),
        Separation.of_values([one.values for one in good], loud),
    )


def figures_of(reading: HeldOutReading, published: HeldOutReading, held_out: HeldOutImages) -> dict[str, float]:
    """Return the figures of an epoch beside those of the published weights."""
    count = len(held_out.good) + len(held_out.anomalous)
    # Draws of a single part would all be the same: nothing could look like chance.
    parts = held_out.parts if len(set(held_out.parts)) > 1 else tuple(map(str, range(count)))
    gain, at_least = gain_over((reading.images, reading.patches), (published.images, published.patches), parts)
    return {
        "good_distance": reading.distance,
        "image_auroc": reading.images.auroc,
        "patch_auroc": reading.patches.auroc,
        "gain": gain,
        "gain_at_least": at_least,
    }


def patch_maps(
    backbone: VitBackbone, images: RebuiltImages, layers: Sequence[int], score: ScoreSettings
) -> Iterator[PatchMap]:
    """Yield the map of each image by its own reconstruction, as the method matches their patches."""
    patch, device = backbone.stride(1), next(backbone.parameters()).device
    shares, insides = changed_share(images.mask, patch), changed_share(images.valid, patch) > FULL
    for one, rebuilt, share, inside in zip(images.images, images.rebuilt, shares, insides, strict=True):
        taps = backbone(to_unit(torch.stack([one, rebuilt])).to(device), layers)
        seen = inside.to(device)
        maps = [
            match_map(here, there, score.direction, score.window, seen).cpu()
            for here, there in (tap.permute(0, 2, 3, 1) for tap in taps)
        ]
        distance = feature_distance([tap[:1] for tap in taps], [tap[1:] for tap in taps])
        yield PatchMap(torch.stack(maps).sum(0), inside, share, float(distance))
