"""The KL autoencoder, trained from scratch on good images and on synthetic anomalies.

Anomalies belong in its training: an autoencoder that cannot reproduce a defect shows two equal blurs to the comparison.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from training.finetune.curves import in_rows
from training.finetune.stage import Stage
from training.recipe import AutoencoderRecipe, CropsRecipe, LoopRecipe
from training.synthesis.pairs import PairSet, to_unit
from training.training_run import TrainingRun


def new_autoencoder(recipe: AutoencoderRecipe, side: int) -> AutoencoderKL:
    """Return an untrained autoencoder without attention: any image side that its factor divides will do.

    Its posterior starts narrow: at the usual variance of 1 the latents drown in their own noise until the encoder has
    learnt to give them large values.
    """
    model = AutoencoderKL(
        latent_channels=recipe.latent_channels,
        block_out_channels=recipe.widths,
        down_block_types=("DownEncoderBlock2D",) * len(recipe.widths),
        up_block_types=("UpDecoderBlock2D",) * len(recipe.widths),
        layers_per_block=recipe.layers,
        norm_num_groups=recipe.norm_groups,
        mid_block_add_attention=False,
        sample_size=side,
    )
    with torch.no_grad():
        model.quant_conv.weight[recipe.latent_channels :] = 0.0
        model.quant_conv.bias[recipe.latent_channels :] = recipe.start_log_variance
    return model


def gradient_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean absolute difference of image gradients: it keeps thin lines where L1 alone blurs them."""
    d = a - b
    return d.diff(dim=-1).abs().mean() + d.diff(dim=-2).abs().mean()


def reconstruction_loss(reconstructed: Tensor, images: Tensor, damaged: Tensor, recipe: CropsRecipe) -> Tensor:
    """Return L1, squared error and gradient distance; damaged pixels count `damage_weight` times more.

    Args:
        reconstructed, images: (B, 3, H, W) in [-1, 1].
        damaged: bool (B, H, W).
    """
    weight = 1 + recipe.damage_weight * damaged[:, None].float()
    error = reconstructed - images
    loss = (weight * (error.abs() + recipe.square_weight * error.square())).mean()
    return loss + recipe.gradient_weight * gradient_distance(reconstructed, images)


def random_crops(pairs: PairSet, rng: np.random.Generator, recipe: CropsRecipe) -> tuple[Tensor, Tensor]:
    """Return crops in [-1, 1], half of them from anomalous images; half of those contain damage where there is any.

    Returns:
        Images (B, 3, crop, crop) and damaged bool (B, crop, crop); crop is at most the image's side.
    """
    side = pairs.normal.shape[-1]
    crop = min(recipe.crop, side)
    crops, masks = [], []
    for number in range(recipe.batch):
        index = int(rng.integers(len(pairs)))
        anomalous = bool(number % 2)
        source = pairs.anomalous if anomalous else pairs.normal
        top, left = (int(v) for v in rng.integers(0, side - crop + 1, 2))
        damaged = pairs.mask[index].nonzero()
        if number % 4 == 1 and len(damaged):
            y, x = (int(v) for v in damaged[int(rng.integers(len(damaged)))])
            top = int(np.clip(y - rng.integers(crop), 0, side - crop))
            left = int(np.clip(x - rng.integers(crop), 0, side - crop))
        crops.append(source[index, :, top : top + crop, left : left + crop])
        masks.append(pairs.mask[index, top : top + crop, left : left + crop] & anomalous)
    return to_unit(torch.stack(crops)), torch.stack(masks)


def reconstruct_from_draw(model: AutoencoderKL, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images as they come back from a draw of their posterior, and its KL: (B, 3, H, W), (B,)."""
    posterior = model.encode(images).latent_dist
    return model.decode(posterior.mean + posterior.std * noise).sample, posterior.kl()


def posterior_noise(model: AutoencoderKL, images: Tensor, draw: torch.Generator) -> Tensor:
    """Return the noise by which a batch of images is drawn from its posterior: (B, C, h, w)."""
    factor = 2 ** (len(model.config.block_out_channels) - 1)
    rows, columns = (side // factor for side in images.shape[-2:])
    return torch.randn((len(images), model.config.latent_channels, rows, columns), generator=draw)


def train_autoencoder(
    pairs: PairSet, recipe: AutoencoderRecipe, run: TrainingRun, *, seed: int, training: LoopRecipe | None = None
) -> AutoencoderKL:
    """Train with reconstruction loss and KL, by AdamW; then set the scaling factor to 1 / the latents' standard
    deviation.
    """
    torch.manual_seed(seed)
    model = new_autoencoder(recipe, pairs.normal.shape[-1])
    stage = Stage(run, "autoencoder", recipe.steps, seed=seed, loop=training)
    network = stage.prepare(model, learning_rate=recipe.learning_rate, betas=(0.9, 0.99), forward=reconstruct_from_draw)
    for step in stage:
        crops, masks = random_crops(pairs, stage.rng(step), recipe)
        noise = posterior_noise(model, crops, stage.generator(step))
        for part in stage.micro_batches(recipe.batch):
            images, damaged = crops[part].to(stage.device), masks[part].to(stage.device)
            reconstructed, kl = network(images, noise[part].to(stage.device))
            loss = reconstruction_loss(reconstructed, images, damaged, recipe) + recipe.kl_weight * kl.mean()
            stage.backward(loss, shown=functional.l1_loss(reconstructed.detach(), images))
        if stage.shows_picture(step):
            stage.picture("images above their reconstructions", in_rows(images, reconstructed))
        stage.update(step)
    trained = stage.finish(model)
    trained.register_to_config(scaling_factor=latent_scale(trained, pairs))
    return trained


@torch.no_grad()
def latent_scale(model: AutoencoderKL, pairs: PairSet, images: int = 64) -> float:
    """Return 1 / the standard deviation of the posterior means of good images."""
    means = model.encode(to_unit(pairs.normal[:images]).to(model.device)).latent_dist.mean
    return float(1.0 / means.std())
