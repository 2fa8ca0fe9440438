"""The decoder of the feature form: latents to pictures that people look at. No score depends on it."""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional

from training.feature_recipe import DecoderRecipe
from training.finetune.autoencoder import gradient_distance
from training.finetune.curves import in_rows
from training.finetune.stage import Stage
from training.finetune.unet import LatentPairs
from training.recipe import LoopRecipe
from training.synthesis.pairs import PairSet, to_unit
from training.training_run import TrainingRun

LATENT_RANGE = 4.0
"""The decoder's first layer bends values beyond 3; latents reach 12 in their first channel."""


def new_decoder(recipe: DecoderRecipe, channels: int) -> AutoencoderTiny:
    """Return an untrained decoder; the encoder that comes with it has next to no weights, and is never called."""
    stages = recipe.doublings + 1
    return AutoencoderTiny(
        encoder_block_out_channels=(1,),
        num_encoder_blocks=(1,),
        decoder_block_out_channels=(recipe.width,) * stages,
        num_decoder_blocks=(1,) * recipe.doublings + (0,),
        latent_channels=channels,
        scaling_factor=LATENT_RANGE,
    )


def _draw(model: AutoencoderTiny, latents: Tensor) -> Tensor:
    pictures: Tensor = model.decode(latents, return_dict=False)[0]
    return pictures


def train_decoder(
    latents: LatentPairs,
    pairs: PairSet,
    recipe: DecoderRecipe,
    run: TrainingRun,
    *,
    seed: int,
    training: LoopRecipe | None = None,
) -> AutoencoderTiny:
    """Train by L1 and gradient distance on both sides of the pairs, at the resolution that the decoder draws."""
    torch.manual_seed(seed)
    model = new_decoder(recipe, latents.normal.shape[1])
    model.encoder.requires_grad_(False)
    side = latents.normal.shape[-1] * 2**recipe.doublings
    stage = Stage(run, "decoder", recipe.steps, seed=seed, loop=training)
    network = stage.prepare(model, learning_rate=recipe.learning_rate, forward=_draw)
    damaged = torch.arange(recipe.batch) % 2 == 1
    for step in stage:
        chosen = torch.randint(len(pairs), (recipe.batch,), generator=stage.generator(step))
        for part in stage.micro_batches(recipe.batch):
            these, changed = chosen[part], damaged[part]
            given = _either(changed, latents.anomalous[these], latents.normal[these]).float()
            shown = to_unit(_either(changed, pairs.anomalous[these], pairs.normal[these]))
            target = functional.interpolate(shown, (side, side), mode="area").to(stage.device)
            drawn = network(given.to(stage.device) / LATENT_RANGE)
            stage.backward(functional.l1_loss(drawn, target) + gradient_distance(drawn, target))
        if stage.shows_picture(step):
            stage.picture("images above their drawings", in_rows(target, drawn))
        stage.update(step)
    return stage.finish(model)


def _either(damaged: Tensor, anomalous: Tensor, normal: Tensor) -> Tensor:
    return torch.where(damaged[:, None, None, None], anomalous, normal)
