"""The plain offline loop over `step`: reference, tool of the training, and oracle of the tests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glad.batching import BatchSizes, in_buckets
from glad.comparator import Comparator, ImageComparator
from glad.lane import Lane, LaneBlock
from glad.protocols import Autoencoder, Models
from glad.settings.method import MethodSettings
from glad.step import step


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The normal counterparts of a batch of images."""

    images: Tensor
    """(B, 3, H, W), about [-1, 1], not clamped."""
    latents: Tensor
    """(B, C, h, w), scaled."""
    lanes: tuple[Lane, ...]
    """How each image got there; all finished."""


@torch.no_grad()
def reconstruct(
    images: Tensor,
    noise: Tensor,
    models: Models,
    settings: MethodSettings,
    *,
    valid: Tensor | None = None,
    comparator: Comparator | None = None,
    shapes: BatchSizes | None = None,
) -> Reconstruction:
    """Reconstruct images (Secs. 3.3 and 3.4), all of them side by side.

    images: (B, 3, H, W) in [-1, 1]; noise: (B, C, h, w), each image's own (`glad.seeded_noise.image_noise`); valid:
    (B, h, w) bool, false on padding (`glad.images.placement.in_patches`). Without a comparator, the paper's: by images.
    """
    shapes = shapes or BatchSizes()
    comparator = comparator or ImageComparator(models.autoencoder, models.features)
    latents = encode(models.autoencoder, images, shapes)
    block = LaneBlock.empty(len(images), latents.shape[1], latents.shape[2], latents.device)
    for slot in range(len(images)):
        shown = None if valid is None else valid[slot]
        block.add_lane(slot, Lane(settings), latents[slot], noise[slot], shown, condition=models.condition)
    while active := block.active_slots():
        block.write(step(block, active, models, comparator, shapes))
    return Reconstruction(
        images=decode(models.autoencoder, block.generated, shapes),
        latents=block.generated,
        lanes=tuple(block.lane(slot) for slot in range(len(images))),
    )


def encode(autoencoder: Autoencoder, images: Tensor, shapes: BatchSizes) -> Tensor:
    """images: (B, 3, H, W) in [-1, 1] -> latents (B, C, h, w) float32, in the comparator's call shapes."""
    return in_buckets(lambda rows: (autoencoder.encode(rows).float(),), (images,), shapes.comparator)[0]


def decode(autoencoder: Autoencoder, latents: Tensor, shapes: BatchSizes) -> Tensor:
    """latents: (B, C, h, w) -> images (B, 3, H, W) float32, in the comparator's call shapes."""
    return in_buckets(lambda rows: (autoencoder.decode(rows).float(),), (latents,), shapes.comparator)[0]
