"""The decoder of the feature form: latents to pictures that people look at. No score depends on it."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional

from training.feature_recipe import DecoderRecipe
from training.finetune.autoencoder import gradient_distance
from training.finetune.stage import Stage
from training.finetune.unet import LatentPairs
from training.synthesis.pairs import PairSet, to_unit

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


def train_decoder(
    latents: LatentPairs, pairs: PairSet, recipe: DecoderRecipe, folder: Path, *, seed: int
) -> AutoencoderTiny:
    """Train by L1 and gradient distance on both sides of the pairs, at the resolution that the decoder draws."""
    torch.manual_seed(seed)
    accelerator = Accelerator()
    model = new_decoder(recipe, latents.normal.shape[1])
    side = latents.normal.shape[-1] * 2**recipe.doublings
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=recipe.learning_rate, weight_decay=1e-4)
    stage = Stage(folder, "decoder", recipe.steps, {"model": model, "optimizer": optimizer}, seed=seed)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    for step in stage:
        stage.set_learning_rate(optimizer, step, recipe.learning_rate)
        chosen = torch.randint(len(pairs), (recipe.batch,), generator=stage.generator(step))
        damaged = torch.arange(recipe.batch) % 2 == 1
        given = _either(damaged, latents.anomalous[chosen], latents.normal[chosen]).float()
        shown = to_unit(_either(damaged, pairs.anomalous[chosen], pairs.normal[chosen]))
        target = functional.interpolate(shown, (side, side), mode="area").to(accelerator.device)
        drawn = model.decode(given.to(accelerator.device) / LATENT_RANGE, return_dict=False)[0]
        loss = functional.l1_loss(drawn, target) + gradient_distance(drawn, target)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        stage.log(float(loss.detach()))
    trained: AutoencoderTiny = accelerator.unwrap_model(model).eval()
    return trained


def _either(damaged: Tensor, anomalous: Tensor, normal: Tensor) -> Tensor:
    return torch.where(damaged[:, None, None, None], anomalous, normal)
