"""The feature extractor: a small ViT trained from scratch by anomaly contrast, then adapted to reconstructions.

At full size DINO's features separate defects because they saw a world of images. A nano extractor saw one product, so
it is taught directly what the map needs (Eq. 11): patches of input and reference that show the same normal part agree
(cosine to 1), whatever its brushing, noise or the autoencoder's blur did to it, and patches that a synthetic anomaly
changed disagree. The second half of its pairs are real reconstructions of anomalous images, so that what the
autoencoder and the denoiser lose is not an anomaly (the aim of the paper's DINO fine-tuning).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DModel
from torch import Tensor
from torch.nn import functional
from transformers import ViTConfig, ViTModel

from glad.noise_schedule import NoiseSchedule, add_noise, predict_x0
from glad.settings.method import MethodSettings
from training.finetune.stage import Stage
from training.finetune.unet import LatentPairs
from training.kept_arrays import made_once
from training.recipe import FeaturesRecipe, LoopRecipe
from training.synthesis.pairs import PairSet, to_unit
from training.training_run import TrainingRun

CLEAR = 0.02  # a patch with less of its area changed is normal
DAMAGED = 0.15  # a patch with more of its area changed is anomalous; in between it is left out of the loss


def block_features(model: Callable[..., Any], images: Tensor, layers: Sequence[int], side: int) -> list[Tensor]:
    """Return block outputs before the final norm, CLS dropped, differentiable: per layer (B, side, side, D)."""
    hidden = model(images, output_hidden_states=True).hidden_states
    return [hidden[layer][:, 1:].reshape(len(images), side, side, -1) for layer in layers]


@dataclass(frozen=True)
class Reconstructions:
    """Reconstructed images of the pairs with these indices: images uint8 (M, 3, S, S), indices (M,)."""

    images: Tensor
    indices: Tensor


def new_extractor(recipe: FeaturesRecipe, side: int) -> ViTModel:
    """Return an untrained ViT in DINO's form (pre-norm, CLS token, no pooling head)."""
    config = ViTConfig(
        hidden_size=recipe.width,
        num_hidden_layers=recipe.depth,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.mlp,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-6,
        image_size=side,
        patch_size=recipe.patch,
        attn_implementation="sdpa",
    )
    return ViTModel(config, add_pooling_layer=False)


@torch.no_grad()
def reconstruct_pairs(
    pairs: PairSet,
    latents: LatentPairs,
    autoencoder: AutoencoderKL,
    unet: UNet2DModel,
    settings: MethodSettings,
    *,
    count: int,
    seed: int,
    batch: int = 8,
    keep: Path | None = None,
) -> Reconstructions:
    """Return one-step reconstructions decode(x_{t->0}) of the first `count` pairs.

    Even pairs start from the normal image, with t drawn between t_min and T: as a good part, or the repaired one, comes
    back. Odd pairs start from the anomalous image with t near T, where ATP has taught the UNet to repair it whole.
    Where a perfect ATP model's trajectory is straight, one step shows what the loop would, at an N-th of its cost.

    Args:
        keep: a folder of this very call, which goes on from the reconstructions that lie there.
    """
    schedule = NoiseSchedule.from_settings(settings.schedule)
    chosen = torch.arange(min(count, len(pairs)))
    if not len(chosen):
        return Reconstructions(pairs.normal[:0], chosen)
    draws = dict(_draws(chosen, latents, settings, seed, batch))  # of all batches, also of those that lie on disk

    def rebuild(indices: Tensor) -> Tensor:
        damaged = (indices % 2 == 1)[:, None, None, None]
        latent = torch.where(damaged, latents.anomalous[indices], latents.normal[indices])
        noise, timesteps = draws[int(indices[0])]
        timesteps = torch.where(damaged.flatten(), timesteps.clamp(min=settings.start * 9 // 10), timesteps)
        noisy = add_noise(latent, noise, timesteps, schedule)
        predicted = unet(noisy, timesteps).sample
        clean = predict_x0(noisy, predicted, timesteps, schedule)
        decoded: Tensor = autoencoder.decode(clean / autoencoder.config.scaling_factor).sample
        return ((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)

    return Reconstructions(made_once(chosen, rebuild, keep, at_once=batch, title="reconstructions"), chosen)


def _draws(
    chosen: Tensor, latents: LatentPairs, settings: MethodSettings, seed: int, batch: int
) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """Yield the noise and the steps of each batch, by its first pair."""
    draw = torch.Generator().manual_seed(seed + 11)
    low = min(settings.t_min, settings.start - 1)
    for indices in torch.split(chosen, batch):
        noise = torch.randn((len(indices), *latents.normal.shape[1:]), generator=draw)
        yield int(indices[0]), (noise, torch.randint(low, settings.start, (len(indices),), generator=draw))


def changed_share(mask: Tensor, patch: int) -> Tensor:
    """Return the share of each patch that changed: (B, h, w).

    Args:
        mask: bool (B, S, S).
    """
    return functional.avg_pool2d(mask.float()[:, None], patch)[:, 0]


def contrast_loss(a: Sequence[Tensor], b: Sequence[Tensor], share: Tensor, valid: Tensor, margin: float) -> Tensor:
    """Return the mean over layers of agreement over normal patches and separation over anomalous ones.

    That is mean (1 - cosine) over normal patches + mean max(0, cosine - margin) over anomalous ones. The tenth of the
    normal patches that agree least counts once more: the map's tail makes false rejects, not its mean.

    Args:
        a, b: per layer (B, h, w, D), features of input and reference at the same places.
        share: (B, h, w), share of each patch that the anomaly changed.
        valid: (B, h, w), share of each patch that is not padding; patches with padding are left out.
    """
    inside = (share > DAMAGED) & (valid > 0.99)
    outside = (share < CLEAR) & (valid > 0.99)
    total = torch.zeros(())
    for one, other in zip(a, b, strict=True):
        cosine = functional.cosine_similarity(one, other, dim=-1)
        agree = (1 - cosine)[outside]
        hardest = agree.topk(max(1, agree.numel() // 10)).values  # the map's tail makes false rejects, not its mean
        apart = (cosine[inside] - margin).clamp(min=0)
        total = total + agree.mean() + hardest.mean() + (apart.mean() if apart.numel() else 0.0)
    return total / len(a)


def vary(images: Tensor, draw: torch.Generator) -> Tensor:
    """Return the images with small independent changes of brightness, contrast and noise: (B, 3, S, S).

    No comparison should react to them.
    """
    shape = (images.shape[0], 1, 1, 1)
    gain = 1 + 0.04 * (2 * torch.rand(shape, generator=draw) - 1)
    offset = 0.04 * (2 * torch.rand(shape, generator=draw) - 1)
    noise = 0.03 * torch.rand(shape, generator=draw) * torch.randn(images.shape, generator=draw)
    return images * gain + offset + noise


def train_features(
    pairs: PairSet,
    reconstructions: Reconstructions,
    recipe: FeaturesRecipe,
    settings: MethodSettings,
    run: TrainingRun,
    *,
    seed: int,
    training: LoopRecipe | None = None,
) -> ViTModel:
    """Train by anomaly contrast at every layer that the score uses, by AdamW."""
    torch.manual_seed(seed)
    model = new_extractor(recipe, pairs.normal.shape[-1])
    _freeze_unused(model, settings.score.layers[-1])
    stage = Stage(run, "features", recipe.steps, seed=seed, loop=training)
    network = stage.prepare(model, learning_rate=recipe.learning_rate, weight_decay=0.02, betas=(0.9, 0.98))
    for step in stage:
        inputs, references, chosen = contrast_batch(pairs, reconstructions, recipe.batch, stage.generator(step))
        for part in stage.micro_batches(recipe.batch):
            share = changed_share(pairs.mask[chosen[part]], recipe.patch)
            valid = changed_share(pairs.valid[chosen[part]], recipe.patch)
            both = torch.cat([inputs[part], references[part]]).to(stage.device)
            features = block_features(network, both, settings.score.layers, share.shape[-1])
            halves = [layer.chunk(2) for layer in features]
            inside, outside = [half[0] for half in halves], [half[1] for half in halves]
            stage.backward(contrast_loss(inside, outside, share, valid, recipe.margin))
        stage.update(step)
    return stage.finish(model)


def _freeze_unused(model: ViTModel, last: int) -> None:
    """Take what comes after the last layer that counts out of the training: no gradient ever reaches it."""
    for unused in (*model.layers[last:], model.layernorm):
        unused.requires_grad_(False)


def contrast_batch(
    pairs: PairSet, reconstructions: Reconstructions, batch: int, draw: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a batch of which half is (x^a, its reconstruction) and half is (x^a, x).

    Returns:
        Inputs and references (B, 3, S, S) in about [-1, 1], and their pairs' indices (B,).
    """
    adapted = batch // 2 if len(reconstructions.indices) else 0
    place = torch.randint(max(1, len(reconstructions.indices)), (adapted,), generator=draw)
    plain = torch.randint(len(pairs), (batch - adapted,), generator=draw)
    chosen = torch.cat([reconstructions.indices[place], plain])
    inputs = to_unit(pairs.anomalous[chosen])
    references = torch.cat([to_unit(reconstructions.images[place]), vary(to_unit(pairs.normal[plain]), draw)])
    return vary(inputs, draw), references, chosen
