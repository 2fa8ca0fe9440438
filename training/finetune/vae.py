"""A published autoencoder, fine-tuned on the product's images and on synthetic anomalies.

Anomalies belong in it as in a training from scratch: what the autoencoder loses of a defect no comparison finds. By
default the encoder stays as it is: the latents are then those that the UNet knows, and only the pictures that are made
of them change. The scaling factor stays in any case.

Beside L1, squared error, gradients and KL there is a distance in the features of the product's DINO, in the place of
LPIPS, whose network has no weights here. The patch discriminator that Stable Diffusion's autoencoder was trained with
is left out: diffusers has none, and a few thousand steps on one product are what it takes to balance one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from model_store.backbones.vit import VitBackbone
from training.finetune.autoencoder import (
    posterior_noise,
    random_crops,
    reconstruct_from_draw,
    reconstruction_loss,
)
from training.finetune.best_weights import BestWeights, Choice, Figures
from training.finetune.stage import Stage
from training.pretrained_recipe import VaeFinetuneRecipe
from training.recipe import CropsRecipe, LoopRecipe
from training.synthesis.pairs import PairSet
from training.training_run import CHECKPOINTS, TrainingRun

STAGE = "vae"
RULE = (
    "the least loss, without KL, of good images and synthetic anomalies on parts held out; the published weights, "
    "unless a later measurement is better"
)
MEASURED_CROPS = 32
"""At most so many of the images held out, always the same: half of them with an anomaly. Of each pair two."""
COMPARED_BLOCKS = (3, 6, 9, 12)
"""Blocks of the features' network; of a shallower one those that it has, and its last one."""

Distance = Callable[[Tensor, Tensor], Tensor]
"""Of two images (B, 3, H, W) in about [-1, 1]: a scalar."""


@dataclass(frozen=True, eq=False)
class TunedVae:
    """The autoencoder after the stage, with its best weights, and how they were chosen."""

    module: AutoencoderKL
    choice: Choice


def finetune_vae(
    module: AutoencoderKL,
    pairs: PairSet,
    held_out: PairSet,
    recipe: VaeFinetuneRecipe,
    run: TrainingRun,
    *,
    seed: int,
    features: VitBackbone | None = None,
    training: LoopRecipe | None = None,
) -> TunedVae:
    """Train the autoencoder in place, by AdamW at a constant rate, and return it with its best weights.

    Args:
        module: with the published weights.
        pairs: to train on.
        held_out: pairs of other parts, by which the best weights are chosen.
        recipe: of this stage.
        run: of which it is a stage.
        seed: of the run.
        features: the network, frozen, in whose features reconstructions are compared, too; None: they are not.
        training: how the device is used.

    Raises:
        ValueError: if crops and autoencoder do not fit.
    """
    check_crop(recipe.crop, module)
    frozen = recipe.trained == "decoder"
    let_learn(module, frozen_encoder=frozen)
    stage = Stage(run, STAGE, recipe.steps, seed=seed, loop=training)
    network = stage.prepare(
        module,
        learning_rate=recipe.learning_rate,
        weight_decay=0.0,
        course="constant",
        warmup=1,
        forward=reconstruct_from_frozen_draw if frozen else reconstruct_from_draw,
    )
    distance = None if features is None else picture_distance(features, stage.device)
    measured = partial(measure_vae, module, held_out, recipe, distance)
    best = BestWeights(run.folder / CHECKPOINTS / STAGE / "best", module, merit)
    places = validation_steps(recipe.steps, recipe.validations)
    for step in stage:
        if step in places:
            with stage.untimed():
                best.measure(step, measured, write=run.writes)
        crops, masks = random_crops(pairs, stage.rng(step), recipe)
        noise = posterior_noise(module, crops, stage.generator(step))
        for part in stage.micro_batches(recipe.batch):
            images, damaged = crops[part].to(stage.device), masks[part].to(stage.device)
            reconstructed, kl = network(images, noise[part].to(stage.device))
            loss = picture_loss(reconstructed, images, damaged, recipe, distance)
            stage.backward(loss + recipe.kl_weight * kl.mean(), shown=loss)
        stage.update(step)
    stage.finish(module)
    best.measure(recipe.steps, measured, write=run.writes)
    choice = best.restore(RULE, "step", write=run.writes)
    module.requires_grad_(False)
    return TunedVae(module, choice)


def check_crop(crop: int, module: AutoencoderKL) -> None:
    """Check that crops become whole latents.

    Raises:
        ValueError: if not.
    """
    factor = 2 ** (len(module.config.block_out_channels) - 1)
    if crop % factor:
        raise ValueError(
            f"crop is {crop}, and the autoencoder makes one place of {factor} px: give a multiple of {factor}, such as "
            f"{crop // factor * factor or factor}"
        )


def let_learn(module: AutoencoderKL, *, frozen_encoder: bool) -> None:
    """Let the autoencoder's weights take gradients, or those of its decoder alone."""
    module.requires_grad_(True)
    for part in (module.encoder, module.quant_conv) if frozen_encoder else ():
        if part is not None:
            part.requires_grad_(False)


def reconstruct_from_frozen_draw(module: AutoencoderKL, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `reconstruct_from_draw` does, for an encoder that does not learn; its KL is none of this loss."""
    with torch.no_grad():
        posterior = module.encode(images).latent_dist
        latents = posterior.mean + posterior.std * noise
    return module.decode(latents).sample, latents.new_zeros(len(images))


def picture_distance(features: VitBackbone, device: torch.device) -> Distance:
    """Return the distance of two pictures in a network's features: 1 - cosine, a mean over places and blocks."""
    network: Any = features.to(device)
    blocks = tuple(block for block in COMPARED_BLOCKS if block <= features.levels) or (features.levels,)
    patch = features.stride(1)

    def distance(one: Tensor, other: Tensor) -> Tensor:
        side = max(patch, round(one.shape[-1] / patch) * patch)
        both = torch.cat([one, other]).float()
        if side != one.shape[-1]:
            both = functional.interpolate(both, (side, side), mode="bilinear", antialias=True, align_corners=False)
        pairs = (tap.chunk(2) for tap in network(both, blocks))
        return torch.stack([1 - functional.cosine_similarity(here, there).mean() for here, there in pairs]).mean()

    return distance


def picture_loss(
    reconstructed: Tensor, images: Tensor, damaged: Tensor, recipe: VaeFinetuneRecipe, distance: Distance | None
) -> Tensor:
    """Return what a reconstruction costs: `reconstruction_loss`, and the distance in features where there is one."""
    loss = reconstruction_loss(reconstructed, images, damaged, recipe)
    if distance is None or not recipe.features_weight:
        return loss
    return loss + recipe.features_weight * distance(reconstructed, images)


def validation_steps(steps: int, validations: int) -> frozenset[int]:
    """Return the steps before which a stage is measured: so many, evenly spread, the first one before any step."""
    return frozenset(number * steps // validations for number in range(validations))


def merit(figures: Figures) -> float:
    """Return what the weights are chosen by: see `RULE`."""
    return -figures["loss"]


@torch.no_grad()
def measure_vae(
    module: AutoencoderKL, held_out: PairSet, recipe: VaeFinetuneRecipe, distance: Distance | None
) -> dict[str, float]:
    """Return the loss of crops held out, and the mean absolute error of their good and of their damaged pixels.

    Images are decoded from the posterior's mean, as inference does it.
    """
    crops, masks = held_out_crops(held_out, recipe)
    decoded, losses = [], []
    for few, marked in zip(torch.split(crops, recipe.batch), torch.split(masks, recipe.batch), strict=True):
        images, damaged = few.to(module.device), marked.to(module.device)
        drawn = module.decode(module.encode(images).latent_dist.mean).sample.float()
        losses.append(float(picture_loss(drawn, images, damaged, recipe, distance)) * len(few))
        decoded.append(drawn.cpu())
    errors = (torch.cat(decoded) - crops).abs().mean(1)
    return {
        "loss": sum(losses) / len(crops),
        "good_error": float(errors[~masks].mean()),
        "damage_error": float(errors[masks].mean()),
    }


def held_out_crops(held_out: PairSet, recipe: CropsRecipe) -> tuple[Tensor, Tensor]:
    """Return crops of the pairs held out, always the same ones: as `random_crops`."""
    drawn = np.random.Generator(np.random.Philox(len(held_out)))
    count = min(MEASURED_CROPS, 2 * len(held_out))
    return random_crops(held_out, drawn, recipe.model_copy(update={"batch": count}))
