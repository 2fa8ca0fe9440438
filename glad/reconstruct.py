"""The plain offline loop over `step`: used by inspection without a server and by training, and as the tests' oracle."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glad.batching import BatchSizes, decode, encode
from glad.first_reading import FirstReading
from glad.lane import Lane, LaneBlock
from glad.models import Models
from glad.settings.method import MethodSettings
from glad.step import EncodedImage, start_lane, step


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The normal counterparts of a batch of images."""

    images: Tensor
    """(B, 3, H, W), about [-1, 1], not clamped."""
    latents: Tensor
    """x^_0: (B, C, h, w), scaled."""
    encoded: Tensor
    """z, the images' own latents: (B, C, h, w), scaled."""
    lanes: tuple[Lane, ...]
    """How each image got there; all finished."""
    readings: tuple[FirstReading | None, ...]
    """Each image's first one; None where every image walks."""


@dataclass(frozen=True, eq=False)
class ReconstructedLatents:
    """The same without the pictures."""

    latents: Tensor
    """x^_0: (B, C, h, w), scaled."""
    lanes: tuple[Lane, ...]
    readings: tuple[FirstReading | None, ...]


@torch.no_grad()
def reconstruct(
    images: Tensor,
    noise: Tensor,
    models: Models,
    settings: MethodSettings,
    *,
    valid: Tensor | None = None,
    inspected_mask: Tensor | None = None,
    batch_sizes: BatchSizes | None = None,
) -> Reconstruction:
    """Return the reconstructions of images (Secs. 3.3 and 3.4), all denoised side by side.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        noise: epsilon, (B, C, h, w), each image's own (`glad.seeded_noise.image_noise`).
        models: those of the product.
        settings: those that the product was calibrated with.
        valid: (B, h, w) bool, false on padding (`glad.images.placement.in_patches`); None: all of it is image.
        inspected_mask: (B, S, S) bool, true on what is neither padding nor ignored; None: everywhere. Images are first
            read by it.
        batch_sizes: those in which the models are called; None: the default ones.
    """
    batch_sizes = batch_sizes or BatchSizes()
    latents = encode(models.encoder, images, batch_sizes)
    rebuilt = reconstruct_latents(
        latents, noise, models, settings, valid=valid, inspected_mask=inspected_mask, batch_sizes=batch_sizes
    )
    pictures = decode(models.decoder, rebuilt.latents, batch_sizes)
    return Reconstruction(pictures, rebuilt.latents, latents, rebuilt.lanes, rebuilt.readings)


@torch.no_grad()
def reconstruct_latents(
    latents: Tensor,
    noise: Tensor,
    models: Models,
    settings: MethodSettings,
    *,
    valid: Tensor | None = None,
    inspected_mask: Tensor | None = None,
    batch_sizes: BatchSizes | None = None,
) -> ReconstructedLatents:
    """Return x^_0 of latents (B, C, h, w), and how each got there; as `reconstruct` otherwise."""
    block = LaneBlock.empty(len(latents), latents.shape[1], latents.shape[2], latents.device)
    for slot in range(len(latents)):
        masks = (None if mask is None else mask[slot] for mask in (valid, inspected_mask))
        start_lane(block, slot, EncodedImage(latents[slot], noise[slot], *masks), models, settings)
    while slots := block.active_slots():
        block.write(step(block, slots, models, batch_sizes or BatchSizes()))
    lanes = tuple(block.lane(slot) for slot in range(len(latents)))
    return ReconstructedLatents(block.generated, lanes, tuple(block.readings))
