"""The noise prediction, told of the product or not, guided or not. Each lane by its own condition and weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glad.batching import BatchSizes, in_buckets
from glad.protocols import Condition, Denoiser


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What the UNet is told about each lane of a call."""

    conditions: Sequence[Condition | None]
    guidance: Sequence[float]
    """w of e_0 + w (e_c - e_0), per lane; 1: the product's condition alone, one evaluation instead of two."""


def predict_noise(
    denoiser: Denoiser, latents: Tensor, timesteps: Tensor, told: Conditioning, shapes: BatchSizes
) -> Tensor:
    """e = eps_theta(x^_t, t) in few call shapes: (B, C, h, w), (B,) -> (B, C, h, w) float32.

    Guided lanes (classifier-free guidance, which the authors' code uses with w = 9) are evaluated twice, with their
    own condition and with the empty prompt. ValueError when only some lanes have a condition.
    """
    conditions = [condition for condition in told.conditions if condition is not None]
    if not conditions:
        return in_buckets(lambda rows, steps: (denoiser(rows, steps).float(),), (latents, timesteps), shapes.denoiser)[
            0
        ]
    if len(conditions) < len(latents):
        raise ValueError(f"{len(conditions)} of {len(latents)} lanes have a condition: all lanes of one UNet need one")
    guided = [i for i, weight in enumerate(told.guidance) if weight != 1]
    texts = [condition.product for condition in conditions] + [conditions[i].empty for i in guided]
    rows = torch.cat([latents, latents[guided]]), torch.cat([timesteps, timesteps[guided]]), torch.stack(texts)

    def call(noisy: Tensor, steps: Tensor, prompts: Tensor) -> tuple[Tensor, ...]:
        return (denoiser(noisy, steps, prompts).float(),)

    (predicted,) = in_buckets(call, rows, shapes.denoiser)
    conditional, empty = predicted[: len(latents)].clone(), predicted[len(latents) :]
    weights = torch.tensor([told.guidance[i] for i in guided], device=latents.device)[:, None, None, None]
    conditional[guided] = empty + weights * (conditional[guided] - empty)
    return conditional
