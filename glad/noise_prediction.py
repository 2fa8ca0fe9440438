"""The noise prediction of a batch of lanes, each with its own condition and its own guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glad.batching import BatchSizes, call_in_batches
from glad.protocols import Condition, Denoiser


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The embedded prompts and the guidance of each lane of a UNet call."""

    conditions: Sequence[Condition | None]
    guidance: Sequence[float]
    """w of e_0 + w (e_c - e_0), per lane; 1: the product's condition alone, one evaluation instead of two."""


def predict_noise(
    denoiser: Denoiser, latents: Tensor, timesteps: Tensor, conditioning: Conditioning, batch_sizes: BatchSizes
) -> Tensor:
    """Return e = eps_theta(x^_t, t), (B, C, h, w) float32, calling the UNet in few batch sizes.

    Guided lanes (classifier-free guidance, which the authors' code uses with w = 9) are evaluated twice, with their
    own condition and with the empty prompt.

    Args:
        denoiser: the UNet.
        latents: x^_t, (B, C, h, w).
        timesteps: t, (B,) int64.
        conditioning: one entry per lane.
        batch_sizes: those of `denoiser` are used.

    Raises:
        ValueError: if only some of the lanes have a condition.
    """
    conditions = [condition for condition in conditioning.conditions if condition is not None]
    if not conditions:
        return call_in_batches(denoiser, (latents, timesteps), batch_sizes.denoiser).float()
    if len(conditions) < len(latents):
        raise ValueError(f"{len(conditions)} of {len(latents)} lanes have a condition: all lanes of one UNet need one")

    # The guided lanes' second evaluations are further rows of the same call.
    guided = [row for row, weight in enumerate(conditioning.guidance) if weight != 1]
    prompts = [condition.product for condition in conditions] + [conditions[row].empty for row in guided]
    rows = torch.cat([latents, latents[guided]]), torch.cat([timesteps, timesteps[guided]]), torch.stack(prompts)
    predicted = call_in_batches(denoiser, rows, batch_sizes.denoiser).float()

    # e = e_0 + w (e_c - e_0)
    noise, empty = predicted[: len(latents)].clone(), predicted[len(latents) :]
    weights = torch.tensor([conditioning.guidance[row] for row in guided], device=latents.device)[:, None, None, None]
    noise[guided] = empty + weights * (noise[guided] - empty)
    return noise
