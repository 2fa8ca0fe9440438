"""Images and their reconstructions: by a product's models, from a small step, kept on disk as far as they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from glad.batching import BatchSizes, Conditioning, batch_sizes_for_device, decode, encode, predict_noise
from glad.models import Models
from glad.noise_schedule import add_noise, noise_schedule, predict_x0
from glad.seeded_noise import image_noise
from glad.settings.method import MethodSettings
from training.kept_arrays import KeptArrays
from training.progress import progress_bar
from training.synthesis.pairs import to_unit

Rebuild = Callable[[Tensor], Tensor]
"""Makes reconstructions of images: uint8 (B, 3, S, S) of the same."""
AT_ONCE = 4
"""Images that are rebuilt by one call."""


@dataclass(frozen=True, eq=False)
class RebuiltImages:
    """N images and their reconstructions."""

    images: Tensor
    """uint8 (N, 3, S, S)."""
    rebuilt: Tensor
    """uint8 (N, 3, S, S)."""
    valid: Tensor
    """bool (N, S, S): false on padding."""
    mask: Tensor
    """bool (N, S, S): where a synthetic anomaly is; nowhere on good images."""

    def __len__(self) -> int:
        return len(self.images)

    def at_side(self, side: int) -> RebuiltImages:
        """Return them all at another side in pixels; each pixel that holds damage is damaged."""
        if side == self.images.shape[-1]:
            return self
        damage = functional.adaptive_max_pool2d(self.mask.float(), side) > 0
        inside = functional.interpolate(self.valid.float()[:, None], (side, side), mode="area")[:, 0] > 1 - 1e-4
        return RebuiltImages(_resized(self.images, side), _resized(self.rebuilt, side), inside, damage)


def _resized(images: Tensor, side: int) -> Tensor:
    small = functional.interpolate(images.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8)


def rebuild_all(images: Tensor, rebuild: Rebuild, title: str, keep: Path | None) -> Tensor:
    """Return the reconstructions of images: uint8 (N, 3, S, S), from the folder `keep` as far as they lie there."""
    kept = None if keep is None else KeptArrays(keep, len(images))
    made = [] if kept is None else [torch.from_numpy(array) for (array,) in kept.read()]
    with progress_bar() as bar:
        task = bar.add_task(title, total=len(images), completed=len(made), note="")
        for few in torch.split(images[len(made) :], AT_ONCE):
            for one in rebuild(few) if len(few) else ():
                made.append(one)
                if kept is not None:
                    kept.add((one.numpy(),))
            bar.update(task, completed=len(made))
    return torch.stack(made)


def rebuild_with(models: Models, settings: MethodSettings, *, start: int, calls: int) -> Rebuild:
    """Return what a product's models make of an image that is noised to `start`: DDIM from there, in so many calls.

    Each image draws its own noise, from its pixels. Neither trigger nor fusion takes part: a good image needs neither.

    Args:
        models: of the product.
        settings: whose schedule, guidance and seed they follow.
        start: the step to begin at.
        calls: of the denoiser, at steps evenly spread from there to 0; 1: x_{t->0} as it is.
    """

    @torch.no_grad()
    def rebuild(images: Tensor) -> Tensor:
        latents = encode(models.encoder, to_unit(images), BatchSizes())
        sizes = batch_sizes_for_device(latents.device.type, len(images))
        schedule = noise_schedule(settings.schedule, latents.device)
        conditioning = Conditioning((models.condition,) * len(images), (settings.guidance,) * len(images))
        clean, carrier = latents, _own_noise(images, settings.noise_seed, latents)
        for done in range(calls):
            steps = torch.full((len(images),), start * (calls - done) // calls, device=latents.device)
            noisy = add_noise(clean, carrier, steps, schedule)  # Eq. 1; from the second call on it is Eq. 3, DDIM
            carrier = predict_noise(models.denoiser, noisy, steps, conditioning, sizes)
            clean = predict_x0(noisy, carrier, steps, schedule)
        drawn = decode(models.decoder, clean, sizes)
        return ((drawn.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()

    return rebuild


def _own_noise(images: Tensor, seed: int, latents: Tensor) -> Tensor:
    shape = (latents.shape[1], latents.shape[2], latents.shape[3])
    pixels = (np.ascontiguousarray(one.permute(1, 2, 0).numpy()) for one in images)
    return torch.from_numpy(np.stack([image_noise(one, seed, shape) for one in pixels])).to(latents.device)
