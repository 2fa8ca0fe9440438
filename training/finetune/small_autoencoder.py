"""A small autoencoder that does what the product's does, for a fraction of it: distilled on the product alone.

In the authors' way of inspecting, decoding for the comparison costs most of an image. A small decoder (diffusers'
AutoencoderTiny, as TAESD) need only know one product. It takes and gives scaled latents, so its scaling factor is 1.
The encoder learns the teacher's posterior means, so that the UNet sees the latents it knows; the decoder learns the
teacher's pictures of them. Neither learns from the other: each can take its half of the teacher's place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor
from torch.nn import functional

from model_store.engines.torch_modules import TorchAutoencoder
from training.finetune.autoencoder import random_crops, reconstruction_loss
from training.finetune.best_weights import BestWeights, Choice, Figures
from training.finetune.stage import Stage
from training.finetune.vae import check_crop, held_out_crops, validation_steps
from training.pretrained_recipe import DistilRecipe
from training.recipe import LoopRecipe
from training.synthesis.pairs import PairSet
from training.training_run import CHECKPOINTS, TrainingRun

STAGE = "small_autoencoder"
RULE = "the least loss of good images and synthetic anomalies on parts held out"


@dataclass(frozen=True, eq=False)
class SmallAutoencoder:
    """The small autoencoder after the stage, with its best weights, and how they were chosen."""

    module: AutoencoderTiny
    choice: Choice


def new_small_autoencoder(teacher: AutoencoderKL, recipe: DistilRecipe) -> AutoencoderTiny:
    """Return an untrained autoencoder with the teacher's latents: of its channels, and its pixels per place."""
    levels = len(teacher.config.block_out_channels)
    return AutoencoderTiny(
        latent_channels=teacher.config.latent_channels,
        encoder_block_out_channels=(recipe.width,) * levels,
        num_encoder_blocks=(1,) + (recipe.blocks,) * (levels - 1),
        decoder_block_out_channels=(recipe.width,) * levels,
        num_decoder_blocks=(recipe.blocks,) * (levels - 1) + (1,),
        scaling_factor=1.0,
    )


def distil_autoencoder(
    teacher: AutoencoderKL,
    pairs: PairSet,
    held_out: PairSet,
    recipe: DistilRecipe,
    run: TrainingRun,
    *,
    seed: int,
    training: LoopRecipe | None = None,
) -> SmallAutoencoder:
    """Train a small autoencoder by AdamW, and return it with its best weights.

    Args:
        teacher: the product's autoencoder; stays as it is.
        pairs: to train on.
        held_out: pairs of other parts, by which the best weights are chosen.
        recipe: of this stage.
        run: of which it is a stage.
        seed: of the run, and of the untrained weights.
        training: how the device is used.

    Raises:
        ValueError: if crops and autoencoder do not fit.
    """
    check_crop(recipe.crop, teacher)
    torch.manual_seed(seed)
    module = new_small_autoencoder(teacher, recipe)
    # diffusers' tiny encoder leaves out a step of its own where gradients are checkpointed; it is small without that.
    loop = None if training is None else training.model_copy(update={"gradient_checkpointing": False})
    stage = Stage(run, STAGE, recipe.steps, seed=seed, loop=loop)
    warmup = min(100, max(1, recipe.steps // 10))
    network = stage.prepare(module, learning_rate=recipe.learning_rate, warmup=warmup, forward=_encode_and_decode)
    known = TorchAutoencoder(teacher.to(stage.device).eval())
    best = BestWeights(run.folder / CHECKPOINTS / STAGE / "best", module, merit)
    measured = partial(measure_small_autoencoder, module, known, held_out, recipe)
    places = validation_steps(recipe.steps, recipe.validations)
    for step in stage:
        if step in places:
            best.measure(step, measured, write=run.writes)
        crops, masks = random_crops(pairs, stage.rng(step), recipe)
        for part in stage.micro_batches(recipe.batch):
            images, damaged = crops[part].to(stage.device), masks[part].to(stage.device)
            latents, pictures = taught(known, images)
            encoded, drawn = network(images, latents)
            of_pictures = reconstruction_loss(drawn, pictures, damaged, recipe)
            stage.backward(of_pictures + recipe.latents_weight * functional.mse_loss(encoded, latents))
        stage.update(step)
    stage.finish(module)
    best.measure(recipe.steps, measured, write=run.writes)
    choice = best.restore(RULE, "step", write=run.writes)
    module.requires_grad_(False)
    return SmallAutoencoder(module, choice)


def taught(teacher: TorchAutoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the teacher's scaled latents of images, and its pictures of these."""
    latents = teacher.encode(images)
    return latents.clone(), teacher.decode(latents).clone()  # copies: nothing learns from an inference tensor


def _encode_and_decode(module: AutoencoderTiny, images: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
    return module.encode(images, return_dict=False)[0], module.decode(latents, return_dict=False)[0]


def merit(figures: Figures) -> float:
    """Return what the weights are chosen by: see `RULE`."""
    return -figures["loss"]


@torch.no_grad()
def measure_small_autoencoder(
    module: AutoencoderTiny, teacher: TorchAutoencoder, held_out: PairSet, recipe: DistilRecipe
) -> dict[str, float]:
    """Return the loss on crops held out, and how far latents and pictures are from the teacher's.

    `latent_error` is a root mean square, in units of the latents, whose standard deviation is about 1; `picture_error`
    is a mean of absolute differences in [-1, 1], of the teacher's pictures drawn from the teacher's latents;
    `image_error` and `teacher_error` are those of the images, decoded from either's own latents.
    """
    device = next(module.parameters()).device
    crops, masks = held_out_crops(held_out, recipe)
    found = []
    for few in torch.split(crops, recipe.batch):
        latents, pictures = taught(teacher, few.to(device))
        encoded, drawn = _encode_and_decode(module, few.to(device), latents)
        own = module.decode(encoded, return_dict=False)[0]
        found.append([one.cpu() for one in (latents, encoded, pictures, drawn, own)])
    latents, encoded, pictures, drawn, own = (torch.cat(each) for each in zip(*found, strict=True))
    squares = functional.mse_loss(encoded, latents)
    return {
        "loss": float(reconstruction_loss(drawn, pictures, masks, recipe) + recipe.latents_weight * squares),
        "latent_error": float(squares.sqrt()),
        "picture_error": float((drawn - pictures).abs().mean()),
        "image_error": float((own - crops).abs().mean()),
        "teacher_error": float((pictures - crops).abs().mean()),
    }
